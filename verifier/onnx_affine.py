"""Readers of affine ONNX operators: matrices, convolutions, normalisation, arithmetic."""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from .onnx_builder import Attributes, Builder, as_float, refuse, required
from .onnx_spatial import append_conv, as_planes, drop_height, read_window
from .operators import FloatArray, Linear, Scale, Shape, Sum

BINARY = ("Add", "Sub", "Mul", "Div")


def read_gemm(builder: Builder, node: onnx.NodeProto, source: int, attributes: Attributes) -> int:
    """Gemm on a batch of feature vectors."""
    shape = builder.shape(source)
    if attributes.get("transA", 0) or len(shape) != 1:
        raise refuse(node, "only batch x features inputs are read (Flatten before it, no transA)")
    weight = as_float(required(builder, node, 1))
    weight = weight if attributes.get("transB", 0) else weight.T
    bias = builder.constant(node, 2)
    beta = float(attributes.get("beta", 1.0))
    shift = np.zeros(len(weight)) if bias is None else beta * _row(as_float(bias), len(weight))
    weight = float(attributes.get("alpha", 1.0)) * weight
    return _linear(builder, node, source, weight, shift)


def _row(array: FloatArray, length: int) -> FloatArray:
    return np.array(np.broadcast_to(array, (1, length))[0])


def read_matmul(builder: Builder, node: onnx.NodeProto, source: int, attributes: Attributes) -> int:
    """MatMul by a constant matrix on the right."""
    del attributes
    weight = as_float(required(builder, node, 1))
    if weight.ndim != 2:
        raise refuse(node, "its right factor must be a constant matrix")
    return _linear(builder, node, source, weight.T, np.zeros(weight.shape[1]))


def _linear(builder: Builder, node: onnx.NodeProto, source: int, weight: FloatArray, bias: FloatArray) -> int:
    shape = builder.shape(source)
    if shape[-1] != weight.shape[1]:
        raise refuse(node, f"its matrix reads {weight.shape[1]} features, its input has shape {shape}")
    name = node.name or node.output[0]
    return builder.append(Linear(name, (source,), (*shape[:-1], len(weight)), weight, np.array(bias)))


def read_conv(builder: Builder, node: onnx.NodeProto, source: int, attributes: Attributes) -> int:
    """Convolution of signals and images."""
    weight = as_float(required(builder, node, 1))
    window = read_window(node, attributes, builder.shape(source), weight.shape[2:])
    source, signal = as_planes(builder, node, source)
    if signal:
        weight = weight[:, :, None, :]
    bias = builder.constant(node, 2)
    shift = np.zeros(len(weight)) if bias is None else as_float(bias)
    value = append_conv(builder, node, source, weight, shift, window, int(attributes.get("group", 1)))
    return drop_height(builder, node, value, signal)


def read_batch_normalization(
    builder: Builder, node: onnx.NodeProto, source: int, attributes: Attributes
) -> int:
    """BatchNormalization in evaluation mode: a scale per channel."""
    if attributes.get("training_mode", 0) or any(node.output[1:]):
        raise refuse(node, "it is in training mode; export the network in evaluation mode")
    gain, bias, mean, variance = (as_float(required(builder, node, position)) for position in range(1, 5))
    scale = gain / np.sqrt(variance + float(attributes.get("epsilon", 1e-5)))
    trailing = (1,) * (len(builder.shape(source)) - 1)
    shift = (bias - mean * scale).reshape(-1, *trailing)
    name = node.name or node.output[0]
    return builder.append(Scale(name, (source,), builder.shape(source), scale.reshape(-1, *trailing), shift))


def read_negate(builder: Builder, node: onnx.NodeProto, source: int, attributes: Attributes) -> int:
    """Neg."""
    del attributes
    name = node.name or node.output[0]
    return builder.append(Scale(name, (source,), builder.shape(source), np.array(-1.0), np.array(0.0)))


def read_binary(builder: Builder, node: onnx.NodeProto) -> int:
    """Add, Sub, Mul, Div: by a constant, or the sum or difference of two values."""
    left, right = node.input
    if left in builder.values and right in builder.values:
        return _sum(builder, node, builder.values[left], builder.values[right])
    if left in builder.values:
        return _by_constant(builder, node, builder.values[left], builder.constants[right], reverse=False)
    return _by_constant(builder, node, builder.values[right], builder.constants[left], reverse=True)


def _sum(builder: Builder, node: onnx.NodeProto, left: int, right: int) -> int:
    if node.op_type not in ("Add", "Sub"):
        raise refuse(node, "products and quotients of two computed values are not linear")
    if builder.shape(left) != builder.shape(right):
        raise refuse(node, f"shapes {builder.shape(left)} and {builder.shape(right)} must be equal")
    sign = 1.0 if node.op_type == "Add" else -1.0
    return builder.append(Sum(node.name or node.output[0], (left, right), builder.shape(left), (1.0, sign)))


def _fits(small: Shape, shape: Shape) -> bool:
    """Whether an array of shape ``small`` broadcasts to ``shape``, trailing axes aligned."""
    return all(one in (1, other) for one, other in zip(reversed(small), reversed(shape), strict=False))


def _by_constant(
    builder: Builder, node: onnx.NodeProto, source: int, constant: NDArray[Any], *, reverse: bool
) -> int:
    value = as_float(constant)
    shape = builder.shape(source)
    if value.ndim > len(shape):
        # more axes than the value has with its batch would push the batch from its place
        if value.ndim > len(shape) + 1 or len(value) != 1:
            raise refuse(node, f"its constant has shape {value.shape}, its input {shape}")
        value = value[0]
    if not _fits(value.shape, shape):
        raise refuse(node, f"its constant of shape {value.shape} does not fit its input of shape {shape}")
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
            raise refuse(node, "division by a computed value or by zero")
    return builder.append(Scale(node.name or node.output[0], (source,), shape, scale, shift))
