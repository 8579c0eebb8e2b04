import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from mlverify.cli.main import ExitCode
from mlverify.verifier.onnx_reader import load_network
from mlverify.verifier.session import Judge
from onnx_factory import conv_network
from PIL import Image

QUICK = ("--threads", "1", "--solver", "highs")


@pytest.fixture(scope="module")
def shared_set(tmp_path_factory):
    """net.onnx (labels a to e, k = 2), set.npz of three images with the objects of the labels it sees."""
    folder = tmp_path_factory.mktemp("set")
    metadata = {"labels": '["a","b","c","d","e"]', "k": "2"}
    model = conv_network(folder / "net.onnx", (1, 10, 10), 5, pool=True, metadata=metadata)
    images = np.random.default_rng(1).integers(0, 256, (3, 1, 10, 10), dtype=np.uint8)
    scores = Judge(load_network(model)).logits(images.astype(np.float32) / np.float32(255))
    objects, labels = np.zeros((3, 10, 10), np.uint8), np.zeros((3, 5), np.uint8)
    for row, ranking in enumerate(np.argsort(-scores, axis=1)):
        objects[row, 1:3, 1:4], objects[row, 6:8, 5:9] = ranking[0] + 1, ranking[1] + 1
        labels[row, ranking[:2]] = 1
    labels[2] = [1, 1, 1, 1, 1]  # not what the network sees
    np.savez(folder / "set.npz", images=images, objects=objects, names=["x", "y", "z"])
    np.savez(folder / "known.npz", images=images, objects=objects, names=["x", "y", "z"], labels=labels)
    return folder


@pytest.fixture
def explain(run, shared_set, tmp_path, monkeypatch):
    """``mlverify explain`` in a folder of its own; r.json is the result."""
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments, images="set.npz", timeout="0.3"):
        return run(
            "explain", shared_set / "net.onnx", shared_set / images, "-o", "r.json", "--timeout", timeout,
            *QUICK, *arguments,
        )  # fmt: skip

    return invoke


def document(folder):
    return json.loads((folder / "r.json").read_text())


def test_results_with_names_of_their_own_are_checked(explain, run, tmp_path):
    (tmp_path / "names.txt").write_text("\n".join("vwxyz"))
    shown = explain("--keep", "kept", "--first", "1", "--labels", "names.txt")
    assert shown.exit_code == ExitCode.HOLDS, shown.stderr
    assert document(tmp_path)["labels"] == list("vwxyz")
    checked = run("check", "r.json", *QUICK)
    assert checked.exit_code == ExitCode.HOLDS, checked.stderr
    fields = document(tmp_path)
    for labels, code in [(list("abcde"), ExitCode.INTERNAL), (["a"], ExitCode.BAD_INPUT)]:
        (tmp_path / "r.json").write_text(json.dumps({**fields, "labels": labels}))
        assert run("check", "r.json", *QUICK).exit_code == code


def test_every_pair_of_every_image(explain, run, tmp_path):
    shown = explain("--keep", "kept")
    assert shown.exit_code == ExitCode.HOLDS, shown.stderr
    result = document(tmp_path)
    assert result["schema"] == "mlverify/explain/1"
    assert result["open"] == 0
    assert len(result["rows"]) == 6
    assert sum(relation["images"] for relation in result["relations"]) == 6
    for row in result["rows"]:
        assert row["reach"] == pytest.approx(np.mean(row["epsilons"]))
    lines = shown.stdout.splitlines()
    assert lines[-1].startswith("6 pairs in ")
    assert shown.stderr.count(" perturbed, ") == 6
    with Image.open(tmp_path / "r.png") as picture:
        picture.load()
    assert len(list((tmp_path / "kept").glob("*.json"))) == 6
    checked = run("check", "r.json", *QUICK)
    assert checked.exit_code == ExitCode.HOLDS, checked.stderr
    assert "every pair" in checked.stdout
    assert run("show", "r.json", "-o", "again.png").exit_code == 0
    tamper(tmp_path, lambda row: row.update(size=row["size"] * 2))
    assert run("check", "r.json", *QUICK).exit_code == ExitCode.INTERNAL
    tamper(tmp_path, lambda row: row.update(size=row["size"] / 2, reach=row["reach"] * 2))
    assert run("check", "r.json", *QUICK).exit_code == ExitCode.INTERNAL


def tamper(folder, change):
    result = document(folder)
    change(result["rows"][0])
    (folder / "r.json").write_text(json.dumps(result))


def test_a_run_continues_and_another_run_is_refused(explain, run, tmp_path):
    assert explain("--first", "1").exit_code == 0
    first = document(tmp_path)["rows"]
    assert len(first) == 2
    again = explain("--first", "2", "--format", "json")
    assert "2 of 4 pairs are done already" in again.stderr
    assert json.loads(again.stdout) == document(tmp_path)
    assert document(tmp_path)["rows"][:2] == first
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    refused = explain("--around", "1")
    assert refused.exit_code == ExitCode.BAD_INPUT
    assert "belongs to another run: around was null and is 1" in refused.stderr
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    checked = run("check", "r.json", *QUICK)
    assert checked.exit_code == ExitCode.UNKNOWN
    assert "--keep" in checked.stdout


def test_labels_and_layers_are_selected(explain, shared_set, tmp_path):
    with np.load(shared_set / "set.npz") as arrays:
        item, target = (int(value) - 1 for value in np.unique(arrays["objects"][0])[1:])
    shown = explain("--object", str(item), "--target", "abcde"[target], "--around", "0", "--first", "1")
    assert shown.exit_code == 0, shown.stderr
    (row,) = document(tmp_path)["rows"]
    assert (row["object"], row["target"]) == (item, target)
    assert row["epsilons"][0] == row["reach"] > 0
    assert not any(row["epsilons"][1:])
    assert explain("--object", "nobody").exit_code == ExitCode.BAD_INPUT


def test_images_that_are_not_seen_as_labelled_are_left_out(explain, tmp_path):
    shown = explain(images="known.npz", timeout="0.2")
    assert shown.exit_code == 0, shown.stderr
    assert "left out, the network does not see the labels that the file gives: z (1 in all)" in shown.stderr
    assert document(tmp_path)["skipped"] == {"z": "the network does not see the labels that the file gives"}
    assert {row["image"] for row in document(tmp_path)["rows"]} == {"x", "y"}


def test_nothing_to_ask(explain, tmp_path):
    refused = explain("--k", "1")
    assert refused.exit_code == ExitCode.BAD_INPUT
    assert "no image shows two labels" in refused.stderr
    assert not list(tmp_path.iterdir())


def test_an_object_that_is_not_found_is_a_row_of_its_own(explain, run, shared_set, tmp_path):
    with np.load(shared_set / "set.npz") as arrays:
        np.savez(tmp_path / "bare.npz", names=arrays["names"], objects=np.zeros_like(arrays["objects"]))
    shown = explain("--masks", "bare.npz", "--first", "1")
    assert shown.exit_code == ExitCode.UNKNOWN
    assert all("no pixel" in row["failed"] for row in document(tmp_path)["rows"])
    assert "2 failed" in shown.stdout
    assert not (tmp_path / "r.png").exists()


def test_ctrl_c_writes_what_is_done(shared_set, run, tmp_path):
    command = [
        sys.executable, "-m", "mlverify", "explain", str(shared_set / "net.onnx"), str(shared_set / "set.npz"),
        "-o", "r.json", "--timeout", "1", *QUICK,
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    rows, deadline = tmp_path / "r.rows.jsonl", time.monotonic() + 120
    while not rows.exists() or rows.read_text().count("\n") < 2:
        assert time.monotonic() < deadline
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    stdout, _ = process.communicate(timeout=60)
    assert process.returncode == ExitCode.INTERRUPTED
    result = document(tmp_path)
    assert 1 <= len(result["rows"]) == 6 - result["open"] < 6
    assert all(row["stopped"] != "interrupted" for row in result["rows"])
    assert b"open: the same command continues" in stdout
