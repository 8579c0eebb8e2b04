"""DOUBLE-MNIST sample images, the true objects in them, and the synthesis problems they make."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..synthesis.layers import ObjectLayers
from ..synthesis.objective import Weighting, weights_of
from ..synthesis.problem import SynthesisProblem
from ..verifier.network import Network
from ..verifier.onnx_reader import load_network
from ..verifier.region import Layered

NETWORKS = ("noDef", "L0Def", "LInfDef")
_LABELS_PER_IMAGE = 2


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """An image and the true object of each of its labels.

    Attributes:
        name: of the image.
        image: (channels, height, width), pixels in [0, 1].
        masks: (height, width) per label.
    """

    name: str
    image: NDArray[np.float32]
    masks: dict[int, NDArray[np.bool_]]


def read_samples(folder: Path) -> list[Sample]:
    """Images with their true objects, from ``dmnist_samples.npz`` and ``dmnist_objects.npz``.

    Raises:
        InputError: when a file is missing or does not hold what it should.
    """
    try:
        samples, objects = np.load(folder / "dmnist_samples.npz"), np.load(folder / "dmnist_objects.npz")
        maps = dict(zip(objects["names"].tolist(), objects["objects"], strict=True))
        return [
            Sample(str(name), pixels.astype(np.float32) / np.float32(255), _masks(maps[name]))
            for name, pixels in zip(samples["names"].tolist(), samples["images"], strict=True)
        ]
    except (OSError, KeyError, ValueError) as error:
        raise InputError(
            f"{folder} has no usable dmnist_samples.npz and dmnist_objects.npz ({error})"
        ) from None


def _masks(labelled: NDArray[np.uint8]) -> dict[int, NDArray[np.bool_]]:
    return {int(value) - 1: labelled == value for value in np.unique(labelled) if value}


def network_file(folder: Path, name: str) -> Path:
    """The ONNX file of one of the small networks."""
    return folder / f"dmnist_{name}_x1k.onnx"


def read_network(folder: Path, name: str) -> Network:
    """One of the small networks.

    Raises:
        ModelFormatError: when it is missing or damaged.
    """
    return load_network(network_file(folder, name))


def synthesis_problem(network: Network, sample: Sample, target: int, item: int) -> SynthesisProblem:
    """Grow the object of label ``item`` while ``target`` stays among the top two; uniform weights.

    Raises:
        InputError: when the image has no object of that label.
    """
    if item not in sample.masks:
        raise InputError(f"image {sample.name} has no object of label {item}")
    around = ObjectLayers.around(sample.masks[item])
    neighbourhood = Layered(sample.image, around.layers, np.zeros(around.count))
    return SynthesisProblem(
        network, neighbourhood, target, _LABELS_PER_IMAGE, weights_of(Weighting.UNIFORM, around)
    )
