import subprocess
import sys

import click
import pytest
from click.testing import CliRunner
from mlverify import __version__
from mlverify.cli.main import COMMANDS, ExitCode, cli
from mlverify.errors import DisagreementError, InputError, SolverUnavailableError

HEAVY = ("torch", "onnx", "onnxruntime", "numpy", "scipy", "matplotlib", "rich", "highspy", "gurobipy")


@pytest.mark.parametrize("arguments", ["--help", "--version"])
def test_help_and_version_import_nothing_heavy(arguments):
    code = (
        "import sys\n"
        "from mlverify.cli.main import main\n"
        "try:\n"
        f"    main(['{arguments}'])\n"
        "except SystemExit as end:\n"
        "    assert end.code == 0\n"
        f"print([name for name in {HEAVY} if name in sys.modules])\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_listed_command_exists_and_explains_itself(name):
    shown = CliRunner().invoke(cli, [name, "--help"])
    assert shown.exit_code == 0
    assert "Usage:" in shown.stdout
    assert name in CliRunner().invoke(cli, ["--help"]).stdout


def test_version():
    assert __version__ in CliRunner().invoke(cli, ["--version"]).stdout


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["predict"], ["predict", "--k", "x", "a", "b"], ["--nonsense"]]
)
def test_usage_errors_are_bad_input(arguments):
    run = CliRunner().invoke(cli, arguments)
    assert run.exit_code == ExitCode.BAD_INPUT
    assert not run.stdout


@pytest.fixture
def raising(monkeypatch):
    """The exit of `mlverify doctor` when it raises this error."""

    def run(error, *options):
        @click.command("doctor")
        def failing():
            raise error

        monkeypatch.setattr("mlverify.cli.doctor.doctor_command", failing)
        return CliRunner().invoke(cli, [*options, "doctor"])

    return run


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (InputError("a.png is empty;\n save it again"), 2, "mlverify: error: a.png is empty; save it again"),
        (SolverUnavailableError("no licence"), 2, "mlverify: error: no licence"),
        (DisagreementError("two numbers differ"), 4, "mlverify: error: two numbers differ"),
        (
            ZeroDivisionError("oops"),
            4,
            "mlverify: error: unexpected ZeroDivisionError: oops; run `mlverify --debug",
        ),
        (KeyboardInterrupt(), 130, "mlverify: interrupted"),
        (click.ClickException("from click"), 2, "Error: from click"),
        (click.FileError("f", "gone"), 2, "gone"),
    ],
)
def test_errors_are_one_line_and_an_exit_code(raising, error, code, words):
    run = raising(error)
    assert run.exit_code == code
    assert words in run.stderr
    assert len(run.stderr.strip().splitlines()) == 1
    assert "Traceback" not in run.output


def test_debug_shows_the_traceback_of_unexpected_errors_only(raising):
    run = raising(ZeroDivisionError("oops"), "--debug")
    assert run.exit_code == ExitCode.INTERNAL
    assert "Traceback" in run.stderr
    assert "Traceback" not in raising(InputError("bad"), "--debug").stderr


def test_a_reader_that_goes_away_is_no_error():
    code = "from mlverify.cli.main import main; main(['doctor'])"
    run = subprocess.run(
        ["bash", "-c", f'"$0" -c "{code}" | true; exit ${{PIPESTATUS[0]}}', sys.executable],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode in (ExitCode.HOLDS, ExitCode.BROKEN_PIPE)
    assert "Traceback" not in run.stderr
