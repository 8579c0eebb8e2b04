"""Tiny networks as ONNX files, for all test folders."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 17


def write_graph(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, NDArray[np.generic]],
    input_shape: Sequence[int],
    labels: int,
    *,
    batch: int | None = None,
    opset: int = OPSET,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write nodes from value "input" to value "output" as an ONNX file and return its path."""
    first = "batch" if batch is None else batch
    graph = helper.make_graph(
        list(nodes),
        "tiny",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [first, *input_shape])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [first, labels])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    helper.set_model_props(model, dict(metadata or {}))
    path.write_bytes(model.SerializeToString())
    return path


def linear_network(
    path: Path,
    weight: NDArray[np.floating],
    input_shape: Sequence[int],
    *,
    bias: NDArray[np.floating] | None = None,
    tail: str | None = None,
    batch: int | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Flatten and one Gemm with ``weight`` (labels, pixels), then the operator ``tail``."""
    labels = len(weight)
    constants = {
        "weight": weight.astype(np.float32),
        "bias": (np.zeros(labels) if bias is None else bias).astype(np.float32),
    }
    last = "logits" if tail else "output"
    nodes = [
        helper.make_node("Flatten", ["input"], ["flat"], name="flatten"),
        helper.make_node("Gemm", ["flat", "weight", "bias"], [last], name="dense", transB=1),
    ]
    if tail:
        nodes.append(helper.make_node(tail, ["logits"], ["output"], name="tail"))
    return write_graph(path, nodes, constants, input_shape, labels, batch=batch, metadata=metadata)


def dense_network(path: Path, sizes: Sequence[int] = (4, 6, 3), seed: int = 0) -> Path:
    """Gemm layers of these sizes with ReLU between them, random weights."""
    generator = np.random.default_rng(seed)
    nodes, constants, value = [], {}, "input"
    for number, (before, after) in enumerate(pairwise(sizes)):
        last = number == len(sizes) - 2
        constants[f"w{number}"] = generator.normal(size=(after, before)).astype(np.float32)
        constants[f"b{number}"] = generator.normal(size=after).astype(np.float32)
        result = "output" if last else f"sum{number}"
        nodes.append(
            helper.make_node(
                "Gemm", [value, f"w{number}", f"b{number}"], [result], name=f"dense{number}", transB=1
            )
        )
        if not last:
            nodes.append(helper.make_node("Relu", [result], [f"relu{number}"], name=f"relu{number}"))
        value = f"relu{number}"
    return write_graph(path, nodes, constants, sizes[:1], sizes[-1])


def conv_network(
    path: Path,
    input_shape: tuple[int, int, int] = (1, 8, 8),
    labels: int = 4,
    *,
    pool: bool = False,
    middle: str = "Relu",
    seed: int = 0,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """A strided 3 x 3 convolution, the operator ``middle``, a 2 x 2 max-pool if asked for, and a Gemm."""
    generator = np.random.default_rng(seed)
    channels, height, width = input_shape
    maps, rows, columns = 3, -(-height // 2), -(-width // 2)
    nodes = [
        helper.make_node(
            "Conv", ["input", "k", "c"], ["maps"], name="conv", strides=[2, 2], pads=[1, 1, 1, 1]
        ),
        helper.make_node(middle, ["maps"], ["active"], name="active"),
    ]
    value = "active"
    if pool:
        nodes.append(
            helper.make_node("MaxPool", [value], ["pooled"], name="pool", kernel_shape=[2, 2], strides=[2, 2])
        )
        value, rows, columns = "pooled", rows // 2, columns // 2
    nodes.append(helper.make_node("Flatten", [value], ["flat"], name="flatten"))
    nodes.append(helper.make_node("Gemm", ["flat", "w", "b"], ["output"], name="dense", transB=1))
    constants = {
        "k": generator.normal(size=(maps, channels, 3, 3)).astype(np.float32),
        "c": generator.normal(size=maps).astype(np.float32),
        "w": generator.normal(size=(labels, maps * rows * columns)).astype(np.float32),
        "b": generator.normal(size=labels).astype(np.float32),
    }
    return write_graph(path, nodes, constants, input_shape, labels, metadata=metadata)
