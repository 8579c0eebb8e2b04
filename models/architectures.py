"""Network architectures, small enough to be verified completely.

Every network is a plain `torch.nn.Sequential` of Conv2d, ReLU, MaxPool2d, Flatten and Linear, which is
also what `export` can write. Inputs are pixels in [0, 1] of shape (batch, channels, height, width);
outputs are logits of shape (batch, labels).
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from torch import nn

from .multi_mnist import MultiMnist


class Architecture(Enum):
    """An architecture by the name that configurations and exported files use."""

    DMNIST_CNN = "dmnist-cnn"
    DMNIST_LARGE = "dmnist-large"


@dataclass(frozen=True, slots=True)
class ArchitectureSpec:
    """What there is to know about an architecture without building it.

    Attributes:
        family: the images it is made for.
        classes: number of labels, hence of logits.
        build: makes the network with weights drawn from torch's global generator.
    """

    family: MultiMnist
    classes: int
    build: Callable[[], nn.Sequential]

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""
        return (1, self.family.side, self.family.side)


def specification(architecture: Architecture) -> ArchitectureSpec:
    """Look an architecture up.

    Args:
        architecture: which one.

    Returns:
        Its input, its outputs and its builder.
    """
    match architecture:
        case Architecture.DMNIST_CNN:
            return ArchitectureSpec(MultiMnist.DOUBLE, 10, _dmnist_cnn)
        case Architecture.DMNIST_LARGE:
            return ArchitectureSpec(MultiMnist.DOUBLE, 10, _dmnist_large)


def count_parameters(network: nn.Module) -> int:
    """Number of trainable scalars."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def _dmnist_cnn() -> nn.Sequential:
    """The thesis's network: 3,818 parameters, 12,288 ReLUs, one max-pool."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(4),
        nn.Flatten(),
        nn.Linear(256, 10),
    )


def _dmnist_large() -> nn.Sequential:
    """145,158 parameters but only 7,268 ReLUs: the first stride of 4 keeps the widest layer small.

    Without max-pool and with few unstable neurons per perturbed pixel, linear bounds stay tight and
    mixed-integer encodings small, although it has 38 times the parameters of the thesis's network.
    """
    return nn.Sequential(
        nn.Conv2d(1, 16, 6, stride=4, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(1024, 100),
        nn.ReLU(),
        nn.Linear(100, 10),
    )
