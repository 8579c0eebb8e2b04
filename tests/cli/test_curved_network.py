"""Every command on a network with Tanh between its layers: works, or says in one line why not."""

import json

import pytest
from mlverify.cli.main import ExitCode
from onnx_factory import conv_network

QUICK = ("--threads", "1", "--solver", "highs")


@pytest.fixture
def model(files):
    metadata = {"labels": '["a","b","c","d","e"]', "k": "2"}
    return conv_network(files / "net.onnx", (1, 10, 10), 5, middle="Tanh", metadata=metadata)


def test_info_counts_them(run, model):
    shown = run("info", model)
    assert shown.exit_code == 0
    assert "sigmoid and tanh neurons  75" in shown.stdout
    assert json.loads(run("info", model, "--format", "json").stdout)["curved_neurons"] == 75


def test_info_is_silent_about_what_is_not_there(run, shared_files):
    assert "sigmoid" not in run("info", shared_files / "net.onnx").stdout


@pytest.mark.parametrize(("eps", "code"), [("0.001", ExitCode.HOLDS), ("0.5", ExitCode.VIOLATED)])
def test_verify_and_check(run, model, files, eps, code):
    asked = run("verify", model, files / "image.png", "--eps", eps, "-o", files / "r.json", *QUICK)
    assert asked.exit_code == code, asked.stderr
    checked = run("check", files / "r.json", *QUICK)
    assert checked.exit_code == ExitCode.HOLDS
    assert checked.stdout.startswith("confirmed")


@pytest.mark.parametrize("about", [(), ("--all-labels",)])
def test_a_certificate_is_refused_in_one_line(run, model, files, about):
    asked = run(
        "verify",
        model,
        files / "image.png",
        "--eps",
        "0.001",
        "--certificate",
        files / "c.npz",
        *QUICK,
        *about,
    )
    assert asked.exit_code == ExitCode.BAD_INPUT
    assert "operator Tanh of node 'active'" in asked.stderr
    assert len(asked.stderr.strip().splitlines()) == 1
    assert not (files / "c.npz").exists()


def test_all_labels(run, model, files):
    asked = run("verify", model, files / "image.png", "--eps", "0.001", "--all-labels", *QUICK)
    assert asked.exit_code == ExitCode.HOLDS


def test_synth_and_check(run, model, files):
    made = run(
        "synth", model, files / "image.png", "--mask", files / "mask.png", "-o", files / "s.json",
        "--timeout", "1.5", *QUICK,
    )  # fmt: skip
    assert made.exit_code == ExitCode.HOLDS, made.stderr
    assert json.loads((files / "s.json").read_text())["size"] > 0
    checked = run("check", files / "s.json", *QUICK)
    assert checked.exit_code == ExitCode.HOLDS
    assert checked.stdout.startswith("confirmed")


def test_predict_and_attack(run, model, files):
    assert run("predict", model, files / "image.png").exit_code == 0
    attacked = run(
        "attack", model, files / "image.png", "--hide-all", "--eps", "0.5", "-o", files / "adv.json"
    )
    assert attacked.exit_code in (ExitCode.HOLDS, ExitCode.VIOLATED), attacked.stderr
