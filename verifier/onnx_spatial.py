"""Padding, strides and plane shapes, shared by the readers of convolutions and pools."""

from typing import Any

import onnx

from ..errors import ModelFormatError
from .onnx_builder import Attributes, Builder, refuse
from .operators import Conv, FloatArray, Padding, Shape
from .windows import output_size


def read_pads(
    node: onnx.NodeProto, attributes: Attributes, shape: Shape, kernel: Shape, stride: Shape
) -> Padding:
    """Padding of a convolution or pool, from ``pads`` or ``auto_pad``."""
    mode = attributes.get("auto_pad", b"NOTSET").decode()
    if mode in ("NOTSET", ""):
        pads = attributes.get("pads", [0] * (2 * len(kernel)))
        before, after = pads[: len(kernel)], pads[len(kernel) :]
    elif mode == "VALID":
        before, after = [0] * len(kernel), [0] * len(kernel)
    else:
        dilation = attributes.get("dilations", [1] * len(kernel))
        totals = [
            max((-(-size // step) - 1) * step + (width - 1) * gap + 1 - size, 0)
            for size, width, step, gap in zip(shape[1:], kernel, stride, dilation, strict=True)
        ]
        small = [total // 2 for total in totals]
        large = [total - half for total, half in zip(totals, small, strict=True)]
        before, after = (small, large) if mode == "SAME_UPPER" else (large, small)
    if any(pad < 0 for pad in (*before, *after)):
        raise refuse(node, "negative padding is not read")
    if len(kernel) == 1:
        return (0, int(before[0]), 0, int(after[0]))
    return (int(before[0]), int(before[1]), int(after[0]), int(after[1]))


def two(values: Any) -> tuple[int, int]:
    """Sizes of a window along height and width; signals have height 1."""
    numbers = [int(value) for value in values]
    return (1, numbers[0]) if len(numbers) == 1 else (numbers[0], numbers[1])


def as_planes(builder: Builder, node: onnx.NodeProto, source: int) -> tuple[int, bool]:
    """The value as (channels, height, width); signals (channels, length) get height 1."""
    shape = builder.shape(source)
    if len(shape) == 3:
        return source, False
    if len(shape) == 2:
        name = f"{node.name or node.output[0]}/as-image"
        return builder.reshape(source, (shape[0], 1, shape[1]), name), True
    raise refuse(node, f"it works on {len(shape) - 1} spatial axes; 1 and 2 are read")


def drop_height(builder: Builder, node: onnx.NodeProto, value: int, signal: bool) -> int:
    """Undo :func:`as_planes`."""
    if not signal:
        return value
    channels, _, length = builder.shape(value)
    return builder.reshape(value, (channels, length), f"{node.name or node.output[0]}/as-signal")


def append_conv(
    builder: Builder,
    node: onnx.NodeProto,
    source: int,
    weight: FloatArray,
    bias: FloatArray,
    stride: tuple[int, int],
    padding: Padding,
    dilation: tuple[int, int],
    groups: int,
) -> int:
    """Add a convolution of a (channels, height, width) value."""
    channels, height, width = builder.shape(source)
    if weight.shape[1] * groups != channels:
        raise refuse(node, f"its kernel reads {weight.shape[1] * groups} channels, its input has {channels}")
    rows = output_size(height, weight.shape[2], stride[0], dilation[0], padding[0] + padding[2])
    cols = output_size(width, weight.shape[3], stride[1], dilation[1], padding[1] + padding[3])
    if rows < 1 or cols < 1:
        raise ModelFormatError(f"node '{node.name}': its kernel is larger than its padded input")
    name = node.name or node.output[0]
    shape = (len(weight), rows, cols)
    return builder.append(Conv(name, (source,), shape, weight, bias, stride, padding, dilation, groups))
