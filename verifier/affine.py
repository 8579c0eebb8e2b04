"""Sparse affine expressions: what a value is in terms of the variables of a linear program."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from .operators import (
    Concat,
    Constant,
    Conv,
    FloatArray,
    Linear,
    Operator,
    Pad,
    Reshape,
    Scale,
    Shape,
    Sum,
    Transpose,
)
from .windows import OUTSIDE, window_indices

IndexArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class AffineMap:
    """``matrix @ variables + constant``, one row per element of a value (row-major).

    Rows that nobody needs have no entries and the constant NaN: should they be read by mistake, the NaN
    reaches the program and the solver refuses it, so that the mistake can't look like an answer.

    Attributes:
        matrix: csr (size, variables).
        constant: (size,).
    """

    matrix: sparse.csr_matrix
    constant: FloatArray

    @property
    def variables(self) -> int:
        """Number of variables that the map speaks of."""
        return int(self.matrix.shape[1])

    def widened(self, variables: int) -> "AffineMap":
        """The same expressions over more variables (new ones are appended)."""
        return AffineMap(with_columns(self.matrix, variables), self.constant)

    def rows(self, index: IndexArray) -> "AffineMap":
        """Some of the expressions, in the order of ``index``."""
        return AffineMap(self.matrix[index], self.constant[index])

    def range(self, lower: FloatArray, upper: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Smallest and largest value of every row over the box of the variables."""
        positive, negative = self.matrix.maximum(0), self.matrix.minimum(0)
        smallest = positive @ lower + negative @ upper + self.constant
        largest = positive @ upper + negative @ lower + self.constant
        return np.asarray(smallest), np.asarray(largest)


@dataclass(frozen=True, slots=True, eq=False)
class AffineStep:
    """An affine operator restricted to the rows that are needed.

    Attributes:
        matrices: csr (size, input size) for every input; rows that are not needed are empty.
        constant: (size,), NaN where not needed.
    """

    matrices: tuple[sparse.csr_matrix, ...]
    constant: FloatArray

    def apply(self, inputs: Sequence[AffineMap], variables: int) -> AffineMap:
        """The operator's output in terms of the ``variables`` that its inputs speak of."""
        matrix, constant = None, self.constant
        for weights, value in zip(self.matrices, inputs, strict=True):
            product = weights @ value.widened(variables).matrix
            matrix = product if matrix is None else matrix + product
            constant = constant + weights @ value.constant
        if matrix is None:
            matrix = sparse.csr_matrix((len(constant), variables))
        return AffineMap(sparse.csr_matrix(matrix), constant)


def with_columns(matrix: sparse.csr_matrix, columns: int) -> sparse.csr_matrix:
    """The same matrix with empty columns appended."""
    return sparse.csr_matrix((matrix.data, matrix.indices, matrix.indptr), shape=(matrix.shape[0], columns))


def affine_step(operator: Operator, shapes: Sequence[Shape], rows: IndexArray) -> AffineStep:
    """The needed rows of an affine operator as sparse matrices.

    Args:
        operator: any operator but ReLU and max-pool.
        shapes: of its inputs, without batch.
        rows: flat indices of the outputs that are needed.

    Returns:
        One matrix per input without stored zeros, so that its columns are exactly what is read.

    Raises:
        TypeError: for an operator that is not affine.
    """
    sizes = [int(np.prod(shape)) for shape in shapes]
    size = int(np.prod(operator.shape))
    blocks, constant = _blocks(operator, shapes, rows)
    matrices = tuple(_filled(rows, block, (size, width)) for block, width in zip(blocks, sizes, strict=True))
    full = np.full(size, np.nan)
    full[rows] = constant
    return AffineStep(matrices, full)


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    """Entries of the needed rows: columns (rows, entries), ``OUTSIDE`` for none, and values alike."""

    columns: IndexArray
    values: FloatArray


def _filled(rows: IndexArray, block: _Block, shape: tuple[int, int]) -> sparse.csr_matrix:
    kept = (block.columns != OUTSIDE) & (block.values != 0)
    row = np.repeat(rows, kept.sum(axis=1))
    return sparse.csr_matrix((block.values[kept], (row, block.columns[kept])), shape=shape)


def _blocks(operator: Operator, shapes: Sequence[Shape], rows: IndexArray) -> tuple[list[_Block], FloatArray]:
    match operator:
        case Conv():
            return [_conv(operator, shapes[0], rows)], operator.bias[rows // int(np.prod(operator.shape[1:]))]
        case Linear():
            return [_linear(operator, rows)], operator.bias[rows % len(operator.bias)]
        case Scale():
            scale = np.broadcast_to(operator.scale, operator.shape).reshape(-1)[rows]
            return [_diagonal(rows, scale)], np.broadcast_to(operator.shift, operator.shape).reshape(-1)[rows]
        case Constant():
            return [], np.broadcast_to(operator.value, operator.shape).reshape(-1)[rows]
        case Pad():
            return _pad(operator, shapes[0], rows)
        case Sum():
            return [_diagonal(rows, np.full(len(rows), sign)) for sign in operator.signs], np.zeros(len(rows))
        case _:
            return _moves(operator, shapes, rows), np.zeros(len(rows))


def _moves(operator: Operator, shapes: Sequence[Shape], rows: IndexArray) -> list[_Block]:
    match operator:
        case Reshape():
            return [_selection(rows)]
        case Transpose():
            source = np.arange(int(np.prod(shapes[0]))).reshape(shapes[0]).transpose(operator.permutation)
            return [_selection(source.reshape(-1)[rows])]
        case Concat():
            return [_selection(part.reshape(-1)[rows]) for part in _parts(operator, shapes)]
        case _:
            raise TypeError(f"operator {type(operator).__name__} is not affine")


def _diagonal(rows: IndexArray, values: FloatArray) -> _Block:
    return _Block(rows[:, None], values[:, None])


def _selection(columns: IndexArray) -> _Block:
    return _diagonal(columns, np.ones(len(columns)))


def _conv(operator: Conv, shape: Shape, rows: IndexArray) -> _Block:
    kernel = (operator.weight.shape[2], operator.weight.shape[3])
    windows = window_indices(shape, kernel, operator.stride, operator.padding, operator.dilation)
    windows = windows.reshape(-1, windows.shape[-1])
    out_channels, group_channels = operator.weight.shape[:2]
    channel, position = np.divmod(rows, len(windows))
    first = (channel // (out_channels // operator.groups)) * group_channels
    plane = first[:, None] + np.arange(group_channels)
    inside = windows[position][:, None, :]
    columns = np.where(inside == OUTSIDE, OUTSIDE, plane[:, :, None] * (shape[-2] * shape[-1]) + inside)
    values = operator.weight.reshape(out_channels, group_channels, -1)[channel]
    return _Block(columns.reshape(len(rows), -1), values.reshape(len(rows), -1))


def _linear(operator: Linear, rows: IndexArray) -> _Block:
    outputs, inputs = operator.weight.shape
    batch, output = np.divmod(rows, outputs)
    return _Block(batch[:, None] * inputs + np.arange(inputs), operator.weight[output])


def _pad(operator: Pad, shape: Shape, rows: IndexArray) -> tuple[list[_Block], FloatArray]:
    top, left, bottom, right = operator.padding
    source = np.arange(int(np.prod(shape))).reshape(shape)
    around = [(0, 0)] * (len(shape) - 2) + [(top, bottom), (left, right)]
    columns = np.pad(source, around, constant_values=OUTSIDE).reshape(-1)[rows]
    return [_selection(columns)], np.where(columns == OUTSIDE, operator.value, 0.0)


def _parts(operator: Concat, shapes: Sequence[Shape]) -> list[IndexArray]:
    """For every input, which of its elements each output copies (``OUTSIDE``: another input's)."""
    parts = []
    for chosen in range(len(shapes)):
        pieces = [
            np.arange(int(np.prod(shape))).reshape(shape) if number == chosen else np.full(shape, OUTSIDE)
            for number, shape in enumerate(shapes)
        ]
        parts.append(np.concatenate(pieces, axis=operator.axis).astype(np.int64))
    return parts
