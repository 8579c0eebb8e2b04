"""Synthesis beside three baselines, each on its own objective, with the same verifier and the same time.

``python -m mlverify.benchmarks.baselines DATA_DIR`` takes the first sample images whose two labels all three
networks see (target: the label with the smaller number; object: the true mask of the other digit) and runs, per
network and image:

- the loop of Mour (2023), :mod:`mlverify.benchmarks.thesis`, for the sum of the epsilons;
- MaRVeL's update rule, :mod:`mlverify.benchmarks.marvel`, for the mean width of a pixel's range, clipped to [0, 1];
- Liu's augmented Lagrangian, :mod:`mlverify.benchmarks.liu`, for the volume of the box, as the geometric mean of
  the epsilons over all pixels (those below 1e-5 count as 1e-5);

and after each of them synthesis for the same objective. All are answered by the same portfolio. The table ends with
who is larger on how many images. With ``--csv`` the next run continues where this one was stopped.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from statistics import median

import numpy as np

from ..errors import InputError
from ..synthesis.objective import SMALLEST_WIDTH, Objective
from ..synthesis.problem import SynthesisProblem, SynthesisSettings
from ..synthesis.synthesize import synthesize
from ..verifier.operators import FloatArray
from ..verifier.portfolio import ALL_ENGINES, Settings
from .limits import COLUMNS as LIMIT_COLUMNS
from .limits import Limits, add_limits
from .liu import Liu, LiuSettings
from .marvel import MarvelLoop, MarvelSettings
from .row_file import Row, RowFile
from .synth_table import prove_again
from .thesis import LoopOutcome, LoopSettings, ThesisLoop
from .thesis_loop import problems, ratio

COLUMNS = (
    "network", "image", "baseline", "theirs", "their_seconds", "their_questions", "ours", "our_seconds", "again",
    *LIMIT_COLUMNS,
)  # fmt: skip

HEADER = (
    f"{'network':<9}{'image':<9}{'baseline':<9}{'theirs':>10}{'s':>7}{'asked':>7}{'ours':>10}{'s':>7}"
    f"{'ours/theirs':>13}  proved again"
)


class Baseline(StrEnum):
    """Whose algorithm."""

    THESIS = "thesis"
    MARVEL = "marvel"
    LIU = "liu"


def run_baseline(baseline: Baseline, problem: SynthesisProblem, limits: Limits) -> LoopOutcome:
    """One baseline on a problem whose weights belong to its objective."""
    budget, threads = limits.budget(), limits.threads
    match baseline:
        case Baseline.THESIS:
            return ThesisLoop(problem, LoopSettings(threads=threads, engines=ALL_ENGINES), budget).run()
        case Baseline.MARVEL:
            return MarvelLoop(problem, MarvelSettings(threads=threads), budget).run()
        case Baseline.LIU:
            return Liu(problem, LiuSettings(threads=threads), budget).run()


def problem_for(baseline: Baseline, problem: SynthesisProblem) -> SynthesisProblem:
    """The same problem with the weights and the objective of a baseline."""
    if baseline is Baseline.THESIS:
        return problem
    objective = Objective.LOG_VOLUME if baseline is Baseline.LIU else Objective.MEAN_WIDTH
    pixels = np.bincount(problem.neighbourhood.layers.reshape(-1)).astype(np.float64)
    return replace(problem, weights=pixels, objective=objective)


def value_of(baseline: Baseline, problem: SynthesisProblem, epsilons: FloatArray) -> float:
    """Epsilons (layers,) in the objective of a baseline."""
    match baseline:
        case Baseline.THESIS:
            return float(problem.weights @ epsilons)
        case Baseline.MARVEL:
            region = problem.region(epsilons)
            return float((region.upper - region.lower).mean())
        case Baseline.LIU:
            pixels = np.maximum(epsilons, SMALLEST_WIDTH)[problem.neighbourhood.layers]
            return float(np.exp(np.log(pixels).mean()))


def compare(baseline: Baseline, problem: SynthesisProblem, limits: Limits) -> Mapping[str, str]:
    """Both sides on one problem, one after the other."""
    problem = problem_for(baseline, problem)
    theirs = run_baseline(baseline, problem, limits)
    settings = Settings(threads=limits.threads)
    started = limits.clock()
    ours = synthesize(problem, SynthesisSettings(verify=settings), limits.budget())
    seconds = limits.clock() - started
    again = prove_again(problem, ours, settings, limits.budget())
    return {
        "theirs": repr(value_of(baseline, problem, theirs.epsilons)),
        "their_seconds": f"{theirs.seconds:.1f}",
        "their_questions": str(theirs.queries),
        "ours": repr(value_of(baseline, problem, ours.epsilons)),
        "our_seconds": f"{seconds:.1f}",
        "again": again,
        **limits.fields,
    }


def line(row: Row) -> str:
    """A row for the terminal."""
    theirs, ours = float(row["theirs"]), float(row["ours"])
    return (
        f"{row['network']:<9}{row['image']:<9}{row['baseline']:<9}{theirs:>10.5f}{row['their_seconds']:>7}"
        f"{row['their_questions']:>7}{ours:>10.5f}{row['our_seconds']:>7}{ratio(ours, theirs):>13.2f}"
        f"  {row['again']}"
    )


def summary_lines(rows: Sequence[Row]) -> list[str]:
    """Who is larger on how many images, per baseline."""
    lines = [
        f"{'baseline':<10}{'ours larger':>13}{'theirs larger':>15}{'equal':>7}{'median ours/theirs':>20}"
    ]
    for baseline in Baseline:
        pairs = [
            (float(row["ours"]), float(row["theirs"])) for row in rows if row["baseline"] == baseline.value
        ]
        if not pairs:
            continue
        wins, losses = (
            sum(ours > theirs for ours, theirs in pairs),
            sum(ours < theirs for ours, theirs in pairs),
        )
        middle = median(ratio(ours, theirs) for ours, theirs in pairs)
        lines.append(
            f"{baseline:<10}{f'{wins} of {len(pairs)}':>13}{losses:>15}{len(pairs) - wins - losses:>7}{middle:>20.2f}"
        )
    doubtful = sum(row["again"] != "holds" for row in rows)
    if doubtful:
        lines.append(f"NOT PROVED AGAIN: {doubtful}")
    return lines


def run(
    tasks: Iterator[tuple[str, str, SynthesisProblem]],
    wanted: Sequence[Baseline],
    rows: RowFile,
    limits: Limits,
) -> None:
    """Every row that is not in the file yet, a line for each."""
    print(HEADER, flush=True)
    for network, image, problem in tasks:
        for baseline in wanted:
            key = {"network": network, "image": image, "baseline": baseline.value}
            if rows.key_of(key) not in rows.done:
                rows.add({**key, **compare(baseline, problem, limits)})
            print(line(rows.done[rows.key_of(key)]), flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table and its summary."""
    parser = argparse.ArgumentParser(description="Synthesis beside three baselines on their own objectives.")
    parser.add_argument("folder", type=Path, metavar="DATA_DIR")
    parser.add_argument("--images", type=int, default=10, metavar="N", help="how many, on every network (10)")
    add_limits(parser)
    parser.add_argument(
        "--baseline",
        type=Baseline,
        choices=tuple(Baseline),
        action="append",
        help="only this one; repeatable",
    )
    parser.add_argument("--csv", type=Path, default=Path("baselines.csv"), metavar="OUT.csv", help="rows")
    options = parser.parse_args(arguments)
    limits = Limits.of_options(options)
    wanted = options.baseline or list(Baseline)
    try:
        with closing(RowFile(options.csv, COLUMNS, COLUMNS[:3], limits.fields)) as rows:
            try:
                run(problems(options.folder, options.images), wanted, rows, limits)
            except KeyboardInterrupt:
                print("interrupted", flush=True)
            print("\n".join(summary_lines(list(rows.done.values()))))
    except InputError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
