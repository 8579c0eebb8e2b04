"""Branch and bound on a max program: batches of sub-problems until none can bring all atoms to zero.

Search runs in float32; a sub-problem counts as closed when float64 confirms the bound with the parameters
that are kept. Sub-problems with the largest bound come first; at the memory ceiling those with the smallest
do, which close soonest.
"""

from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from .budget import Budget
from .max_bounding import Bounded, Bounding
from .max_branching import children, choose_nodes
from .max_domains import Domain
from .max_program import MaxProgram
from .part_record import PartsProof

# Numbers per tensor of a batch (32 MB in float32): larger ones leave the caches and gain nothing.
BATCH_NUMBERS = 8_000_000
# Sub-problems that are bounded in about the time that one is.
SMALL_BATCH = 64
# What a gradient step costs however few numbers it moves, in numbers.
STEP_WORK = 20_000


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """Effort of a search.

    Attributes:
        batch: sub-problems bounded together, fewer for large programs.
        steps: gradient steps per batch.
        pool_steps: the same where the program has max-pools.
        most_steps: the same for small batches.
        root_steps: the same before the first split.
        tighten_steps: the same on the bounds of inner values.
        candidates: nodes that are tried by a quick bound before one is split.
        memory: ceiling in bytes on what open sub-problems keep.
        windows: whether parts with such a program may take ReLUs over its first windows as they are.
    """

    batch: int = 256
    steps: int = 4
    pool_steps: int = 10
    most_steps: int = 20
    root_steps: int = 20
    tighten_steps: int = 8
    candidates: int = 4
    memory: int = 1 << 30
    windows: Callable[[MaxProgram], bool] = lambda program: True


class SearchEnd(StrEnum):
    """How a search ended."""

    REFUTED = "refuted"
    CANDIDATE = "candidate"
    STUCK = "nothing left to split"
    FULL = "memory ceiling"
    BROKEN = "an earlier run was broken off"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, eq=False)
class SearchOutcome:
    """What a search found.

    Attributes:
        end: why it ended; only REFUTED is a proof.
        bound: upper bound on the smallest atom of the set over the region.
        candidate: (moving pixels,) at which all atoms may reach zero, to be replayed; or None.
        domains: sub-problems bounded.
        leaves: the closed sub-problems, which together cover the region; empty without a proof.
        parts: the proof where trees of parts add up to it.
    """

    end: SearchEnd
    bound: float
    candidate: NDArray[np.float64] | None
    domains: int
    leaves: tuple[Domain, ...]
    parts: PartsProof | None = None


def work_of(count: int, width: int, steps: int) -> int:
    """About how many numbers are touched by bounding ``count`` sub-problems of ``width`` columns."""
    return steps * (count * width + STEP_WORK)


class Search:
    """Shows that at no point of the region all atoms of a sub-problem reach zero together; can be continued."""

    def __init__(self, bounding: Bounding, root: Domain, margin: float, settings: SearchSettings) -> None:
        """Start from an undecided sub-problem.

        Args:
            bounding: of the program.
            root: the sub-problem.
            margin: how far below zero a bound must be to count.
            settings: of the search.
        """
        self._bounding = bounding
        self._atoms = sorted(root.atoms)
        self._margin = margin
        self._settings = settings
        self._open: list[tuple[float, int, Domain]] = []
        self._bytes = 0
        self._leaves: list[Domain] = []
        self._made = self._seen = 0
        program = bounding.program
        self._width = max(1, len(program.pixels) + program.nodes)
        self._batch = max(1, min(settings.batch, BATCH_NUMBERS // self._width))
        self.work = 0
        # false while sub-problems are in hand: an exception there loses them, and what is left covers no region
        self._intact = True
        self._push(root)

    def run(self, budget: Budget, work: float = np.inf) -> SearchOutcome:
        """Go on until everything is closed, or something ends it; a stopped search can be run again.

        Args:
            budget: stops the search.
            work: so does this much of :attr:`work` in all, at which it stops in every run alike.
        """
        if not self._intact:
            return self._ended(SearchEnd.BROKEN)
        while self._open:
            if budget.exhausted or self.work >= work:
                return self._ended(SearchEnd.STOPPED)
            if self._bytes > 2 * self._settings.memory:
                return self._ended(SearchEnd.FULL)
            self._intact = False
            taken = self._take()
            steps = self._steps(len(taken))
            batch = self._bounding.bound(taken, steps, self._margin, budget)
            self._seen += len(taken)
            self.work += work_of(len(taken), self._width, steps)
            candidate = self._bounding.candidate(batch.sweep.point, self._atoms)
            going = self._expand(batch)
            self._intact = True
            if candidate is not None:
                return self._ended(SearchEnd.CANDIDATE, candidate)
            if not going:
                return self._ended(SearchEnd.STUCK)
        return self._ended(SearchEnd.REFUTED)

    def _steps(self, count: int) -> int:
        """More where the batch is small, which costs hardly more than one sub-problem, or has pools to weigh."""
        settings = self._settings
        least = settings.pool_steps if self._bounding.has_pools else settings.steps
        return max(least, min(settings.most_steps, SMALL_BATCH * settings.steps // count))

    @property
    def seen(self) -> int:
        """Sub-problems bounded so far."""
        return self._seen

    def _expand(self, batch: Bounded) -> bool:
        """Close or split every sub-problem of a batch; false when one can be neither."""
        confirmed = self._bounding.confirmed(batch.domains, -self._margin)
        still = [row for row, domain in enumerate(confirmed) if domain.bound >= -self._margin]
        self._leaves += [domain for domain in confirmed if domain.bound < -self._margin]
        nodes = choose_nodes(
            self._bounding, batch, still, self._settings.candidates, self._margin, 4 * self._batch
        )
        for row, node in zip(still, nodes, strict=True):
            domain = confirmed[row]
            if node is None:
                self._push(domain)
                continue
            for child in children(self._bounding, batch, row, domain, node, self._made + 1):
                self._push(child)
                self._made += 1
        return all(node is not None for node in nodes)

    def _push(self, domain: Domain) -> None:
        insort(self._open, (domain.bound, domain.order, domain))
        self._bytes += domain.size

    def _take(self) -> list[Domain]:
        """The largest bounds first, or the smallest where memory runs out."""
        full = self._bytes > self._settings.memory
        part = slice(0, self._batch) if full else slice(max(0, len(self._open) - self._batch), None)
        domains = [domain for _, _, domain in self._open[part]]
        del self._open[part]
        self._bytes -= sum(domain.size for domain in domains)
        return domains

    def _ended(self, end: SearchEnd, candidate: NDArray[np.float64] | None = None) -> SearchOutcome:
        bounds = [leaf.bound for leaf in self._leaves] + [domain.bound for _, _, domain in self._open[-1:]]
        unknown = end in (SearchEnd.CANDIDATE, SearchEnd.BROKEN)
        bound = np.inf if unknown else max(bounds, default=-np.inf)
        leaves = tuple(self._leaves) if end is SearchEnd.REFUTED else ()
        return SearchOutcome(end, float(bound), candidate, self._seen, leaves)
