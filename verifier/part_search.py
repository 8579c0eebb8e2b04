"""Branch and bound on one part of an objective: how large can it become?"""

from bisect import insort

import numpy as np
from numpy.typing import NDArray

from .budget import Budget
from .max_ascent import Rates
from .max_bounding import Bounded, Bounding
from .max_branching import children, choose_nodes
from .max_domains import Domain
from .max_parts import Part
from .max_search import SearchSettings, work_of
from .part_record import PartTree

# Sub-problems of a part that are bounded together: more at once go deep where few are needed (a hard set of a
# DOUBLE-MNIST x3 question takes 1.1 s with 16 and 3.1 s with 64).
BATCH = 16
# Those that are only evaluated together.
WIDTH = 256
# What a part's bound falls by per work is a mean that forgets by this factor per turn. It starts so high that every
# part gets some thirty turns before what they gained decides.
FORGET = 0.7
FIRST_RATE = 1e-3
# A sub-problem with nothing to split is only short of steps: its relaxation is exact where it is largest.
LAST_STEPS, LAST_RATES = 100, Rates(0.05, 0.05, 0.95)


class PartSearch:
    """The tree of one part; every leaf stays, so that its largest bound is a bound on the part."""

    def __init__(self, part: Part, root: Domain, settings: SearchSettings, device: str = "cpu") -> None:
        """Start from the parameters of ``root``, whose bound may be infinite."""
        self.part = part
        self.bounding = Bounding(part.program, device, exact_windows=True)
        self._settings = settings
        self._open: list[tuple[float, int, Domain]] = [(root.bound, root.order, root)]
        self._stuck: list[Domain] = []
        self._made = 0
        # false while leaves are in hand: an exception there loses them, and the others bound nothing
        self.intact = True
        self._width = max(1, len(part.columns))
        self.seen = self.work = 0
        self.rate = FIRST_RATE
        self.memory = root.size
        self.lower = -np.inf
        self.best: NDArray[np.float64] | None = None

    @property
    def upper(self) -> float:
        """Upper bound on the part."""
        if not self.intact:
            return np.inf
        stuck = max((domain.bound for domain in self._stuck), default=-np.inf)
        return max(stuck, self._open[-1][0] if self._open else -np.inf)

    @property
    def promise(self) -> float:
        """How far the upper bound may fall by more splits."""
        if not self._open:
            return 0.0
        reached = max((domain.bound for domain in self._stuck), default=-np.inf)
        return self._open[-1][0] - max(self.lower, reached)

    @property
    def tree(self) -> PartTree:
        """All leaves."""
        leaves = (*(domain for _, _, domain in self._open), *self._stuck)
        return PartTree(self.part, self.bounding.layout, self.bounding.sure.windows, leaves)

    def advance(self, budget: Budget) -> None:
        """Bound and split the leaves with the largest bounds."""
        upper, work = self.upper, self.work
        self.intact = False
        taken = [domain for _, _, domain in self._open[-BATCH:]]
        del self._open[-BATCH:]
        self.memory -= sum(domain.size for domain in taken)
        self._split(self._bounded(taken, self._steps, None, budget), budget, last=False)
        self.intact = True
        gained = (upper - self.upper) / (self.work - work) if upper < np.inf else self.rate
        self.rate = FORGET * self.rate + (1 - FORGET) * gained

    @property
    def _steps(self) -> int:
        return self._settings.pool_steps if self.bounding.has_pools else self._settings.steps

    def _bounded(self, domains: list[Domain], steps: int, rates: Rates | None, budget: Budget) -> Bounded:
        self.seen += len(domains)
        self.work += work_of(len(domains), self._width, steps)
        chosen = {} if rates is None else {"rates": rates}
        batch = self.bounding.bound(domains, steps, np.inf, budget, **chosen)
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
        nodes = choose_nodes(self.bounding, batch, rows, self._settings.candidates, np.inf, WIDTH)
        late = []
        for row, domain, node in zip(rows, batch.domains, nodes, strict=True):
            if node is not None:
                for child in children(self.bounding, batch, row, domain, node, self._made + 1):
                    insort(self._open, (child.bound, child.order, child))
                    self._made += 1
                    self.memory += child.size
            elif last:
                self._stuck.append(domain)
                self.memory += domain.size
            else:
                late.append(domain)
        if late:
            self._split(self._bounded(late, LAST_STEPS, LAST_RATES, budget), budget, last=True)

    def confirm(self) -> None:
        """Replace all leaves' bounds by those in float64."""
        leaves = [domain for _, _, domain in self._open]
        found: list[Domain] = []
        for start in range(0, len(leaves), WIDTH):
            found += self.bounding.confirmed(leaves[start : start + WIDTH], np.inf)
        self._open = sorted((domain.bound, domain.order, domain) for domain in found)
        self._stuck = list(self.bounding.confirmed(self._stuck, np.inf)) if self._stuck else []
