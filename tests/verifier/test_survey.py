import numpy as np
from mlverify.verifier.preprocessing import Preprocessing
from mlverify.verifier.survey import survey
from onnx import helper
from onnx_factory import conv_network, write_graph


def test_a_supported_file_has_its_network(tmp_path):
    found = survey(conv_network(tmp_path / "n.onnx", pool=True), Preprocessing())
    assert found.network is not None
    assert [node.operator for node in found.nodes] == ["Conv", "Relu", "MaxPool", "Flatten", "Gemm"]
    assert all(node.supported for node in found.nodes)


def test_every_unsupported_node_is_marked(tmp_path):
    nodes = [
        helper.make_node("Sin", ["input"], ["a"], name="wave"),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("Cos", ["b"], ["output"], name="other"),
    ]
    found = survey(write_graph(tmp_path / "n.onnx", nodes, {}, (3,), 3), Preprocessing())
    assert found.network is None
    assert [node.supported for node in found.nodes] == [False, True, False]
    assert found.obstacle is not None
    assert "wave" in str(found.obstacle)


def test_a_known_operator_in_an_unknown_form_is_marked(tmp_path):
    nodes = [
        helper.make_node("Transpose", ["input"], ["a"], name="turn", perm=[1, 0]),
        helper.make_node("Relu", ["a"], ["output"], name="relu"),
    ]
    found = survey(write_graph(tmp_path / "n.onnx", nodes, {"unused": np.zeros(1)}, (3,), 3), Preprocessing())
    assert [node.supported for node in found.nodes] == [False, True]
    assert found.nodes[0].read_as == "not supported in this form"
