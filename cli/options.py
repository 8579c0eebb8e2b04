"""Options that several commands share.

Each decorator adds its options to a command and hands them over as one frozen dataclass.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import click

from ..models.datasets.catalogue import DatasetKind
from ..verifier.preprocessing import Layout
from .option_types import EnumChoice, NumbersType, ThresholdsType

Command = Callable[..., Any]


class SolverName(StrEnum):
    """Which MILP solver is asked."""

    AUTO = "auto"
    HIGHS = "highs"
    GUROBI = "gurobi"


class DeviceName(StrEnum):
    """Where attacks and bounds are computed."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class OutputFormat(StrEnum):
    """What stdout carries: a table for people, or nothing but JSON."""

    TEXT = "text"
    JSON = "json"


class DecisionRule(StrEnum):
    """How scores become a label set."""

    TOP_K = "top-k"
    THRESHOLD = "threshold"


@dataclass(frozen=True, slots=True)
class NetworkOptions:
    """How the network's file is read; see :class:`~mlverify.verifier.preprocessing.Preprocessing`.

    Empty and None mean what the file's metadata declares.
    """

    labels: Path | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    layout: Layout | None

    @property
    def changes_inputs(self) -> bool:
        """Whether the user said how pixels reach the file."""
        return bool(self.mean or self.std or self.layout is not None)


@dataclass(frozen=True, slots=True)
class DecisionOptions:
    """How scores become a label set; None means what the file says, else the top 2, else above 0.5."""

    decision: DecisionRule | None
    k: int | None
    threshold: tuple[float, ...] | None


@dataclass(frozen=True, slots=True)
class PropertyOptions:
    """What must stay as it is; at most one of them is given."""

    target: str | None
    never: str | None
    label_set: bool
    max_flips: int | None
    above: tuple[str, str] | None
    all_labels: bool


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What the engines may use; ``timeout`` in seconds, None for no limit."""

    solver: SolverName
    timeout: float | None
    device: DeviceName
    threads: int | None
    seed: int


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """Where the answer goes besides stdout, and in which form it goes there."""

    output: Path | None
    format: OutputFormat


@dataclass(frozen=True, slots=True)
class DatasetOptions:
    """Which data set is meant; see :class:`~mlverify.models.datasets.catalogue.DatasetRequest`."""

    kind: DatasetKind | None
    split: str | None
    year: str | None
    images: Path | None
    count: int
    data_seed: int
    correlation: float
    mnist: Path | None


def _packed(
    name: str, kind: type[Any], *options: Callable[[Command], Command]
) -> Callable[[Command], Command]:
    """A decorator that adds options and passes them on as one ``kind`` under ``name``."""

    def decorate(function: Command) -> Command:
        @functools.wraps(function)
        def packed(*args: Any, **kwargs: Any) -> Any:
            values = {field.name: kwargs.pop(field.name) for field in dataclasses.fields(kind)}
            return function(*args, **{name: kind(**values)}, **kwargs)

        command: Command = packed
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def _positive(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    if value is not None and not (math.isfinite(value) and value > 0):
        raise click.BadParameter(f"{value:g} is not a positive number of seconds", ctx=ctx, param=param)
    return value


def _enum_option(
    *names: str, kind: type[StrEnum], default: StrEnum | None, help: str
) -> Callable[[Command], Command]:
    value = None if default is None else default.value
    return click.option(*names, type=EnumChoice(kind), default=value, show_default=True, help=help)


network_options = _packed(
    "network_options",
    NetworkOptions,
    click.option("--labels", type=click.Path(path_type=Path), help="Names of the labels, one per line."),
    click.option(
        "--mean",
        type=NumbersType(),
        default=(),
        help="Subtracted from pixels, one or per channel  [default: the file's]",
    ),
    click.option(
        "--std",
        type=NumbersType(),
        default=(),
        help="Pixels are divided by it, one or per channel  [default: the file's]",
    ),
    _enum_option(
        "--layout",
        kind=Layout,
        default=None,
        help="Axes of the network's input  [default: as the file declares, else nchw]",
    ),
)
resize_option = click.option(
    "--resize", is_flag=True, help="Fit the image to the network's size, and grey or colour to its channels."
)
decision_options = _packed(
    "decision_options",
    DecisionOptions,
    _enum_option(
        "--decision",
        kind=DecisionRule,
        default=None,
        help="How scores become the label set  [default: as the file declares, else top-k]",
    ),
    click.option("--k", type=click.IntRange(min=1), help="Labels per image  [default: the file's k, else 2]"),
    click.option(
        "--threshold",
        type=ThresholdsType(),
        help="On the file's scores; one per label: numbers with commas, or a file  [default: the file's, else 0.5]",
    ),
)
property_options = _packed(
    "property_options",
    PropertyOptions,
    click.option("--target", help="Label that must stay  [default: the most confident one]"),
    click.option("--never", metavar="L", help="Label that must stay out of the label set."),
    click.option("--label-set", is_flag=True, help="The whole label set must stay."),
    click.option("--max-flips", type=click.IntRange(min=0), metavar="R", help="At most R labels may flip."),
    click.option("--above", nargs=2, metavar="I J", help="Label I must stay ranked above label J."),
    click.option(
        "--all-labels", is_flag=True, help="For every label: always in the set, never in it, or either?"
    ),
)
engine_options = _packed(
    "engine_options",
    EngineOptions,
    _enum_option("--solver", kind=SolverName, default=SolverName.AUTO, help="For the complete engine."),
    click.option(
        "--timeout",
        type=float,
        callback=_positive,
        metavar="S",
        help="Seconds  [default: no limit; synth 60, explain 20 per pair]",
    ),
    _enum_option("--device", kind=DeviceName, default=DeviceName.AUTO, help="For attacks and bounds."),
    click.option("--threads", type=click.IntRange(min=1), help="CPU threads  [default: all]"),
    click.option(
        "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of every random choice."
    ),
)
format_option = _enum_option(
    "--format", kind=OutputFormat, default=OutputFormat.TEXT, help="What stdout carries."
)
output_options = _packed(
    "output_options",
    OutputOptions,
    click.option(
        "-o", "--output", type=click.Path(path_type=Path), help="Write the result as JSON to this file."
    ),
    format_option,
)
dataset_options = _packed(
    "dataset_options",
    DatasetOptions,
    click.option("--kind", type=EnumChoice(DatasetKind), help="Layout of the data set  [default: find out]"),
    click.option("--split", metavar="NAME", help="train, val, trainval, test; of COCO such as val2014."),
    click.option("--year", metavar="YEAR", help="Of PASCAL VOC, where a folder holds several."),
    click.option("--images", type=click.Path(path_type=Path), help="Folder of the pictures, if elsewhere."),
    click.option(
        "--count",
        type=click.IntRange(min=1),
        default=1000,
        show_default=True,
        help="Images to compose (MNIST).",
    ),
    click.option(
        "--data-seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of composed images."
    ),
    click.option(
        "--correlation",
        type=click.FloatRange(0, 1),
        default=0.0,
        show_default=True,
        help="Of the digits of a composed image.",
    ),
    click.option("--mnist", type=click.Path(path_type=Path), help="Folder of the four MNIST .gz files."),
)
