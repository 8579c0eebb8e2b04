"""How close to maximal synthesis comes: sizes, upper bounds, closed layers and questions to complete engines.

``python -m mlverify.benchmarks.synth_max DATA_DIR TARGETS.csv`` reads what
:mod:`mlverify.benchmarks.synth_table` reads and takes the first rows of each network. Per row: the size as a
multiple of the row's size to reach, the bound that no robust neighbourhood exceeds and the gap to it, the share of
layers that are at their cap or broken by a replayed witness within the tolerance (and within five times that), and
how many questions reached a complete engine. ``--bands 4`` ties the layers into four bands.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np

from ..errors import InputError
from ..synthesis.maximality import TOLERANCE, ClosingSettings
from ..synthesis.problem import SynthesisProblem, SynthesisSettings
from ..synthesis.result import LayerStatus, Synthesis
from ..synthesis.shape import Shape
from ..synthesis.synthesize import synthesize
from ..verifier.budget import Budget
from ..verifier.portfolio import Settings
from .samples import NETWORKS, read_network, read_samples, synthesis_problem
from .synth_rows import Target, read_targets, select

# The wider tolerance at which closed layers are counted as well.
WIDER = 5.0
HEADER = (
    f"{'network':<9}{'image':<9}{'size':>9}{'ratio':>7}{'bound':>9}{'gap':>8}{'closed':>8}"
    f"{'at 5x':>7}{'complete':>9}{'seconds':>9}  proof"
)


@dataclass(frozen=True, slots=True)
class Row:
    """One image on one network.

    Attributes:
        target: the row of the targets.
        size: certified.
        bound: no robust neighbourhood is larger; infinity when none was found.
        closed: share of layers at their cap or tight within the tolerance.
        closed_wider: the same within five times the tolerance.
        complete: questions that reached a complete engine.
        seconds: of the synthesis.
        proof: engine of the final proof.
    """

    target: Target
    size: float
    bound: float
    closed: float
    closed_wider: float
    complete: int
    seconds: float
    proof: str

    @property
    def ratio(self) -> float:
        """Size as a multiple of the size to reach."""
        return self.size / self.target.size

    @property
    def gap(self) -> float:
        """How far the size stays below the bound, as a share of the bound."""
        return 1.0 - self.size / self.bound

    @property
    def line(self) -> str:
        """For the terminal."""
        return (
            f"{self.target.network:<9}{self.target.image:<9}{self.size:>9.4f}{self.ratio:>7.3f}{self.bound:>9.3f}"
            f"{self.gap:>8.1%}{self.closed:>8.0%}{self.closed_wider:>7.0%}{self.complete:>9}{self.seconds:>9.1f}"
            f"  {self.proof}"
        )


def measure(problem: SynthesisProblem, target: Target, timeout: float, threads: int, tolerance: float) -> Row:
    """Synthesis on one row."""
    settings = SynthesisSettings(Settings(threads=threads), closing=ClosingSettings(tolerance))
    found = synthesize(problem, settings, Budget.of_seconds(timeout))
    bound = float("inf") if found.upper_bound is None else found.upper_bound
    wider = _closed(found, WIDER * tolerance)
    return Row(
        target,
        found.size,
        bound,
        found.closed,
        wider,
        found.queries.complete,
        found.seconds,
        found.proof.engine,
    )


def _closed(found: Synthesis, tolerance: float) -> float:
    near = [
        item.status is LayerStatus.CAP
        or (item.breaks_at is not None and item.breaks_at <= epsilon + tolerance)
        for item, epsilon in zip(found.maximality, found.epsilons, strict=True)
    ]
    return float(np.mean(near))


def summary(rows: Sequence[Row]) -> list[str]:
    """One line per network and one over all."""
    names = list(dict.fromkeys(row.target.network for row in rows))
    groups = [(name, [row for row in rows if row.target.network == name]) for name in names]
    return [_summed(name, group) for name, group in [*groups, ("all", list(rows))] if group]


def _summed(name: str, rows: Sequence[Row]) -> str:
    def middle(value: Callable[[Row], float]) -> float:
        return float(median(value(row) for row in rows))

    return (
        f"{name:<9}{len(rows)} rows: ratio median {middle(lambda row: row.ratio):.3f}, least "
        f"{min(row.ratio for row in rows):.3f}; gap median {middle(lambda row: row.gap):.1%}; closed mean "
        f"{sum(row.closed for row in rows) / len(rows):.0%} (within 5 times the tolerance "
        f"{sum(row.closed_wider for row in rows) / len(rows):.0%}); complete questions median "
        f"{middle(lambda row: row.complete):g}, most {max(row.complete for row in rows)}"
    )


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="How close to maximal synthesis comes.")
    parser.add_argument("folder", type=Path, metavar="DATA_DIR")
    parser.add_argument("targets", type=Path, metavar="TARGETS.csv")
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds per row (120)")
    parser.add_argument("--rows", type=int, default=3, help="first rows of each network (3)")
    parser.add_argument("--network", metavar="NAME", choices=NETWORKS, help="this network only")
    parser.add_argument("--bands", type=int, help="tie the layers into so many bands")
    parser.add_argument("--tolerance", type=float, default=TOLERANCE, help="of tight layers, pixel units")
    parser.add_argument("--threads", type=int, default=2, help="threads of the MILP solver (2)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table and its summary."""
    options = _arguments(arguments)
    rows: list[Row] = []
    try:
        samples = {sample.name: sample for sample in read_samples(options.folder)}
        targets = read_targets(options.targets)
        print(HEADER, flush=True)
        for name in NETWORKS if options.network is None else (options.network,):
            network = read_network(options.folder, name)
            for target in select(targets, name, 1)[: options.rows]:
                problem = synthesis_problem(network, samples[target.image], target.label, target.item)
                if options.bands is not None:
                    problem = replace(problem, shape=Shape.tied(len(problem.weights), options.bands))
                rows.append(measure(problem, target, options.timeout, options.threads, options.tolerance))
                print(rows[-1].line, flush=True)
    except (InputError, KeyError) as error:
        raise SystemExit(f"error: {error}") from None
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    print("\n".join(summary(rows)))


if __name__ == "__main__":
    main()
