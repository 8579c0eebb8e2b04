"""``verify --certificate`` and ``check`` of what it wrote."""

import hashlib
import json

import numpy as np
import pytest
from mlverify.cli.main import ExitCode
from mlverify.verifier import max_engine, proof_files
from mlverify.verifier.onnx_reader import load_network
from mlverify.verifier.parts_search import PartsSearch
from onnx_factory import dense_network
from PIL import Image
from soundness.grid_networks import OVERLAP, grid_network

QUICK = ("--threads", "1", "--solver", "highs")


@pytest.fixture
def verify(run, files):
    def invoke(eps, *more):
        arguments = ("verify", files / "net.onnx", files / "image.png", "--eps", eps, *QUICK)
        return run(*arguments, "--certificate", files / "c.npz", "-o", files / "r.json", *more)

    return invoke


@pytest.fixture
def check(run, files):
    def invoke(*more):
        return run("check", files / "r.json", *QUICK, *more)

    return invoke


def is_proved(shown):
    return shown.exit_code == ExitCode.HOLDS and "proved by the independent checker" in shown.stdout


def test_what_crown_proves(verify, check, files):
    shown = verify("0.02")
    assert shown.exit_code == ExitCode.HOLDS, shown.stderr
    assert "c.npz: " in shown.stdout
    document = json.loads((files / "r.json").read_text())
    assert set(document["certificate"]) == {"path", "sha256", "leaves"}
    assert is_proved(check())


def test_the_file_beside_a_result_that_moved(verify, check, files, run, tmp_path):
    verify("0.02")
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    for name in ("r.json", "r.npz", "c.npz", "net.onnx"):
        (files / name).rename(folder / name)
    assert is_proved(run("check", folder / "r.json", *QUICK))


def test_other_certificates_are_not_believed(verify, check, files):
    verify("0.02")
    path, whole = files / "c.npz", (files / "c.npz").read_bytes()
    path.write_bytes(whole[:100])
    assert check().exit_code == ExitCode.BAD_INPUT
    path.unlink()
    missing = check()
    assert missing.exit_code == ExitCode.BAD_INPUT
    assert "c.npz" in missing.stderr
    # the certificate of a smaller neighbourhood, with its own sha256
    document = json.loads((files / "r.json").read_text())
    path.write_bytes(whole)
    verify("0.021")
    small = {**json.loads((files / "r.json").read_text()), "certificate": document["certificate"]}
    path.write_bytes(whole)
    (files / "r.json").write_text(json.dumps(small))
    shown = check()
    assert shown.exit_code == ExitCode.BAD_INPUT
    assert "speaks of another network, region or property" in shown.stderr


def test_a_certificate_that_proves_nothing_is_not_the_end(verify, check, files, monkeypatch):
    verify("0.02")
    with np.load(files / "c.npz") as archive:
        arrays = dict(archive)
    for name in ("clauses", "atoms"):
        arrays[f"case0/{name}"] = arrays[f"case0/{name}"][:0]
    for name in [name for name in arrays if name.startswith("case0/leaves")]:
        del arrays[name]
    arrays["case0/tables"] = np.zeros(3, dtype=np.int64)
    np.savez(files / "c.npz", **arrays)
    document = json.loads((files / "r.json").read_text())
    document["certificate"]["sha256"] = hashlib.sha256((files / "c.npz").read_bytes()).hexdigest()
    (files / "r.json").write_text(json.dumps(document))
    shown = check()
    assert shown.exit_code == ExitCode.HOLDS
    assert "the engines are asked instead" in shown.stderr
    assert "bounds/crown" in shown.stdout


def test_what_is_violated_has_no_certificate(verify, check, files):
    shown = verify("0.3")
    assert shown.exit_code == ExitCode.VIOLATED
    assert "c.npz is not written: only a verdict that holds" in shown.stderr
    assert not (files / "c.npz").exists()
    assert json.loads((files / "r.json").read_text())["certificate"] is None
    assert "witness replayed" in check().stdout


def test_outputs_that_collide(verify, run, files):
    shown = verify("0.02", "-o", files / "c.json", "--result-file", files / "c.npz")
    assert shown.exit_code == ExitCode.BAD_INPUT
    shown = run(
        "verify",
        files / "net.onnx",
        files / "image.png",
        "--eps",
        "0.02",
        "--certificate",
        files / "net.onnx",
    )
    assert shown.exit_code == ExitCode.BAD_INPUT
    assert load_network(files / "net.onnx")


def test_cases_of_a_vnnlib_file(run, tmp_path):
    dense_network(tmp_path / "n.onnx", (2, 5, 2), seed=3)
    spec = tmp_path / "p.vnnlib"
    variables = [f"(declare-const X_{i} Real)" for i in range(2)] + [
        f"(declare-const Y_{i} Real)" for i in range(2)
    ]
    boxes = [
        f"(and (<= X_0 {high}) (>= X_0 {low}) (<= X_1 0.2) (>= X_1 0.1) (>= Y_0 1000))"
        for low, high in ((0.0, 0.1), (0.5, 0.6))
    ]
    spec.write_text("\n".join([*variables, f"(assert (or {' '.join(boxes)}))"]))
    outputs = ("--certificate", tmp_path / "c.npz", "-o", tmp_path / "r.json")
    shown = run("verify", tmp_path / "n.onnx", "--vnnlib", spec, *outputs, *QUICK)
    assert shown.exit_code == ExitCode.HOLDS, shown.stderr
    with np.load(tmp_path / "c.npz") as arrays:
        assert int(arrays["cases"]) == 2
    assert is_proved(run("check", tmp_path / "r.json", *QUICK))


@pytest.fixture
def in_parts(run, tmp_path, monkeypatch):
    """A result that branch and bound in parts has proved, and what checks it."""
    monkeypatch.setattr(max_engine, "SetSearch", PartsSearch)
    network = grid_network(tmp_path / "n.onnx", OVERLAP, 2)
    pixels = np.random.default_rng(0).integers(0, 256, (12, 12), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "i.png")
    asked = (network.path, tmp_path / "i.png", "--eps", "0.23", "--above", "1", "0")
    outputs = ("--certificate", tmp_path / "c.npz", "-o", tmp_path / "r.json")
    shown = run("verify", *asked, *outputs, *QUICK)
    assert shown.exit_code == ExitCode.HOLDS, shown.stderr
    assert "bab " in shown.stdout
    return lambda: run("check", tmp_path / "r.json", *QUICK)


def test_what_is_proved_in_parts(in_parts, tmp_path):
    with np.load(tmp_path / "c.npz") as archive:
        arrays = dict(archive)
    assert len(arrays["case0/cuts"]) == 1
    assert is_proved(in_parts())
    price = "case0/cut0/part0/coefficients"
    np.savez(tmp_path / "c.npz", **{**arrays, price: 2 * arrays[price]})
    shown = in_parts()
    assert shown.exit_code == ExitCode.BAD_INPUT
    assert "its sha256 differs" in shown.stderr
    document = json.loads((tmp_path / "r.json").read_text())
    document["certificate"]["sha256"] = hashlib.sha256((tmp_path / "c.npz").read_bytes()).hexdigest()
    (tmp_path / "r.json").write_text(json.dumps(document))
    shown = in_parts()
    assert "parts add up to" in shown.stderr
    assert not is_proved(shown)


def test_a_proof_that_no_check_would_read_is_not_written(verify, files, monkeypatch):
    monkeypatch.setattr(proof_files, "MOST_BYTES", 1000)
    shown = verify("0.02")
    assert shown.exit_code == ExitCode.HOLDS
    assert "larger than `check` reads" in shown.stderr
    assert not (files / "c.npz").exists()
    assert json.loads((files / "r.json").read_text())["certificate"] is None


def test_a_checker_that_reads_another_network_is_noticed(verify, check, files, monkeypatch):
    verify("0.02")
    from mlverify.cli import certificates

    monkeypatch.setattr(certificates, "logits", lambda program, inputs: np.zeros((len(inputs), 5)))
    shown = check()
    assert shown.exit_code == ExitCode.INTERNAL
    assert "the checker and onnxruntime differ" in shown.stderr
