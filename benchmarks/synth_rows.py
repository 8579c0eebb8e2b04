"""Rows of the synthesis table: sizes to reach, sizes reached, their file, and what sums them up."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TextIO

from ..errors import InputError

Key = tuple[str, str, int, int]

# In the last column, of a row on which synthesis raised an error.
FAILED = "failed"

HEADER = f"{'network':<10}{'image':<10}{'size':>9}{'target':>9}{'ratio':>8}{'seconds':>9}  {'proof':<20}again"
COLUMNS = (
    "network", "image", "target", "object", "target_size", "size", "seconds", "engine", "again", "timeout",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Target:
    """A row of the file of sizes to reach.

    Attributes:
        network: name within ``dmnist_{network}_x1k.onnx``.
        image: name of the sample.
        label: the label that is protected.
        item: the label whose object is perturbed.
        size: to reach.
    """

    network: str
    image: str
    label: int
    item: int
    size: float

    @property
    def key(self) -> Key:
        """What makes the row different from all others."""
        return self.network, self.image, self.label, self.item


@dataclass(frozen=True, slots=True)
class Outcome:
    """What synthesis reached on a row.

    Attributes:
        target: the row.
        size: certified.
        seconds: of synthesis, its own final proof included.
        engine: of that proof; what went wrong when there is none.
        again: verdict of the second verification.
    """

    target: Target
    size: float
    seconds: float
    engine: str
    again: str

    @property
    def ratio(self) -> float:
        """Size as a multiple of the size to reach."""
        return self.size / self.target.size

    @property
    def line(self) -> str:
        """For the terminal."""
        target = self.target
        return (
            f"{target.network:<10}{target.image:<10}{self.size:>9.4f}{target.size:>9.4f}{self.ratio:>8.3f}"
            f"{self.seconds:>9.1f}  {self.engine:<20}{self.again}"
        )


@dataclass(frozen=True, slots=True)
class Summary:
    """Figures over rows; ratios are to the sizes to reach."""

    rows: int
    least: float
    median: float
    below: int
    median_seconds: float
    most_seconds: float

    @classmethod
    def of(cls, outcomes: Sequence[Outcome]) -> "Summary":
        """Sum up at least one outcome."""
        ratios, seconds = [row.ratio for row in outcomes], [row.seconds for row in outcomes]
        below = sum(ratio < 1 for ratio in ratios)
        return cls(len(outcomes), min(ratios), median(ratios), below, median(seconds), max(seconds))

    @property
    def line(self) -> str:
        """For the terminal."""
        return (
            f"{self.rows:>4} rows  ratio: least {self.least:.3f}, median {self.median:.3f}, "
            f"below 1: {self.below}  seconds: median {self.median_seconds:.1f}, most {self.most_seconds:.1f}"
        )


def summary_lines(outcomes: Sequence[Outcome]) -> list[str]:
    """One line per network, one over all, one about proofs that were not found again."""
    if not outcomes:
        return ["no rows"]
    names = list(dict.fromkeys(row.target.network for row in outcomes))
    groups = {name: [row for row in outcomes if row.target.network == name] for name in names}
    lines = [f"{name:<10}{Summary.of(group).line}" for name, group in groups.items()]
    lines.append(f"{'all':<10}{Summary.of(outcomes).line}")
    doubtful = [row for row in outcomes if row.again != "holds"]
    if doubtful:
        rows = ", ".join(f"{row.target.network} {row.target.image}: {row.again}" for row in doubtful)
        lines.append(f"NOT PROVED AGAIN: {len(doubtful)} ({rows})")
    return lines


def read_targets(path: Path) -> list[Target]:
    """Rows of a CSV file with the columns network, image, target, object, prototype_size.

    Raises:
        InputError: when the file can't be read or a row lacks one of them.
    """
    try:
        with path.open(newline="") as stream:
            return [_target(row, "prototype_size") for row in csv.DictReader(stream)]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: no usable rows of network,image,target,object,prototype_size ({error!r})"
        ) from None


def select(targets: Sequence[Target], network: str | None, every: int) -> list[Target]:
    """Every so many-th row, of one network or of all."""
    return [target for target in targets if network in (None, target.network)][::every]


def _target(row: Mapping[str, str], size: str) -> Target:
    found = Target(row["network"], row["image"], int(row["target"]), int(row["object"]), float(row[size]))
    if not (math.isfinite(found.size) and found.size > 0):
        raise ValueError(f"size {found.size} of {found.network} {found.image} is not positive")
    return found


class OutcomeFile:
    """A CSV file that grows by a row at a time and tells what is done already.

    Attributes:
        done: outcomes in the file; those that failed are not among them, they are tried again.
    """

    def __init__(self, path: Path, timeout: float) -> None:
        """Read what is there; a last row that was cut off is dropped.

        Raises:
            InputError: when the file is something else, can't be written, or was made with another limit.
        """
        self._timeout = timeout
        try:
            self.done = _read_outcomes(path, timeout) if path.exists() else {}
            beside = path.with_name(f"{path.name}.part")
            self._stream: TextIO = beside.open("w", newline="")
            self._writer = csv.writer(self._stream)
            self._writer.writerow(COLUMNS)
            for outcome in self.done.values():
                self._write(outcome)
            # the old rows are never missing from the disk
            beside.replace(path)
        except (OSError, UnicodeError) as error:
            raise InputError(f"{path}: {error}") from None

    def add(self, outcome: Outcome) -> None:
        """Append a row; it is on disk when this returns."""
        self.done[outcome.target.key] = outcome
        self._write(outcome)

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def _write(self, outcome: Outcome) -> None:
        size, seconds = f"{outcome.size:.9g}", f"{outcome.seconds:.3f}"
        row = (*outcome.target.key, outcome.target.size, size, seconds, outcome.engine, outcome.again)
        self._writer.writerow((*row, self._timeout))
        self._stream.flush()


def _read_outcomes(path: Path, timeout: float) -> dict[Key, Outcome]:
    lines = path.read_text().splitlines(keepends=True)
    if lines and lines[0].strip() != ",".join(COLUMNS):
        raise InputError(f"{path} is not a file of this command; choose another name for --csv")
    reader = csv.DictReader(line for line in lines if line.endswith("\n"))
    found = {}
    for row in reader:
        outcome = _outcome(row, path, timeout)
        if outcome is not None:
            found[outcome.target.key] = outcome
    return found


def _outcome(row: Mapping[str, str], path: Path, timeout: float) -> Outcome | None:
    try:
        target, size, seconds = _target(row, "target_size"), float(row["size"]), float(row["seconds"])
        limit = float(row["timeout"])
    except (TypeError, ValueError):
        return None
    if row["again"] in (None, FAILED):
        return None
    if limit != timeout:
        raise InputError(
            f"{path} was made with --timeout {limit:g}; choose another file, or the same --timeout"
        )
    return Outcome(target, size, seconds, row["engine"], row["again"])
