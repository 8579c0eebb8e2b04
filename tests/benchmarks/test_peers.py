"""The commands beside other verifiers, on tiny networks in the layout of the real data."""

import sys

import numpy as np
import pytest
from mlverify.benchmarks import bounds, mulloc, peers
from mlverify.errors import InputError
from mlverify.verifier.lirpa import lirpa_status
from onnx_factory import conv_network, linear_network
from PIL import Image

COLUMNS = "name,onnx,image,mask,eps,target,k,expected,abcrown_s,milp_highs_hint"


@pytest.fixture
def folder(tmp_path):
    """A network whose scores are two of four pixels: 0.8 and 0.4."""
    linear_network(tmp_path / "net.onnx", np.eye(4)[:2], (1, 2, 2))
    pixels = np.array([[204, 102], [0, 0]], np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    Image.fromarray(np.array([[255, 0], [0, 0]], np.uint8)).save(tmp_path / "mask.png")
    rows = [
        COLUMNS,
        "small,net.onnx,image.png,,0.1,0,1,holds,8.0,1.0",
        "masked,net.onnx,image.png,mask.png,0.3,0,1,open,,",
        "large,net.onnx,image.png,,0.3,0,1,violated,,2.0",
        "gone,gone.onnx,image.png,,0.3,0,1,holds,,2.0",
    ]
    (tmp_path / "instances.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def run(capsys, folder, *arguments):
    with pytest.raises(SystemExit) as ended:
        peers.main([str(folder), str(folder), "--threads", "1", *map(str, arguments)])
    return ended.value.code, capsys.readouterr().out


def test_peers_table(folder, capsys):
    code, shown = run(capsys, folder, "--csv", folder / "out.csv")
    assert code == 0
    lines = shown.splitlines()
    assert [line.split()[2] for line in lines[1:5]] == ["holds", "holds", "violated", "error"]
    assert "solved 3, wrong 0, errors 1  of those that others solve 2 of 3, of the open ones 1 of 1" in shown
    assert "median ratio 0.0" in shown
    assert "missed: gone: error (ModelFormatError" in shown
    again = run(capsys, folder, "--csv", folder / "out.csv")[1].splitlines()
    assert [line.split()[:3] for line in again] == [line.split()[:3] for line in lines]
    assert "made with --timeout" in str(run(capsys, folder, "--csv", folder / "out.csv", "--timeout", 3)[0])


def test_a_contradiction_is_loud(folder, capsys):
    table = folder / "instances.csv"
    table.write_text(table.read_text().replace("0,1,holds,8.0", "0,1,violated,8.0"))
    code, shown = run(capsys, folder, "--only", "small")
    assert code == 1
    assert "WRONG: small: holds by bounds/crown" in shown
    assert "median ratio" not in shown


def test_whole_processes(folder, capsys, monkeypatch):
    code, shown = run(capsys, folder, "--only", "masked", "--process")
    assert code == 0
    assert shown.splitlines()[1].split()[2] == "holds"
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert "error" in run(capsys, folder, "--only", "masked", "--process")[1]


def test_nothing_to_ask(folder, capsys):
    assert "no instance has 'x'" in str(run(capsys, folder, "--only", "x")[0])
    (folder / "instances.csv").write_text("name\na\n")
    assert "no usable rows" in str(run(capsys, folder)[0])


@pytest.fixture
def family(folder, monkeypatch):
    """One family: the same network, two images."""
    images = np.array([[[[204, 102], [0, 0]]], [[[10, 200], [0, 0]]]], np.uint8)
    labels = np.array([[1, 0], [0, 1]], np.uint8)
    np.savez(folder / "s.npz", names=np.array(["a", "b"]), images=images, labels=labels)
    found = mulloc.Family(("net",), "s.npz", (0.1, 0.3), (1, mulloc.TRUE_LABELS))
    monkeypatch.setattr(mulloc, "FAMILIES", (found,))
    monkeypatch.setattr(bounds, "FAMILIES", (found,))
    return folder


def test_mulloc(family, capsys):
    mulloc.main([str(family), "--threads", "1", "--csv", str(family / "rows.csv")])
    lines = capsys.readouterr().out.splitlines()
    # k = 1 is also the number of true labels: asked once
    assert [line.split()[1:8] for line in lines[1:5]] == [
        ["a", "0.1", "1", "1", "1", "0", "0"],
        ["a", "0.3", "1", "0", "0", "2", "0"],
        ["b", "0.1", "1", "1", "1", "0", "0"],
        ["b", "0.3", "1", "1", "1", "0", "0"],
    ]
    assert lines[-2].startswith("all                   4 of 4 questions decided, 8 of 8 labels")
    assert len((family / "rows.csv").read_text().splitlines()) == 5
    mulloc.main([str(family), "--images", "1", "--eps", "0.01", "--k", "1"])
    assert "1 of 1 questions" in capsys.readouterr().out
    mulloc.main([str(family), "--only", "x"])
    assert "no questions" in capsys.readouterr().out


def test_samples_that_are_missing(family):
    with pytest.raises(InputError, match="no usable file of samples"):
        mulloc.read_samples(family / "gone.npz")


def test_bounds(family, capsys, monkeypatch):
    monkeypatch.setattr(bounds, "_apart", lambda function, task: function(task))
    monkeypatch.setattr(bounds, "OUR_STEPS", ((0, 1), (1, 2)))
    monkeypatch.setattr(bounds, "THEIR_STEPS", 2)
    if not lirpa_status().usable:
        with pytest.raises(SystemExit, match="auto_LiRPA is not"):
            bounds.main([str(family)])
        return
    conv_network(family / "net.onnx", (1, 2, 2), 3)
    bounds.main([str(family), "--eps", "0.1", "--batch", "2"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("net ")
    assert lines[1].count(" of 2") == 2
