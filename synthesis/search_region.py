"""Where robust vectors of few bands may still be: boxes that together hold every one of them.

Every box reaches from zero to its corner. A witness cuts each box whose corner it lies below into one box per band,
which ends just short of the witness there (the local upper bounds of Klamroth, Lacour and Vanderpooten 2015, made
only where the objective is largest). The largest objective at a corner bounds that of every robust vector; once no
witness lies below the best corner, no bound from these witnesses is better.
"""

import numpy as np
from numpy.typing import NDArray

from ..verifier.budget import Budget
from ..verifier.operators import FloatArray
from .objective import Goal
from .shape import Shape

# With so many bands or fewer; the boxes multiply with them.
FEW_BANDS = 8
# Sums of a few rounded float64 products: what is reported is raised by this share.
ROUNDING = 1e-12
# Best boxes that are cut before the others are looked at again.
AT_ONCE = 32


class SearchRegion:
    """Boxes over bands; its bound holds however few cuts were made."""

    def __init__(self, goal: Goal, shape: Shape) -> None:
        """One box with all vectors of the shape whose worth would fall if any band shrank: others are no better.

        Args:
            goal: the objective; layers of one band count together.
            shape: allowed vectors.
        """
        self._shape = shape
        self._firsts = np.searchsorted(shape.bands, np.arange(shape.count))
        self.goal = Goal(goal.objective, np.add.reduceat(goal.weights, self._firsts))
        growing = shape.generators @ shape.grows(goal.weights) > 0
        self._corners = growing[None, self._firsts].astype(np.float64)
        self._values = self._valued(self._corners)
        # whether the no-goods at hand were tried on it
        self._tried = np.zeros(1, dtype=bool)
        self._nogoods = np.zeros((0, shape.count))
        self._used: set[int] = set()

    @property
    def bound(self) -> float:
        """No robust vector is worth more."""
        if not len(self._values):
            return -np.inf
        largest = float(self._values.max())
        return largest + ROUNDING * abs(largest)

    @property
    def used(self) -> list[int]:
        """Numbers of the no-goods that cut boxes since they were given."""
        return sorted(self._used)

    def give(self, deviations: FloatArray) -> None:
        """The no-goods (count, layers) to cut with, in place of those before; cuts that were made stay."""
        # a band stays below a no-good when its layer that deviates most does
        self._nogoods = self.bands(deviations)
        self._tried[:] = False
        self._used = set()

    def leading(self, count: int, budget: Budget) -> FloatArray:
        """The best corners (at most ``count``, bands) that no no-good lies below, best first.

        When the budget ends before that, the best ones so far, whatever lies below them.
        """
        while True:
            first = self._best(count)
            open_ = first[~self._tried[first]]
            if not len(open_) or budget.exhausted:
                return np.asarray(self._corners[first])
            self._cut(open_[:AT_ONCE])

    def epsilons(self, corners: FloatArray) -> FloatArray:
        """(count, layers): the largest vectors of the shape below corners (count, bands)."""
        return np.asarray(self._shape.below(corners)[:, self._shape.bands])

    def bands(self, deviations: FloatArray) -> FloatArray:
        """(count, bands): the largest deviation of each band's layers."""
        return np.asarray(np.maximum.reduceat(deviations, self._firsts, axis=1))

    def _best(self, count: int) -> NDArray[np.int64]:
        return np.argsort(-self._values, kind="stable")[:count]

    def _cut(self, rows: NDArray[np.int64]) -> None:
        below = np.asarray((self._nogoods[None] <= self._corners[rows][:, None]).all(axis=2))
        self._tried[rows] = True
        kept, parts = np.ones(len(self._values), dtype=bool), []
        for row, inside in zip(rows, below, strict=True):
            if inside.any():
                kept[row] = False
                parts.append(self._parts(self._corners[row], np.flatnonzero(inside)))
        if parts:
            self._corners, self._values = self._corners[kept], self._values[kept]
            self._tried = self._tried[kept]
            self._append(np.unique(np.concatenate(parts), axis=0))

    def _parts(self, corner: FloatArray, inside: NDArray[np.int64]) -> FloatArray:
        """The box without what one no-good forbids, by the no-good that leaves the least worth."""
        bands, ends = np.arange(len(corner)), self._nogoods[inside]
        cut = np.tile(corner, (len(inside), len(corner), 1))
        cut[:, bands, bands] = np.nextafter(ends, -1.0)
        # nothing is below zero
        values = np.where(ends > 0, self._valued(cut.reshape(-1, len(bands))).reshape(ends.shape), -np.inf)
        chosen = int(np.argmin(values.max(axis=1)))
        self._used.add(int(inside[chosen]))
        return np.asarray(cut[chosen][ends[chosen] > 0])

    def _append(self, corners: FloatArray) -> None:
        """Add boxes, but none that lies in another one."""
        within = [bool((corner <= self._corners).all(axis=1).any()) for corner in corners]
        among = (corners[:, None] <= corners[None]).all(axis=2).sum(axis=1) > 1
        new = corners[~np.array(within, dtype=bool) & ~among]
        self._corners = np.concatenate([self._corners, new])
        self._values = np.concatenate([self._values, self._valued(new)])
        self._tried = np.concatenate([self._tried, np.zeros(len(new), dtype=bool)])

    def _valued(self, corners: FloatArray) -> FloatArray:
        """(count,) the objective at the largest vectors of the shape below corners (count, bands)."""
        return self.goal.values(self._shape.below(corners))
