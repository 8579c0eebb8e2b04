"""ONNX nodes to typed operators: the table of readers, one small reader per operator."""

import numpy as np
import onnx

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
from .onnx_graph import evaluate_constant
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
from .operators import Relu


def read_node(builder: Builder, node: onnx.NodeProto) -> None:
    """Translate one node, extending ``builder``.

    Raises:
        UnsupportedOperatorError: names the node and the operator.
    """
    if node.op_type == "Constant" or all(name in builder.constants for name in node.input if name):
        _fold(builder, node)
        return
    if node.op_type == "Shape":
        shape = (1, *builder.shape(builder.values[node.input[0]]))
        builder.constants[node.output[0]] = np.array(shape, dtype=np.int64)
        return
    if node.op_type in BINARY:
        builder.values[node.output[0]] = read_binary(builder, node)
        return
    if node.op_type == "Concat":
        builder.values[node.output[0]] = read_concat(builder, node)
        return
    reader = _READERS.get(node.op_type)
    if reader is None or node.domain not in ("", "ai.onnx"):
        raise refuse(node, "see `mlverify info` for the operators that are read")
    if node.input[0] not in builder.values:
        raise refuse(node, "its first input must be computed from the image")
    builder.values[node.output[0]] = reader(builder, node, builder.values[node.input[0]], attributes_of(node))


def _fold(builder: Builder, node: onnx.NodeProto) -> None:
    if node.op_type == "Dropout":
        builder.constants[node.output[0]] = builder.constants[node.input[0]]
        return
    try:
        builder.constants.update(evaluate_constant(builder.graph, node, builder.constants))
    except Exception as error:
        raise refuse(node, f"constant inputs could not be evaluated ({error})") from None


def _identity(builder: Builder, node: onnx.NodeProto, source: int, attributes: Attributes) -> int:
    del builder, attributes
    if node.op_type == "Dropout" and len(node.input) > 2 and node.input[2]:
        raise refuse(node, "it is in training mode; export the network in evaluation mode")
    return source


def _relu(builder: Builder, node: onnx.NodeProto, source: int, attributes: Attributes) -> int:
    slope = float(attributes.get("alpha", 0.01)) if node.op_type == "LeakyRelu" else 0.0
    if not 0.0 <= slope < 1.0:
        raise refuse(node, f"its negative slope {slope} must be in [0, 1)")
    return builder.append(Relu(node.name or node.output[0], (source,), builder.shape(source), slope))


_READERS: dict[str, Reader] = {
    "AveragePool": read_average_pool,
    "BatchNormalization": read_batch_normalization,
    "Conv": read_conv,
    "Dropout": _identity,
    "Flatten": read_flatten,
    "Gemm": read_gemm,
    "GlobalAveragePool": read_global_average_pool,
    "Identity": _identity,
    "LeakyRelu": _relu,
    "MatMul": read_matmul,
    "MaxPool": read_max_pool,
    "Neg": read_negate,
    "Pad": read_pad,
    "ReduceMean": read_reduce_mean,
    "Relu": _relu,
    "Reshape": read_reshape,
    "Squeeze": read_squeeze,
    "Transpose": read_transpose,
    "Unsqueeze": read_unsqueeze,
}

SUPPORTED = tuple(
    sorted({*_READERS, *BINARY, "Concat", "Constant", "Shape", "Softmax", "LogSoftmax", "Sigmoid"})
)
