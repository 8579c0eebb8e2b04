"""Rows of the VNN-COMP table and what sums them up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

KEY = ("benchmark", "onnx", "vnnlib")
COLUMNS = (*KEY, "expected", "verdict", "seconds", "engine", "abcrown_seconds", "timeout", "engines")
HEADER = f"{'benchmark':<16}{'instance':<58}{'expected':<9}{'verdict':<9}{'seconds':>8}{'abcrown':>9}  engine"
# the verdicts that claim something
_CLAIMS = ("sat", "unsat")


@dataclass(frozen=True, slots=True)
class Instance:
    """A row of the competition's verdicts.

    Attributes:
        benchmark: name of its folder.
        onnx: name of the network's file.
        vnnlib: name of the specification's file.
        verdict: of the competition: sat, unsat or unknown.
        abcrown_seconds: of alpha-beta-CROWN, its start included; None where it gave no verdict.
        quick: whether it is in the quick set.
    """

    benchmark: str
    onnx: str
    vnnlib: str
    verdict: str
    abcrown_seconds: float | None
    quick: bool

    @classmethod
    def of(cls, row: Mapping[str, str]) -> "Instance":
        """Read a row of the CSV file."""
        seconds = row["abcrown_seconds"]
        return cls(
            row["benchmark"],
            row["onnx"],
            row["vnnlib"],
            row["verdict"],
            float(seconds) if seconds else None,
            row["pick"] == "1",
        )

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes the row different from all others."""
        return self.benchmark, self.onnx, self.vnnlib


@dataclass(frozen=True, slots=True)
class Outcome:
    """Our answer to an instance.

    Attributes:
        instance: the row.
        verdict: sat, unsat, unknown or error.
        seconds: from reading the files to the answer.
        engine: that decided; for an error, what went wrong.
    """

    instance: Instance
    verdict: str
    seconds: float
    engine: str

    @classmethod
    def of(cls, instance: Instance, row: Mapping[str, str]) -> "Outcome":
        """Read a row that :meth:`row` made."""
        return cls(instance, row["verdict"], float(row["seconds"]), row["engine"])

    @property
    def solved(self) -> bool:
        """Whether a verdict was reached that nothing speaks against."""
        return self.verdict in _CLAIMS and not self.wrong

    @property
    def wrong(self) -> bool:
        """Whether the verdict is the opposite of the competition's."""
        return {self.verdict, self.instance.verdict} == set(_CLAIMS)

    @property
    def attacked(self) -> bool:
        """Whether a counterexample came from the falsifier."""
        return self.verdict == "sat" and self.engine.startswith("falsify")

    @property
    def line(self) -> str:
        """For the terminal."""
        row = self.instance
        name = f"{row.onnx.removesuffix('.onnx')} {row.vnnlib.removesuffix('.vnnlib')}"
        other = "-" if row.abcrown_seconds is None else f"{row.abcrown_seconds:.1f}"
        mark = "  WRONG" if self.wrong else ""
        return (
            f"{row.benchmark:<16}{name:<58}{row.verdict:<9}{self.verdict:<9}{self.seconds:>8.2f}{other:>9}  "
            f"{self.engine}{mark}"
        )

    def row(self, timeout: float, engines: str) -> dict[str, str]:
        """For the CSV file."""
        other = self.instance.abcrown_seconds
        return {
            **dict(zip(KEY, self.instance.key, strict=True)),
            "expected": self.instance.verdict,
            "verdict": self.verdict,
            "seconds": f"{self.seconds:.3f}",
            "engine": " ".join(self.engine.split()),
            "abcrown_seconds": "" if other is None else f"{other:g}",
            "timeout": f"{timeout:g}",
            "engines": engines,
        }


def summary_lines(outcomes: Sequence[Outcome]) -> list[str]:
    """One line per benchmark, one over all, and the rows that are wrong."""
    if not outcomes:
        return ["no rows"]
    names = list(dict.fromkeys(row.instance.benchmark for row in outcomes))
    groups = {name: [row for row in outcomes if row.instance.benchmark == name] for name in names}
    lines = [f"{name:<16}{_summary(group)}" for name, group in groups.items()]
    lines.append(f"{'all':<16}{_summary(outcomes)}")
    wrong = [row for row in outcomes if row.wrong]
    lines += [f"WRONG: {' '.join(row.instance.key)}: {row.verdict} by {row.engine}" for row in wrong]
    return lines


def _summary(outcomes: Sequence[Outcome]) -> str:
    count = len(outcomes)
    violated = [row for row in outcomes if row.instance.verdict == "sat"]
    attacked = [row for row in violated if row.attacked]
    found = f"falsifier found {len(attacked)} of {len(violated)} sat"
    if attacked:
        found += f" in {median(row.seconds for row in attacked):.2f} s"
        others = [row.instance.abcrown_seconds for row in attacked]
        known = [seconds for seconds in others if seconds is not None]
        if known:
            found += f" (alpha-beta-CROWN {median(known):.2f} s, start included)"
    counts = {
        "solved": sum(row.solved for row in outcomes),
        "wrong": sum(row.wrong for row in outcomes),
        "unknown": sum(row.verdict == "unknown" for row in outcomes),
        "errors": sum(row.verdict == "error" for row in outcomes),
    }
    shown = ", ".join(f"{name} {number}" for name, number in counts.items())
    return f"{count:>4} rows  {shown}  median {median(row.seconds for row in outcomes):.2f} s  {found}"
