"""Padding, strides and plane shapes, shared by the readers of convolutions and pools."""

from collections.abc import Sequence
from dataclasses import dataclass

import onnx

from .onnx_builder import Attributes, Builder, refuse
from .operators import Conv, FloatArray, Padding, Shape
from .windows import output_size


@dataclass(frozen=True, slots=True)
class Window:
    """How a kernel slides over (height, width) planes; signals have height 1."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: Padding
    dilation: tuple[int, int]


def read_window(node: onnx.NodeProto, attributes: Attributes, shape: Shape, kernel: Shape) -> Window:
    """The window of a convolution or pool on values of ``shape`` (channels, *spatial)."""
    if len(shape) != len(kernel) + 1 or len(kernel) not in (1, 2):
        raise refuse(node, f"its window has {len(kernel)} axes on shape {shape}; signals and images are read")
    ones = [1] * len(kernel)
    stride, dilation = attributes.get("strides", ones), attributes.get("dilations", ones)
    spans = [(width - 1) * gap + 1 for width, gap in zip(kernel, dilation, strict=True)]
    before, after = _pads(attributes, shape[1:], spans, stride)
    if min(*before, *after) < 0:
        raise refuse(node, "negative padding is not read")
    (top, left), (bottom, right) = _two(before, 0), _two(after, 0)
    return Window(_two(kernel), _two(stride), (top, left, bottom, right), _two(dilation))


def _pads(
    attributes: Attributes, sizes: Sequence[int], spans: Sequence[int], stride: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Padding before and after each axis, from ``pads`` or ``auto_pad``."""
    mode = attributes.get("auto_pad", b"NOTSET").decode()
    if mode in ("NOTSET", ""):
        pads = list(attributes.get("pads", [0] * (2 * len(spans))))
        return pads[: len(spans)], pads[len(spans) :]
    if mode == "VALID":
        return [0] * len(spans), [0] * len(spans)
    if mode not in ("SAME_UPPER", "SAME_LOWER"):
        raise ValueError(f"auto_pad {mode}")
    totals = [
        max((-(-size // step) - 1) * step + span - size, 0)
        for size, span, step in zip(sizes, spans, stride, strict=True)
    ]
    small = [total // 2 for total in totals]
    large = [total - half for total, half in zip(totals, small, strict=True)]
    return (small, large) if mode == "SAME_UPPER" else (large, small)


def _two(values: Sequence[int], fill: int = 1) -> tuple[int, int]:
    numbers = [int(value) for value in values]
    return (fill, numbers[0]) if len(numbers) == 1 else (numbers[0], numbers[1])


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
    window: Window,
    groups: int,
) -> int:
    """Add a convolution of a (channels, height, width) value."""
    channels, height, width = builder.shape(source)
    if weight.shape[1] * groups != channels:
        raise refuse(node, f"its kernel reads {weight.shape[1] * groups} channels, its input has {channels}")
    (top, left, bottom, right), stride, dilation = window.padding, window.stride, window.dilation
    rows = output_size(height, weight.shape[2], stride[0], dilation[0], top + bottom)
    cols = output_size(width, weight.shape[3], stride[1], dilation[1], left + right)
    if rows < 1 or cols < 1:
        raise refuse(node, "its kernel is larger than its padded input")
    name, shape = node.name or node.output[0], (len(weight), rows, cols)
    return builder.append(
        Conv(name, (source,), shape, weight, bias, stride, window.padding, dilation, groups)
    )
