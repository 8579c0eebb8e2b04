"""Files that can't be used: one line of what, where and remedy, never another exception."""

import gzip

import numpy as np
import onnx
import pytest
from mlverify.errors import InputError, MlverifyError, ModelFormatError, UnsupportedOperatorError
from mlverify.verifier.onnx_reader import load_network
from onnx import TensorProto, helper, numpy_helper
from onnx_factory import conv_network
from onnx_graphs import Graph

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x00\x00\x00\x00"


def _refusal(path, kind=ModelFormatError):
    with pytest.raises(kind) as raised:
        load_network(path)
    text = str(raised.value)
    assert "\n" not in text
    assert len(text) < 500
    return text


def _error(path):
    """The one-line error of a file, None when it is read."""
    try:
        load_network(path)
    except MlverifyError as error:
        return error if "\n" not in str(error) else pytest.fail(str(error))


def _has(text, *words):
    assert [word for word in words if word not in text] == [], text


def test_missing_file(tmp_path):
    _has(_refusal(tmp_path / "no.onnx"), "no.onnx does not exist", "give the path")


def test_directory(tmp_path):
    _has(_refusal(tmp_path), str(tmp_path), "directory", "give the path")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["is empty", "export"]),
        (b"just some text, not a network\n" * 9, ["not a", "ONNX", "export"]),
        (b"\x00" * 100, ["not a", "ONNX", "export"]),
        (PNG, ["looks like an image", "MODEL IMAGE"]),
        (gzip.compress(b"anything", mtime=0), ["gzip-compressed", "gunzip"]),
    ],
)
def test_not_a_network(tmp_path, content, words):
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    _has(_refusal(path), str(path), *words)


def test_truncated_at_many_places(tmp_path):
    content = conv_network(tmp_path / "whole.onnx", pool=True, metadata={"k": "2"}).read_bytes()
    path = tmp_path / "cut.onnx"
    ends = sorted({*range(0, len(content), 37), *range(len(content) - 60, len(content))})
    errors = []
    for end in ends:
        path.write_bytes(content[:end])
        errors.append(_error(path))
    assert all(
        error is None or (isinstance(error, InputError) and str(path) in str(error)) for error in errors
    )
    # what follows the graph are metadata, which nothing needs
    assert errors.count(None) <= 20


def test_damaged_at_many_places(tmp_path):
    content = bytearray(conv_network(tmp_path / "whole.onnx", pool=True).read_bytes())
    path = tmp_path / "damaged.onnx"
    generator = np.random.default_rng(0)
    for place in generator.integers(0, 400, size=150):
        damaged = content.copy()
        damaged[place] ^= 1 << int(generator.integers(8))
        path.write_bytes(bytes(damaged))
        _error(path)


@pytest.mark.parametrize("change", ["inputs", "outputs", "no input"])
def test_several_inputs_or_outputs(tmp_path, change):
    graph = Graph(3)
    outputs = [graph.add("Relu", "input")]
    if change == "outputs":
        outputs.append(graph.add("Neg", "input"))
    elif change == "inputs":
        graph.inputs.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1, 3]))
    else:
        graph.inputs = []
    text = _refusal(graph.write(tmp_path, *outputs))
    counts = {"inputs": "2 data inputs and 1 outputs", "outputs": "1 data inputs and 2 outputs"}
    _has(text, "graph.onnx", counts.get(change, "0 data inputs"), "export")


@pytest.mark.parametrize(
    ("shape", "options", "words"),
    [
        ((3, "height", "width"), {}, ["[0, 3, 0, 0]", "fixed image size"]),
        ((3, 0), {}, ["fixed image size"]),
        ((3,), {"batch": 16}, ["fixed to 16", "batch 1 or a dynamic batch"]),
        ((), {"batch": 5}, ["[5]", "batch axis"]),
        ((3,), {"kind": TensorProto.DOUBLE}, ["DOUBLE", "float32"]),
        ((3,), {"kind": TensorProto.INT64}, ["INT64", "float32"]),
        ((3,), {"kind": 77}, ["unknown type", "float32"]),
        ((3,), {"kind": TensorProto.FLOAT16}, ["FLOAT16", "float32"]),
    ],
)
def test_unsuitable_inputs(tmp_path, shape, options, words):
    graph = Graph(*shape, **options)
    _has(_refusal(graph.write(tmp_path, graph.add("Relu", "input"))), "graph.onnx", "input", *words)


def test_input_without_shape(tmp_path):
    graph = Graph(3)
    graph.inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, None)]
    _has(_refusal(graph.write(tmp_path, graph.add("Relu", "input"))), "'input' has no shape", "export")


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("operator", ["Gemm", "Conv", "Add", "Pad", "Concat", "BatchNormalization"])
def test_numbers_that_are_not_finite(tmp_path, operator, number):
    graph = Graph(1, 2, 2, batch=1)
    one = graph.array(np.ones(1, dtype=np.float32), "one")
    bad = graph.array(np.array([number], dtype=np.float32), "bad")
    square = graph.array(np.full((1, 1, 1, 1), number, dtype=np.float32), "square")
    value, extra, attributes = {
        "Gemm": (graph.add("Flatten", "input"), [graph.random(4, 4), bad], {}),
        "Conv": ("input", [square], {}),
        "Add": ("input", [bad], {}),
        "Pad": ("input", [graph.array([0, 0, 0, 0, 0, 0, 1, 1]), bad], {}),
        "Concat": ("input", [graph.add("Expand", square, graph.array([1, 1, 2, 2]))], {"axis": 1}),
        "BatchNormalization": ("input", [bad, one, one, one], {}),
    }[operator]
    value = graph.add(operator, value, *extra, **attributes)
    text = _refusal(graph.write(tmp_path, graph.add("Flatten", value)))
    _has(text, "graph.onnx", extra[0] if operator == "Concat" else operator, "NaN or infinite", "again")


def test_numbers_that_are_not_finite_but_not_used_do_no_harm(tmp_path):
    graph = Graph(3)
    graph.array(np.full(3, np.nan, np.float32))
    graph.read(tmp_path, graph.add("Relu", "input"))


def test_missing_weights(tmp_path):
    graph = Graph(4)
    value = graph.add("Gemm", "input", "lost", name="dense")
    _has(_refusal(graph.write(tmp_path, value)), "graph.onnx", "'dense'", "'lost'", "with its weights")


def test_missing_weight_file(tmp_path):
    graph = Graph(8)
    model = graph.model(graph.add("Gemm", "input", graph.random(8, 8)))
    path = tmp_path / "net.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    (tmp_path / "weights.bin").unlink()
    _has(_refusal(path), "net.onnx", "initializer", "beside it")


def test_misdeclared_initializer(tmp_path):
    graph = Graph(4)
    value = graph.add("Gemm", "input", graph.random(4, 4))
    graph.initializers[0].dims[0] = 5
    _has(_refusal(graph.write(tmp_path, value)), "graph.onnx", "initializer")


def test_output_that_does_not_depend_on_the_image(tmp_path):
    graph = Graph(4)
    value = graph.add("Neg", graph.random(1, 4))
    _has(_refusal(graph.write(tmp_path, value)), "graph.onnx", "does not depend on the image")
    value = graph.add("Softmax", value)
    _has(_refusal(graph.write(tmp_path, value)), "do not depend on the image")


def test_nodes_in_a_circle(tmp_path):
    graph = Graph(4)
    graph.add("Add", "input", "v1")
    graph.add("Relu", "v0")
    _has(_refusal(graph.write(tmp_path, "v1")), "graph.onnx", "its own result")


def test_no_operator_set(tmp_path):
    graph = Graph(4)
    model = graph.model(graph.add("Relu", "input"))
    del model.opset_import[:]
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString())
    _has(_refusal(path), "operator set", "export")


@pytest.mark.parametrize(
    ("operator", "hint"),
    [
        ("Erf", "mlverify info"),
        ("Sin", "mlverify info"),
        ("Softmax", "last function"),
        ("QuantizeLinear", "quantised"),
        ("DequantizeLinear", "quantised"),
        ("QLinearConv", "quantised"),
        ("RandomNormalLike", "random"),
        ("Loop", "control flow"),
    ],
)
def test_unsupported_operators_are_named(tmp_path, operator, hint):
    graph = Graph(4)
    value = graph.add("Relu", graph.add(operator, "input", name="culprit"))
    text = _refusal(graph.write(tmp_path, value), UnsupportedOperatorError)
    _has(text, f"operator {operator} of node 'culprit'", hint)


def test_unnamed_unsupported_operators_are_named_by_their_output(tmp_path):
    graph = Graph(4)
    value = graph.add("Sin", "input", name="")
    _has(_refusal(graph.write(tmp_path, value), UnsupportedOperatorError), "of node 'v0'")


def test_quantised_constants_are_refused(tmp_path):
    graph = Graph(4)
    graph.initializers.append(numpy_helper.from_array(np.arange(-6, 6, dtype=np.int8).reshape(4, 3), "q"))
    weight = graph.add("DequantizeLinear", "q", graph.array(np.float32(0.1)), name="weights")
    text = _refusal(graph.write(tmp_path, graph.add("MatMul", "input", weight)), UnsupportedOperatorError)
    _has(text, "'weights'", "quantised", "export the float network")


@pytest.mark.parametrize("operator", ["Relu", "FusedConv", "Add", "Constant"])
def test_operators_of_other_domains_are_refused(tmp_path, operator):
    graph = Graph(4)
    value = graph.add(operator, "input", name="own", domain="com.example")
    text = _refusal(graph.write(tmp_path, value), UnsupportedOperatorError)
    _has(text, operator, "'own'", "com.example")


def test_control_flow_is_refused(tmp_path):
    graph = Graph(4)
    branches = [
        helper.make_graph(
            [helper.make_node("Relu", ["input"], ["inner"])],
            "branch",
            [],
            [helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)],
        )
        for _ in range(2)
    ]
    condition = graph.array(np.array(True))
    value = graph.add("If", condition, then_branch=branches[0], else_branch=branches[1], name="choice")
    text = _refusal(graph.write(tmp_path, value), UnsupportedOperatorError)
    _has(text, "If", "'choice'", "control flow")


def test_a_file_that_onnxruntime_refuses(tmp_path):
    graph = Graph(4)
    model = graph.model(graph.add("Relu", "input"))
    model.opset_import[0].version = 9999
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString())
    _has(_refusal(path), "net.onnx", "onnxruntime can't load it", "export")


def test_a_batch_that_onnxruntime_refuses(tmp_path):
    graph = Graph(4)
    value = graph.add("Add", "input", graph.add("Expand", graph.random(4), graph.array([2, 4])), name="sum")
    path = graph.write(tmp_path, value)
    assert "'sum'" in _refusal(path, UnsupportedOperatorError)


@pytest.mark.parametrize(
    ("operator", "inputs", "attributes"),
    [
        ("MaxPool", 1, {}),
        ("Concat", 1, {}),
        ("Transpose", 1, {"perm": [0, 7]}),
        ("Add", 1, {}),
        ("Gemm", 1, {}),
        ("LeakyRelu", 1, {"alpha": "steep"}),
        ("Flatten", 1, {"axis": "one"}),
        ("Unsqueeze", 1, {"axes": [9]}),
        ("MaxPool", 1, {"kernel_shape": [2], "auto_pad": "SOME"}),
    ],
)
def test_malformed_nodes_are_named(tmp_path, operator, inputs, attributes):
    graph = Graph(4)
    value = graph.add(operator, *["input"] * inputs, name="odd", **attributes)
    _has(_refusal(graph.write(tmp_path, value), UnsupportedOperatorError), f"{operator} of node 'odd'")
