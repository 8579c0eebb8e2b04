"""A network: an ONNX file read once, from which every engine's form derives."""

from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from .operators import MaxPool, Operator, Relu, Shape, SShaped
from .preprocessing import Preprocessing

if TYPE_CHECKING:
    from .torch_network import TorchNetwork


class Tail(StrEnum):
    """A trailing monotone function that was removed; properties speak of the logits before it."""

    NONE = "none"
    SOFTMAX = "softmax"
    LOG_SOFTMAX = "log-softmax"
    SIGMOID = "sigmoid"


TAIL_OPERATORS = {"Softmax": Tail.SOFTMAX, "LogSoftmax": Tail.LOG_SOFTMAX, "Sigmoid": Tail.SIGMOID}


@dataclass(frozen=True, slots=True)
class NodeReport:
    """One row of the operator table that ``mlverify info`` prints."""

    name: str
    operator: str
    shape: Shape
    read_as: str


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """A multi-label network as a short list of typed operators.

    Attributes:
        path: the user's file, which stays the judge of every witness.
        sha256: of that file.
        input_shape: shape of one input in pixel space: (channels, height, width) for images.
        operators: in topological order; operator i writes value i + 1, value 0 is the input.
        output: number of the value that holds the logits.
        labels: one name per score.
        tail: the trailing function that was removed.
        preprocessing: applied to pixels before the file's own input; part of ``operators``.
        fixed_batch: whether the file only takes one image at a time.
        k: number of labels per image that the file's metadata declares, or None.
        nodes: the operator table.
        threshold: on the file's scores when its metadata declares that they are compared with one, or None.
    """

    path: Path
    sha256: str
    input_shape: Shape
    operators: tuple[Operator, ...]
    output: int
    labels: tuple[str, ...]
    tail: Tail
    preprocessing: Preprocessing
    fixed_batch: bool
    k: int | None
    nodes: tuple[NodeReport, ...]
    threshold: float | None = None

    @property
    def neurons(self) -> int:
        """Number of ReLU neurons."""
        return sum(_size(op.shape) for op in self.operators if isinstance(op, Relu))

    @property
    def curves(self) -> tuple[SShaped, ...]:
        """The S-shaped operators; without any the network is piecewise linear."""
        return tuple(op for op in self.operators if isinstance(op, SShaped))

    @property
    def curved_neurons(self) -> int:
        """Number of neurons with an S-shaped activation."""
        return sum(_size(op.shape) for op in self.curves)

    @property
    def pools(self) -> int:
        """Number of max-pool outputs."""
        return sum(_size(op.shape) for op in self.operators if isinstance(op, MaxPool))

    @property
    def parameters(self) -> int:
        """Number of weights and biases in affine operators."""
        weights = (getattr(op, name, None) for op in self.operators for name in ("weight", "bias"))
        return sum(array.size for array in weights if array is not None)

    def shape_of(self, value: int) -> Shape:
        """Shape of a numbered value, without batch."""
        return self.input_shape if value == 0 else self.operators[value - 1].shape

    def module(self) -> "TorchNetwork":
        """The network as a torch module on pixels, float32, returning logits (batch, labels)."""
        from .torch_network import TorchNetwork

        return TorchNetwork(self)

    def with_labels(self, labels: tuple[str, ...]) -> "Network":
        """The same network with other label names."""
        return replace(self, labels=labels)


def _size(shape: Shape) -> int:
    total = 1
    for length in shape:
        total *= length
    return total
