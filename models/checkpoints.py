"""Checkpoints: weights in a safetensors file, with what is needed to rebuild the network."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import InputError
from .architectures import Architecture, specification
from .files import write_whole

_SCHEMA = "mlverify/checkpoint/1"


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a trained network comes from.

    Attributes:
        architecture: of the network.
        loss: name of the training loss.
        defence: name of the defence.
        seed: of the training.
        epochs: how many were finished.
        exact_match: share of test images whose top-k set is right.
        test_images: on how many images that share was measured.
    """

    architecture: Architecture
    loss: str
    defence: str
    seed: int
    epochs: int
    exact_match: float
    test_images: int


def save_checkpoint(file: Path, network: nn.Module, provenance: Provenance) -> None:
    """Write a checkpoint, replacing an earlier one only when the new one is complete.

    Args:
        file: where to.
        network: whose weights are stored.
        provenance: stored beside the weights.

    Raises:
        InputError: the file cannot be written.
    """
    from safetensors.torch import save

    weights = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    write_whole(file, save(weights, {"schema": _SCHEMA, "provenance": _to_json(provenance)}))


def load_checkpoint(file: Path) -> tuple[nn.Sequential, Provenance]:
    """Read a checkpoint and rebuild its network on the CPU, in evaluation mode.

    Args:
        file: written by `save_checkpoint`.

    Returns:
        The network and where it comes from.

    Raises:
        InputError: the file is missing, damaged, or not a checkpoint of ours.
    """
    provenance, weights = _read(file)
    network = specification(provenance.architecture).build()
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(
            f"checkpoint '{file}' does not fit the architecture '{provenance.architecture.value}' it names"
        ) from error
    return network.eval(), provenance


def _read(file: Path) -> tuple[Provenance, dict[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as stream:
            metadata = stream.metadata() or {}
            weights: dict[str, torch.Tensor] = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise InputError(f"checkpoint '{file}' cannot be read ({error}): train again") from error
    if metadata.get("schema") != _SCHEMA:
        raise InputError(f"'{file}' is not a checkpoint of mlverify ({_SCHEMA} expected)")
    return _from_json(metadata["provenance"]), weights


def _to_json(provenance: Provenance) -> str:
    return json.dumps(
        {
            "architecture": provenance.architecture.value,
            "loss": provenance.loss,
            "defence": provenance.defence,
            "seed": provenance.seed,
            "epochs": provenance.epochs,
            "exact_match": provenance.exact_match,
            "test_images": provenance.test_images,
        }
    )


def _from_json(text: str) -> Provenance:
    content = json.loads(text)
    return Provenance(**{**content, "architecture": Architecture(content["architecture"])})
