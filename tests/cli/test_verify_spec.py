"""``verify --vnnlib``, ``--result-file``, and ``check`` of their results."""

import json
import re

import numpy as np
import onnxruntime
import pytest
from mlverify.cli.main import ExitCode
from mlverify.cli.words import reporting_failure, write_words
from mlverify.errors import InputError
from mlverify.verifier.onnx_reader import load_network
from mlverify.verifier.result import Result, Verdict
from onnx_factory import dense_network, linear_network

QUICK = ("--threads", "1", "--solver", "highs")
DECLARED = "".join(f"(declare-const {name} Real)\n" for name in ("X_0", "X_1", "Y_0", "Y_1"))
UNIT = "".join(f"(assert (>= X_{i} 0)) (assert (<= X_{i} 1))\n" for i in range(2))
# the network below computes Y_0 = X_0 + X_1 and Y_1 = X_0 - X_1
SPECS = {
    "sat": UNIT + "(assert (>= Y_0 1.9))",
    "sat-in-the-second-box": """(assert (or (and (>= X_0 0) (<= X_0 1) (>= X_1 0) (<= X_1 1) (>= Y_0 2.5))
        (and (>= X_0 2) (<= X_0 3) (= X_1 0.1) (<= Y_1 2))))""",
    "sat-by-a-tie": UNIT + "(assert (> Y_0 2))",
    "unsat": UNIT + "(assert (or (and (>= Y_0 1.5) (>= Y_1 0.6)) (<= Y_1 -1.1)))",
    "unsat-in-both-boxes": """(assert (or (and (>= X_0 0) (<= X_0 1) (>= X_1 0) (<= X_1 1) (>= Y_0 2.5))
        (and (>= X_0 2) (<= X_0 3) (= X_1 0.1) (<= Y_1 1.5))))""",
}


@pytest.fixture
def spec(run, tmp_path):
    """``mlverify verify NET --vnnlib SPEC`` on one of the specifications."""
    linear_network(tmp_path / "net.onnx", np.array([[1, 1], [1, -1]]), (2,))

    def invoke(name, *arguments):
        path = tmp_path / "a.vnnlib"
        path.write_text(DECLARED + SPECS.get(name, name))
        return run("verify", tmp_path / "net.onnx", "--vnnlib", path, *QUICK, *arguments)

    return invoke


def read_words(path):
    """The word, and the inputs and outputs of the counterexample."""
    word, _, rest = path.read_text().partition("\n")
    pairs = re.findall(r"\(([XY])_(\d+) ([^\s)]+)\)", rest)
    assert "(" + "\n".join(f"({a}_{b} {c})" for a, b, c in pairs) + ")\n" == rest or not rest
    found = {letter: [float(value) for kind, _, value in pairs if kind == letter] for letter in "XY"}
    return word, found["X"], found["Y"]


@pytest.mark.parametrize("name", SPECS)
def test_verdicts_and_words(spec, tmp_path, name):
    expected = name.partition("-")[0]
    shown = spec(name, "--result-file", tmp_path / "words.txt")
    assert shown.exit_code == {"sat": ExitCode.VIOLATED, "unsat": ExitCode.HOLDS}[expected]
    assert shown.stdout.splitlines()[0] == "no counterexample of a.vnnlib"
    word, inputs, outputs = read_words(tmp_path / "words.txt")
    assert word == expected
    if word == "unsat":
        assert (tmp_path / "words.txt").read_text() == "unsat\n"
        return
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    (again,) = session.run(None, {"input": np.array([inputs], dtype=np.float32)})
    np.testing.assert_array_equal(again[0], np.array(outputs, dtype=np.float32))


@pytest.mark.parametrize("name", SPECS)
def test_results_are_checked_again(spec, run, tmp_path, name):
    spec(name, "-o", tmp_path / "r.json")
    document = json.loads((tmp_path / "r.json").read_text())
    assert document["region"]["kind"] == "vnnlib"
    assert document["image"] is None
    assert (document["witness"] is not None) == name.startswith("sat")
    shown = run("check", tmp_path / "r.json")
    assert shown.exit_code == ExitCode.HOLDS, shown.output
    assert shown.stdout.startswith("confirmed")


def test_check_notices_another_specification(spec, run, tmp_path):
    spec("unsat", "-o", tmp_path / "r.json")
    (tmp_path / "a.vnnlib").write_text(DECLARED + SPECS["sat"])
    shown = run("check", tmp_path / "r.json")
    assert shown.exit_code == ExitCode.BAD_INPUT
    assert "sha256 differs" in shown.stderr
    (tmp_path / "a.vnnlib").unlink()
    assert "copy it beside" in run("check", tmp_path / "r.json").stderr


def test_the_file_beside_the_result_serves_where_another_took_its_name(spec, run, tmp_path):
    spec("unsat", "-o", tmp_path / "r.json")
    (tmp_path / "moved").mkdir()
    for name in ("r.json", "a.vnnlib"):
        (tmp_path / "moved" / name).write_bytes((tmp_path / name).read_bytes())
    (tmp_path / "a.vnnlib").write_text(DECLARED + SPECS["sat"])
    shown = run("check", tmp_path / "moved" / "r.json")
    assert shown.exit_code == ExitCode.HOLDS, shown.output


@pytest.mark.parametrize("point", [[0.5, 0.5], [2.0, 2.0]])
def test_check_notices_a_witness_that_is_none(spec, run, tmp_path, point):
    spec("sat", "-o", tmp_path / "r.json")
    np.save(tmp_path / "r.witness.npy", np.array(point, dtype=np.float32))
    assert run("check", tmp_path / "r.json").exit_code == ExitCode.INTERNAL


def test_json_has_both_cases_in_its_stages(spec):
    document = json.loads(spec("unsat-in-both-boxes", "--format", "json").stdout)
    assert document["verdict"] == "holds"
    assert document["region"]["cases"] == 2
    assert document["margin_bound"] < 0
    assert [stage["detail"].partition(":")[0] for stage in document["stages"]] == ["case 1", "case 2"]


def test_no_time_is_a_timeout(run, tmp_path):
    dense_network(tmp_path / "net.onnx", (2, 6, 2))
    (tmp_path / "a.vnnlib").write_text(DECLARED + UNIT + "(assert (>= Y_0 Y_1))")
    words = tmp_path / "words.txt"
    shown = run(
        "verify", tmp_path / "net.onnx", "--vnnlib", tmp_path / "a.vnnlib", "--timeout", "1e-9",
        "--result-file", words,
    )  # fmt: skip
    assert shown.exit_code == ExitCode.UNKNOWN
    assert words.read_text() == "timeout\n"


def test_unknown_without_timeout(spec, tmp_path):
    spec("unsat")
    network = load_network(tmp_path / "net.onnx")
    unknown = Result(Verdict.UNKNOWN, "numerics", "milp", 1.0)
    write_words(tmp_path / "words.txt", network, unknown, timed_out=False)
    assert (tmp_path / "words.txt").read_text() == "unknown\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("(declare-const X_2 Real)", "X_2 is declared, but the network has 2 inputs"),
        ("(assert (<= (* X_0 X_1) 1))", "line 5: a product of two variables is not linear"),
        ("(assert (<= X_0 1)", "line 5: the bracket that opens here is never closed"),
        ("(assert (>= Y_0 0))", "X_0 has no lower bound"),
    ],
)
def test_bad_files_are_errors_in_every_form(spec, tmp_path, text, message):
    shown = spec(text, "--result-file", tmp_path / "words.txt")
    assert shown.exit_code == ExitCode.BAD_INPUT
    assert message in shown.stderr
    assert shown.stderr.count("\n") == 1
    assert (tmp_path / "words.txt").read_text() == "error\n"


def test_what_does_not_go_with_a_specification(spec, run, tmp_path):
    for extra in (["--eps", "0.1"], ["--target", "1"], [tmp_path / "image.png"]):
        shown = spec("sat", *extra)
        assert shown.exit_code == ExitCode.BAD_INPUT
        assert "leave out IMAGE" in shown.stderr
    assert "leave out --mean" in spec("sat", "--mean", "0.5").stderr
    missing = run("verify", tmp_path / "net.onnx")
    assert missing.exit_code == ExitCode.BAD_INPUT
    assert "give an IMAGE" in missing.stderr


def test_the_result_file_never_replaces_an_input(spec, tmp_path):
    for name in ("net.onnx", "a.vnnlib"):
        before = (tmp_path / "net.onnx").read_bytes()
        assert spec("sat", "--result-file", tmp_path / name).exit_code == ExitCode.BAD_INPUT
        assert (tmp_path / "net.onnx").read_bytes() == before
    assert (tmp_path / "a.vnnlib").read_text() == DECLARED + SPECS["sat"]


def test_an_error_that_can_not_be_written_does_not_hide_the_first(tmp_path):
    with pytest.raises(InputError, match="first"), reporting_failure(tmp_path / "no" / "words.txt"):
        raise InputError("first")


# --- questions about images -----------------------------------------------------------------------------


def test_words_about_an_image(run, files):
    arguments = [
        "verify",
        files / "net.onnx",
        files / "image.png",
        *QUICK,
        "--result-file",
        files / "words.txt",
    ]
    assert run(*arguments, "--eps", "2/255").exit_code == ExitCode.HOLDS
    assert (files / "words.txt").read_text() == "unsat\n"
    mean = ["--mean", "0.5", "--std", "0.25"]
    assert run(*arguments, "--eps", "1", *mean).exit_code == ExitCode.VIOLATED
    word, inputs, outputs = read_words(files / "words.txt")
    assert word == "sat"
    # what the file reads: pixels after mean and deviation
    assert min(inputs) < -1
    session = onnxruntime.InferenceSession(files / "net.onnx", providers=["CPUExecutionProvider"])
    pixels = np.array(inputs, dtype=np.float32).reshape(1, 1, 10, 10)
    (again,) = session.run(None, {"input": pixels})
    np.testing.assert_allclose(again[0], outputs, rtol=1e-5, atol=1e-6)
