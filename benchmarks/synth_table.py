"""Sizes that synthesis certifies, beside sizes to reach.

``python -m mlverify.benchmarks.synth_table DATA_DIR TARGETS.csv`` reads ``dmnist_samples.npz``,
``dmnist_objects.npz`` and the networks ``dmnist_{network}_x1k.onnx`` from DATA_DIR. For each row of
TARGETS.csv (columns network, image, target, object, prototype_size) it grows the neighbourhood of the true
mask of the object with uniform weights, and proves the epsilons that are returned a second time: from the
certificate as it is kept when there is one, else by a portfolio that has seen nothing. ``seconds`` are
those of the synthesis alone. Ctrl-C sums up what is done; with ``--csv`` the next run continues there.
"""

import argparse
import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ..errors import InputError, MlverifyError
from ..synthesis.problem import SynthesisProblem, SynthesisSettings
from ..synthesis.prover import Prover
from ..synthesis.result import Synthesis
from ..synthesis.synthesize import synthesize
from ..verifier.budget import Budget
from ..verifier.certificate import BoundCertificate
from ..verifier.network import Network
from ..verifier.portfolio import Settings
from .samples import Sample, read_network, read_samples, synthesis_problem
from .synth_rows import FAILED, HEADER, Outcome, OutcomeFile, Target, read_targets, select, summary_lines


@dataclass(frozen=True, slots=True)
class Task:
    """One row, with what a process of its own needs to work on it.

    Attributes:
        folder: of networks and images.
        target: the row.
        timeout: seconds for synthesis, and as many for the second verification.
        threads: of the MILP solver.
    """

    folder: Path
    target: Target
    timeout: float
    threads: int


@cache
def _network(folder: Path, name: str) -> Network:
    return read_network(folder, name)


@cache
def _samples(folder: Path) -> dict[str, Sample]:
    return {sample.name: sample for sample in read_samples(folder)}


def measure(task: Task) -> Outcome:
    """Synthesis on one row; a row on which it fails has size 0 and says why."""
    try:
        problem = _problem(task)
        return measure_problem(problem, task.target, task.timeout, task.threads)
    except MlverifyError as error:
        return Outcome(task.target, 0.0, 0.0, f"{type(error).__name__}: {error}", FAILED)


def _problem(task: Task) -> SynthesisProblem:
    target, samples = task.target, _samples(task.folder)
    if target.image not in samples:
        raise InputError(f"there is no sample image {target.image}")
    return synthesis_problem(
        _network(task.folder, target.network), samples[target.image], target.label, target.item
    )


def measure_problem(problem: SynthesisProblem, target: Target, timeout: float, threads: int) -> Outcome:
    """Synthesis within the limit and a second verification."""
    settings = Settings(threads=threads)
    result = synthesize(problem, SynthesisSettings(verify=settings), Budget.of_seconds(timeout))
    again = prove_again(problem, result, settings, Budget.of_seconds(timeout))
    return Outcome(target, result.size, result.seconds, result.proof.engine, again)


def prove_again(problem: SynthesisProblem, result: Synthesis, settings: Settings, budget: Budget) -> str:
    """Verdict on exactly the returned epsilons, by code that has seen nothing yet."""
    kept = None
    if result.certificate is not None:
        kept = BoundCertificate.from_arrays(result.certificate.arrays())
    return Prover(problem.network, settings).ask(problem.at(result.epsilons), budget, kept).verdict.value


def _outcomes(tasks: Sequence[Task], jobs: int) -> Iterator[Outcome]:
    if jobs == 1:
        yield from map(measure, tasks)
        return
    # Ctrl-C is for this process, which ends the others
    context = multiprocessing.get_context("spawn")
    with context.Pool(jobs, signal.signal, (signal.SIGINT, signal.SIG_IGN)) as pool:
        yield from pool.imap_unordered(measure, tasks)


def run(tasks: Sequence[Task], jobs: int, kept: OutcomeFile | None) -> list[Outcome]:
    """Work on the rows that are not done yet, print each as it comes; all outcomes, known ones first."""
    done = {} if kept is None else kept.done
    outcomes = [done[task.target.key] for task in tasks if task.target.key in done]
    if outcomes:
        print(f"{len(outcomes)} of {len(tasks)} rows are in the file already", flush=True)
    print(HEADER, flush=True)
    try:
        for outcome in _outcomes([task for task in tasks if task.target.key not in done], jobs):
            outcomes.append(outcome)
            print(outcome.line, flush=True)
            if kept is not None:
                kept.add(outcome)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    return outcomes


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Sizes that synthesis certifies, beside sizes to reach.")
    parser.add_argument("folder", type=Path, metavar="DATA_DIR")
    parser.add_argument("targets", type=Path, metavar="TARGETS.csv")
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds per row (30)")
    parser.add_argument("--every", type=_positive, default=1, metavar="N", help="each N-th row only")
    parser.add_argument("--network", metavar="NAME", help="rows of this network only")
    parser.add_argument("--csv", type=Path, metavar="OUT.csv", help="write rows here; continue where it ends")
    parser.add_argument("--jobs", type=_positive, default=1, help="rows at a time, one process each (1)")
    parser.add_argument("--threads", type=_positive, default=2, help="threads per row (2)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table and its summary."""
    options = _arguments(arguments)
    try:
        targets = select(read_targets(options.targets), options.network, options.every)
        kept = None if options.csv is None else OutcomeFile(options.csv, options.timeout)
    except InputError as error:
        raise SystemExit(f"error: {error}") from None
    tasks = [Task(options.folder, target, options.timeout, options.threads) for target in targets]
    if kept is None:
        outcomes = run(tasks, options.jobs, None)
    else:
        with closing(kept):
            outcomes = run(tasks, options.jobs, kept)
    print("\n".join(summary_lines(outcomes)))


if __name__ == "__main__":
    main()
