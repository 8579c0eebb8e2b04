"""Everything about a file but its single operators: order, names, constants, preprocessing, exporters."""

import io
import warnings

import numpy as np
import onnx
import pytest
import torch
from mlverify.errors import InputError
from mlverify.verifier.network import Tail
from mlverify.verifier.onnx_reader import load_network, read_labels
from mlverify.verifier.preprocessing import Layout, Preprocessing
from mlverify.verifier.session import Judge
from onnx import helper, numpy_helper
from onnx_graphs import OPSETS, Graph, agreed, operators, run
from torch import nn


def _small(**options):
    graph = Graph(1, 6, 6, **options)
    maps = graph.add("Conv", "input", graph.random(2, 1, 3, 3), graph.random(2), strides=[2, 2])
    return graph, graph.dense(graph.add("Relu", maps), 8)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("batch", ["batch", None, 1])
def test_batch_and_opset(tmp_path, opset, batch):
    graph, output = _small(opset=opset, batch=batch)
    network = graph.read(tmp_path, output)
    assert network.input_shape == (1, 6, 6)
    assert network.fixed_batch == (batch == 1)
    assert network.labels == ("0", "1", "2")


def test_unsorted_and_unnamed_nodes(tmp_path):
    graph, output = _small()
    graph.nodes.reverse()
    for node in graph.nodes:
        node.name = ""
    network = graph.read(tmp_path, output)
    assert [node.name for node in network.nodes] == ["v0", "v1", "v2", "v3"]


def test_unnamed_nodes_are_named_by_their_outputs(tmp_path):
    graph, output = _small()
    for node in graph.nodes:
        node.name = ""
    assert [node.name for node in graph.read(tmp_path, output).nodes] == ["v0", "v1", "v2", "v3"]


def test_nodes_that_the_output_does_not_need_are_left_out(tmp_path):
    graph, output = _small()
    graph.add("Sin", "input")
    assert len(graph.read(tmp_path, output).nodes) == 4


def test_initializers_that_are_graph_inputs(tmp_path):
    graph, output = _small()
    declared = [
        helper.make_tensor_value_info(item.name, item.data_type, list(item.dims))
        for item in graph.initializers
    ]
    graph.inputs = [*declared, *graph.inputs]
    network = graph.read(tmp_path, output)
    assert Judge(network).scores(np.zeros((2, 1, 6, 6), np.float32)).shape == (2, 3)


def test_weights_in_constant_nodes(tmp_path):
    graph, output = _small()
    for tensor in graph.initializers:
        graph.nodes.insert(0, helper.make_node("Constant", [], [tensor.name], value=tensor))
    graph.initializers = []
    assert operators(graph.read(tmp_path, output)) == ["Conv", "Relu", "Reshape", "Linear"]


@pytest.mark.parametrize(
    "attributes",
    [
        {"value_float": 2.0},
        {"value_floats": [1.0, 2.0, 3.0]},
        {"value": numpy_helper.from_array(np.float32(3.0))},
    ],
)
def test_forms_of_constant_nodes(tmp_path, attributes):
    graph = Graph(3)
    graph.read(tmp_path, graph.add("Mul", "input", graph.add("Constant", **attributes)))


def test_weights_computed_from_constants(tmp_path):
    graph = Graph(4)
    scaled = graph.add("Mul", graph.random(3, 4), graph.array(np.float32(0.5)))
    weight = graph.add("Transpose", graph.add("Identity", scaled), perm=[1, 0])
    assert operators(graph.read(tmp_path, graph.add("MatMul", "input", weight))) == ["Linear"]


@pytest.mark.parametrize("opset", OPSETS)
def test_constants_are_computed_in_the_operator_set_of_the_file(tmp_path, opset):
    """Softmax without an axis means something else since opset 13."""
    graph = Graph(2, 3, opset=opset)
    weights = graph.add("Softmax", graph.random(1, 2, 3))
    graph.read(tmp_path, graph.add("Flatten", graph.add("Mul", "input", weights)))


def test_weights_beside_the_file(tmp_path):
    graph, output = _small()
    model = graph.model(output)
    path = tmp_path / "external.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    agreed(path)


def test_judge_reads_logits_before_the_trailing_function(tmp_path):
    graph, output = _small()
    probabilities = graph.add("Identity", graph.add("Softmax", output))
    network = graph.read(tmp_path, probabilities)
    pixels = np.random.default_rng(3).random((3, 1, 6, 6), dtype=np.float32)
    np.testing.assert_array_equal(Judge(network).scores(pixels), run(network.path, pixels))
    logits = Judge(network).logits(pixels)
    with torch.no_grad():
        np.testing.assert_allclose(logits, network.module()(torch.tensor(pixels)).numpy(), atol=1e-4)


@pytest.mark.parametrize("layout", list(Layout))
@pytest.mark.parametrize(
    ("mean", "std"), [((), ()), ((0.4,), ()), ((0.1, 0.2, 0.3), (0.5, 0.6, 0.7)), ((), (0.25,))]
)
def test_preprocessing_is_folded(tmp_path, layout, mean, std):
    shape = (3, 5, 4) if layout is Layout.NCHW else (5, 4, 3)
    graph = Graph(*shape)
    path = graph.write(tmp_path, graph.dense("input", 60))
    network = load_network(path, Preprocessing(mean, std, layout))
    assert network.input_shape == (3, 5, 4)
    pixels = np.random.default_rng(0).random((4, 3, 5, 4), dtype=np.float32)
    centre = np.array(mean or [0.0]).reshape(-1, 1, 1)
    spread = np.array(std or [1.0]).reshape(-1, 1, 1)
    tensor = ((pixels - centre) / spread).astype(np.float32)
    expected = run(path, tensor if layout is Layout.NCHW else tensor.transpose(0, 2, 3, 1))
    with torch.no_grad():
        np.testing.assert_allclose(network.module()(torch.tensor(pixels)).numpy(), expected, atol=1e-4)
    np.testing.assert_allclose(Judge(network).scores(pixels), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("preprocessing", "words"),
    [
        (Preprocessing(mean=(0.1, 0.2)), ["--mean has 2 values", "3 channels"]),
        (Preprocessing(std=(1.0,) * 4), ["--std has 4 values", "give 1 or 3"]),
    ],
)
def test_preprocessing_with_another_number_of_channels_is_refused(tmp_path, preprocessing, words):
    graph = Graph(3, 2, 2)
    with pytest.raises(InputError) as raised:
        load_network(graph.write(tmp_path, graph.dense("input", 12)), preprocessing)
    assert all(word in str(raised.value) for word in words)


def test_layout_of_a_network_on_feature_vectors_is_refused(tmp_path):
    graph = Graph(4)
    with pytest.raises(InputError, match="image network"):
        load_network(graph.write(tmp_path, graph.add("Neg", "input")), Preprocessing(layout=Layout.NHWC))


@pytest.mark.parametrize(("values", "option"), [((0.0,), "std"), ((-1.0,), "std"), ((float("nan"),), "mean")])
def test_preprocessing_numbers_are_checked(values, option):
    with pytest.raises(InputError, match=f"--{option}"):
        Preprocessing(**{option: values})


class _Residual(nn.Module):
    def __init__(self, ceil_mode: bool) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU())
        self.block = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU6())
        self.pool = nn.MaxPool2d(3, 2, 1, ceil_mode=ceil_mode)
        self.last = nn.Sequential(nn.Dropout(), nn.Linear(4, 5))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        first = self.first(image)
        summed = torch.relu(first + self.block(first))
        pooled = nn.functional.adaptive_avg_pool2d(self.pool(summed), 1)
        return torch.sigmoid(self.last(pooled.view(pooled.size(0), -1)))


# torch's TorchScript exporter ends at opset 20
@pytest.mark.parametrize("opset", [*OPSETS[:-1], 20])
@pytest.mark.parametrize("fold", [False, True])
def test_torch_export_of_a_small_residual_network(tmp_path, opset, fold):
    torch.manual_seed(0)
    module = _Residual(ceil_mode=opset > 9)
    module(torch.randn(16, 3, 12, 12))
    module.eval()
    path = tmp_path / "residual.onnx"
    path.write_bytes(_export(module, torch.zeros(1, 3, 12, 12), opset, do_constant_folding=fold))
    network = agreed(path)
    assert (network.tail, network.fixed_batch) == (Tail.SIGMOID, False)
    assert {"Sum", "MaxPool"} <= set(operators(network))


def _export(module, example, opset, **options):
    buffer = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module,
                (example,),
                buffer,
                opset_version=opset,
                input_names=["input"],
                dynamic_axes={"input": {0: "batch"}},
                dynamo=False,
                **options,
            )
    except (ImportError, TypeError) as error:
        pytest.skip(f"this torch has no TorchScript exporter ({error})")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"cat\ndog\n", ["names 2 labels", "has 3 scores"]),
        (b"cat\ndog\ncat\n", ["a label twice"]),
        (b"\xff\xfe\x00cat", ["can't be read", "one name per line"]),
        (None, ["can't be read", "one name per line"]),
    ],
)
def test_bad_label_files(tmp_path, content, words):
    path = tmp_path / "labels.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as raised:
        read_labels(path, 3)
    assert all(word in str(raised.value) for word in [str(path), *words])
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", [b"cat\ndog\nbird\n", b"\xef\xbb\xbfcat\r\n dog \r\n\r\nbird"])
def test_label_files_of_any_editor(tmp_path, content):
    path = tmp_path / "labels.txt"
    path.write_bytes(content)
    assert read_labels(path, 3) == ("cat", "dog", "bird")


@pytest.mark.parametrize(
    ("metadata", "labels", "k"),
    [
        ({"labels": '["a", "b", "c"]', "k": "2"}, ("a", "b", "c"), 2),
        ({"labels": '["a", "b"]', "k": "3"}, ("0", "1", "2"), None),
        ({"labels": '["a", "a", "b"]'}, ("0", "1", "2"), None),
        ({"labels": "not json", "k": "1"}, ("0", "1", "2"), None),
        ({"k": "many"}, ("0", "1", "2"), None),
    ],
)
def test_metadata_is_used_when_it_makes_sense(tmp_path, metadata, labels, k):
    graph, output = _small()
    model = graph.model(output)
    helper.set_model_props(model, metadata)
    path = tmp_path / "described.onnx"
    path.write_bytes(model.SerializeToString())
    network = load_network(path)
    assert (network.labels, network.k) == (labels, k)
