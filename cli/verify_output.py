"""What ``mlverify verify`` shows and writes."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from ..verifier.files import replacing
from ..verifier.image import save_array
from ..verifier.network import Network
from ..verifier.problem import Problem
from ..verifier.result import Result, Verdict, Witness
from .documents import Fields, verify_fields
from .main import ExitCode
from .options import OutputFormat, OutputOptions
from .render import Tone, print_table
from .results import Schema, print_result, write_result

_EXIT = {
    Verdict.HOLDS: ExitCode.HOLDS,
    Verdict.VIOLATED: ExitCode.VIOLATED,
    Verdict.UNKNOWN: ExitCode.UNKNOWN,
}
_TONES = {Verdict.HOLDS: Tone.GOOD, Verdict.VIOLATED: Tone.BAD, Verdict.UNKNOWN: Tone.PLAIN}


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """A question as the user put it.

    Attributes:
        network: what it is about.
        image: the user's file, None when there is none.
        problems: its cases; violated when one of them is.
        text: the question in words.
        fields: property and region of the result file.
        arrays: what is written beside the result file; None for nothing.
    """

    network: Network
    image: Path | None
    problems: tuple[Problem, ...]
    text: str
    fields: Fields
    arrays: Mapping[str, Any] | None


def exit_code(verdict: Verdict) -> ExitCode:
    """The exit status that a verdict has."""
    return _EXIT[verdict]


def report(asked: Asked, result: Result, output: OutputOptions, certificate: Fields | None) -> None:
    """Write the result file, if one is wanted, and show the answer; ``certificate`` is its field of that name."""
    fields = {**verify_fields(asked.network, asked.image, result), **asked.fields}
    fields["certificate"] = certificate
    files: Fields = {"arrays": None, "witness": None}
    if output.output is not None:
        files = _write(output.output, fields, asked, result)
    if output.format is OutputFormat.JSON:
        print_result(Schema.VERIFY, {**fields, **files})
    else:
        _print(asked, result)
        if certificate is not None:
            click.echo(f"certificate {certificate['path']}: {certificate['leaves']} leaves")


def _write(path: Path, fields: Fields, asked: Asked, result: Result) -> Fields:
    """The JSON file, the arrays beside it, and the witness if there is one."""
    arrays, witness = None, None
    if asked.arrays is not None:
        arrays = path.with_suffix(".npz")
        with replacing(arrays) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, **asked.arrays)
    if result.witness is not None:
        witness = path.with_suffix(".witness.npy")
        save_array(witness, result.witness.image)
    files = {"arrays": arrays and arrays.name, "witness": witness and witness.name}
    write_result(path, Schema.VERIFY, {**fields, **files})
    return files


def _print(asked: Asked, result: Result) -> None:
    click.echo(asked.text)
    rows = [
        (stage.engine, stage.verdict.value, f"{stage.seconds:.2f} s", stage.detail) for stage in result.stages
    ]
    tones = [_TONES[stage.verdict] for stage in result.stages]
    if rows:
        print_table(("engine", "verdict", "time", "detail"), rows, tones)
    if result.witness is not None:
        click.echo(f"witness scores: {_scores(result.witness, asked.network.labels)}")
    if result.verdict is Verdict.UNKNOWN:
        click.echo(f"reason: {result.reason}")
    click.echo(f"{result.verdict}  {result.seconds:.1f} s  ({result.engine})")


def _scores(witness: Witness, names: tuple[str, ...]) -> str:
    scores = witness.scores
    order = np.argsort(-scores, kind="stable")[: min(len(scores), 4)]
    return ", ".join(f"{names[label]} {scores[label]:.4g}" for label in order)
