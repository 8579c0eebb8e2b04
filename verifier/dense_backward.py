"""Backward steps of dense rows: linear functions of a value rewritten as functions of its inputs."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .bound_types import Bounds, Freedom
from .curves import CurveLines, curve_lines
from .operators import (
    Concat,
    Constant,
    Conv,
    Linear,
    MaxPool,
    Operator,
    Pad,
    Relu,
    Reshape,
    Scale,
    SShaped,
    Sum,
    Transpose,
)
from .patches import framed
from .relaxation import PoolLines, ReluLines, pool_lines, relu_lines
from .torch_network import TorchNetwork

# Products of one image each are slower than one product of all where images have fewer places than this.
FEW_POSITIONS = 32


class DenseBackward:
    """Steps through the operators of one network.

    Rows have shape (batch, rows, *shape of the value); a batch of 1 stands for rows that all regions share.
    """

    def __init__(self, module: TorchNetwork) -> None:
        """Use the weights of ``module``."""
        self._module = module

    def step(
        self, value: int, operator: Operator, rows: Tensor, bounds: Bounds, free: Freedom
    ) -> tuple[list[Tensor], Tensor | float]:
        """Rows on the operator's inputs that bound ``rows`` on its output from above, and the constant.

        Args:
            value: number of the operator's value.
            operator: the operator.
            rows: coefficients on the value.
            bounds: of all values below it.
            free: parameters of the relaxations.
        """
        source = operator.inputs[0] if operator.inputs else 0
        match operator:
            case Relu():
                low, high = bounds.lower[source].unsqueeze(1), bounds.upper[source].unsqueeze(1)
                lines = relu_lines(low, high, operator.negative_slope, free.relu.get(value))
                return _dense_relu(rows, lines)
            case MaxPool():
                lines_pool = self._pool_lines(value, source, bounds, free)
                return self._pool(value, operator, rows, lines_pool, bounds.lower[source].shape)
            case SShaped():
                low, high = bounds.lower[source].unsqueeze(1), bounds.upper[source].unsqueeze(1)
                return _dense_curve(rows, curve_lines(operator.curve, low, high, free.curve.get(value)))
            case Sum():
                return [sign * rows for sign in operator.signs], 0.0
            case Concat():
                sizes = [self._module.network.shape_of(item)[operator.axis] for item in operator.inputs]
                return list(torch.split(rows, sizes, dim=operator.axis + 2)), 0.0
            case Constant():
                constant = self._module.array("value", value - 1)
                return [], (rows.flatten(2) * constant.flatten()).sum(dim=2)
            case _:
                return self._affine(value - 1, operator, rows, bounds.lower[source].shape[1:])

    def _affine(
        self, position: int, operator: Operator, rows: Tensor, below: torch.Size
    ) -> tuple[list[Tensor], Tensor | float]:
        batch, count = rows.shape[:2]
        match operator:
            case Conv():
                constant = rows.sum(dim=(3, 4)) @ self._module.array("bias", position)
                return [self._conv_transposed(position, operator, rows, below)], constant
            case Linear():
                constant = (rows * self._module.array("bias", position)).flatten(2).sum(dim=2)
                return [rows @ self._module.array("weight", position)], constant
            case Scale():
                constant = (rows * self._module.array("shift", position)).flatten(2).sum(dim=2)
                return [rows * self._module.array("scale", position)], constant
            case Pad():
                top, left, bottom, right = operator.padding
                inside = functional.pad(rows, (-left, -right, -top, -bottom))
                constant = operator.value * (rows.flatten(2).sum(dim=2) - inside.flatten(2).sum(dim=2))
                return [inside], constant
            case Reshape():
                return [rows.reshape(batch, count, *below)], 0.0
            case Transpose():
                back = np.argsort(operator.permutation)
                return [rows.permute(0, 1, *(int(axis) + 2 for axis in back))], 0.0
            case _:
                raise TypeError(f"no backward step for {type(operator).__name__}")

    def _conv_transposed(self, position: int, operator: Conv, rows: Tensor, below: torch.Size) -> Tensor:
        batch, count = rows.shape[:2]
        flat = rows.reshape(batch * count, *rows.shape[2:])
        weight = self._module.array("weight", position)
        top, left, bottom, right = operator.padding
        few = _tiles(operator) and flat[0, 0].numel() < FEW_POSITIONS
        if (top, left) == (bottom, right) and operator.groups == 1 and not few:
            # one product for all images and one pass that adds up and crops
            spread = weight.flatten(1).T @ flat.flatten(2)
            kernel = weight.shape[2:]
            folded = functional.fold(
                spread, below[1:], kernel, operator.dilation, (top, left), operator.stride
            )
            return folded.reshape(batch, count, *below)
        padded = _transposed(flat, weight, operator)
        # strides that do not divide the input leave its last rows and columns unread: they get zero
        bottom = below[1] + top - padded.shape[2]
        right = below[2] + left - padded.shape[3]
        return framed(padded, (-left, right, -top, bottom)).reshape(batch, count, *below)

    def _pool_lines(self, value: int, source: int, bounds: Bounds, free: Freedom) -> PoolLines:
        low = self._module.gather_windows(value - 1, bounds.lower[source]).unsqueeze(1)
        high = self._module.gather_windows(value - 1, bounds.upper[source]).unsqueeze(1)
        return pool_lines(low, high, free.pool.get(value))

    def _pool(
        self, value: int, operator: MaxPool, rows: Tensor, lines: PoolLines, below: torch.Size
    ) -> tuple[list[Tensor], Tensor]:
        rows = rows.expand(below[0], -1, *rows.shape[2:])
        flat = rows.flatten(2)
        positive, negative = flat.clamp(min=0), flat.clamp(max=0)
        constant = (positive * lines.upper_shift + negative * lines.lower_shift).sum(dim=2)
        parts = (positive.unsqueeze(3) * lines.upper_slope).addcmul_(negative.unsqueeze(3), lines.lower_slope)
        windows = self._module.array("windows", value - 1)
        size = int(np.prod(below[1:]))
        index = torch.where(windows < 0, size, windows).flatten()
        each = parts.reshape(len(parts) * rows.shape[1], -1)
        spread = each.new_zeros(len(each), size + 1).index_add_(1, index, each)[:, :size]
        return [spread.reshape(*rows.shape[:2], *below[1:])], constant


def _dense_relu(rows: Tensor, lines: ReluLines) -> tuple[list[Tensor], Tensor]:
    positive = rows.clamp(min=0)
    moved = (rows * lines.lower_slope).addcmul_(positive, lines.upper_slope - lines.lower_slope)
    return [moved], _summed(positive, lines.upper_shift)


def _dense_curve(rows: Tensor, lines: CurveLines) -> tuple[list[Tensor], Tensor]:
    positive, negative = rows.clamp(min=0), rows.clamp(max=0)
    moved = (positive * lines.upper_slope).addcmul_(negative, lines.lower_slope)
    return [moved], _summed(positive, lines.upper_shift) + _summed(negative, lines.lower_shift)


def _summed(rows: Tensor, shifts: Tensor) -> Tensor:
    """Sums (batch, rows) of rows times shifts, which all rows share where their axis has length 1."""
    if shifts.shape[1] == 1:
        return applied(rows, shifts.squeeze(1))
    return (rows * shifts).flatten(2).sum(dim=2)


def applied(rows: Tensor, value: Tensor) -> Tensor:
    """Rows (batch or 1, rows, *shape) applied to a value (batch, *shape): (batch, rows)."""
    flat, column = rows.flatten(2), value.flatten(1)
    if len(flat) == 1:
        return column @ flat[0].T
    # a product of matrices with a single column takes six times as long
    return (column.unsqueeze(1) @ flat.transpose(1, 2)).squeeze(1)


def _tiles(operator: Conv) -> bool:
    """Whether windows tile the input."""
    kernel = operator.weight.shape[2:]
    return kernel == operator.stride and operator.dilation == (1, 1) and operator.groups == 1


def _transposed(flat: Tensor, weight: Tensor, operator: Conv) -> Tensor:
    """The convolution transposed, (rows, channels below, height, width)."""
    height, width = weight.shape[2:]
    if not _tiles(operator):
        return functional.conv_transpose2d(
            flat, weight, stride=operator.stride, groups=operator.groups, dilation=operator.dilation
        )
    # windows that tile the input: one product does it, where torch goes image by image
    count, channels, rows, cols = flat.shape
    tiles = flat.permute(0, 2, 3, 1).reshape(-1, channels) @ weight.flatten(1)
    parts = tiles.reshape(count, rows, cols, -1, height, width).permute(0, 3, 1, 4, 2, 5)
    return parts.reshape(count, -1, rows * height, cols * width)
