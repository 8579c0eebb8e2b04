"""The ``mlverify`` command: a table of sub-commands that are imported when used, and the exit codes."""

import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from importlib import import_module
from typing import Any

import click

from .. import __version__
from ..errors import DisagreementError, MlverifyError


class ExitCode(IntEnum):
    """What the exit status of ``mlverify`` means."""

    HOLDS = 0
    VIOLATED = 1
    BAD_INPUT = 2
    UNKNOWN = 3
    INTERNAL = 4
    INTERRUPTED = 130
    BROKEN_PIPE = 141


@dataclass(frozen=True, slots=True)
class LazyCommand:
    """Where a sub-command lives, and its line in ``--help``, known without importing it."""

    module: str
    attribute: str
    help: str


COMMANDS: Mapping[str, LazyCommand] = {
    "info": LazyCommand(
        ".info", "info_command", "Operators, shapes and sizes of a network; what is supported."
    ),
    "predict": LazyCommand(".predict", "predict_command", "Scores and predicted label set of an image."),
    "verify": LazyCommand(
        ".verify", "verify_command", "Does a label stay in the set for every image of a neighbourhood?"
    ),
    "synth": LazyCommand(
        ".synth", "synth_command", "The largest certified neighbourhood, layer by layer around an object."
    ),
    "explain": LazyCommand(
        ".explain", "explain_command", "How far may each object be perturbed without hiding each other one?"
    ),
    "check": LazyCommand(
        ".check", "check_command", "Prove or replay a result file again, trusting nothing in it."
    ),
    "attack": LazyCommand(
        ".attack", "attack_command", "Flip labels of an image by a multi-label attack; rates of a folder."
    ),
    "evaluate": LazyCommand(
        ".evaluate", "evaluate_command", "Accuracy, attacks and proofs on a whole data set, in one table."
    ),
    "dataset": LazyCommand(
        ".dataset", "dataset_command", "What is in a data set, label by label; fetch a public one."
    ),
    "show": LazyCommand(".show", "show_command", "A figure of a result file."),
    "train": LazyCommand(".train", "train_command", "Train a network and export it to ONNX."),
    "export": LazyCommand(".export", "export_command", "Write a checkpoint as ONNX, checked against torch."),
    "bench": LazyCommand(
        ".bench", "bench_command", "A benchmark of the README; without a name, all of them."
    ),
    "doctor": LazyCommand(".doctor", "doctor_command", "Versions, devices, solvers and licence sizes here."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they run; it turns errors into one line and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names, in the order of a user's work."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        command = getattr(import_module(entry.module, __package__), entry.attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; every way it can fail has its exit code here."""
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.UsageError):
            raise
        except click.ClickException as error:
            # click's own code for these is 1, which means "violated" here
            error.show()
            ctx.exit(ExitCode.BAD_INPUT)
        except (KeyboardInterrupt, click.Abort):
            _complain("interrupted")
            ctx.exit(ExitCode.INTERRUPTED)
        except BrokenPipeError:
            # the reader went away; closing stdout must not fail again at shutdown
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(ExitCode.BROKEN_PIPE)
        except MlverifyError as error:
            _complain(f"error: {_one_line(str(error))}")
            ctx.exit(ExitCode.INTERNAL if isinstance(error, DisagreementError) else ExitCode.BAD_INPUT)
        except Exception as error:
            _report_unexpected(error, debug=bool(ctx.params.get("debug")))
            ctx.exit(ExitCode.INTERNAL)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mlverify")
@click.option("--debug", is_flag=True, help="Show the traceback of an unexpected error.")
def cli(debug: bool) -> None:
    """Formal verification of multi-label neural networks.

    Exit codes: 0 holds or done, 1 violated, 2 bad input, 3 unknown or timeout, 4 internal disagreement,
    130 interrupted.
    """
    del debug


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line on ``arguments`` (default: the process's) and exit."""
    cli.main(args=None if arguments is None else list(arguments), prog_name="mlverify")


def _complain(text: str) -> None:
    click.echo(f"mlverify: {text}", err=True)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _report_unexpected(error: Exception, *, debug: bool) -> None:
    if debug:
        click.echo("".join(traceback.format_exception(error)), err=True, nl=False)
    message = _one_line(str(error))
    hint = "" if debug else "; run `mlverify --debug ...` for the traceback, and please report it"
    _complain(f"error: unexpected {type(error).__name__}: {message}{hint}")
