"""Graphs written node by node, and an independent comparison of what was read with onnxruntime."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from mlverify.verifier.network import Network
from mlverify.verifier.onnx_reader import apply_tail, load_network
from mlverify.verifier.torch_network import TorchNetwork
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSETS = (9, 11, 13, 17, 21)
FLOAT = TensorProto.FLOAT
# onnxruntime computes in float32
TOLERANCE = 2e-5


class Graph:
    """Collects the nodes of an ONNX file; every method returns the name of a value."""

    def __init__(
        self,
        *shape: int,
        opset: int = 17,
        batch: int | str | None = "batch",
        kind: int = FLOAT,
        seed: int = 0,
    ):
        self.opset, self.batch, self.kind = opset, batch, kind
        self.inputs = [helper.make_tensor_value_info("input", kind, [batch, *shape])]
        self.outputs: list[onnx.ValueInfoProto] = []
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.generator = np.random.default_rng(seed)

    def array(self, values: Any, name: str | None = None) -> str:
        """An initializer; lists of integers become int64, everything else float32."""
        array = np.asarray(values)
        wanted = np.int64 if array.dtype.kind == "i" else np.float32
        array = array if array.dtype == bool else array.astype(wanted)
        name = name or f"c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def random(self, *shape: int, positive: bool = False) -> str:
        """An initializer of normal numbers, or of numbers in [0.5, 1.5]."""
        numbers = self.generator.random(shape) + 0.5 if positive else self.generator.normal(size=shape)
        return self.array(numbers.astype(np.float32))

    def add(
        self, operator: str, *inputs: str, outputs: int = 1, name: str | None = None, **attributes: Any
    ) -> str:
        """A node named after its operator and position; its first output."""
        name = f"{operator}_{len(self.nodes)}" if name is None else name
        values = [f"v{len(self.nodes)}" + (f"_{index}" if index else "") for index in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), values, name=name, **attributes))
        return values[0]

    def dense(self, value: str, features: int, labels: int = 3) -> str:
        """Flatten and Gemm with random weights."""
        flat = self.add("Flatten", value)
        return self.add("Gemm", flat, self.random(labels, features), self.random(labels), transB=1)

    def model(self, *outputs: str) -> onnx.ModelProto:
        """The file as a protobuf."""
        results = [helper.make_tensor_value_info(name, FLOAT, None) for name in outputs]
        graph = helper.make_graph(self.nodes, "graph", self.inputs, results, self.initializers)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)

    def write(self, folder: Path, *outputs: str) -> Path:
        """The file, with these values as outputs."""
        path = folder / "graph.onnx"
        path.write_bytes(self.model(*outputs).SerializeToString())
        return path

    def read(self, folder: Path, output: str) -> Network:
        """Write, read, and compare with onnxruntime."""
        return agreed(self.write(folder, output))


def agreed(path: Path, *, images: int = 6) -> Network:
    """Read ``path`` and compare it with onnxruntime on inputs far outside [0, 1], one at a time.

    load_network compares too, but this is independent of its code and of its sample.
    """
    network = load_network(path)
    inputs = 4.0 * np.random.default_rng(1).normal(size=(images, *network.input_shape)).astype(np.float32)
    with torch.no_grad():
        logits = TorchNetwork(network, torch.float64)(torch.tensor(inputs, dtype=torch.float64)).numpy()
    expected = run(path, inputs)
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(apply_tail(network.tail, logits), expected, atol=TOLERANCE * scale, rtol=0)
    return network


def run(path: Path, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scores (image, label) by onnxruntime, image by image."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    declared = {item.name for item in session.get_overridable_initializers()}
    name = next(item.name for item in session.get_inputs() if item.name not in declared)
    rows = [session.run(None, {name: image[None]})[0].reshape(-1) for image in inputs]
    return np.stack(rows)


def operators(network: Network) -> list[str]:
    """Class names of a network's operators."""
    return [type(operator).__name__ for operator in network.operators]
