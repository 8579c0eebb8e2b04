"""ONNX nodes to typed operators: the table of readers, one small reader per operator."""

import numpy as np
import onnx

from ..errors import ModelFormatError
from .network import TAIL_OPERATORS
from .onnx_activations import read_clip, read_curve, read_relu
from .onnx_affine import (
    BINARY,
    read_batch_normalization,
    read_binary,
    read_conv,
    read_gemm,
    read_matmul,
    read_negate,
)
from .onnx_builder import Attributes, Builder, Reader, attributes_of, refuse
from .onnx_graph import evaluate_constant, one_line
from .onnx_pooling import read_average_pool, read_global_average_pool, read_max_pool, read_reduce_mean
from .onnx_shapes import (
    read_concat,
    read_flatten,
    read_pad,
    read_reshape,
    read_squeeze,
    read_transpose,
    read_unsqueeze,
)

_DEFAULT_DOMAINS = ("", "ai.onnx")
_MALFORMED = (ArithmeticError, AttributeError, LookupError, MemoryError, TypeError, ValueError)
_CONTROL_FLOW = ("If", "Loop", "Scan")
_RANDOM = (
    "Bernoulli",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
)
_QUANTISED = (
    "ConvInteger",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "MatMulInteger",
    "QLinearConv",
    "QLinearMatMul",
    "QuantizeLinear",
)
# Bodies may read values of the outer graph, random numbers differ from run to run, and onnxruntime fuses
# dequantised constants into kernels that round their inputs.
_NEVER_FOLDED = {*_CONTROL_FLOW, *_RANDOM, *_QUANTISED}
_HINTS = {
    **dict.fromkeys(_CONTROL_FLOW, "control flow is not read; export the network with fixed shapes"),
    **dict.fromkeys(_RANDOM, "random numbers are not read; export the network in evaluation mode"),
    **dict.fromkeys(_QUANTISED, "quantised networks are not read; export the float network"),
    **dict.fromkeys(TAIL_OPERATORS, "it is read only as the last function, on the scores"),
}


def read_node(builder: Builder, node: onnx.NodeProto) -> None:
    """Translate one node, extending ``builder``.

    Raises:
        UnsupportedOperatorError: names the node and the operator.
        ModelFormatError: the node reads what the file does not contain.
    """
    if node.domain not in _DEFAULT_DOMAINS:
        raise refuse(node, f"operators of domain '{node.domain}' are not read; export with ONNX's own")
    _check_inputs(builder, node)
    try:
        _translate(builder, node)
    except _MALFORMED as error:
        # attributes and shapes are whatever the file says; onnxruntime has not looked at it yet
        raise refuse(node, f"its attributes or shapes are malformed ({one_line(error)})") from error


def _check_inputs(builder: Builder, node: onnx.NodeProto) -> None:
    missing = [
        name for name in node.input if name and name not in builder.values and name not in builder.constants
    ]
    if missing:
        raise ModelFormatError(
            f"{builder.graph.path}: node '{node.name or node.output[0]}' reads '{missing[0]}', which the "
            "file neither contains nor computes in a way that is read; export the network with its weights"
        )


def _translate(builder: Builder, node: onnx.NodeProto) -> None:
    if node.op_type == "Dropout":
        _check_dropout(builder, node)
    if node.op_type not in _NEVER_FOLDED and all(name in builder.constants for name in node.input if name):
        _fold(builder, node)
        return
    if node.op_type == "Shape":
        _read_shape(builder, node)
        return
    if node.op_type in BINARY:
        builder.values[node.output[0]] = read_binary(builder, node)
        return
    if node.op_type == "Concat":
        builder.values[node.output[0]] = read_concat(builder, node)
        return
    reader = _READERS.get(node.op_type)
    if reader is None:
        raise refuse(node, _HINTS.get(node.op_type, "see `mlverify info` for the operators that are read"))
    if node.input[0] not in builder.values:
        raise refuse(node, "its first input must be computed from the image")
    builder.values[node.output[0]] = reader(builder, node, builder.values[node.input[0]], attributes_of(node))


def _read_shape(builder: Builder, node: onnx.NodeProto) -> None:
    attributes = attributes_of(node)
    shape = (1, *builder.shape(builder.values[node.input[0]]))
    chosen = shape[attributes.get("start", 0) : attributes.get("end")]
    builder.constants[node.output[0]] = np.array(chosen, dtype=np.int64)
    builder.sized.add(node.output[0])


def _fold(builder: Builder, node: onnx.NodeProto) -> None:
    if any(name in builder.sized for name in node.input):
        builder.sized.update(node.output)
    if node.op_type == "Dropout":
        builder.constants[node.output[0]] = builder.constants[node.input[0]]
        return
    try:
        builder.constants.update(evaluate_constant(builder.graph, node, builder.constants))
    except Exception as error:
        raise refuse(node, f"its constant inputs could not be evaluated ({one_line(error)})") from None


def _check_dropout(builder: Builder, node: onnx.NodeProto) -> None:
    training = builder.constant(node, 2)
    if training is not None and bool(np.any(training)):
        raise refuse(node, "it is in training mode; export the network in evaluation mode")


def _identity(builder: Builder, node: onnx.NodeProto, source: int, attributes: Attributes) -> int:
    del builder, node, attributes
    return source


_READERS: dict[str, Reader] = {
    "AveragePool": read_average_pool,
    "BatchNormalization": read_batch_normalization,
    "Clip": read_clip,
    "Conv": read_conv,
    "Dropout": _identity,
    "Flatten": read_flatten,
    "Gemm": read_gemm,
    "GlobalAveragePool": read_global_average_pool,
    "Identity": _identity,
    "LeakyRelu": read_relu,
    "MatMul": read_matmul,
    "MaxPool": read_max_pool,
    "Neg": read_negate,
    "Pad": read_pad,
    "ReduceMean": read_reduce_mean,
    "Relu": read_relu,
    "Reshape": read_reshape,
    "Sigmoid": read_curve,
    "Squeeze": read_squeeze,
    "Tanh": read_curve,
    "Transpose": read_transpose,
    "Unsqueeze": read_unsqueeze,
}

SUPPORTED = tuple(sorted({*_READERS, *BINARY, "Concat", "Constant", "Shape", *TAIL_OPERATORS}))
