"""``verify --all-labels --certificate`` and ``check`` of what it wrote."""

import json

import numpy as np
import pytest
from mlverify.cli.main import ExitCode

QUICK = ("--threads", "1", "--solver", "highs")


@pytest.fixture
def ask(run, files):
    def invoke(*arguments):
        asked = ("verify", files / "net.onnx", files / "image.png", "--all-labels", *QUICK)
        return run(*asked, "-o", files / "r.json", "--certificate", files / "c.npz", *arguments)

    return invoke


@pytest.fixture
def check(run, files):
    return lambda *arguments: run("check", files / "r.json", *QUICK, *arguments)


def document(files):
    return json.loads((files / "r.json").read_text())


def rewrite(files, **fields):
    written = document(files)
    written["certificate"].update(fields)
    (files / "r.json").write_text(json.dumps(written))


@pytest.mark.parametrize("arguments", [(), ("--decision", "threshold", "--threshold", "0")])
def test_every_proved_label_has_a_certificate(ask, check, files, arguments):
    shown = ask("--eps", "0.002", *arguments)
    assert shown.exit_code == ExitCode.HOLDS, shown.stderr
    assert "c.npz: 5 labels, " in shown.stdout
    assert sorted(document(files)["certificate"]["labels"]) == [0, 1, 2, 3, 4]
    with np.load(files / "c.npz") as arrays:
        assert int(arrays["cases"]) == 5
    assert "5 of 5 proofs found again, 5 of them by the independent checker" in check().stdout


def test_labels_on_either_side_have_none(ask, check, files):
    assert ask("--eps", "0.1").exit_code == ExitCode.VIOLATED
    verdicts = [entry["verdict"] for entry in document(files)["labels"]]
    proved = [label for label, verdict in enumerate(verdicts) if verdict in ("always", "never")]
    assert 0 < len(proved) < 5
    assert sorted(document(files)["certificate"]["labels"]) == proved
    assert f"{len(proved)} of them by the independent checker" in check().stdout


def test_nothing_proved_is_nothing_written(ask, files):
    shown = ask("--eps", "1")
    assert shown.exit_code == ExitCode.VIOLATED
    assert "c.npz is not written: no label has a certificate" in shown.stderr
    assert not (files / "c.npz").exists()
    assert document(files)["certificate"] is None


def test_labels_without_a_certificate_are_named_and_proved_again(ask, check, files, monkeypatch):
    from mlverify.cli import label_certificates

    prove = label_certificates.prove

    def all_but_one(problems, certificates):
        checked = prove(problems, certificates)
        return None if problems[0].property.text.startswith("label b ") else checked

    monkeypatch.setattr(label_certificates, "prove", all_but_one)
    shown = ask("--eps", "0.002")
    assert "no certificate for 1 of 5 proved labels: b" in shown.stderr
    monkeypatch.undo()
    assert "5 of 5 proofs found again, 4 of them by the independent checker" in check().stdout


@pytest.mark.parametrize(
    "labels", [[1, 0, 2, 3, 4], [0, 0, 0, 0, 0], [0, 1], [0, 1, 2, 3, 9], "01234", None, [[], 1, 2, 3, 4]]
)
def test_certificates_of_other_labels_are_noticed(ask, check, files, labels):
    ask("--eps", "0.002")
    rewrite(files, labels=labels)
    shown = check()
    assert shown.exit_code == ExitCode.BAD_INPUT
    assert "Traceback" not in shown.stderr


def test_other_files_are_noticed(ask, check, files):
    ask("--eps", "0.002")
    (files / "c.npz").write_bytes((files / "c.npz").read_bytes()[:-1])
    assert check().exit_code == ExitCode.BAD_INPUT
    (files / "c.npz").unlink()
    assert "c.npz" in check().stderr
