"""Readers of ONNX pools and means."""

from math import prod

import numpy as np
import onnx
from numpy.typing import NDArray

from .onnx_builder import Attributes, Builder, refuse
from .onnx_spatial import Window, append_conv, as_planes, drop_height, read_window
from .operators import MaxPool, Scale, Shape
from .windows import OUTSIDE, window_indices


def read_max_pool(builder: Builder, node: onnx.NodeProto, source: int, attributes: Attributes) -> int:
    """MaxPool of signals and images."""
    if len(node.output) > 1 and node.output[1]:
        raise refuse(node, "its indices output is not read")
    window = read_window(node, attributes, builder.shape(source), tuple(attributes["kernel_shape"]))
    source, signal = as_planes(builder, node, source)
    channels, height, width = builder.shape(source)
    plane = _indices(window, (height, width), ceil=bool(attributes.get("ceil_mode", 0)))
    if plane.size == 0 or np.all(plane == OUTSIDE, axis=2).any():
        raise refuse(node, "a window holds no pixel: its kernel or its padding is too large")
    if (plane == OUTSIDE).all(axis=2).any():
        raise refuse(node, "one of its windows sees nothing but padding")
    offsets = np.arange(channels)[:, None, None, None] * (height * width)
    windows = np.where(plane[None] == OUTSIDE, OUTSIDE, plane[None] + offsets)
    shape = (channels, plane.shape[0], plane.shape[1])
    flat = windows.reshape(-1, plane.shape[2])
    value = builder.append(MaxPool(node.name or node.output[0], (source,), shape, flat))
    return drop_height(builder, node, value, signal)


def _indices(window: Window, plane: Shape, *, ceil: bool = False) -> NDArray[np.int64]:
    return window_indices(plane, window.kernel, window.stride, window.padding, window.dilation, ceil=ceil)


def read_average_pool(builder: Builder, node: onnx.NodeProto, source: int, attributes: Attributes) -> int:
    """AveragePool: a convolution, recounted where windows overlap padding."""
    if attributes.get("ceil_mode", 0):
        raise refuse(node, "ceil_mode is not read; export with ceil_mode=False")
    window = read_window(node, attributes, builder.shape(source), tuple(attributes["kernel_shape"]))
    source, signal = as_planes(builder, node, source)
    value = _append_average(builder, node, source, window)
    if any(window.padding) and not attributes.get("count_include_pad", 0):
        value = _append_recount(builder, node, source, value, window)
    return drop_height(builder, node, value, signal)


def _append_average(builder: Builder, node: onnx.NodeProto, source: int, window: Window) -> int:
    channels = builder.shape(source)[0]
    weight = np.full((channels, 1, *window.kernel), 1.0 / prod(window.kernel))
    return append_conv(builder, node, source, weight, np.zeros(channels), window, channels)


def _append_recount(builder: Builder, node: onnx.NodeProto, source: int, average: int, window: Window) -> int:
    """Windows that overlap the padding are averaged over their real pixels only."""
    inside = (_indices(window, builder.shape(source)) != OUTSIDE).sum(axis=2)
    scale = prod(window.kernel) / np.maximum(inside, 1)[None]
    name = f"{node.name or node.output[0]}/recount"
    return builder.append(Scale(name, (average,), builder.shape(average), scale, np.array(0.0)))


def read_global_average_pool(
    builder: Builder, node: onnx.NodeProto, source: int, attributes: Attributes
) -> int:
    """GlobalAveragePool."""
    del attributes
    shape = builder.shape(source)
    planes, _ = as_planes(builder, node, source)
    _, height, width = builder.shape(planes)
    value = _append_average(builder, node, planes, Window((height, width), (1, 1), (0, 0, 0, 0), (1, 1)))
    return builder.reshape(value, (shape[0], *(1 for _ in shape[1:])), f"{node.name or node.output[0]}/shape")


def read_reduce_mean(builder: Builder, node: onnx.NodeProto, source: int, attributes: Attributes) -> int:
    """ReduceMean over all spatial axes."""
    shape = builder.shape(source)
    axes = builder.constant(node, 1)
    chosen = attributes.get("axes") if axes is None else axes.tolist()
    wanted = set(range(2, len(shape) + 1))
    if chosen is None or {axis % (len(shape) + 1) for axis in chosen} != wanted or len(shape) < 2:
        raise refuse(node, "means are read over all spatial axes only")
    value = read_global_average_pool(builder, node, source, {})
    keep = attributes.get("keepdims", 1)
    return value if keep else builder.reshape(value, shape[:1], f"{node.name or node.output[0]}/squeeze")
