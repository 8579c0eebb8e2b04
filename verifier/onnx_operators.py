"""ONNX nodes to typed operators, one small reader per operator."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from ..errors import ModelFormatError, UnsupportedOperatorError
from .onnx_graph import GraphFile, evaluate_constant
from .operators import (
    Concat,
    Constant,
    Conv,
    FloatArray,
    Linear,
    MaxPool,
    Operator,
    Pad,
    Padding,
    Relu,
    Reshape,
    Scale,
    Shape,
    Sum,
    Transpose,
)
from .windows import OUTSIDE, output_size, window_indices

Attributes = Mapping[str, Any]


@dataclass(slots=True)
class Builder:
    """Collects operators while a graph is read; values are known by their ONNX names.

    Attributes:
        graph: the file.
        operators: read so far.
        values: numbers of the values that are computed from the image, by their ONNX names.
        constants: what does not depend on the image's pixels, by name.
        sized: names of the constants that were computed from a shape, and so from the size of the batch,
            which is read as 1.
        input_shape: of one image.
    """

    graph: GraphFile
    operators: list[Operator] = field(default_factory=list)
    values: dict[str, int] = field(default_factory=dict)
    constants: dict[str, NDArray[Any]] = field(default_factory=dict)
    sized: set[str] = field(default_factory=set)
    input_shape: Shape = ()

    def shape(self, number: int) -> Shape:
        """Shape of a numbered value."""
        return self.input_shape if number == 0 else self.operators[number - 1].shape

    def append(self, operator: Operator) -> int:
        """Add an operator and return the number of its value.

        Raises:
            ModelFormatError: when one of its numbers is NaN or infinite.
        """
        if not all(np.isfinite(array).all() for array in _numbers(operator)):
            raise ModelFormatError(
                f"node '{operator.name}': a weight is NaN or infinite; such a network can't be verified"
            )
        self.operators.append(operator)
        return len(self.operators)

    def constant(self, node: onnx.NodeProto, position: int) -> NDArray[Any] | None:
        """Constant input of a node, None when absent.

        Raises:
            UnsupportedOperatorError: when that input is computed from the image.
        """
        if position >= len(node.input) or not node.input[position]:
            return None
        name = node.input[position]
        if name not in self.constants:
            raise _refuse(node, f"its input '{name}' must be a constant")
        return self.constants[name]

    def reshape(self, source: int, shape: Shape, name: str) -> int:
        """Value ``source`` in another shape; nothing is added when the shape is the same."""
        if self.shape(source) == shape:
            return source
        return self.append(Reshape(name, (source,), shape))


def _numbers(operator: Operator) -> tuple[FloatArray | float, ...]:
    match operator:
        case Conv() | Linear():
            return operator.weight, operator.bias
        case Scale():
            return operator.scale, operator.shift
        case Constant() | Pad():
            return (operator.value,)
        case _:
            return ()


Reader = Callable[[Builder, onnx.NodeProto, int, Attributes], int]


def _refuse(node: onnx.NodeProto, hint: str) -> UnsupportedOperatorError:
    return UnsupportedOperatorError(node.op_type, node.name or node.output[0], hint)


def attributes_of(node: onnx.NodeProto) -> Attributes:
    """Attributes of a node by name."""
    return {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}


def read_node(builder: Builder, node: onnx.NodeProto) -> None:
    """Translate one node, extending ``builder``.

    Raises:
        UnsupportedOperatorError: names the node and the operator.
    """
    if node.op_type in _RANDOM:
        raise _refuse(node, "its result is random; a network must give the same scores every time")
    if node.op_type == "Constant" or all(name in builder.constants for name in node.input if name):
        _fold(builder, node)
        return
    if node.op_type == "Shape":
        _read_shape(builder, node)
        return
    if node.op_type in _BINARY:
        builder.values[node.output[0]] = _read_binary(builder, node)
        return
    if node.op_type == "Concat":
        builder.values[node.output[0]] = _read_concat(builder, node)
        return
    reader = _READERS.get(node.op_type)
    if reader is None or node.domain not in ("", "ai.onnx"):
        raise _refuse(node, "see `mlverify info` for the operators that are read")
    if node.input[0] not in builder.values:
        raise _refuse(node, "its first input must be computed from the image")
    builder.values[node.output[0]] = reader(builder, node, builder.values[node.input[0]], attributes_of(node))


_RANDOM = ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")


def _read_shape(builder: Builder, node: onnx.NodeProto) -> None:
    attributes = attributes_of(node)
    shape = (1, *builder.shape(builder.values[node.input[0]]))
    part = shape[attributes.get("start", 0) : attributes.get("end", len(shape))]
    builder.constants[node.output[0]] = np.array(part, dtype=np.int64)
    builder.sized.add(node.output[0])


def _fold(builder: Builder, node: onnx.NodeProto) -> None:
    if builder.sized.intersection(node.input):
        builder.sized.update(node.output)
    if node.op_type == "Dropout":
        builder.constants[node.output[0]] = builder.constants[node.input[0]]
        return
    try:
        builder.constants.update(evaluate_constant(builder.graph, node, builder.constants))
    except Exception as error:
        raise _refuse(node, f"constant inputs could not be evaluated ({error})") from None


def _float(array: NDArray[Any]) -> FloatArray:
    return np.asarray(array, dtype=np.float64)


def _identity(builder: Builder, node: onnx.NodeProto, source: int, attributes: Attributes) -> int:
    del builder, attributes
    if node.op_type == "Dropout" and len(node.input) > 2 and node.input[2]:
        raise _refuse(node, "it is in training mode; export the network in evaluation mode")
    return source


def _relu(builder: Builder, node: onnx.NodeProto, source: int, attributes: Attributes) -> int:
    slope = float(attributes.get("alpha", 0.01)) if node.op_type == "LeakyRelu" else 0.0
    if not 0.0 <= slope < 1.0:
        raise _refuse(node, f"its negative slope {slope} must be in [0, 1)")
    return builder.append(Relu(node.name or node.output[0], (source,), builder.shape(source), slope))


# --- affine operators ---------------------------------------------------------------------------------


def _gemm(builder: Builder, node: onnx.NodeProto, source: int, attributes: Attributes) -> int:
    shape = builder.shape(source)
    if attributes.get("transA", 0) or len(shape) != 1:
        raise _refuse(node, "only batch x features inputs are read (Flatten before it, no transA)")
    weight = _float(_required(builder, node, 1))
    weight = weight if attributes.get("transB", 0) else weight.T
    bias = builder.constant(node, 2)
    beta = float(attributes.get("beta", 1.0))
    shift = np.zeros(len(weight)) if bias is None else beta * np.broadcast_to(_float(bias), (1, len(weight)))[0]
    weight = float(attributes.get("alpha", 1.0)) * weight
    return _linear(builder, node, source, weight, shift)


def _matmul(builder: Builder, node: onnx.NodeProto, source: int, attributes: Attributes) -> int:
    del attributes
    weight = _float(_required(builder, node, 1))
    if weight.ndim != 2:
        raise _refuse(node, "its right factor must be a constant matrix")
    return _linear(builder, node, source, weight.T, np.zeros(weight.shape[1]))


def _linear(builder: Builder, node: onnx.NodeProto, source: int, weight: FloatArray, bias: FloatArray) -> int:
    shape = builder.shape(source)
    if shape[-1] != weight.shape[1]:
        raise _refuse(node, f"its matrix reads {weight.shape[1]} features, its input has shape {shape}")
    name = node.name or node.output[0]
    return builder.append(Linear(name, (source,), (*shape[:-1], len(weight)), weight, np.array(bias)))


def _required(builder: Builder, node: onnx.NodeProto, position: int) -> NDArray[Any]:
    array = builder.constant(node, position)
    if array is None:
        raise _refuse(node, f"its input {position} is missing")
    return array


def _pads(node: onnx.NodeProto, attributes: Attributes, shape: Shape, kernel: Shape, stride: Shape) -> Padding:
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
        raise _refuse(node, "negative padding is not read")
    if len(kernel) == 1:
        return (0, int(before[0]), 0, int(after[0]))
    return (int(before[0]), int(before[1]), int(after[0]), int(after[1]))


def _two(values: Any) -> tuple[int, int]:
    numbers = [int(value) for value in values]
    return (1, numbers[0]) if len(numbers) == 1 else (numbers[0], numbers[1])


def _as_planes(builder: Builder, node: onnx.NodeProto, source: int) -> tuple[int, bool]:
    """The value as (channels, height, width); signals (channels, length) get height 1."""
    shape = builder.shape(source)
    if len(shape) == 3:
        return source, False
    if len(shape) == 2:
        name = f"{node.name or node.output[0]}/as-image"
        return builder.reshape(source, (shape[0], 1, shape[1]), name), True
    raise _refuse(node, f"it works on {len(shape) - 1} spatial axes; 1 and 2 are read")


def _drop_height(builder: Builder, node: onnx.NodeProto, value: int, signal: bool) -> int:
    if not signal:
        return value
    channels, _, length = builder.shape(value)
    return builder.reshape(value, (channels, length), f"{node.name or node.output[0]}/as-signal")


def _conv(builder: Builder, node: onnx.NodeProto, source: int, attributes: Attributes) -> int:
    weight = _float(_required(builder, node, 1))
    kernel = tuple(weight.shape[2:])
    stride = tuple(attributes.get("strides", [1] * len(kernel)))
    padding = _pads(node, attributes, builder.shape(source), kernel, stride)
    source, signal = _as_planes(builder, node, source)
    if signal:
        weight = weight[:, :, None, :]
    bias = builder.constant(node, 2)
    shift = np.zeros(len(weight)) if bias is None else _float(bias)
    dilation = _two(attributes.get("dilations", [1] * len(kernel)))
    groups = int(attributes.get("group", 1))
    value = append_conv(builder, node, source, weight, shift, _two(stride), padding, dilation, groups)
    return _drop_height(builder, node, value, signal)


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
        raise _refuse(node, f"its kernel reads {weight.shape[1] * groups} channels, its input has {channels}")
    rows = output_size(height, weight.shape[2], stride[0], dilation[0], padding[0] + padding[2])
    cols = output_size(width, weight.shape[3], stride[1], dilation[1], padding[1] + padding[3])
    if rows < 1 or cols < 1:
        raise ModelFormatError(f"node '{node.name}': its kernel is larger than its padded input")
    name = node.name or node.output[0]
    shape = (len(weight), rows, cols)
    return builder.append(Conv(name, (source,), shape, weight, bias, stride, padding, dilation, groups))


def _batch_normalization(builder: Builder, node: onnx.NodeProto, source: int, attributes: Attributes) -> int:
    if attributes.get("training_mode", 0):
        raise _refuse(node, "it is in training mode; export the network in evaluation mode")
    gain, bias, mean, variance = (_float(_required(builder, node, position)) for position in range(1, 5))
    scale = gain / np.sqrt(variance + float(attributes.get("epsilon", 1e-5)))
    trailing = (1,) * (len(builder.shape(source)) - 1)
    shift = (bias - mean * scale).reshape(-1, *trailing)
    name = node.name or node.output[0]
    return builder.append(Scale(name, (source,), builder.shape(source), scale.reshape(-1, *trailing), shift))


def _negate(builder: Builder, node: onnx.NodeProto, source: int, attributes: Attributes) -> int:
    del attributes
    name = node.name or node.output[0]
    return builder.append(Scale(name, (source,), builder.shape(source), np.array(-1.0), np.array(0.0)))


_BINARY = ("Add", "Sub", "Mul", "Div")


def _read_binary(builder: Builder, node: onnx.NodeProto) -> int:
    left, right = node.input
    if left in builder.values and right in builder.values:
        return _sum(builder, node, builder.values[left], builder.values[right])
    if left in builder.values:
        return _by_constant(builder, node, builder.values[left], builder.constants[right], reverse=False)
    return _by_constant(builder, node, builder.values[right], builder.constants[left], reverse=True)


def _sum(builder: Builder, node: onnx.NodeProto, left: int, right: int) -> int:
    if node.op_type not in ("Add", "Sub"):
        raise _refuse(node, "products and quotients of two computed values are not linear")
    if builder.shape(left) != builder.shape(right):
        raise _refuse(node, f"shapes {builder.shape(left)} and {builder.shape(right)} must be equal")
    sign = 1.0 if node.op_type == "Add" else -1.0
    return builder.append(Sum(node.name or node.output[0], (left, right), builder.shape(left), (1.0, sign)))


def _by_constant(
    builder: Builder, node: onnx.NodeProto, source: int, constant: NDArray[Any], *, reverse: bool
) -> int:
    value = _float(constant)
    shape = builder.shape(source)
    if value.ndim > len(shape):
        if np.prod(value.shape[: value.ndim - len(shape)], dtype=int) != 1:
            raise _refuse(node, f"its constant has shape {value.shape}, its input {shape}")
        value = value.reshape(value.shape[value.ndim - len(shape) :])
    if np.broadcast_shapes(value.shape, shape) != shape:
        raise _refuse(node, f"its constant of shape {value.shape} would enlarge its input of shape {shape}")
    one, zero = np.array(1.0), np.array(0.0)
    match node.op_type, reverse:
        case "Add", _:
            scale, shift = one, value
        case "Sub", False:
            scale, shift = one, -value
        case "Sub", True:
            scale, shift = -one, value
        case "Mul", _:
            scale, shift = value, zero
        case "Div", False if np.all(value != 0):
            scale, shift = 1.0 / value, zero
        case _:
            raise _refuse(node, "division by a computed value or by zero")
    return builder.append(Scale(node.name or node.output[0], (source,), shape, scale, shift))


# --- pooling, padding, shapes ---------------------------------------------------------------------------


def _max_pool(builder: Builder, node: onnx.NodeProto, source: int, attributes: Attributes) -> int:
    if len(node.output) > 1 and node.output[1]:
        raise _refuse(node, "its indices output is not read")
    kernel = tuple(attributes["kernel_shape"])
    stride = tuple(attributes.get("strides", [1] * len(kernel)))
    padding = _pads(node, attributes, builder.shape(source), kernel, stride)
    source, signal = _as_planes(builder, node, source)
    channels, height, width = builder.shape(source)
    plane = window_indices(
        (height, width),
        _two(kernel),
        _two(stride),
        padding,
        _two(attributes.get("dilations", [1] * len(kernel))),
        ceil=bool(attributes.get("ceil_mode", 0)),
    )
    if (plane == OUTSIDE).all(axis=2).any():
        raise _refuse(node, "one of its windows sees nothing but padding")
    offsets = np.arange(channels)[:, None, None, None] * (height * width)
    windows = np.where(plane[None] == OUTSIDE, OUTSIDE, plane[None] + offsets)
    shape = (channels, plane.shape[0], plane.shape[1])
    flat = windows.reshape(-1, plane.shape[2])
    value = builder.append(MaxPool(node.name or node.output[0], (source,), shape, flat))
    return _drop_height(builder, node, value, signal)


def _average_pool(builder: Builder, node: onnx.NodeProto, source: int, attributes: Attributes) -> int:
    if attributes.get("ceil_mode", 0):
        raise _refuse(node, "ceil_mode is not read; export with ceil_mode=False")
    if any(gap != 1 for gap in attributes.get("dilations", ())):
        raise _refuse(node, "dilations are not read")
    kernel = tuple(attributes["kernel_shape"])
    stride = tuple(attributes.get("strides", [1] * len(kernel)))
    padding = _pads(node, attributes, builder.shape(source), kernel, stride)
    source, signal = _as_planes(builder, node, source)
    value = _append_average(builder, node, source, _two(kernel), _two(stride), padding)
    if any(padding) and not attributes.get("count_include_pad", 0):
        value = _append_recount(builder, node, source, value, _two(kernel), _two(stride), padding)
    return _drop_height(builder, node, value, signal)


def _append_average(
    builder: Builder,
    node: onnx.NodeProto,
    source: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: Padding,
) -> int:
    channels = builder.shape(source)[0]
    weight = np.full((channels, 1, *kernel), 1.0 / (kernel[0] * kernel[1]))
    return append_conv(builder, node, source, weight, np.zeros(channels), stride, padding, (1, 1), channels)


def _append_recount(
    builder: Builder,
    node: onnx.NodeProto,
    source: int,
    average: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: Padding,
) -> int:
    """Windows that overlap the padding are averaged over their real pixels only."""
    _, height, width = builder.shape(source)
    inside = (window_indices((height, width), kernel, stride, padding) != OUTSIDE).sum(axis=2)
    scale = (kernel[0] * kernel[1]) / np.maximum(inside, 1)[None]
    name = f"{node.name or node.output[0]}/recount"
    return builder.append(Scale(name, (average,), builder.shape(average), scale, np.array(0.0)))


def _global_average_pool(builder: Builder, node: onnx.NodeProto, source: int, attributes: Attributes) -> int:
    del attributes
    shape = builder.shape(source)
    planes, signal = _as_planes(builder, node, source)
    _, height, width = builder.shape(planes)
    value = _append_average(builder, node, planes, (height, width), (1, 1), (0, 0, 0, 0))
    del signal
    return builder.reshape(value, (shape[0], *(1 for _ in shape[1:])), f"{node.name or node.output[0]}/shape")


def _reduce_mean(builder: Builder, node: onnx.NodeProto, source: int, attributes: Attributes) -> int:
    shape = builder.shape(source)
    axes = builder.constant(node, 1)
    chosen = attributes.get("axes") if axes is None else axes.tolist()
    wanted = set(range(2, len(shape) + 1))
    if chosen is None or {axis % (len(shape) + 1) for axis in chosen} != wanted or len(shape) < 2:
        raise _refuse(node, "means are read over all spatial axes only")
    value = _global_average_pool(builder, node, source, {})
    keep = attributes.get("keepdims", 1)
    return value if keep else builder.reshape(value, shape[:1], f"{node.name or node.output[0]}/squeeze")


def _pad(builder: Builder, node: onnx.NodeProto, source: int, attributes: Attributes) -> int:
    if attributes.get("mode", b"constant") != b"constant":
        raise _refuse(node, "only constant padding is read")
    shape = builder.shape(source)
    constant = builder.constant(node, 1)
    pads = [int(pad) for pad in (attributes["pads"] if constant is None else constant)]
    value = builder.constant(node, 2)
    fill = float(attributes.get("value", 0.0)) if value is None else float(np.asarray(value).reshape(-1)[0])
    half = len(pads) // 2
    before, after = pads[:half], pads[half:]
    if len(node.input) > 3 and node.input[3]:
        raise _refuse(node, "its axes input is not read; export with pads for every axis")
    if half != len(shape) + 1 or any(before[:-2]) or any(after[:-2]) or min(pads) < 0 or len(shape) < 2:
        raise _refuse(node, "only the last two axes may be padded, by amounts that are not negative")
    padding = (before[-2], before[-1], after[-2], after[-1])
    padded = (*shape[:-2], shape[-2] + before[-2] + after[-2], shape[-1] + before[-1] + after[-1])
    return builder.append(Pad(node.name or node.output[0], (source,), padded, padding, fill))


def _flatten(builder: Builder, node: onnx.NodeProto, source: int, attributes: Attributes) -> int:
    shape = builder.shape(source)
    axis = int(attributes.get("axis", 1))
    if axis not in (1, -len(shape)):
        raise _refuse(node, f"axis {axis} would mix images of a batch; use axis 1")
    return builder.reshape(source, (int(np.prod(shape, dtype=int)),), node.name or node.output[0])


def _reshape(builder: Builder, node: onnx.NodeProto, source: int, attributes: Attributes) -> int:
    shape = (1, *builder.shape(source))
    wanted = attributes.get("shape") if "shape" in attributes else _required(builder, node, 1).tolist()
    keep_zero = bool(attributes.get("allowzero", 0))
    sizes = [shape[axis] if size == 0 and not keep_zero else int(size) for axis, size in enumerate(wanted)]
    try:
        result = np.empty(shape, dtype=np.int8).reshape(sizes).shape
    except ValueError:
        raise _refuse(node, f"can't reshape {shape} to {sizes}") from None
    return _without_batch(builder, node, source, result)


def _without_batch(builder: Builder, node: onnx.NodeProto, source: int, result: Shape) -> int:
    if len(result) < 2 or result[0] != 1:
        raise _refuse(node, f"its result {result} loses the batch axis; keep the batch first")
    return builder.reshape(source, tuple(result[1:]), node.name or node.output[0])


def _axes(builder: Builder, node: onnx.NodeProto, attributes: Attributes) -> list[int] | None:
    constant = builder.constant(node, 1)
    found = attributes.get("axes") if constant is None else constant.reshape(-1).tolist()
    return None if found is None else [int(axis) for axis in found]


def _squeeze(builder: Builder, node: onnx.NodeProto, source: int, attributes: Attributes) -> int:
    shape = (1, *builder.shape(source))
    axes = _axes(builder, node, attributes)
    chosen = [axis for axis, size in enumerate(shape) if size == 1] if axes is None else axes
    result = np.squeeze(np.empty(shape, dtype=np.int8), axis=tuple(chosen)).shape
    return _without_batch(builder, node, source, result)


def _unsqueeze(builder: Builder, node: onnx.NodeProto, source: int, attributes: Attributes) -> int:
    axes = _axes(builder, node, attributes) or []
    result = np.expand_dims(np.empty((1, *builder.shape(source)), dtype=np.int8), axis=tuple(axes)).shape
    return _without_batch(builder, node, source, result)


def _transpose(builder: Builder, node: onnx.NodeProto, source: int, attributes: Attributes) -> int:
    shape = builder.shape(source)
    order = [int(axis) for axis in attributes.get("perm", range(len(shape), -1, -1))]
    if order[0] != 0:
        raise _refuse(node, f"permutation {order} moves the batch axis")
    permutation = tuple(axis - 1 for axis in order[1:])
    result = tuple(shape[axis] for axis in permutation)
    return builder.append(Transpose(node.name or node.output[0], (source,), result, permutation))


def _read_concat(builder: Builder, node: onnx.NodeProto) -> int:
    name = node.name or node.output[0]
    sources = [_as_value(builder, node, item) for item in node.input]
    shapes = [builder.shape(source) for source in sources]
    axis = int(attributes_of(node)["axis"])
    axis = axis + len(shapes[0]) + 1 if axis < 0 else axis
    if axis == 0:
        raise _refuse(node, "axis 0 would mix images of a batch")
    result = list(shapes[0])
    result[axis - 1] = sum(shape[axis - 1] for shape in shapes)
    return builder.append(Concat(name, tuple(sources), tuple(result), axis - 1))


def _as_value(builder: Builder, node: onnx.NodeProto, item: str) -> int:
    if item in builder.values:
        return builder.values[item]
    array = _float(builder.constants[item])
    if array.ndim < 2 or array.shape[0] != 1:
        raise _refuse(node, f"constant '{item}' has no batch axis of size 1")
    return builder.append(Constant(item, (), array.shape[1:], array[0]))


_READERS: dict[str, Reader] = {
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_normalization,
    "Conv": _conv,
    "Dropout": _identity,
    "Flatten": _flatten,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_average_pool,
    "Identity": _identity,
    "LeakyRelu": _relu,
    "MatMul": _matmul,
    "MaxPool": _max_pool,
    "Neg": _negate,
    "Pad": _pad,
    "ReduceMean": _reduce_mean,
    "Relu": _relu,
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}

SUPPORTED = tuple(sorted({*_READERS, *_BINARY, "Concat", "Constant", "Shape", "Softmax", "LogSoftmax", "Sigmoid"}))
