"""Instances of the VNN-COMP competition, with the competition's verdicts beside ours.

``python -m mlverify.benchmarks.vnncomp DATA_DIR`` reads ``verdicts.csv`` in DATA_DIR (columns benchmark,
onnx, vnnlib, verdict, abcrown_seconds, pick) and the compressed files ``BENCHMARK/onnx/*.onnx.gz`` and
``BENCHMARK/vnnlib/*.vnnlib.gz``. Every instance is read, asked, and its verdict compared. ``seconds`` include
reading both files, not the start of Python; those of alpha-beta-CROWN include its start, and are from another
machine. Ctrl-C sums up what is done; with ``--csv`` the next run continues there. The exit status is 1 when a
verdict is wrong.
"""

import argparse
import csv
import gzip
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch

from ..errors import InputError, MlverifyError
from ..verifier.budget import Budget
from ..verifier.cases import verify_cases
from ..verifier.onnx_reader import load_network
from ..verifier.portfolio import ALL_ENGINES, Engine, Settings, Verifier
from ..verifier.problem import Problem
from ..verifier.result import Verdict
from ..verifier.vnnlib import read_vnnlib
from .row_file import RowFile
from .vnncomp_rows import COLUMNS, HEADER, KEY, Instance, Outcome, summary_lines

_WORDS = {Verdict.HOLDS: "unsat", Verdict.VIOLATED: "sat", Verdict.UNKNOWN: "unknown"}
_ENGINES = {"all": ALL_ENGINES, "falsify": frozenset({Engine.FALSIFY})}


@dataclass(frozen=True, slots=True)
class Limits:
    """What an instance may use; ``engines`` is all or falsify."""

    timeout: float
    engines: str
    threads: int


def read_instances(folder: Path) -> list[Instance]:
    """Rows of ``verdicts.csv``.

    Raises:
        InputError: when the file can't be read or lacks a column.
    """
    path = folder / "verdicts.csv"
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            return [Instance.of(row) for row in csv.DictReader(stream)]
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{path}: no usable rows of benchmark,onnx,vnnlib,verdict ({error!r})") from None


def measure(folder: Path, instance: Instance, limits: Limits) -> Outcome:
    """Ask one instance; one that can't be read or asked is an error and says why."""
    started = time.monotonic()
    try:
        verdict, engine = _ask(folder, instance, limits)
    except (MlverifyError, OSError) as error:
        verdict, engine = "error", f"{type(error).__name__}: {error}"
    return Outcome(instance, verdict, time.monotonic() - started, engine)


@contextmanager
def opened(folder: Path, instance: Instance) -> Iterator[list[Problem]]:
    """The cases of an instance, while its unpacked files are there.

    Raises:
        MlverifyError: when a file can't be read or asked.
        OSError: when it is missing.
    """
    packed = folder / instance.benchmark
    with tempfile.TemporaryDirectory() as name:
        model = _unpack(packed / "onnx" / f"{instance.onnx}.gz", Path(name))
        spec = _unpack(packed / "vnnlib" / f"{instance.vnnlib}.gz", Path(name))
        network = load_network(model)
        yield [Problem(network, case.region, case.property) for case in read_vnnlib(spec, network)]


def _ask(folder: Path, instance: Instance, limits: Limits) -> tuple[str, str]:
    budget = Budget.of_seconds(limits.timeout)
    with opened(folder, instance) as problems:
        settings = Settings(threads=limits.threads, engines=_ENGINES[limits.engines])
        result = verify_cases(Verifier(problems[0].network, settings), problems, budget)
    if result.verdict is Verdict.UNKNOWN:
        return _WORDS[result.verdict], f"{result.engine}: {result.reason}"
    return _WORDS[result.verdict], result.engine


def _unpack(packed: Path, folder: Path) -> Path:
    path = folder / packed.stem
    with gzip.open(packed) as source, path.open("wb") as target:
        shutil.copyfileobj(source, target)
    return path


def _outcomes(
    folder: Path, instances: Sequence[Instance], limits: Limits, kept: RowFile | None
) -> Iterator[Outcome]:
    for instance in instances:
        known = None if kept is None else kept.done.get(instance.key)
        if known is not None:
            yield Outcome.of(instance, known)
            continue
        outcome = measure(folder, instance, limits)
        if kept is not None:
            kept.add(outcome.row(limits.timeout, limits.engines))
        yield outcome


def run(folder: Path, instances: Sequence[Instance], limits: Limits, kept: RowFile | None) -> list[Outcome]:
    """Ask the instances that are not done yet, print each; all outcomes."""
    print(HEADER, flush=True)
    outcomes: list[Outcome] = []
    try:
        for outcome in _outcomes(folder, instances, limits, kept):
            outcomes.append(outcome)
            print(outcome.line, flush=True)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    return outcomes


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="VNN-COMP instances beside the competition's verdicts.")
    parser.add_argument("folder", type=Path, metavar="DATA_DIR")
    parser.add_argument("--quick", action="store_true", help="the quick set only (column pick)")
    parser.add_argument("--benchmark", metavar="NAME", help="instances of this benchmark only")
    parser.add_argument("--verdict", choices=("sat", "unsat"), help="instances of this verdict only")
    parser.add_argument("--every", type=_positive, default=1, metavar="N", help="each N-th instance only")
    parser.add_argument("--timeout", type=float, default=20.0, help="seconds per instance (20)")
    parser.add_argument("--engines", choices=tuple(_ENGINES), default="all", help="who is asked (all)")
    parser.add_argument("--threads", type=_positive, default=2, help="threads of torch and solver (2)")
    parser.add_argument("--csv", type=Path, metavar="OUT.csv", help="write rows here; continue where it ends")
    return parser.parse_args(arguments)


def _selected(options: argparse.Namespace) -> list[Instance]:
    found = [
        instance
        for instance in read_instances(options.folder)
        if options.benchmark in (None, instance.benchmark)
        and options.verdict in (None, instance.verdict)
        and (instance.quick or not options.quick)
    ]
    if not found:
        raise InputError("no instance is selected; look at --benchmark, --verdict and --quick")
    return found[:: options.every]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table and its summary."""
    options = _arguments(arguments)
    torch.set_num_threads(options.threads)
    limits = Limits(options.timeout, options.engines, options.threads)
    same = {"timeout": f"{limits.timeout:g}", "engines": limits.engines}
    try:
        instances = _selected(options)
        kept = None if options.csv is None else RowFile(options.csv, COLUMNS, KEY, same)
    except InputError as error:
        raise SystemExit(f"error: {error}") from None
    with nullcontext() if kept is None else closing(kept):
        outcomes = run(options.folder, instances, limits, kept)
    print("\n".join(summary_lines(outcomes)))
    raise SystemExit(int(any(outcome.wrong for outcome in outcomes)))


if __name__ == "__main__":
    main()
