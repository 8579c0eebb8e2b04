"""A synthesis result's certificate answers the question that it was made for, and no other."""

import json

import numpy as np
import pytest
from mlverify.cli.main import ExitCode
from onnx_factory import linear_network
from PIL import Image


@pytest.fixture
def synthesis(run, tmp_path):
    """Five labels, of which 0, 1 and 2 are shown; label 0 holds whatever one pixel does, the others do not."""
    weight = np.zeros((5, 16), dtype=np.float32)
    weight[1, 5] = weight[2, 5] = -8
    weight[3, 6] = weight[4, 6] = 8
    bias = np.array([100, 6, 6, -4, -4], dtype=np.float32)
    linear_network(tmp_path / "n.onnx", weight, (1, 4, 4), bias=bias)
    np.save(tmp_path / "x.npy", np.full((1, 4, 4), 0.5, np.float32))
    mask = np.zeros((4, 4), np.uint8)
    mask[0, 0] = 255
    Image.fromarray(mask).save(tmp_path / "m.png")
    files = (tmp_path / "n.onnx", tmp_path / "x.npy")
    made = run(
        "synth", *files, "--target", "0", "--k", "3", "--mask", tmp_path / "m.png", "-o", tmp_path / "s.json"
    )
    assert made.exit_code == ExitCode.HOLDS, made.stderr
    assert json.loads((tmp_path / "s.json").read_text())["certificate"] is not None
    return (*files, "--epsilons", tmp_path / "s.json", "--k", "3")


@pytest.mark.parametrize("more", [[], ["--certificate", "v.npz"]])
def test_another_question_is_not_answered_by_it(run, synthesis, tmp_path, more):
    options = [tmp_path / item if item == "v.npz" else item for item in more]
    asked = run("verify", *synthesis, "--max-flips", "2", *options)
    assert asked.exit_code == ExitCode.VIOLATED, asked.stdout + asked.stderr


def test_its_own_question_is(run, synthesis):
    asked = run("verify", *synthesis, "--target", "0")
    assert asked.exit_code == ExitCode.HOLDS
    assert "bounds/certificate" in asked.stdout
