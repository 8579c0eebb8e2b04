import numpy as np
import pytest
from mlverify.errors import UnsupportedOperatorError
from onnx import TensorProto, helper
from onnx_graphs import OPSETS, Graph, agreed, operators


def _with_opsets(*values):
    """Negative axes came with opset 11, so they are not among these."""
    return [(opset, value) for opset in OPSETS for value in values]


@pytest.mark.parametrize("batch", ["batch", None, 1])
@pytest.mark.parametrize(("opset", "axis"), [*_with_opsets(None, 1), (11, -3), (21, -3)])
def test_flatten(tmp_path, opset, batch, axis):
    graph = Graph(2, 3, 4, opset=opset, batch=batch)
    value = graph.add("Flatten", "input", **({} if axis is None else {"axis": axis}))
    network = graph.read(tmp_path, graph.add("Relu", value))
    assert network.fixed_batch == (batch == 1)


@pytest.mark.parametrize("axis", [0, 2, 3])
def test_flatten_that_mixes_images_is_refused(tmp_path, axis):
    graph = Graph(2, 3)
    with pytest.raises(UnsupportedOperatorError, match="mix images"):
        graph.read(tmp_path, graph.add("Flatten", "input", axis=axis))


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("target", [[0, 24], [0, -1], [-1, 24], [0, 2, -1], [-1, 4, 3, 2]])
def test_reshape_of_a_dynamic_batch(tmp_path, opset, target):
    graph = Graph(2, 3, 4, opset=opset)
    network = graph.read(tmp_path, graph.dense(graph.add("Reshape", "input", graph.array(target)), 24))
    assert not network.fixed_batch


@pytest.mark.parametrize("batch", ["batch", 1])
@pytest.mark.parametrize("kind", ["initializer", "Constant", "Identity"])
def test_reshape_to_one_image(tmp_path, batch, kind):
    graph = Graph(2, 3, batch=batch)
    target = graph.array([1, -1])
    if kind == "Constant":
        target = graph.add("Constant", value=helper.make_tensor("t", TensorProto.INT64, [2], [1, 6]))
    elif kind == "Identity":
        target = graph.add("Identity", target)
    flat = graph.add("Reshape", "input", target)
    network = graph.read(tmp_path, graph.add("Softmax", graph.add("Gemm", flat, graph.random(6, 3))))
    assert network.fixed_batch


def test_reshape_with_allowzero(tmp_path):
    graph = Graph(2, 3, batch=1)
    graph.read(tmp_path, graph.add("Reshape", "input", graph.array([1, 6]), allowzero=1))


@pytest.mark.parametrize("target", [[-1], [6, 1], [3, -1], [-1, 3], [1, 7], [0, 0, 0, 0], [-1, -1]])
def test_reshape_that_loses_the_batch_is_refused(tmp_path, target):
    graph = Graph(2, 3)
    value = graph.add("Reshape", "input", graph.array(target), name="view")
    with pytest.raises(UnsupportedOperatorError, match="'view'"):
        graph.read(tmp_path, value)


def test_reshape_to_a_computed_target_is_refused(tmp_path):
    graph = Graph(2)
    with pytest.raises(UnsupportedOperatorError, match="must be a constant"):
        graph.read(tmp_path, graph.add("Reshape", "input", "input"))


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("constants", ["initializer", "node"])
def test_view_by_size_as_torch_exports_it(tmp_path, opset, constants):
    """x.view(x.size(0), -1): Shape, Gather, Unsqueeze, Concat, Reshape."""
    graph = Graph(2, 3, 4, opset=opset)

    def constant(values):
        if constants == "initializer":
            return graph.array(values)
        return graph.add(
            "Constant", value=helper.make_tensor("", TensorProto.INT64, np.shape(values), np.ravel(values))
        )

    active = graph.add("Relu", "input")
    size = graph.add("Gather", graph.add("Shape", active), constant(0), axis=0)
    target = graph.add("Concat", _unsqueeze(graph, size, [0]), constant([-1]), axis=0)
    network = graph.read(tmp_path, graph.dense(graph.add("Reshape", active, target), 24))
    assert not network.fixed_batch


@pytest.mark.parametrize(("start", "end"), [(0, 1), (0, -3), (-4, 1)])
def test_shape_with_start_and_end(tmp_path, start, end):
    graph = Graph(2, 3, 4)
    size = graph.add("Shape", "input", start=start, end=end)
    target = graph.add("Concat", size, graph.array([-1]), axis=0)
    assert not graph.read(tmp_path, graph.add("Reshape", "input", target)).fixed_batch


def test_view_by_cast_and_slice(tmp_path):
    graph = Graph(2, 3, opset=11)
    whole = graph.add("Cast", graph.add("Shape", "input"), to=TensorProto.INT64)
    first = graph.add("Slice", whole, graph.array([0]), graph.array([1]), graph.array([0]))
    rest = graph.add("ReduceProd", graph.add("Slice", whole, graph.array([1]), graph.array([9])), axes=[0])
    graph.read(tmp_path, graph.add("Reshape", "input", graph.add("Concat", first, rest, axis=0)))


@pytest.mark.parametrize(("opset", "axes"), [*_with_opsets([2], [2, 4]), (11, [-1]), (21, [-1])])
def test_unsqueeze_and_squeeze(tmp_path, opset, axes):
    graph = Graph(2, 3, opset=opset)
    value = _unsqueeze(graph, graph.add("Relu", "input"), axes)
    value = _squeeze(graph, graph.add("Neg", value), axes)
    assert graph.read(tmp_path, graph.add("Flatten", value)).operators[-1].shape == (6,)


def test_squeeze_of_all_axes_of_size_one_is_refused(tmp_path):
    graph = Graph(3, 1, 1)
    with pytest.raises(UnsupportedOperatorError, match="batch"):
        graph.read(tmp_path, graph.add("Squeeze", "input"))


@pytest.mark.parametrize("axes", [[0], [-4]])
def test_squeezing_the_batch(tmp_path, axes):
    graph = Graph(1, 2, 3)
    with pytest.raises(UnsupportedOperatorError, match="batch"):
        graph.read(tmp_path, graph.add("Flatten", _squeeze(graph, "input", axes)))
    graph = Graph(1, 2, 3, batch=1)
    assert graph.read(tmp_path, graph.add("Flatten", _squeeze(graph, "input", axes))).fixed_batch


@pytest.mark.parametrize("axes", [[0], [-3]])
def test_unsqueezing_before_the_batch(tmp_path, axes):
    graph = Graph(3)
    value = graph.add("Flatten", _unsqueeze(graph, "input", axes))
    with pytest.raises(UnsupportedOperatorError, match="batch"):
        graph.read(tmp_path, value)


def test_squeeze_of_a_long_axis_is_refused(tmp_path):
    graph = Graph(2, 3)
    with pytest.raises(UnsupportedOperatorError, match=r"'Squeeze_0'.*malformed"):
        graph.read(tmp_path, _squeeze(graph, "input", [1]))


@pytest.mark.parametrize("opset", OPSETS)
def test_transpose_and_reshape(tmp_path, opset):
    graph = Graph(2, 3, 4, opset=opset)
    value = graph.add("Transpose", graph.add("Relu", "input"), perm=[0, 2, 3, 1])
    network = graph.read(tmp_path, graph.dense(graph.add("Reshape", value, graph.array([0, 6, -1])), 24))
    assert "Transpose" in operators(network)


@pytest.mark.parametrize("attributes", [{}, {"perm": [1, 0, 2]}])
def test_transpose_of_the_batch_is_refused(tmp_path, attributes):
    graph = Graph(2, 3)
    with pytest.raises(UnsupportedOperatorError, match="batch axis"):
        graph.read(tmp_path, graph.add("Transpose", "input", **attributes))


@pytest.mark.parametrize(("opset", "axis"), [*_with_opsets(1, 2), (11, -1), (21, -1)])
def test_concat_of_branches(tmp_path, opset, axis):
    graph = Graph(2, 3, opset=opset)
    value = graph.add("Concat", "input", graph.add("Relu", "input"), graph.add("Neg", "input"), axis=axis)
    assert not graph.read(tmp_path, graph.add("Flatten", value)).fixed_batch


@pytest.mark.parametrize("batch", ["batch", 1])
def test_concat_with_constants(tmp_path, batch):
    graph = Graph(3, batch=batch)
    value = graph.add("Concat", graph.random(1, 2), graph.add("Relu", "input"), graph.random(1, 1), axis=1)
    assert graph.read(tmp_path, graph.dense(value, 6)).fixed_batch


@pytest.mark.parametrize(("shape", "axis"), [((1, 2, 3), 0), ((1, 3, 3), 2), ((1, 2, 3), 5), ((2, 2, 3), 1)])
def test_concat_that_does_not_fit_is_refused(tmp_path, shape, axis):
    graph = Graph(2, 3)
    value = graph.add("Concat", "input", graph.random(*shape), axis=axis, name="join")
    with pytest.raises(UnsupportedOperatorError, match="'join'"):
        graph.read(tmp_path, graph.add("Flatten", value))


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("value", [None, 0.0, -1.5])
def test_pad(tmp_path, opset, value):
    graph = Graph(2, 3, 4, opset=opset)
    padded = _pad(graph, [0, 0, 1, 0, 0, 0, 2, 3], value)
    assert operators(graph.read(tmp_path, graph.add("Flatten", padded))) == ["Pad", "Reshape"]


def test_pad_of_signals(tmp_path):
    graph = Graph(2, 4)
    graph.read(tmp_path, graph.add("Flatten", _pad(graph, [0, 0, 1, 0, 0, 2], 0.5)))


@pytest.mark.parametrize(
    ("pads", "mode"),
    [
        ([0, 0, 1, 1, 0, 0, 1, 1], "reflect"),
        ([0, 1, 0, 0, 0, 0, 0, 0], "constant"),
        ([1, 0, 0, 0, 0, 0, 0, 0], "constant"),
        ([0, 0, -1, 0, 0, 0, 0, 0], "constant"),
        ([1, 1, 1, 1], "constant"),
    ],
)
def test_other_padding_is_refused(tmp_path, pads, mode):
    graph = Graph(2, 3, 4)
    value = graph.add("Pad", "input", graph.array(pads), mode=mode, name="frame")
    with pytest.raises(UnsupportedOperatorError, match="'frame'"):
        graph.read(tmp_path, graph.add("Flatten", value))


def test_pad_with_axes_is_refused(tmp_path):
    graph = Graph(2, 3, 4, opset=21)
    value = graph.add("Pad", "input", graph.array([1, 1]), "", graph.array([3]))
    with pytest.raises(UnsupportedOperatorError, match="axes"):
        graph.read(tmp_path, graph.add("Flatten", value))


def test_scores_of_several_axes_are_read_in_order(tmp_path):
    graph = Graph(2, 3)
    network = agreed(graph.write(tmp_path, graph.add("Neg", "input")))
    assert len(network.labels) == 6


def _pad(graph, pads, value):
    if graph.opset < 11:
        return graph.add("Pad", "input", pads=pads, **({} if value is None else {"value": value}))
    return graph.add(
        "Pad", "input", graph.array(pads), *([] if value is None else [graph.array(np.float32(value))])
    )


def _squeeze(graph, value, axes):
    return _axes(graph, "Squeeze", value, axes)


def _unsqueeze(graph, value, axes):
    return _axes(graph, "Unsqueeze", value, axes)


def _axes(graph, operator, value, axes):
    if graph.opset < 13:
        return graph.add(operator, value, axes=axes)
    return graph.add(operator, value, graph.array(axes))
