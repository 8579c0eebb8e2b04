"""Readers of ONNX operators that move numbers without changing them: padding, shapes, concatenation."""

from collections.abc import Sequence

import numpy as np
import onnx

from .onnx_builder import Attributes, Builder, as_float, attributes_of, refuse, required
from .operators import Concat, Constant, Pad, Shape, Transpose


def read_pad(builder: Builder, node: onnx.NodeProto, source: int, attributes: Attributes) -> int:
    """Pad by a constant."""
    if attributes.get("mode", b"constant") != b"constant":
        raise refuse(node, "only constant padding is read")
    shape = builder.shape(source)
    constant = builder.constant(node, 1)
    pads = [int(pad) for pad in (attributes["pads"] if constant is None else constant)]
    value = builder.constant(node, 2)
    fill = float(attributes.get("value", 0.0)) if value is None else float(np.asarray(value).reshape(-1)[0])
    half = len(pads) // 2
    before, after = pads[:half], pads[half:]
    if len(node.input) > 3 and node.input[3]:
        raise refuse(node, "its axes input is not read; export with pads for every axis")
    if half != len(shape) + 1 or any(before[:-2]) or any(after[:-2]) or min(pads) < 0 or len(shape) < 2:
        raise refuse(node, "only the last two axes may be padded, by amounts that are not negative")
    padding = (before[-2], before[-1], after[-2], after[-1])
    padded = (*shape[:-2], shape[-2] + before[-2] + after[-2], shape[-1] + before[-1] + after[-1])
    return builder.append(Pad(node.name or node.output[0], (source,), padded, padding, fill))


def read_flatten(builder: Builder, node: onnx.NodeProto, source: int, attributes: Attributes) -> int:
    """Flatten to feature vectors."""
    shape = builder.shape(source)
    axis = int(attributes.get("axis", 1))
    if axis not in (1, -len(shape)):
        raise refuse(node, f"axis {axis} would mix images of a batch; use axis 1")
    return builder.reshape(source, (int(np.prod(shape, dtype=int)),), node.name or node.output[0])


def read_reshape(builder: Builder, node: onnx.NodeProto, source: int, attributes: Attributes) -> int:
    """Reshape that keeps the batch axis."""
    shape = (1, *builder.shape(source))
    wanted = attributes["shape"] if "shape" in attributes else required(builder, node, 1).tolist()
    # a target that does not follow the batch size, [1, -1] say, makes one image of the whole batch
    builder.one_image |= len(wanted) > 0 and wanted[0] == 1 and node.input[-1] not in builder.sized
    keep_zero = bool(attributes.get("allowzero", 0))
    sizes = [shape[axis] if size == 0 and not keep_zero else int(size) for axis, size in enumerate(wanted)]
    try:
        result = np.empty(shape, dtype=np.int8).reshape(sizes).shape
    except ValueError:
        raise refuse(node, f"can't reshape {shape} to {sizes}") from None
    return _without_batch(builder, node, source, result)


def _without_batch(builder: Builder, node: onnx.NodeProto, source: int, result: Shape) -> int:
    if len(result) < 2 or result[0] != 1:
        raise refuse(node, f"its result {result} loses the batch axis; keep the batch first")
    return builder.reshape(source, tuple(result[1:]), node.name or node.output[0])


def _axes(builder: Builder, node: onnx.NodeProto, attributes: Attributes) -> list[int] | None:
    constant = builder.constant(node, 1)
    found = attributes.get("axes") if constant is None else constant.reshape(-1).tolist()
    return None if found is None else [int(axis) for axis in found]


def read_squeeze(builder: Builder, node: onnx.NodeProto, source: int, attributes: Attributes) -> int:
    """Squeeze of axes that are not the batch."""
    shape = (1, *builder.shape(source))
    axes = _axes(builder, node, attributes)
    chosen = [axis for axis, size in enumerate(shape) if size == 1] if axes is None else axes
    _keep_batch(builder, node, chosen, len(shape))
    result = np.squeeze(np.empty(shape, dtype=np.int8), axis=tuple(chosen)).shape
    return _without_batch(builder, node, source, result)


def _keep_batch(builder: Builder, node: onnx.NodeProto, axes: Sequence[int], rank: int) -> None:
    """A dynamic batch must stay the first axis; one image may lose and regain its axis of size 1."""
    if builder.graph.batch is None and any(axis % rank == 0 for axis in axes):
        raise refuse(node, f"axes {list(axes)} move the batch axis; keep the batch first")


def read_unsqueeze(builder: Builder, node: onnx.NodeProto, source: int, attributes: Attributes) -> int:
    """Unsqueeze behind the batch axis."""
    axes = _axes(builder, node, attributes) or []
    shape = (1, *builder.shape(source))
    _keep_batch(builder, node, axes, len(shape) + len(axes))
    result = np.expand_dims(np.empty(shape, dtype=np.int8), axis=tuple(axes)).shape
    return _without_batch(builder, node, source, result)


def read_transpose(builder: Builder, node: onnx.NodeProto, source: int, attributes: Attributes) -> int:
    """Transpose that keeps the batch first."""
    shape = builder.shape(source)
    order = [int(axis) for axis in attributes.get("perm", range(len(shape), -1, -1))]
    if order[0] != 0:
        raise refuse(node, f"permutation {order} moves the batch axis")
    permutation = tuple(axis - 1 for axis in order[1:])
    result = tuple(shape[axis] for axis in permutation)
    return builder.append(Transpose(node.name or node.output[0], (source,), result, permutation))


def read_concat(builder: Builder, node: onnx.NodeProto) -> int:
    """Concat of values and constants along any axis but the batch."""
    name = node.name or node.output[0]
    sources = [_as_value(builder, node, item) for item in node.input]
    shapes = [builder.shape(source) for source in sources]
    axis = int(attributes_of(node)["axis"])
    axis = axis + len(shapes[0]) + 1 if axis < 0 else axis
    if axis == 0:
        raise refuse(node, "axis 0 would mix images of a batch")
    others = {shape[: axis - 1] + shape[axis:] for shape in shapes}
    if not 0 < axis <= len(shapes[0]) or len(others) != 1:
        raise refuse(node, f"shapes {shapes} can't be joined along axis {axis}")
    result = list(shapes[0])
    result[axis - 1] = sum(shape[axis - 1] for shape in shapes)
    return builder.append(Concat(name, tuple(sources), tuple(result), axis - 1))


def _as_value(builder: Builder, node: onnx.NodeProto, item: str) -> int:
    if item in builder.values:
        return builder.values[item]
    array = as_float(builder.constants[item])
    if array.ndim < 2 or array.shape[0] != 1:
        raise refuse(node, f"constant '{item}' has no batch axis of size 1")
    # onnxruntime does not stretch it over a batch
    builder.one_image = True
    return builder.append(Constant(item, (), array.shape[1:], array[0]))
