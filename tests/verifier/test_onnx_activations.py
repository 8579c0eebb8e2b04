import numpy as np
import pytest
from mlverify.errors import UnsupportedOperatorError
from mlverify.verifier.network import Tail
from onnx import TensorProto, helper
from onnx_graphs import OPSETS, Graph, operators

SMALLEST, LARGEST = float(np.finfo(np.float32).min), float(np.finfo(np.float32).max)


def test_relu_read_by_several_nodes(tmp_path):
    graph = Graph(4)
    value = graph.add("Relu", "input")
    other = graph.add("Gemm", value, graph.random(4, 4))
    both = graph.add("Add", graph.add("Relu", other), value)
    network = graph.read(tmp_path, graph.add("Concat", both, value, graph.add("Neg", value), axis=1))
    assert operators(network).count("Relu") == 2


@pytest.mark.parametrize("slope", [None, 0.0, 0.2])
def test_leaky_relu(tmp_path, slope):
    graph = Graph(4)
    graph.read(tmp_path, graph.add("LeakyRelu", "input", **({} if slope is None else {"alpha": slope})))


@pytest.mark.parametrize("slope", [-0.1, 1.0, 2.0])
def test_leaky_relu_of_other_slopes_is_refused(tmp_path, slope):
    graph = Graph(4)
    with pytest.raises(UnsupportedOperatorError, match=r"slope.*\[0, 1\)"):
        graph.read(tmp_path, graph.add("LeakyRelu", "input", alpha=slope))


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize(
    ("low", "high", "relus"),
    [
        (0.0, 6.0, 2),
        (-1.5, 2.5, 2),
        (1.0, 1.0, 2),
        (-1.0, None, 1),
        (None, 0.5, 1),
        (None, None, 0),
        (SMALLEST, 1.0, 1),
        (0.0, LARGEST, 1),
    ],
)
def test_clip(tmp_path, opset, low, high, relus):
    graph = Graph(4, opset=opset)
    hidden = graph.add("Gemm", "input", graph.random(4, 5), graph.random(5))
    value = _clip(graph, hidden, low, high)
    network = graph.read(tmp_path, graph.add("Add", value, hidden))
    assert operators(network).count("Relu") == relus


@pytest.mark.parametrize("low", [-np.inf, 0.0])
def test_clip_with_an_infinite_limit(tmp_path, low):
    graph = Graph(4)
    network = graph.read(tmp_path, _clip(graph, "input", low, np.inf))
    assert operators(network).count("Relu") == int(low == 0.0)


@pytest.mark.parametrize(("low", "high"), [(1.0, 0.0), (float("nan"), 1.0)])
def test_clip_with_limits_in_the_wrong_order_is_refused(tmp_path, low, high):
    graph = Graph(4)
    with pytest.raises(UnsupportedOperatorError, match=r"Clip of node 'Clip_0'.*wrong order"):
        graph.read(tmp_path, _clip(graph, "input", low, high))


def test_clip_to_a_computed_limit_is_refused(tmp_path):
    graph = Graph(1)
    with pytest.raises(UnsupportedOperatorError, match="must be a constant"):
        graph.read(tmp_path, graph.add("Clip", "input", "input"))


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("tail", ["Softmax", "LogSoftmax", "Sigmoid"])
def test_trailing_function(tmp_path, opset, tail):
    graph = Graph(2, 3, opset=opset)
    network = graph.read(tmp_path, graph.add(tail, graph.dense("input", 6)))
    assert network.tail.value == {"LogSoftmax": "log-softmax"}.get(tail, tail.lower())
    assert operators(network) == ["Reshape", "Linear"]


@pytest.mark.parametrize("last", ["Identity", "Flatten", "Reshape", "Squeeze", "Dropout"])
@pytest.mark.parametrize("tail", ["Softmax", "Sigmoid"])
def test_trailing_function_before_a_change_of_shape(tmp_path, last, tail):
    graph = Graph(4)
    scores = graph.dense("input", 4)
    if last == "Squeeze":
        scores = graph.add("Unsqueeze", scores, graph.array([2]))
    value = graph.add(tail, scores, **({"axis": 1} if tail == "Softmax" else {}))
    extra = {"Reshape": [0, -1], "Squeeze": [2]}.get(last)
    value = graph.add(last, value, *([] if extra is None else [graph.array(extra)]))
    assert graph.read(tmp_path, value).tail is not Tail.NONE


def test_softmax_over_channels_of_one_pixel(tmp_path):
    graph = Graph(3, 1, 1)
    assert graph.read(tmp_path, graph.add("Softmax", "input", axis=1)).tail is Tail.SOFTMAX


def test_softmax_before_opset_13_spans_all_axes_from_its_own(tmp_path):
    graph = Graph(3, 2, opset=9)
    assert graph.read(tmp_path, graph.add("Softmax", "input")).tail is Tail.SOFTMAX


@pytest.mark.parametrize(("opset", "axis"), [(13, -1), (13, 1), (13, 0), (9, 2), (9, 0)])
def test_softmax_over_other_axes_is_refused(tmp_path, opset, axis):
    graph = Graph(3, 2, opset=opset)
    value = graph.add("Softmax", "input", name="scores", axis=axis)
    with pytest.raises(UnsupportedOperatorError, match=r"'scores'.*label axis"):
        graph.read(tmp_path, value)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("operator", ["Sigmoid", "Tanh"])
def test_curves_between_layers(tmp_path, operator, opset):
    graph = Graph(4, opset=opset)
    value = graph.dense(graph.add(operator, graph.dense("input", 4, 5), name="inner"), 5)
    network = graph.read(tmp_path, graph.add("Sigmoid", value, name="outer"))
    assert (network.tail, [item.name for item in network.curves]) == (Tail.SIGMOID, ["inner"])
    assert (network.neurons, network.curved_neurons) == (0, 5)


def test_a_last_tanh_stays(tmp_path):
    graph = Graph(4)
    network = graph.read(tmp_path, graph.add("Tanh", graph.dense("input", 4)))
    assert (network.tail, operators(network)) == (Tail.NONE, ["Linear", "SShaped"])


@pytest.mark.parametrize("operator", ["Softmax", "LogSoftmax"])
def test_the_same_function_inside_is_refused(tmp_path, operator):
    graph = Graph(4)
    value = graph.dense(graph.add(operator, "input", name="inner"), 4)
    with pytest.raises(
        UnsupportedOperatorError, match=f"{operator} of node 'inner'.*only as the last function"
    ):
        graph.read(tmp_path, graph.add(operator, value, name="outer"))


@pytest.mark.parametrize("opset", OPSETS)
def test_dropout_and_identity_do_nothing(tmp_path, opset):
    graph = Graph(4, opset=opset)
    value = graph.add("Identity", graph.add("Dropout", graph.add("Relu", "input")))
    assert operators(graph.read(tmp_path, value)) == ["Relu"]


def test_dropout_with_its_mode_written_out(tmp_path):
    graph = Graph(4, opset=13)
    mode = graph.add("Constant", value=helper.make_tensor("mode", TensorProto.BOOL, [], [False]))
    graph.read(tmp_path, graph.add("Dropout", graph.add("Relu", "input"), graph.array(np.float32(0.5)), mode))


@pytest.mark.parametrize("source", ["input", "constant"])
def test_dropout_in_training_is_refused(tmp_path, source):
    graph = Graph(4, opset=13)
    source = graph.random(1, 4) if source == "constant" else source
    mode = graph.array(np.array(True))
    value = graph.add("Dropout", source, graph.array(np.float32(0.5)), mode, name="drop")
    with pytest.raises(UnsupportedOperatorError, match=r"'drop'.*training mode"):
        graph.read(tmp_path, graph.add("Add", "input", value))


def _clip(graph, value, low, high):
    if graph.opset < 11:
        limits = {name: limit for name, limit in (("min", low), ("max", high)) if limit is not None}
        return graph.add("Clip", value, **limits)
    limits = ["" if limit is None else graph.array(np.float32(limit)) for limit in (low, high)]
    return graph.add("Clip", value, *limits, name="Clip_0")
