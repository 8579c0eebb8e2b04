import numpy as np
import pytest
from mlverify.errors import UnsupportedOperatorError
from onnx_graphs import OPSETS, Graph, operators

WINDOWS = [
    {"kernel_shape": [2, 2]},
    {"kernel_shape": [3, 2], "strides": [2, 3]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 0, 2, 1]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
    {"kernel_shape": [3, 2], "strides": [2, 3], "auto_pad": "SAME_LOWER"},
    {"kernel_shape": [3, 2], "strides": [2, 2], "auto_pad": "VALID"},
]


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("attributes", WINDOWS)
def test_max_pool(tmp_path, opset, attributes):
    graph = Graph(2, 7, 8, opset=opset)
    network = graph.read(tmp_path, graph.add("Flatten", graph.add("MaxPool", "input", **attributes)))
    assert operators(network) == ["MaxPool", "Reshape"]


@pytest.mark.parametrize("opset", [11, 21])
@pytest.mark.parametrize(
    "attributes",
    [
        {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1},
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1},
        {"kernel_shape": [2, 2], "strides": [3, 3], "pads": [1, 1, 1, 1], "ceil_mode": 1},
        {"kernel_shape": [2, 3], "dilations": [2, 1], "strides": [1, 2]},
        {
            "kernel_shape": [3, 3],
            "dilations": [2, 2],
            "pads": [1, 1, 1, 1],
            "ceil_mode": 1,
            "strides": [2, 2],
        },
    ],
)
@pytest.mark.parametrize("size", [(7, 8), (8, 9), (5, 6)])
def test_max_pool_with_ceil_mode_or_dilation(tmp_path, opset, attributes, size):
    graph = Graph(2, *size, opset=opset)
    graph.read(tmp_path, graph.add("Flatten", graph.add("MaxPool", "input", **attributes)))


@pytest.mark.parametrize("operator", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize(
    "attributes",
    [{"kernel_shape": [3], "strides": [2]}, {"kernel_shape": [3], "pads": [1, 1], "strides": [2]}],
)
def test_pools_of_signals(tmp_path, operator, attributes):
    graph = Graph(3, 9)
    graph.read(tmp_path, graph.add("Flatten", graph.add(operator, "input", **attributes)))


def test_max_pool_with_indices_is_refused(tmp_path):
    graph = Graph(1, 4, 4)
    value = graph.add("MaxPool", "input", kernel_shape=[2, 2], outputs=2)
    with pytest.raises(UnsupportedOperatorError, match="indices"):
        graph.read(tmp_path, graph.add("Flatten", value))


@pytest.mark.parametrize(
    "attributes", [{"kernel_shape": [9, 9]}, {"kernel_shape": [1, 1], "pads": [1, 1, 1, 1]}]
)
def test_max_pool_with_an_empty_window_is_refused(tmp_path, attributes):
    graph = Graph(1, 4, 4)
    value = graph.add("MaxPool", "input", **attributes)
    with pytest.raises(UnsupportedOperatorError, match="no pixel"):
        graph.read(tmp_path, graph.add("Flatten", value))


@pytest.mark.parametrize("operator", ["MaxPool", "AveragePool"])
def test_pools_of_volumes_are_refused(tmp_path, operator):
    graph = Graph(1, 4, 4, 4)
    value = graph.add(operator, "input", kernel_shape=[2, 2, 2])
    with pytest.raises(UnsupportedOperatorError, match="signals and images"):
        graph.read(tmp_path, graph.add("Flatten", value))


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("attributes", WINDOWS)
@pytest.mark.parametrize("include", [0, 1])
def test_average_pool(tmp_path, opset, attributes, include):
    graph = Graph(2, 7, 8, opset=opset)
    value = graph.add("AveragePool", "input", count_include_pad=include, **attributes)
    graph.read(tmp_path, graph.add("Flatten", value))


@pytest.mark.parametrize("include", [0, 1])
def test_average_pool_with_dilation(tmp_path, include):
    graph = Graph(2, 7, 8, opset=19)
    value = graph.add(
        "AveragePool",
        "input",
        kernel_shape=[3, 2],
        dilations=[2, 3],
        pads=[1, 1, 1, 1],
        count_include_pad=include,
    )
    graph.read(tmp_path, graph.add("Flatten", value))


def test_average_pool_with_ceil_mode_is_refused(tmp_path):
    graph = Graph(1, 5, 5)
    value = graph.add("AveragePool", "input", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)
    with pytest.raises(UnsupportedOperatorError, match="ceil_mode=False"):
        graph.read(tmp_path, graph.add("Flatten", value))


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 6)])
def test_global_average_pool(tmp_path, opset, shape):
    graph = Graph(*shape, opset=opset)
    graph.read(tmp_path, graph.add("Flatten", graph.add("GlobalAveragePool", "input")))


@pytest.mark.parametrize("opset", [9, 11, 13, 17, 18, 21])
@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize("axes", [[2, 3], [-1, -2]])
def test_reduce_mean(tmp_path, opset, keep, axes):
    graph = Graph(3, 4, 5, opset=opset)
    network = graph.read(tmp_path, graph.add("Flatten", _mean(graph, axes, keepdims=keep)))
    assert operators(network)[0] == "Conv"


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("axes", [[1], [3], [0, 2, 3], [1, 2, 3]])
def test_reduce_mean_over_other_axes_is_refused(tmp_path, opset, axes):
    graph = Graph(3, 4, 5, opset=opset)
    with pytest.raises(UnsupportedOperatorError, match="spatial axes"):
        graph.read(tmp_path, graph.add("Flatten", _mean(graph, axes)))


def test_pool_after_relu_and_before_dense(tmp_path):
    graph = Graph(1, 8, 8)
    maps = graph.add("Relu", graph.add("Conv", "input", graph.random(4, 1, 3, 3), strides=[2, 2]))
    pooled = graph.add("MaxPool", maps, kernel_shape=[2, 2], pads=[0, 0, 1, 1], strides=[2, 2])
    network = graph.read(tmp_path, graph.dense(pooled, 16))
    assert (network.neurons, network.pools) == (36, 16)
    pool = network.operators[2]
    assert np.all(pool.windows.max(axis=1) >= 0)


def _mean(graph, axes, **attributes):
    if graph.opset < 18:
        return graph.add("ReduceMean", "input", axes=axes, **attributes)
    return graph.add("ReduceMean", "input", graph.array(axes), **attributes)
