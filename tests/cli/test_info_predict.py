import json

import numpy as np
import pytest
from click.testing import CliRunner
from mlverify.cli.main import cli
from onnx_factory import conv_network, dense_network, linear_network
from PIL import Image


def run(*arguments):
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.fixture
def model(tmp_path):
    return conv_network(tmp_path / "net.onnx", pool=True, metadata={"labels": '["a","b","c","d"]', "k": "2"})


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)).save(path)
    return path


def test_info_lists_nodes_and_facts(model):
    shown = run("info", model)
    assert shown.exit_code == 0
    for part in ("conv", "MaxPool", "1 x 8 x 8", "a, b, c, d", "17", "3 x 2 x 2"):
        assert part in shown.stdout
    assert not shown.stderr


def test_info_as_json(model):
    document = json.loads(run("info", model, "--format", "json", "--mean", "0.5").stdout)
    assert document["supported"] is True
    assert document["input_shape"] == [1, 8, 8]
    assert document["max_pool_outputs"] == 12
    assert document["k"] == 2
    assert document["preprocessing"]["mean"] == [0.5]


@pytest.mark.parametrize("form", ["text", "json"])
def test_info_shows_the_whole_table_before_it_refuses(tmp_path, form):
    shown = run("info", conv_network(tmp_path / "net.onnx", middle="Sin"), "--format", form)
    assert shown.exit_code == 2
    assert "dense" in shown.stdout
    assert "not supported" in shown.stdout
    assert "operator Sin of node 'active'" in shown.stderr
    if form == "json":
        assert json.loads(shown.stdout)["supported"] is False


def test_predict_sorts_and_marks(model, image):
    shown = run("predict", model, image)
    assert shown.exit_code == 0
    rows = [line.split() for line in shown.stdout.splitlines()[1:5]]
    values = [float(row[1]) for row in rows]
    assert values == sorted(values, reverse=True)
    assert [len(row) for row in rows] == [3, 3, 2, 2]
    assert shown.stdout.splitlines()[-1] == f"{rows[0][0]}, {rows[1][0]}  (top 2)"


def test_predict_as_json_with_another_k(model, image):
    document = json.loads(run("predict", model, image, "--k", "1", "--format", "json").stdout)
    assert document["predicted"] == [document["scores"][0]["label"]]


def test_predict_by_threshold_may_see_nothing(tmp_path, image):
    weights = np.zeros((3, 64))
    path = linear_network(
        tmp_path / "n.onnx", weights, (1, 8, 8), bias=np.array([2.0, -2.0, 3.0]), tail="Sigmoid"
    )
    document = json.loads(run("predict", path, image, "--decision", "threshold", "--format", "json").stdout)
    assert document["predicted"] == ["2", "0"]
    shown = run("predict", path, image, "--decision", "threshold", "--threshold", "0.99")
    assert shown.stdout.splitlines()[-1].startswith("no label")


def test_preprocessing_reaches_the_scores(tmp_path, image):
    path = linear_network(tmp_path / "n.onnx", np.ones((2, 64)) * [[1], [2]], (1, 8, 8))
    pixels = np.asarray(Image.open(image), dtype=np.float64) / 255
    arguments = ("predict", path, image, "--k", "1", "--mean", "0.5", "--std", "0.25", "--format", "json")
    scores = {row["number"]: row["score"] for row in json.loads(run(*arguments).stdout)["scores"]}
    assert scores[1] == pytest.approx(2 * ((pixels - 0.5) / 0.25).sum(), rel=1e-4)


def test_label_names_from_a_file(tmp_path, model, image):
    names = tmp_path / "names.txt"
    names.write_text("north\neast\nsouth\nwest\n")
    assert "north" in run("predict", model, image, "--labels", names).stdout
    assert "north" in run("info", model, "--labels", names).stdout
    names.write_text("north\n")
    refused = run("predict", model, image, "--labels", names)
    assert refused.exit_code == 2
    assert "1 labels" in refused.stderr


def test_vector_networks_read_npy(tmp_path):
    np.save(tmp_path / "x.npy", np.array([1.0, -2.0, 0.5, 3.0]))
    shown = run("predict", dense_network(tmp_path / "n.onnx"), tmp_path / "x.npy", "--k", "1")
    assert shown.exit_code == 0


def test_bad_input_is_one_line_and_exit_code_2(tmp_path, model, image):
    big = tmp_path / "big.png"
    Image.new("L", (9, 8)).save(big)
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(model.read_bytes()[:60])
    text = tmp_path / "text.onnx"
    text.write_text("not a network")
    cases = [
        (("predict", tmp_path / "none.onnx", image), "does not exist"),
        (("predict", damaged, image), "truncated|no nodes"),
        (("info", text), "not"),
        (("predict", model, tmp_path / "none.png"), "does not exist"),
        (("predict", model, big), "--resize"),
        (("predict", model, image, "--k", "4"), "k must be between 1 and 3"),
        (("predict", model, image, "--mean", "0.1,0.2"), "channels"),
    ]
    for arguments, words in cases:
        shown = run(*arguments)
        assert shown.exit_code == 2, arguments
        assert any(word in shown.stderr for word in words.split("|")), shown.stderr
        assert len(shown.stderr.strip().splitlines()) == 1
        assert not shown.stdout
    assert run("predict", model, big, "--resize").exit_code == 0


def test_labels_are_told_apart_where_the_sigmoid_saturates(tmp_path, image):
    bias = np.array([40.0, 60.0, 50.0])
    path = linear_network(tmp_path / "n.onnx", np.zeros((3, 64)), (1, 8, 8), bias=bias, tail="Sigmoid")
    document = json.loads(run("predict", path, image, "--format", "json").stdout)
    assert document["predicted"] == ["1", "2"]
    assert [row["number"] for row in document["scores"]] == [1, 2, 0]
