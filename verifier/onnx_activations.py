"""Readers of activations: Relu, LeakyRelu, Clip, and inner Sigmoid and Tanh."""

import numpy as np
import onnx

from .onnx_builder import Attributes, Builder, refuse
from .operators import Curve, Relu, Scale, SShaped

# Exporters write an absent limit as the largest float32, or as infinity.
_NO_LIMIT = float(np.finfo(np.float32).max)


def read_relu(builder: Builder, node: onnx.NodeProto, source: int, attributes: Attributes) -> int:
    """Relu, and LeakyRelu of slope in [0, 1)."""
    slope = float(attributes.get("alpha", 0.01)) if node.op_type == "LeakyRelu" else 0.0
    if not 0.0 <= slope < 1.0:
        raise refuse(node, f"its negative slope {slope} must be in [0, 1)")
    return builder.append(Relu(node.name or node.output[0], (source,), builder.shape(source), slope))


def read_curve(builder: Builder, node: onnx.NodeProto, source: int, attributes: Attributes) -> int:
    """Sigmoid and Tanh between layers."""
    del attributes
    curve = Curve(node.op_type.lower())
    return builder.append(SShaped(node.name or node.output[0], (source,), builder.shape(source), curve))


def read_clip(builder: Builder, node: onnx.NodeProto, source: int, attributes: Attributes) -> int:
    """Clip to constant limits, exactly, as one ReLU per limit.

    ``max(x, a) = a + relu(x - a)`` and then ``min(y, b) = b - relu(b - y)``. One after the other rather than
    the difference of two ReLUs of x: interval bounds then stay within the limits.
    """
    low = _limit(builder, node, attributes, "min", 1, -_NO_LIMIT)
    high = _limit(builder, node, attributes, "max", 2, _NO_LIMIT)
    if not low <= high:
        raise refuse(node, f"its limits {low:g} and {high:g} are in the wrong order")
    value = source
    if low > -_NO_LIMIT:
        value = _above(builder, node, value, low, 1.0)
    if high < _NO_LIMIT:
        value = _above(builder, node, value, high, -1.0)
    return value


def _limit(
    builder: Builder, node: onnx.NodeProto, attributes: Attributes, name: str, position: int, default: float
) -> float:
    given = builder.constant(node, position)
    return float(attributes.get(name, default)) if given is None else float(np.asarray(given).reshape(()))


def _above(builder: Builder, node: onnx.NodeProto, source: int, limit: float, sign: float) -> int:
    """The maximum (sign 1) or minimum (sign -1) of a value and ``limit``."""
    name, shape, factor = node.name or node.output[0], builder.shape(source), np.array(sign)
    excess = builder.append(Scale(f"{name}/excess", (source,), shape, factor, np.array(-sign * limit)))
    positive = builder.append(Relu(name, (excess,), shape, 0.0))
    return builder.append(Scale(f"{name}/limit", (positive,), shape, factor, np.array(limit)))
