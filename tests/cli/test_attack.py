import csv
import json
import os
import signal

import numpy as np
import pytest
from click.testing import CliRunner
from mlverify.attacks.base import Attack
from mlverify.cli import attack_run
from mlverify.cli.attack_methods import build
from mlverify.cli.attack_names import MethodName
from mlverify.cli.main import cli
from mlverify.verifier.onnx_reader import load_network
from mlverify.verifier.session import Judge
from onnx_factory import conv_network
from PIL import Image

NAMES = '["a","b","c","d"]'


def run(*arguments):
    return CliRunner().invoke(cli, ["attack", *(str(argument) for argument in arguments)])


@pytest.fixture
def model(tmp_path):
    return conv_network(tmp_path / "net.onnx", pool=True, metadata={"labels": NAMES, "k": "2"})


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)).save(path)
    return path


def predicted(model, pixels):
    scores = Judge(load_network(model)).scores(pixels[None])[0]
    return {"abcd"[label] for label in np.argsort(-scores)[:2]}


def test_the_written_image_does_what_the_result_says(model, image, tmp_path):
    out = tmp_path / "out.json"
    clean = np.asarray(Image.open(image), dtype=np.float32)[None] / np.float32(255)
    label = sorted(predicted(model, clean))[0]
    shown = run(model, image, "--flip", label, "--method", "mla-lp", "-o", out)
    assert shown.exit_code == 1, shown.stderr
    assert "flipped" in shown.stdout.splitlines()[-1]
    document = json.loads(out.read_text())
    assert document["schema"] == "mlverify/attack/1"
    assert document["flips"] == [{"label": label, "to": "hide"}]
    adversarial = np.load(tmp_path / document["adversarial"])
    assert set(document["labels_after"]) == predicted(model, adversarial)
    assert label not in document["labels_after"]
    assert document["linf"] == pytest.approx(np.abs(adversarial - clean).max())
    with Image.open(tmp_path / "out.adversarial.png") as picture:
        rounded = np.asarray(picture, dtype=np.float32)[None] / np.float32(255)
    assert document["success_as_png"] == (label not in predicted(model, rounded))
    assert (tmp_path / "out.png").exists()


def test_a_hopeless_epsilon_is_no_success(model, image):
    shown = run(model, image, "--hide-all", "--eps", "0", "--format", "json")
    assert shown.exit_code == 3
    document = json.loads(shown.stdout)
    assert document["success"] is False
    assert document["labels_before"] == document["labels_after"]


@pytest.mark.parametrize("method", list(MethodName))
def test_every_method_has_an_object(method):
    assert build(method, None) is not None


@pytest.mark.parametrize("source", ["folder", "npz"])
def test_a_report_over_many_images(model, image, tmp_path, source):
    if source == "folder":
        images = tmp_path / "images"
        images.mkdir()
        for index in range(3):
            pixels = np.random.default_rng(index).integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(images / f"{index}.png")
    else:
        images = tmp_path / "images.npz"
        np.savez(images, images=np.random.default_rng(0).integers(0, 256, (3, 1, 8, 8), dtype=np.uint8))
    report = tmp_path / "report.csv"
    shown = run(model, images, "--flip", "a", "--eps", "0.5", "--eps", "0", "--report", report)
    assert shown.exit_code == 0, shown.stderr
    with report.open() as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["epsilon"]) for row in rows] == [0, 0.5]
    assert float(rows[0]["success"]) == 0
    assert float(rows[1]["success"]) > 0
    assert report.with_suffix(".png").exists()


def test_a_graph_names_the_labels_that_give_the_attack_away(model, image, tmp_path):
    graph = tmp_path / "graph.json"
    graph.write_text(json.dumps({"names": list("abcd"), "edges": [["a", "b"], ["a", "c"]]}))
    shown = run(
        model, image, "--flip", "b", "--method", "gmla", "--graph", graph, "--eps", "0.3", "--format", "json"
    )
    assert shown.exit_code in (1, 3), shown.stderr
    document = json.loads(shown.stdout)
    after = set(document["labels_after"])
    lonely = {label for label in "bc" if label in after and "a" not in after}
    childless = {"a"} if "a" in after and not after & {"b", "c"} else set()
    assert set(document["inconsistent_labels"]) == lonely | childless


def test_an_l2_budget(model, image):
    shown = run(model, image, "--hide-all", "--method", "tkml-ap", "--l2", "1.5", "--format", "json")
    assert shown.exit_code in (1, 3), shown.stderr
    document = json.loads(shown.stdout)
    assert document["norm"] == "l2"
    assert document["l2"] <= 1.5 + 1e-5


def test_the_black_box_takes_a_network_the_reader_does_not(image, tmp_path):
    model = conv_network(tmp_path / "net.onnx", middle="Sin")
    shown = run(model, image, "--hide-all", "--method", "mla-de", "--eps", "0.5", "--format", "json")
    assert shown.exit_code in (1, 3), shown.stderr
    assert json.loads(shown.stdout)["gradients"] == 0
    refused = run(model, image, "--hide-all", "--eps", "0.5")
    assert refused.exit_code == 2
    assert "Sin" in refused.stderr


def test_the_black_box_goes_by_what_the_file_declares(image, tmp_path):
    declared = {"labels": NAMES, "k": "1", "mlverify.mean": "[0.5]", "mlverify.std": "[0.25]"}
    model = conv_network(tmp_path / "net.onnx", middle="Sin", metadata=declared)
    plain = conv_network(tmp_path / "plain.onnx", middle="Sin")
    arguments = ("--hide-all", "--method", "mla-de", "--eps", "0.5", "--format", "json")
    document = json.loads(run(model, image, *arguments).stdout)
    assert len(document["labels_before"]) == 1
    assert set(document["labels_before"]) <= set("abcd")
    names = tmp_path / "names.txt"
    names.write_text("a\nb\nc\nd\n")
    options = ("--mean", "0.5", "--std", "0.25", "--k", "1", "--labels", names)
    by_options = json.loads(run(plain, image, *arguments, *options).stdout)
    assert by_options["labels_before"] == document["labels_before"]
    assert by_options["labels_after"] == document["labels_after"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--flip", "z", "--eps", "0.1"], "no label 'z'"),
        (["--flip", "a"], "give --eps"),
        (["--flip", "a", "--eps", "0.1", "--l2", "1"], "give one"),
        (["--flip", "a", "--l2", "1"], "L2 budget"),
        ([], "one of --flip"),
        (["--flip", "a", "--hide-all"], "one of --flip"),
        (["--flip", "a", "--eps", "1.5"], "above 1"),
        (["--flip", "a", "--eps", "0.1", "--eps", "0.2"], "one --eps"),
        (["--flip", "a", "--eps", "0.1", "--graph", "voc", "--method", "gmla"], "35 nodes"),
        (["--flip", "a", "--eps", "0.1", "--report", "missing/report.csv"], "does not exist"),
        (["--flip", "a", "--method", "nonsense"], "not one of"),
    ],
)
def test_bad_input(model, image, arguments, message):
    shown = run(model, image, *arguments)
    assert shown.exit_code == 2
    assert message in shown.stderr


def test_any_method_can_be_made_consistent(model, image, tmp_path):
    graph = tmp_path / "graph.json"
    graph.write_text(json.dumps({"names": list("abcd"), "edges": [["a", "b"]], "labels": 4}))
    arguments = ["--flip", "c", "--consistent", "--eps", "0.3", "--decision", "threshold"]
    shown = run(model, image, *arguments, "--graph", graph)
    assert shown.exit_code in (1, 3), shown.stderr
    assert "--graph" in run(model, image, *arguments).stderr


class Interrupted(Attack):
    """Another attack, at whose start the user presses Ctrl-C; ``after`` so many searches."""

    def __init__(self, inner, after=0):
        self.inner, self.after, self.searches = inner, after, 0

    def search(self, task):
        if self.searches >= self.after:
            os.kill(os.getpid(), signal.SIGINT)
        self.searches += 1
        return self.inner.search(task)


def test_ctrl_c_writes_what_there_is(model, image, tmp_path, monkeypatch):
    made = Interrupted(build(MethodName.APGD, None))
    monkeypatch.setattr(attack_run, "build", lambda *_, **__: made)
    out = tmp_path / "out.json"
    shown = run(model, image, "--flip", "a", "--eps", "0.1", "-o", out)
    assert shown.exit_code == 130
    document = json.loads(out.read_text())
    assert document["steps"] == 0
    assert np.load(tmp_path / document["adversarial"]).shape == (1, 8, 8)


def test_ctrl_c_keeps_the_epsilons_that_are_done(model, image, tmp_path, monkeypatch):
    made = Interrupted(build(MethodName.APGD, None), after=2)
    monkeypatch.setattr(attack_run, "build", lambda *_, **__: made)
    report = tmp_path / "report.csv"
    budgets = ("--eps", "0.01", "--eps", "0.02", "--eps", "0.03")
    np.savez(tmp_path / "images.npz", images=np.zeros((2, 1, 8, 8), np.uint8))
    command = (model, tmp_path / "images.npz", "--flip", "a", *budgets, "--report", report)
    shown = run(*command)
    assert shown.exit_code == 130
    assert [row["epsilon"] for row in csv.DictReader(report.open())] == ["0.01", "0.02"]
    assert shown.stderr.count("images flipped") == 2
    made.after, before = 0, report.read_text()
    assert run(*command).exit_code == 130
    assert report.read_text() == before


def test_results_never_replace_what_was_given(model, tmp_path):
    np.save(tmp_path / "image.npy", np.zeros((1, 8, 8), np.float32))
    before = (tmp_path / "image.npy").read_bytes()
    shown = run(model, tmp_path / "image.npy", "--flip", "a", "--eps", "0.1", "-o", tmp_path / "image.json")
    assert shown.exit_code == 2
    assert "overwrite an input" in shown.stderr
    assert (tmp_path / "image.npy").read_bytes() == before


def test_many_images_need_a_report_and_a_report_many_images(model, image, tmp_path):
    shown = run(model, tmp_path, "--flip", "a", "--eps", "0.1")
    assert (shown.exit_code, "give --report" in shown.stderr) == (2, True)
    shown = run(model, image, "--flip", "a", "--eps", "0.1", "--report", tmp_path / "report.csv")
    assert shown.exit_code == 2
    assert shown.stderr.rstrip().endswith("give a folder of pictures, or an .npz with 'images'")
