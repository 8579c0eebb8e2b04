"""Synthesis beside the thesis's own loop, in size and in time, in one run.

``python -m mlverify.benchmarks.thesis_loop DATA_DIR`` takes the first sample images whose protected label all
networks see (target: the label with the smaller number; object: the true mask of the other digit; uniform
weights) and gives three ways the same time: the loop of Mour (2023) with fixed and with sensitivity cutting
weights (see :mod:`mlverify.benchmarks.thesis`), and ours. ``size x`` is our size over the loop's.
``time x`` is the time in which the loop reached its own last size over the time in which ours reached that
size in its search; the final proof is in our seconds, not in that time.
"""

import argparse
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from ..errors import InputError
from ..synthesis.cutting import Cutting
from ..synthesis.problem import Phase, SynthesisProblem, SynthesisSettings
from ..synthesis.synthesize import synthesize
from ..verifier.budget import Budget
from ..verifier.portfolio import Settings
from ..verifier.session import Judge
from .samples import NETWORKS, Sample, read_network, read_samples, synthesis_problem
from .thesis import LoopOutcome, LoopSettings, ThesisLoop

Trace = list[tuple[float, float]]

HEADER = (
    f"{'network':<9}{'image':<9}"
    f"{'fixed: size':>12}{'s':>6}{'asked':>6}{'sensitivity: size':>19}{'s':>6}{'asked':>6}"
    f"{'ours: size':>12}{'s':>6}{'asked':>6}{'size x (fixed, sens.)':>23}{'time x (fixed, sens.)':>23}"
)


@dataclass(frozen=True, slots=True)
class Ours:
    """What synthesis reached.

    Attributes:
        size: certified.
        seconds: whole time, final proof included.
        queries: to all engines; a gradient step on the bounds is one.
        trace: (seconds, size) as the search went.
    """

    size: float
    seconds: float
    queries: int
    trace: Trace


@dataclass(frozen=True, slots=True)
class Comparison:
    """One image on one network."""

    network: str
    image: str
    fixed: LoopOutcome
    sensitivity: LoopOutcome
    ours: Ours

    @property
    def size_ratios(self) -> tuple[float, float]:
        """Our size over the loop's: fixed, sensitivity weights."""
        return ratio(self.ours.size, self.fixed.size), ratio(self.ours.size, self.sensitivity.size)

    @property
    def time_ratios(self) -> tuple[float, float]:
        """The loop's time to its own size over ours to the same size; 0 where we never reach it."""
        fixed, sensitivity = (
            ratio(loop.seconds, time_to_reach(self.ours.trace, loop.size))
            for loop in (self.fixed, self.sensitivity)
        )
        return fixed, sensitivity

    @property
    def line(self) -> str:
        """For the terminal."""
        fixed, sensitivity, ours = self.fixed, self.sensitivity, self.ours
        sizes, times = self.size_ratios, self.time_ratios
        return (
            f"{self.network:<9}{self.image:<9}"
            f"{fixed.size:>12.4f}{fixed.seconds:>6.1f}{fixed.queries:>6}"
            f"{sensitivity.size:>19.4f}{sensitivity.seconds:>6.1f}{sensitivity.queries:>6}"
            f"{ours.size:>12.4f}{ours.seconds:>6.1f}{ours.queries:>6}"
            f"{sizes[0]:>13.2f}{sizes[1]:>10.2f}{times[0]:>13.1f}{times[1]:>10.1f}"
        )


def ratio(numerator: float, denominator: float) -> float:
    """Quotient of numbers that are not negative; infinite over zero, 1 for zero over zero."""
    if denominator == 0:
        return 1.0 if numerator == 0 else math.inf
    return numerator / denominator


def time_to_reach(trace: Trace, size: float) -> float:
    """Seconds of the first entry that is at least as large; infinity when there is none."""
    return next((seconds for seconds, reached in trace if reached >= size), math.inf)


def compare(
    name: str, image: str, problem: SynthesisProblem, timeout: float, settings: LoopSettings
) -> Comparison:
    """All three on one problem, one after the other."""
    fixed, sensitivity = (
        ThesisLoop(problem, replace(settings, cutting=cutting), Budget.of_seconds(timeout)).run()
        for cutting in (Cutting.FIXED, Cutting.SENSITIVITY)
    )
    return Comparison(name, image, fixed, sensitivity, run_ours(problem, timeout, settings.threads))


def run_ours(problem: SynthesisProblem, timeout: float, threads: int) -> Ours:
    """Synthesis with a trace of its sizes."""
    trace, observe = traced()
    settings = SynthesisSettings(verify=Settings(threads=threads))
    result = synthesize(problem, settings, Budget.of_seconds(timeout), progress=observe)
    trace.append((result.seconds, result.size))
    asked = result.queries
    return Ours(result.size, result.seconds, asked.attack + asked.bounds + asked.bab + asked.milp, trace)


def traced(clock: Callable[[], float] = time.monotonic) -> tuple[Trace, Phase]:
    """An empty trace that starts now, and the observer of synthesis that fills it."""
    trace: Trace = []
    started = clock()

    def observe(name: str, share: float, size: float) -> None:
        del name, share
        trace.append((clock() - started, size))

    return trace, observe


def summary_lines(comparisons: Sequence[Comparison]) -> list[str]:
    """Medians and extremes of the ratios."""
    if not comparisons:
        return ["no rows"]
    lines = []
    for position, weights in enumerate(("fixed", "sensitivity")):
        sizes = [item.size_ratios[position] for item in comparisons]
        times = [item.time_ratios[position] for item in comparisons]
        lines.append(
            f"over {weights} weights, {len(comparisons)} rows: "
            f"size x median {median(sizes):.2f} ({min(sizes):.2f} to {max(sizes):.2f}), "
            f"time x median {median(times):.1f} ({min(times):.1f} to {max(times):.1f})"
        )
    return lines


def problems(folder: Path, images: int) -> Iterator[tuple[str, str, SynthesisProblem]]:
    """(network, image, problem) for the first images that every network sees rightly."""
    networks = {name: read_network(folder, name) for name in NETWORKS}
    for sample in seen_samples(folder)[:images]:
        target, item = sorted(sample.masks)
        for name, network in networks.items():
            yield name, sample.name, synthesis_problem(network, sample, target, item)


def seen_samples(folder: Path) -> list[Sample]:
    """Images whose two labels are the top two of every network."""
    judges = [Judge(read_network(folder, name)) for name in NETWORKS]
    return [sample for sample in read_samples(folder) if _is_seen(sample, judges)]


def _is_seen(sample: Sample, judges: Sequence[Judge]) -> bool:
    labels = sorted(sample.masks)
    rankings = (judge.logits(sample.image[None])[0].argsort() for judge in judges)
    return len(labels) == 2 and all(sorted(ranking[-2:].tolist()) == labels for ranking in rankings)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description="Synthesis beside the loop of the thesis.")
    parser.add_argument("folder", type=Path, metavar="DATA_DIR")
    parser.add_argument("--images", type=int, default=3, metavar="N", help="how many, on every network (3)")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds for each of the three (60)")
    parser.add_argument("--query-timeout", type=float, default=5.0, help="of one MILP in the loop (5)")
    parser.add_argument("--threads", type=int, default=2, help="of torch and the MILP solver (2)")
    options = parser.parse_args(arguments)
    settings = LoopSettings(query_seconds=options.query_timeout, threads=options.threads)
    comparisons: list[Comparison] = []
    print(HEADER, flush=True)
    try:
        for name, image, problem in problems(options.folder, options.images):
            comparisons.append(compare(name, image, problem, options.timeout, settings))
            print(comparisons[-1].line, flush=True)
    except InputError as error:
        raise SystemExit(f"error: {error}") from None
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    print("\n".join(summary_lines(comparisons)))


if __name__ == "__main__":
    main()
