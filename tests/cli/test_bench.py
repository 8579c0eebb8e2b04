import subprocess
import sys

from mlverify.cli.bench import suites
from mlverify.cli.main import ExitCode


def test_all_suites_are_listed(run):
    shown = run("bench")
    assert shown.exit_code == 0
    names = [line.split()[0] for line in shown.stdout.splitlines()[1:]]
    assert names == list(suites())
    assert {"peers", "vnncomp", "mulloc", "synth_table"} <= set(names)
    assert not {"peers_rows", "row_file", "__init__"} & set(names)


def test_an_unknown_suite(run):
    shown = run("bench", "peer")
    assert shown.exit_code == ExitCode.BAD_INPUT
    assert "did you mean peers" in shown.stderr


def test_arguments_are_the_suites_own(run, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", sys.argv)
    shown = run("bench", "vnncomp", "--help")
    assert shown.exit_code == 0
    assert "usage: mlverify bench vnncomp" in shown.stdout
    assert run("bench", "vnncomp", "--every", "0", tmp_path).exit_code == ExitCode.BAD_INPUT
    shown = run("bench", "vnncomp", tmp_path / "gone")
    assert shown.exit_code == ExitCode.BAD_INPUT
    assert "no usable rows" in shown.stderr
    assert len(shown.stderr.splitlines()) == 1


def test_listing_imports_no_benchmark():
    code = "import sys; from mlverify.cli.bench import suites; suites(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
