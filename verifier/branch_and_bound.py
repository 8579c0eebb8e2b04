"""Branch and bound on ReLU splits with optimised slopes and split multipliers (beta-CROWN, Wang et al. 2021).

One run refutes one set of atoms: it shows that no input of the region brings all of them to zero, by
bounding a convex combination of them on sub-problems that together cover the region. Sub-problems go through
the bounds in batches; inner bounds are the root's, sharpened by the splits.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .bab_batch import Batch, Start
from .bound_types import Bounds
from .budget import Budget
from .domains import Domain, Split, children, relus
from .linear_bounds import LinearBounds
from .operators import FloatArray
from .property import Clause


@dataclass(frozen=True, slots=True)
class BabSettings:
    """Effort of the search.

    Attributes:
        batch: sub-problems bounded together.
        steps: gradient steps on slopes and multipliers per batch.
        root_steps: the same at the root.
        candidates: splits that are tried by a quick bound before one is taken.
        most_domains: ceiling on open sub-problems (memory); the search gives up beyond it.
    """

    batch: int = 32
    steps: int = 12
    root_steps: int = 60
    candidates: int = 6
    most_domains: int = 100_000


class BabEnd(StrEnum):
    """How a run ended."""

    REFUTED = "refuted"
    CANDIDATE = "candidate"
    STUCK = "no ReLU left to split"
    FULL = "too many sub-problems"
    STOPPED = "time limit"


@dataclass(frozen=True, slots=True, eq=False)
class BabOutcome:
    """What a run found.

    Attributes:
        end: why it ended; only REFUTED is a proof.
        bound: upper bound on the smallest atom of the set over the region.
        candidate: an input that may bring all atoms to zero, to be replayed; or None.
        domains: sub-problems bounded.
    """

    end: BabEnd
    bound: float
    candidate: NDArray[np.float64] | None
    domains: int


class BranchAndBound:
    """Runs on one region of one network."""

    def __init__(self, linear: LinearBounds, root: Bounds, settings: BabSettings) -> None:
        """Use float64 ``linear`` bounds; ``root`` holds bounds of every value over the region (batch 1)."""
        self._linear = linear
        self._root = root
        self._settings = settings
        self._relus = relus(linear)

    def refute(self, clause: Clause, atoms: Sequence[int], margin: float, budget: Budget) -> BabOutcome:
        """Show that no input of the region brings all ``atoms`` of ``clause`` above ``-margin`` together.

        Args:
            clause: the atoms.
            atoms: the set to refute.
            margin: how far below zero a bound must be to count.
            budget: checked between batches.
        """
        start = Start.of(self._linear, self._root, clause, atoms)
        search = _Search(start, self._relus, self._settings)
        heap = [Domain(-np.inf, 0)]
        closed, made, seen, steps = -np.inf, 1, 0, self._settings.root_steps
        while heap:
            if budget.exhausted:
                return BabOutcome(BabEnd.STOPPED, max(closed, -heap[0].priority), None, seen)
            if len(heap) > self._settings.most_domains:
                return BabOutcome(BabEnd.FULL, max(closed, -heap[0].priority), None, seen)
            batch = [heapq.heappop(heap) for _ in range(min(self._settings.batch, len(heap)))]
            step = search.bound(batch, steps, margin)
            seen, steps = seen + len(batch), self._settings.steps
            if step.candidate is not None:
                return BabOutcome(BabEnd.CANDIDATE, np.inf, step.candidate, seen)
            for domain, bound, split in zip(step.domains, step.bounds, step.splits, strict=True):
                if bound < -margin:
                    closed = max(closed, bound)
                elif split is None:
                    return BabOutcome(
                        BabEnd.STUCK, max(bound, closed, -heap[0].priority if heap else bound), None, seen
                    )
                else:
                    for child in children(domain, split, bound, made):
                        heapq.heappush(heap, child)
                    made += 2
        return BabOutcome(BabEnd.REFUTED, float(closed), None, seen)


@dataclass(frozen=True, slots=True, eq=False)
class _Step:
    """A bounded batch: domains with new multipliers, their bounds, and where to split the open ones."""

    domains: tuple[Domain, ...]
    bounds: tuple[float, ...]
    splits: tuple[Split | None, ...]
    candidate: NDArray[np.float64] | None


class _Search:
    """Bounds batches of sub-problems for one set of atoms, and chooses where to split them."""

    def __init__(self, start: Start, sources: dict[int, int], settings: BabSettings) -> None:
        self._start = start
        self._sources = sources
        self._settings = settings

    def bound(self, domains: Sequence[Domain], steps: int, margin: float) -> _Step:
        """Bound a batch, look for candidates, and choose splits."""
        batch = Batch(self._start, domains)
        for _ in range(steps):
            if batch.step(margin):
                break
        if steps > self._settings.steps:
            # the root's slopes become the start of all other batches
            self._start = batch.as_start()
        upper, inputs, seen = batch.evaluate()
        candidate = self._candidate(inputs)
        values = np.minimum(batch.best, upper)
        kept = batch.with_multipliers()
        splits = self._choose(kept, batch, seen, values, margin)
        return _Step(kept, tuple(map(float, values)), splits, candidate)

    def _candidate(self, inputs: Tensor) -> NDArray[np.float64] | None:
        """An input among the relaxation's maximisers at which all atoms reach zero, if there is one."""
        with torch.no_grad():
            atoms = self._start.linear.module(inputs) @ self._start.weights.T + self._start.offsets
        values, row = atoms.amin(dim=1).max(dim=0)
        return inputs[row].cpu().numpy() if float(values) >= 0 else None

    def _choose(
        self,
        domains: Sequence[Domain],
        batch: Batch,
        seen: dict[int, Tensor],
        values: FloatArray,
        margin: float,
    ) -> tuple[Split | None, ...]:
        """Where to split the open sub-problems: the best of few candidates, by the bounds of both children."""
        ranked, index = self._ranked(batch.bounds, seen)
        if ranked is None:
            return tuple(None for _ in domains)
        count = min(self._settings.candidates, ranked.shape[1])
        scores, positions = ranked.topk(count, dim=1)
        options: list[list[Split]] = []
        for row, value in enumerate(values):
            usable = [] if value < -margin else positions[row][scores[row] > 0].tolist()
            options.append([_split_at(index, position) for position in usable])
        return self._filtered(domains, batch, options)

    def _ranked(self, bounds: Bounds, seen: dict[int, Tensor]) -> tuple[Tensor | None, list[tuple[int, int]]]:
        """Scores (batch, all ReLUs) of how much a ReLU's relaxation costs (Bunel et al. 2020, BaBSR)."""
        scores: list[Tensor] = []
        index: list[tuple[int, int]] = []
        for relu, source in self._sources.items():
            if relu not in seen:
                continue
            low, high = bounds.lower[source].flatten(1), bounds.upper[source].flatten(1)
            rows = seen[relu][:, 0].flatten(1)
            unstable = (low < 0) & (high > 0)
            width = torch.where(unstable, high - low, torch.ones_like(high))
            triangle = -low * high / width
            cost = rows.clamp(min=0) * triangle + (-rows).clamp(min=0) * torch.minimum(high, -low)
            scores.append(torch.where(unstable, cost + torch.finfo(cost.dtype).tiny, torch.zeros_like(cost)))
            index.append((relu, low.shape[1]))
        return (torch.cat(scores, dim=1) if scores else None), index

    def _filtered(
        self, domains: Sequence[Domain], batch: Batch, options: Sequence[Sequence[Split]]
    ) -> tuple[Split | None, ...]:
        """The candidate whose children have the lowest bounds together (filtered smart branching)."""
        trials = [(row, split) for row, splits in enumerate(options) if len(splits) > 1 for split in splits]
        gains: dict[tuple[int, Split], float] = {}
        if trials:
            both = [children(domains[row], split, 0.0, 0) for row, split in trials]
            parents = [row for row, _ in trials for _ in range(2)]
            upper = batch.quick([child for pair in both for child in pair], parents)
            for number, trial in enumerate(trials):
                gains[trial] = float(upper[2 * number] + upper[2 * number + 1])
        return tuple(
            min(splits, key=lambda split: gains.get((row, split), 0.0)) if splits else None
            for row, splits in enumerate(options)
        )


def _split_at(index: Sequence[tuple[int, int]], position: int) -> Split:
    for relu, size in index:
        if position < size:
            return Split(relu, position, True)
        position -= size
    raise IndexError("no such neuron")
