import numpy as np
import pytest
from mlverify.errors import UnsupportedOperatorError
from onnx_graphs import OPSETS, Graph, operators


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("batch", ["batch", 1])
def test_gemm(tmp_path, opset, batch):
    graph = Graph(4, opset=opset, batch=batch)
    value = graph.add("Gemm", "input", graph.random(5, 4), graph.random(5), transB=1, alpha=0.5, beta=-2.0)
    network = graph.read(tmp_path, value)
    assert operators(network) == ["Linear"]
    assert network.fixed_batch == (batch == 1)


@pytest.mark.parametrize("shape", [(), (1,), (5,), (1, 1), (1, 5)])
def test_gemm_adds_a_constant_of_any_shape(tmp_path, shape):
    graph = Graph(4)
    graph.read(tmp_path, graph.add("Gemm", "input", graph.random(4, 5), graph.random(*shape), beta=3.0))


@pytest.mark.parametrize("opset", [11, 13, 21])
def test_gemm_without_constant(tmp_path, opset):
    graph = Graph(4, opset=opset)
    graph.read(tmp_path, graph.add("Gemm", "input", graph.random(4, 5)))


def test_gemm_with_a_misshapen_constant_is_refused(tmp_path):
    graph = Graph(4)
    path = graph.write(tmp_path, graph.add("Gemm", "input", graph.random(4, 5), graph.random(7)))
    with pytest.raises(UnsupportedOperatorError, match="Gemm_0"):
        graph.read(tmp_path, "v0")
    assert path.exists()


def test_matmul_and_add_become_one_operator(tmp_path):
    graph = Graph(4)
    product = graph.add("MatMul", "input", graph.random(4, 3))
    assert operators(graph.read(tmp_path, graph.add("Add", graph.random(3), product))) == ["Linear"]


def test_matmul_on_the_last_of_several_axes(tmp_path):
    graph = Graph(2, 3, 4)
    graph.read(tmp_path, graph.add("Flatten", graph.add("MatMul", "input", graph.random(4, 5))))


def test_matmul_with_a_constant_on_the_left_is_refused(tmp_path):
    graph = Graph(4, 3)
    path = graph.add("MatMul", graph.random(5, 4), "input", name="left")
    with pytest.raises(
        UnsupportedOperatorError, match=r"MatMul of node 'left'.*first input must be computed"
    ):
        graph.read(tmp_path, path)


def test_product_of_two_values_is_refused(tmp_path):
    graph = Graph(4, 4)
    with pytest.raises(UnsupportedOperatorError, match="must be a constant"):
        graph.read(tmp_path, graph.add("MatMul", "input", "input"))


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"strides": [2, 3]},
        {"pads": [0, 1, 2, 3]},
        {"dilations": [2, 1], "strides": [1, 2], "pads": [1, 1, 1, 1]},
        {"auto_pad": "VALID", "strides": [2, 2]},
        {"auto_pad": "SAME_UPPER", "strides": [2, 3]},
        {"auto_pad": "SAME_LOWER", "strides": [2, 3]},
        {"auto_pad": "SAME_UPPER", "strides": [1, 2]},
    ],
)
def test_conv(tmp_path, opset, attributes):
    graph = Graph(2, 7, 8, opset=opset)
    value = graph.add("Conv", "input", graph.random(3, 2, 3, 2), graph.random(3), **attributes)
    assert operators(graph.read(tmp_path, graph.add("Flatten", value))) == ["Conv", "Reshape"]


@pytest.mark.parametrize("groups", [2, 4])
def test_grouped_conv_without_bias(tmp_path, groups):
    graph = Graph(4, 6, 5)
    value = graph.add("Conv", "input", graph.random(8, 4 // groups, 3, 3), group=groups, pads=[1, 0, 1, 0])
    graph.read(tmp_path, graph.add("Flatten", value))


@pytest.mark.parametrize(
    "attributes",
    [{}, {"strides": [2], "pads": [1, 2]}, {"dilations": [2]}, {"auto_pad": "SAME_UPPER", "strides": [2]}],
)
def test_conv_of_signals(tmp_path, attributes):
    graph = Graph(3, 10)
    value = graph.add(
        "Relu", graph.add("Conv", "input", graph.random(4, 3, 3), graph.random(4), **attributes)
    )
    graph.read(tmp_path, graph.add("Flatten", value))


def test_conv_of_volumes_is_refused(tmp_path):
    graph = Graph(1, 4, 4, 4)
    value = graph.add("Conv", "input", graph.random(2, 1, 3, 3, 3), name="volume")
    with pytest.raises(UnsupportedOperatorError, match=r"'volume'.*signals and images are read"):
        graph.read(tmp_path, graph.add("Flatten", value))


@pytest.mark.parametrize(("kernel", "reason"), [((2, 3, 3, 3), "channels"), ((2, 2, 9, 9), "larger")])
def test_conv_with_an_unfitting_kernel_is_refused(tmp_path, kernel, reason):
    graph = Graph(2, 5, 5)
    value = graph.add("Conv", "input", graph.random(*kernel))
    with pytest.raises(UnsupportedOperatorError, match=reason):
        graph.read(tmp_path, graph.add("Flatten", value))


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("shape", [(3,), (3, 5), (3, 4, 5)])
def test_batch_normalization(tmp_path, opset, shape):
    graph = Graph(*shape, opset=opset)
    numbers = [graph.random(3), graph.random(3), graph.random(3), graph.random(3, positive=True)]
    value = graph.add("BatchNormalization", "input", *numbers, epsilon=1e-3)
    assert operators(graph.read(tmp_path, graph.add("Flatten", value)))[0] == "Scale"


def test_batch_normalization_is_folded_into_conv(tmp_path):
    graph = Graph(1, 5, 5)
    maps = graph.add("Conv", "input", graph.random(3, 1, 3, 3), graph.random(3))
    numbers = [graph.random(3), graph.random(3), graph.random(3), graph.random(3, positive=True)]
    value = graph.add("Relu", graph.add("BatchNormalization", maps, *numbers))
    assert operators(graph.read(tmp_path, graph.add("Flatten", value))) == ["Conv", "Relu", "Reshape"]


@pytest.mark.parametrize(("opset", "outputs", "attributes"), [(14, 3, {"training_mode": 1}), (9, 5, {})])
def test_batch_normalization_in_training_is_refused(tmp_path, opset, outputs, attributes):
    graph = Graph(3, 4, 5, opset=opset)
    numbers = [graph.random(3, positive=True) for _ in range(4)]
    value = graph.add("BatchNormalization", "input", *numbers, outputs=outputs, **attributes)
    with pytest.raises(UnsupportedOperatorError, match="training mode"):
        graph.read(tmp_path, graph.add("Flatten", value))


@pytest.mark.parametrize("operator", ["Add", "Sub", "Mul", "Div"])
@pytest.mark.parametrize("shape", [(), (1,), (5,), (4, 1), (3, 1, 1), (1, 3, 1, 1), (3, 4, 5)])
def test_arithmetic_with_a_constant(tmp_path, operator, shape):
    graph = Graph(3, 4, 5)
    value = graph.add(operator, "input", graph.random(*shape, positive=True))
    graph.read(tmp_path, graph.add("Flatten", value))


@pytest.mark.parametrize("operator", ["Add", "Sub", "Mul"])
def test_arithmetic_with_the_constant_first(tmp_path, operator):
    graph = Graph(3, 4, 5)
    value = graph.add(operator, graph.random(3, 1, 1), "input")
    graph.read(tmp_path, graph.add("Flatten", graph.add("Neg", value)))


@pytest.mark.parametrize(
    ("operator", "constant"),
    [("Div", np.zeros(3)), ("Add", np.zeros(4)), ("Mul", np.ones((2, 3))), ("Add", np.ones((1, 1, 3)))],
)
def test_arithmetic_that_does_not_fit_is_refused(tmp_path, operator, constant):
    graph = Graph(3)
    value = graph.add(operator, "input", graph.array(constant.astype(np.float32)), name="here")
    with pytest.raises(UnsupportedOperatorError, match="'here'"):
        graph.read(tmp_path, value)


@pytest.mark.parametrize("operator", ["Mul", "Div"])
def test_products_of_values_are_refused(tmp_path, operator):
    graph = Graph(3)
    with pytest.raises(UnsupportedOperatorError, match="not linear"):
        graph.read(tmp_path, graph.add(operator, "input", graph.add("Relu", "input")))


def test_a_constant_divided_by_a_value_is_refused(tmp_path):
    graph = Graph(3)
    with pytest.raises(UnsupportedOperatorError, match="division by a computed value"):
        graph.read(tmp_path, graph.add("Div", graph.random(3), "input"))


@pytest.mark.parametrize("operator", ["Add", "Sub"])
def test_residual(tmp_path, operator):
    graph = Graph(2, 4, 4)
    maps = graph.add("Conv", "input", graph.random(2, 2, 3, 3), pads=[1, 1, 1, 1])
    active = graph.add("Relu", maps)
    value = graph.add(operator, active, graph.add(operator, maps, "input"))
    network = graph.read(tmp_path, graph.dense(graph.add("Relu", value), 32))
    assert operators(network).count("Sum") == 2


@pytest.mark.parametrize("operator", ["Add", "Sub"])
def test_a_value_with_itself(tmp_path, operator):
    graph = Graph(3)
    value = graph.add("Relu", "input")
    graph.read(tmp_path, graph.add(operator, value, value))


def test_residual_of_different_shapes_is_refused(tmp_path):
    graph = Graph(3, 4, 4)
    value = graph.add("Add", "input", graph.add("GlobalAveragePool", "input"))
    with pytest.raises(UnsupportedOperatorError, match="must be equal"):
        graph.read(tmp_path, graph.add("Flatten", value))
