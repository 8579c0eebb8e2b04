"""What the attack benchmarks share: networks with their images, label swaps, and rows of a table."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..arrays import read_arrays
from ..attacks.base import Network as Scorer
from ..attacks.decision import Decision, Threshold
from ..attacks.flips import Flips, Others
from ..verifier.onnx_reader import load_network


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """A network and the images it gets right under a decision rule.

    Attributes:
        name: of the network.
        network: scores of images.
        images: shape (images, channels, height, width), pixels in [0, 1].
        present: true label sets, shape (images, labels), bool.
        decision: how scores become labels.
    """

    name: str
    network: Scorer
    images: Tensor
    present: Tensor
    decision: Decision

    def right(self) -> "Subject":
        """Only the images whose predicted set is the true one."""
        with torch.no_grad():
            correct = (self.decision.present(self.network(self.images)) == self.present).all(dim=1)
        return Subject(self.name, self.network, self.images[correct], self.present[correct], self.decision)


def read_images(path: Path) -> tuple[Tensor, Tensor]:
    """Images in [0, 1] and label sets of a ``*_samples.npz``.

    Raises:
        InputError: when the file is missing or has other arrays.
    """
    arrays = read_arrays(path, "samples", "give DATA_DIR with its .npz files", ("images", "labels"))
    images, labels = arrays["images"], arrays["labels"]
    return torch.from_numpy(images.astype(np.float32) / np.float32(255)), torch.from_numpy(labels > 0)


def read_module(path: Path) -> torch.nn.Module:
    """A network as a frozen torch module that gives logits."""
    module = load_network(path).module().eval()
    return module.requires_grad_(False)


def best_threshold(network: Scorer, images: Tensor, present: Tensor) -> Threshold:
    """The threshold on logits at which most label sets are right.

    The published networks were trained to rank; a threshold attack needs one to start from.
    """
    with torch.no_grad():
        scores = network(images)
    lowest = torch.where(present, scores, torch.inf).amin(dim=1)
    highest = torch.where(present, -torch.inf, scores).amax(dim=1)
    candidates = (lowest + highest) / 2
    right = (highest < candidates[:, None]) & (lowest >= candidates[:, None])
    return Threshold(float(candidates[right.sum(dim=1).argmax()]))


def hide_one(present: Tensor, seed: int) -> Flips:
    """Hide one random present label of every image and keep all others."""
    return Flips(-_one_of(present, seed).to(torch.int8), Others.KEEP)


def swap_one(scores: Tensor, present: Tensor, seed: int) -> Flips:
    """Hide one random present label and show the strongest absent one: a top-k set keeps its size."""
    rival = torch.where(present, -torch.inf, scores).argmax(dim=1, keepdim=True)
    wanted = -_one_of(present, seed).to(torch.int8)
    return Flips(wanted.scatter_(1, rival, 1), Others.KEEP)


def _one_of(present: Tensor, seed: int) -> Tensor:
    draw = torch.rand(present.shape, generator=torch.Generator().manual_seed(seed))
    chosen = torch.where(present, draw, -1.0).argmax(dim=1, keepdim=True)
    return torch.zeros_like(present).scatter_(1, chosen, True)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
