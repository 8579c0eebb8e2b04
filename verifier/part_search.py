"""Branch and bound on one part of an objective: how large can it become?"""

from bisect import insort
from dataclasses import dataclass, replace
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from .budget import Budget
from .max_ascent import NEXT, Rates, Settling
from .max_bounding import Bounded, Bounding
from .max_branching import children, choose_nodes
from .max_domains import Domain
from .max_parts import Part
from .max_search import SearchSettings, work_of
from .part_record import PartTree

# Sub-problems of a part that are bounded together: more at once go deep where few are needed (a hard set of a
# DOUBLE-MNIST x3 question takes 1.1 s with 16 and 3.1 s with 64), and save time where this share of the leaves is more.
BATCH, MOST_BATCH, BATCH_SHARE = 16, 64, 1 / 16
# Nodes that are tried before one is split, and gradient steps per batch where there are pools. Leaves of a part stay to
# the end, so that choosing well saves more than in a tree that closes them: four synthesis questions took 4.6, 10, 5.1
# and 6.9 s with 4 and 10, as there; 4.7, 8.5, 3.5 and 4.6 with 16 and 14; several times as much with 2 or with 6 steps.
CANDIDATES, POOL_STEPS = 12, 12
# Those that are only evaluated together.
WIDTH = 256
# What a part's bound falls by per work is a mean that forgets by this factor per turn. It starts so high that every
# part gets some thirty turns before what they gained decides.
FORGET = 0.7
FIRST_RATE = 1e-3
# A sub-problem with nothing to split is only short of steps: its relaxation is exact where it is largest.
LAST_STEPS, LAST_RATES = 100, Rates(0.05, 0.05, 0.95)


@dataclass(frozen=True, slots=True, eq=False)
class _Leaf:
    """A sub-problem with its own bound, and what it will be split into.

    Children that are not bounded yet have no proof but their parent's, which is what is kept.
    """

    domain: Domain
    children: tuple[Domain, ...]

    @property
    def key(self) -> tuple[float, int]:
        """The largest bound is last."""
        return self.domain.bound, self.domain.order

    @property
    def size(self) -> int:
        """Bytes, roughly."""
        return self.domain.size + sum(child.size for child in self.children)


_KEY = attrgetter("key")


class PartSearch:
    """The tree of one part; every leaf stays, so that its largest bound is a bound on the part."""

    def __init__(self, part: Part, root: Domain, settings: SearchSettings, device: str = "cpu") -> None:
        """Start from the parameters of ``root``, whose bound may be infinite."""
        self.part = part
        self.bounding = Bounding(part.program, device, exact_windows=settings.windows(part.program))
        self._settings = settings
        # the root is bounded first: it is all that it would be split into
        self._open = [_Leaf(root, (root,))]
        self._stuck: list[Domain] = []
        # orders of leaves whose bounds are those in float64
        self._sure: set[int] = set()
        self._made = 0
        # false while leaves are in hand: an exception there loses them, and the others bound nothing
        self.intact = True
        self._width = max(1, len(part.columns))
        self.seen = self.work = 0
        self.rate = FIRST_RATE
        self.memory = self._open[0].size
        self.lower = -np.inf
        self.best: NDArray[np.float64] | None = None

    @property
    def upper(self) -> float:
        """Upper bound on the part."""
        if not self.intact:
            return np.inf
        stuck = max((domain.bound for domain in self._stuck), default=-np.inf)
        return max(stuck, self._open[-1].domain.bound if self._open else -np.inf)

    @property
    def promise(self) -> float:
        """How far the upper bound may fall by more splits."""
        if not self._open:
            return 0.0
        reached = max((domain.bound for domain in self._stuck), default=-np.inf)
        return self._open[-1].domain.bound - max(self.lower, reached)

    @property
    def tree(self) -> PartTree:
        """All leaves."""
        leaves = (*(leaf.domain for leaf in self._open), *self._stuck)
        return PartTree(self.part, self.bounding.layout, self.bounding.sure.windows, leaves)

    def advance(self, budget: Budget) -> None:
        """Split the leaves with the largest bounds, and bound what that makes of them."""
        upper, work = self.upper, self.work
        self.intact = False
        taken = self._take()
        self._split(self._bounded(taken, self._steps, NEXT, budget), budget, last=False)
        self.intact = True
        gained = (upper - self.upper) / (self.work - work) if upper < np.inf else self.rate
        self.rate = FORGET * self.rate + (1 - FORGET) * gained

    def _take(self) -> list[Domain]:
        """What the leaves with the largest bounds are split into."""
        least = min(MOST_BATCH, max(BATCH, int(BATCH_SHARE * len(self._open))))
        taken: list[Domain] = []
        while self._open and len(taken) < least:
            leaf = self._open.pop()
            taken += leaf.children
            self.memory -= leaf.size
            self._sure.discard(leaf.domain.order)
        return taken

    @property
    def _steps(self) -> int:
        return POOL_STEPS if self.bounding.has_pools else self._settings.steps

    def _bounded(self, domains: list[Domain], steps: int, rates: Rates, budget: Budget) -> Bounded:
        self.seen += len(domains)
        self.work += work_of(len(domains), self._width, steps)
        batch = self.bounding.bound(domains, steps, np.inf, budget, rates, Settling.BEST)
        point = batch.sweep.point
        _, nodes = self.bounding.fast.exact(point)
        values = self.bounding.fast.atoms.forward(point, nodes)[0]
        column = int(values.argmax())
        if float(values[column]) > self.lower:
            self.lower = float(values[column])
            self.best = point[:, column].cpu().double().numpy()
        return batch

    def _split(self, batch: Bounded, budget: Budget, *, last: bool) -> None:
        rows = range(len(batch.domains))
        nodes = choose_nodes(self.bounding, batch, rows, CANDIDATES, np.inf, WIDTH)
        late = []
        for row, domain, node in zip(rows, batch.domains, nodes, strict=True):
            if node is not None:
                leaf = _Leaf(domain, tuple(children(self.bounding, batch, row, domain, node, self._made + 1)))
                self._made += len(leaf.children)
                insort(self._open, leaf, key=_KEY)
                self.memory += leaf.size
            elif last:
                self._stuck.append(domain)
                self.memory += domain.size
            else:
                late.append(domain)
        if late:
            self._split(self._bounded(late, LAST_STEPS, LAST_RATES, budget), budget, last=True)

    def confirm(self) -> None:
        """Replace all leaves' bounds by those in float64."""
        sure = self._confirmed([leaf.domain for leaf in self._open])
        leaves = [replace(leaf, domain=domain) for leaf, domain in zip(self._open, sure, strict=True)]
        self._open = sorted(leaves, key=_KEY)
        self._stuck = self._confirmed(self._stuck)
        # last: where something breaks this off before, bounds may be the old ones
        self._sure = {domain.order for domain in (*sure, *self._stuck)}

    def _confirmed(self, leaves: list[Domain]) -> list[Domain]:
        new = [domain for domain in leaves if domain.order not in self._sure]
        found: dict[int, Domain] = {}
        for start in range(0, len(new), WIDTH):
            sure = self.bounding.confirmed(new[start : start + WIDTH], np.inf)
            found |= {domain.order: domain for domain in sure}
        return [found.get(domain.order, domain) for domain in leaves]
