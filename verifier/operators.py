"""The short list of typed operators into which every network is read.

Everything else derives from this list: the torch module, the linear bounds, the MILP. A value of the
network is numbered: value 0 is the network's input, value ``i + 1`` is the output of operator ``i``.
Shapes leave out the batch axis. Weights are float64 numpy arrays, exactly the float32 numbers of the file
unless neighbouring affine operators were folded (then float64 products of them).
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Shape = tuple[int, ...]
# (top, left, bottom, right), the order of ONNX
Padding = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Operator:
    """One operator: its ONNX node name, the numbers of the values it reads, and its output shape."""

    name: str
    inputs: tuple[int, ...]
    shape: Shape


@dataclass(frozen=True, slots=True, eq=False)
class Conv(Operator):
    """2-D convolution; weight (out, in / groups, kh, kw), bias (out,); zero padding."""

    weight: FloatArray
    bias: FloatArray
    stride: tuple[int, int]
    padding: Padding
    dilation: tuple[int, int]
    groups: int


@dataclass(frozen=True, slots=True, eq=False)
class Linear(Operator):
    """``x @ weight.T + bias`` on the last axis; weight (out, in), bias (out,)."""

    weight: FloatArray
    bias: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Scale(Operator):
    """``x * scale + shift``, both broadcast to the shape of x."""

    scale: FloatArray
    shift: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Pad(Operator):
    """Constant padding of the last two axes."""

    padding: Padding
    value: float


@dataclass(frozen=True, slots=True, eq=False)
class Sum(Operator):
    """Sum of two values with signs +1 or -1 (residual Add and Sub)."""

    signs: tuple[float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Reshape(Operator):
    """The same numbers in another shape (row-major)."""


@dataclass(frozen=True, slots=True, eq=False)
class Transpose(Operator):
    """Permutation of the axes; ``permutation`` counts the axes without the batch."""

    permutation: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Concat(Operator):
    """Concatenation along ``axis`` (counted without the batch)."""

    axis: int


@dataclass(frozen=True, slots=True, eq=False)
class Constant(Operator):
    """A constant that other operators read (no inputs)."""

    value: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Relu(Operator):
    """``max(x, 0) + negative_slope * min(x, 0)``; slope 0 is ReLU, in (0, 1) LeakyReLU."""

    negative_slope: float


@dataclass(frozen=True, slots=True, eq=False)
class MaxPool(Operator):
    """Maximum over windows; ``windows`` (outputs, window) holds flat input indices, -1 for padding."""

    windows: NDArray[np.int64]


class Curve(StrEnum):
    """Bounded increasing functions, convex below zero and concave above, with ``f(x) + f(-x) = 2 f(0)``."""

    SIGMOID = "sigmoid"
    TANH = "tanh"


@dataclass(frozen=True, slots=True, eq=False)
class SShaped(Operator):
    """An S-shaped function of every element."""

    curve: Curve


NONLINEAR = (Relu, MaxPool, SShaped)
