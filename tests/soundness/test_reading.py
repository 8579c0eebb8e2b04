"""Files as exporters write them: read as onnxruntime runs them, or refused by name; never read wrongly."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from mlverify.errors import InputError, MlverifyError, ModelFormatError, UnsupportedOperatorError
from mlverify.verifier.linear_bounds import LinearBounds
from mlverify.verifier.network import Network
from mlverify.verifier.onnx_reader import load_network
from mlverify.verifier.region import Region
from mlverify.verifier.replay import Replay
from onnx import helper, numpy_helper
from onnx_factory import write_graph

RNG = np.random.default_rng(3)
W = RNG.normal(size=(3, 8)).astype(np.float32)
Nodes = list[onnx.NodeProto]


def node(operator: str, inputs: str, output: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(
        operator, inputs.split(), [output], name=f"{operator.lower()}-{output}", **attributes
    )


def constant(output: str, array: Sequence[int]) -> onnx.NodeProto:
    value = numpy_helper.from_array(np.array(array, dtype=np.int64), output)
    return helper.make_node("Constant", [], [output], name=f"constant-{output}", value=value)


DENSE = node("Gemm", "flat w", "output", transB=1)
FLAT = node("Flatten", "x", "flat")
IMAGE = (2, 2, 2)
LONG = {"neg": np.array([-1]), "one": np.array([1]), "two": np.array([2]), "zero": np.array([0])}

GRAPHS: dict[str, Nodes] = {
    "written batch": [constant("t", [1, 8]), node("Reshape", "input t", "flat"), DENSE],
    "written batch and rest": [constant("t", [1, -1]), node("Reshape", "input t", "flat"), DENSE],
    "rest and written size": [constant("t", [-1, 8]), node("Reshape", "input t", "flat"), DENSE],
    "zero keeps the batch": [constant("t", [0, -1]), node("Reshape", "input t", "flat"), DENSE],
    "batch from the shape": [
        node("Shape", "input", "s"),
        node("Gather", "s zero", "b", axis=0),
        node("Concat", "b neg", "t", axis=0),
        node("Reshape", "input t", "flat"),
        DENSE,
    ],
    "part of the shape": [
        node("Shape", "input", "s", start=0, end=1),
        node("Concat", "s neg", "t", axis=0),
        node("Reshape", "input t", "flat"),
        DENSE,
    ],
    "constant in a concatenation": [
        node("Concat", "input extra", "y", axis=2),
        node("AveragePool", "y", "x", kernel_shape=[2, 1]),
        FLAT,
        DENSE,
    ],
    "same padding, upper": [node("Conv", "input k", "x", auto_pad="SAME_UPPER", strides=[1, 1]), FLAT, DENSE],
    "same padding, lower": [
        node("MaxPool", "input", "x", auto_pad="SAME_LOWER", kernel_shape=[2, 2], strides=[1, 1]),
        FLAT,
        DENSE,
    ],
    "same padding, average": [
        node("AveragePool", "input", "x", auto_pad="SAME_UPPER", kernel_shape=[2, 2], strides=[1, 1]),
        FLAT,
        DENSE,
    ],
    "squeeze and back": [
        node("Unsqueeze", "input two", "y"),
        node("Relu", "y", "z"),
        node("Squeeze", "z two", "x"),
        FLAT,
        DENSE,
    ],
    "constant on the left": [node("Sub", "scale input", "x"), FLAT, DENSE],
    "division by constants": [node("Div", "input scale", "x"), FLAT, DENSE],
    "unsorted nodes": [DENSE, FLAT, node("Relu", "input", "x")],
    "a branch that nobody reads": [node("Exp", "input", "unread"), node("Relu", "input", "x"), FLAT, DENSE],
    "read twice": [node("Sub", "input input", "y"), node("Add", "y input", "x"), FLAT, DENSE],
    "dropout and identity": [node("Dropout", "input", "y"), node("Identity", "y", "x"), FLAT, DENSE],
    "flatten from the back": [node("Flatten", "input", "flat", axis=-3), DENSE],
    "softmax then flatten": [
        node("Flatten", "input", "flat"),
        node("Gemm", "flat w", "y", transB=1),
        node("Softmax", "y", "z", axis=-1),
        node("Flatten", "z", "output"),
    ],
    "alpha and beta": [
        node("Flatten", "input", "flat"),
        node("Gemm", "flat w bias", "output", transB=1, alpha=0.5, beta=3.0),
    ],
    "one bias for all": [node("Flatten", "input", "flat"), node("Gemm", "flat w single", "output", transB=1)],
}  # fmt: skip
CONSTANTS: Mapping[str, np.ndarray] = {
    **{name: array.astype(np.int64) for name, array in LONG.items()},
    "w": W,
    "k": RNG.normal(size=(2, 2, 2, 2)).astype(np.float32),
    "extra": RNG.normal(size=(1, 2, 1, 2)).astype(np.float32),
    "scale": RNG.uniform(0.5, 2, size=(2, 1, 1)).astype(np.float32),
    "bias": RNG.normal(size=3).astype(np.float32),
    "single": np.array([0.7], dtype=np.float32),
}


def read(folder: Path, nodes: Nodes, **options: int) -> Network:
    used = {name for item in nodes for name in item.input}
    kept = {name: array for name, array in CONSTANTS.items() if name in used}
    return load_network(write_graph(folder / "file.onnx", nodes, kept, IMAGE, 3, **options))


@pytest.mark.parametrize("batch", [None, 1])
@pytest.mark.parametrize("opset", [13, 17, 21])
@pytest.mark.parametrize("name", GRAPHS)
def test_graphs_agree_with_onnxruntime_and_take_any_number_of_images(tmp_path, name, opset, batch):
    if name == "part of the shape" and opset < 15:
        pytest.skip("Shape has no start before opset 15")
    network = read(tmp_path, GRAPHS[name], opset=opset, batch=batch)
    images = np.random.default_rng(1).random((5, *IMAGE)).astype(np.float32)
    replay = Replay(network)
    assert np.allclose(replay.logits(images), replay.exact_logits(images), atol=1e-5)
    together, alone = replay.scores(images), np.concatenate([replay.scores(image[None]) for image in images])
    assert np.allclose(together, alone, atol=1e-6)


REFUSED: dict[str, Nodes] = {
    "Erf": [node("Erf", "input", "x"), FLAT, DENSE],
    "Softmax": [node("Flatten", "input", "flat"),
                node("Gemm", "flat w", "y", transB=1), node("Softmax", "y", "output", axis=0)],
    "RandomNormal": [node("RandomNormal", "", "noise", shape=[2, 2, 2], seed=1.0), node("Add", "input noise", "x"),
                     FLAT, DENSE],
    "RandomUniformLike": [node("RandomUniformLike", "scale", "noise"), node("Add", "input noise", "x"), FLAT, DENSE],
    "Mul": [node("Mul", "input input", "x"), FLAT, DENSE],
    "Div": [node("Div", "scale input", "x"), FLAT, DENSE],
    "Transpose": [node("Transpose", "input", "x", perm=[1, 0, 2, 3]), FLAT, DENSE],
    "LeakyRelu": [node("LeakyRelu", "input", "x", alpha=-0.5), FLAT, DENSE],
    "MaxPool": [node("MaxPool", "input", "x", kernel_shape=[2, 2], dilations=[3, 3], pads=[1, 1, 1, 1]),
                FLAT, DENSE],
}  # fmt: skip


@pytest.mark.parametrize("operator", REFUSED)
def test_what_is_not_read_is_refused_by_node(tmp_path, operator):
    for item in REFUSED[operator]:
        while "" in item.input:
            item.input.remove("")
    with pytest.raises(UnsupportedOperatorError, match=f"operator {operator} of node '{operator.lower()}"):
        read(tmp_path, REFUSED[operator])


def test_windows_and_kernels_far_outside_the_image(tmp_path):
    """A kernel larger than the image, and strides whose first windows see nothing but padding."""
    for stride, pads in (([5, 5], [3, 3, 0, 0]), ([3, 1], [4, 4, 4, 4]), ([1, 2], [0, 4, 4, 0])):
        nodes = [
            node("Conv", "input first", "y", strides=stride, pads=pads),
            node("Relu", "y", "z"),
            node("Conv", "z second", "v", pads=[2, 2, 2, 2], strides=[4, 4]),
            node("Relu", "v", "x"),
            FLAT,
        ]
        height, width = (
            (2 + pads[0] + pads[2] - 2) // stride[0] + 1,
            (2 + pads[1] + pads[3] - 2) // stride[1] + 1,
        )
        flat = 2 * ((height + 4 - 3) // 4 + 1) * ((width + 4 - 3) // 4 + 1)
        constants = {
            "first": RNG.normal(size=(2, 2, 2, 2)).astype(np.float32),
            "second": RNG.normal(size=(2, 2, 3, 3)).astype(np.float32),
            "w": RNG.normal(size=(3, flat)).astype(np.float32),
        }
        network = load_network(write_graph(tmp_path / "far.onnx", [*nodes, DENSE], constants, IMAGE, 3))
        linear = LinearBounds(network)
        regions = [Region.linf(np.full(IMAGE, 0.5, dtype=np.float32), epsilon) for epsilon in (0.0, 0.3)]
        bounds = linear.propagate(*linear.box(regions))
        values = linear.module.values(linear.tensor(np.random.default_rng(0).uniform(0.2, 0.8, (50, *IMAGE))))
        for low, high, value in zip(bounds.lower, bounds.upper, values, strict=True):
            assert (low[1] <= value + 1e-9).all()
            assert (value <= high[1] + 1e-9).all()


@pytest.mark.parametrize("seed", range(60))
def test_a_damaged_file_is_an_error_of_ours(tmp_path, seed):
    """Bytes changed at random: refused in one line, or still a network that onnxruntime agrees on."""
    rng = np.random.default_rng(seed)
    path = write_graph(
        tmp_path / "file.onnx", [node("Conv", "input k", "y"), node("Relu", "y", "x"), FLAT,
                                 node("Gemm", "flat v", "output", transB=1)],
        {"k": CONSTANTS["k"], "v": W[:, :2]}, IMAGE, 3,
    )  # fmt: skip
    content = bytearray(path.read_bytes())
    for _ in range(int(rng.integers(1, 4))):
        content[int(rng.integers(len(content)))] = int(rng.integers(256))
    path.write_bytes(content if seed % 4 else content[: int(rng.integers(len(content)))])
    try:
        load_network(path)
    except MlverifyError as error:
        assert str(error)  # noqa: PT017


def test_a_file_that_is_no_network(tmp_path):
    for content in (b"", b"\x1f\x8b12", b"not an onnx file", b"\x00" * 100):
        path = tmp_path / "file.onnx"
        path.write_bytes(content)
        with pytest.raises(ModelFormatError):
            load_network(path)
    with pytest.raises(InputError):
        load_network(tmp_path / "missing.onnx")
