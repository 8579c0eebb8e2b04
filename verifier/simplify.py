"""Folding of element-wise scales into the affine operator before them.

MatMul + Add, Gemm + BatchNormalization and their like become one operator, so that engines see fewer and
larger affine steps. Products are taken in float64.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .operators import Conv, FloatArray, Linear, Operator, Scale


def fold_scales(operators: Sequence[Operator], output: int) -> tuple[tuple[Operator, ...], int]:
    """Fold every Scale that follows a Conv, Linear or Scale nobody else reads.

    Args:
        operators: in topological order, values numbered as in ``operators``.
        output: number of the output value.

    Returns:
        The shorter list and the new number of the output value.
    """
    readers = Counter(source for operator in operators for source in operator.inputs)
    readers[output] += 1
    kept: list[Operator] = []
    number = {0: 0}
    for position, operator in enumerate(operators, start=1):
        moved = replace(operator, inputs=tuple(number[source] for source in operator.inputs))
        merged = None
        if isinstance(moved, Scale) and moved.inputs[0] > 0 and readers[operator.inputs[0]] == 1:
            merged = _merge(kept[moved.inputs[0] - 1], moved)
        if merged is None:
            kept.append(moved)
            number[position] = len(kept)
        else:
            kept[moved.inputs[0] - 1] = merged
            number[position] = moved.inputs[0]
    return tuple(kept), number[output]


def _merge(before: Operator, scale: Scale) -> Operator | None:
    match before:
        case Scale():
            shift = np.asarray(before.shift * scale.scale + scale.shift)
            return replace(before, scale=np.asarray(before.scale * scale.scale), shift=shift)
        case Linear():
            return _merge_linear(before, scale)
        case Conv():
            return _merge_conv(before, scale)
        case _:
            return None


def _merge_linear(before: Linear, scale: Scale) -> Linear | None:
    factor, shift = _last_axis(scale.scale, before.shape), _last_axis(scale.shift, before.shape)
    if factor is None or shift is None:
        return None
    return replace(before, weight=before.weight * factor[:, None], bias=before.bias * factor + shift)


def _last_axis(array: FloatArray, shape: tuple[int, ...]) -> FloatArray | None:
    if array.ndim > 1 and any(length != 1 for length in array.shape[:-1]):
        return None
    flat = array.reshape(-1)
    return np.broadcast_to(flat, (shape[-1],)) if flat.size in (1, shape[-1]) else None


def _merge_conv(before: Conv, scale: Scale) -> Conv | None:
    factor, shift = _per_channel(scale.scale, before.shape), _per_channel(scale.shift, before.shape)
    if factor is None or shift is None:
        return None
    return replace(
        before, weight=before.weight * factor[:, None, None, None], bias=before.bias * factor + shift
    )


def _per_channel(array: FloatArray, shape: tuple[int, ...]) -> FloatArray | None:
    if array.size == 1:
        return np.full(shape[0], array.reshape(-1)[0])
    return array.reshape(-1) if array.shape == (shape[0], 1, 1) else None
