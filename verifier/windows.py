"""Index arithmetic of sliding windows, shared by pooling, bounds and the MILP."""

import numpy as np
from numpy.typing import NDArray

from .operators import Padding, Shape

OUTSIDE = -1


def output_size(size: int, kernel: int, stride: int, dilation: int, pads: int, *, ceil: bool = False) -> int:
    """Number of window positions along one axis of ``size`` pixels with ``pads`` padding pixels in all."""
    span = size + pads - dilation * (kernel - 1) - 1
    return (-(-span // stride) if ceil else span // stride) + 1


def window_indices(
    shape: Shape,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: Padding,
    dilation: tuple[int, int] = (1, 1),
    *,
    ceil: bool = False,
) -> NDArray[np.int64]:
    """Flat indices into one (height, width) plane of every window, ``OUTSIDE`` for padding.

    Returns:
        Array (out_height, out_width, kernel_height * kernel_width).
    """
    height, width = shape[-2:]
    rows = _positions(height, kernel[0], stride[0], dilation[0], padding[0], padding[2], ceil)
    cols = _positions(width, kernel[1], stride[1], dilation[1], padding[1], padding[3], ceil)
    row, col = rows[:, None, :, None], cols[None, :, None, :]
    flat = np.where((row == OUTSIDE) | (col == OUTSIDE), OUTSIDE, row * width + col)
    return flat.reshape(len(rows), len(cols), kernel[0] * kernel[1])


def _positions(
    size: int, kernel: int, stride: int, dilation: int, before: int, after: int, ceil: bool
) -> NDArray[np.int64]:
    count = output_size(size, kernel, stride, dilation, before + after, ceil=ceil)
    # a last window that would start in the padding beyond the image is dropped (ONNX since opset 11, torch)
    if ceil and (count - 1) * stride >= size + before:
        count -= 1
    index = np.arange(count)[:, None] * stride + np.arange(kernel)[None, :] * dilation - before
    return np.where((index < 0) | (index >= size), OUTSIDE, index).astype(np.int64)
