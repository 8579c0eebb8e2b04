"""Counterexamples that teach: what one witness says about every neighbourhood, and the bound all of them give.

A witness deviates from the clean image by some amount in each layer. Any epsilons that reach these amounts in
every layer let it in, so they are not robust: the amounts are a no-good. No-goods answer questions without an
engine, and the best vector of the shape that none of them forbids is an upper bound on every robust one
(the hitting-set side of an implicit hitting-set loop).
"""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, milp

from ..verifier.budget import Budget
from ..verifier.operators import FloatArray
from .objective import SMALLEST_WIDTH, Goal, Objective
from .search_region import FEW_BANDS, SearchRegion
from .shape import Order, Shape

# The program over the no-goods is solved to HiGHS's own tolerances (1e-6 on rows and integrality, of numbers no
# larger than 1): its bound is raised by this share, and once by it in absolute terms, before it is reported.
SLACK = 1e-5
# The logarithm is replaced by tangents at these many points, geometrically spaced: 3 % above it at most.
TANGENTS = 40
# More no-goods than this make the program slow without making its bound much better; the strongest are kept.
MOST_USED = 400


@dataclass(frozen=True, slots=True, eq=False)
class NoGood:
    """A witness and how far it deviates.

    Attributes:
        deviation: (layers,) largest deviation per layer, pixel units; exact in float64.
        image: float32, replayed.
    """

    deviation: FloatArray
    image: NDArray[np.float32]

    @classmethod
    def of(
        cls, image: NDArray[np.float32], clean: NDArray[np.float32], layers: NDArray[np.int64]
    ) -> "NoGood":
        """The no-good of a witness (channels, height, width); the difference of float32 numbers is exact."""
        difference = np.abs(image.astype(np.float64) - clean.astype(np.float64)).max(axis=0)
        deviation = np.zeros(int(layers.max()) + 1)
        np.maximum.at(deviation, layers.reshape(-1), difference.reshape(-1))
        return cls(deviation, image)

    def forbids(self, epsilons: FloatArray) -> bool:
        """Whether epsilons (layers,) let the witness in."""
        return bool((self.deviation <= epsilons).all())


@dataclass(frozen=True, slots=True, eq=False)
class UpperBound:
    """What no robust vector exceeds.

    Attributes:
        value: of the objective.
        epsilons: (layers,) the vector that would reach it, or None when none was found in time.
        grounds: the no-goods that it rests on.
    """

    value: float
    epsilons: FloatArray | None
    grounds: tuple[NoGood, ...] = ()


@dataclass(slots=True, eq=False)
class NoGoods:
    """All no-goods of one run that no other one dominates."""

    items: list[NoGood] = field(default_factory=list)
    _rows: FloatArray | None = None

    def add(self, found: NoGood) -> bool:
        """Keep a no-good unless one that is kept forbids all it does; whether it is kept."""
        if self.items:
            rows = self.deviations()
            if (rows <= found.deviation).all(axis=1).any():
                return False
            useful = np.flatnonzero(~(found.deviation <= rows).all(axis=1))
            self.items = [self.items[number] for number in useful]
            self._rows = np.concatenate([rows[useful], found.deviation[None]])
        self.items.append(found)
        return True

    def forbidding(self, epsilons: FloatArray) -> NoGood | None:
        """A witness against epsilons (layers,), None when none is known."""
        if not self.items:
            return None
        found = np.flatnonzero((self.deviations() <= epsilons).all(axis=1))
        return self.items[found[0]] if len(found) else None

    def deviations(self) -> FloatArray:
        """(no-goods, layers)."""
        if self._rows is None or len(self._rows) != len(self.items):
            self._rows = np.array([item.deviation for item in self.items])
        return self._rows

    def upper_bound(self, goal: Goal, shape: Shape, seconds: float) -> UpperBound:
        """A bound on the objective of every robust vector of the shape.

        For lexicographic, and for every objective but max-min and log-volume, it bounds the size (or the mean
        width). The supremum is meant: a robust vector stays strictly below some deviation of every witness.

        Args:
            goal: the objective; layers of weight 0 count as growing, which only raises the bound.
            shape: allowed vectors.
            seconds: for the search; when they end, its bound so far is still one.
        """
        if not self.items:
            largest = np.ones(len(goal.weights))
            return UpperBound(goal.value(largest), largest)
        if shape.count <= FEW_BANDS:
            return self._in_boxes(goal, shape, seconds)
        strongest = np.argsort(self.deviations() @ goal.weights)[:MOST_USED]
        grounds = tuple(self.items[number] for number in strongest)
        found = _Program(self.deviations()[strongest], goal, shape).solve(seconds)
        return replace(found, grounds=grounds)

    def _in_boxes(self, goal: Goal, shape: Shape, seconds: float) -> UpperBound:
        region, budget = SearchRegion(goal, shape), Budget.of_seconds(seconds)
        region.give(self.deviations())
        best = region.epsilons(region.leading(1, budget))[0]
        return UpperBound(region.bound, best, tuple(self.items[number] for number in region.used))


class _Program:
    """Maximise the objective over bands, below some deviation of every no-good.

    Columns: an epsilon per band, a choice per no-good and band, for logarithms their value per band, for the
    smallest epsilon its value.
    """

    def __init__(self, deviations: FloatArray, goal: Goal, shape: Shape) -> None:
        firsts = np.searchsorted(shape.bands, np.arange(shape.count))
        # a band stays below a deviation when its layer that deviates most does
        self._deviations = np.maximum.reduceat(deviations, firsts, axis=1) if len(deviations) else deviations
        self._weights = np.add.reduceat(goal.weights, firsts)
        self._goal, self._shape = goal, shape
        self._bands = shape.count
        self._rows: list[sparse.csr_matrix] = []
        self._limits: list[FloatArray] = []
        self._choices = len(deviations) * self._bands
        logs = self._bands if goal.objective is Objective.LOG_VOLUME else 0
        self._columns = self._bands + self._choices + logs + int(goal.objective is Objective.MAX_MIN)

    def solve(self, seconds: float) -> UpperBound:
        self._choose()
        self._ordered()
        cost, lower, upper = self._objective()
        integrality = np.zeros(self._columns)
        integrality[self._bands : self._bands + self._choices] = 1
        constraints = (
            [LinearConstraint(sparse.vstack(self._rows, format="csr"), ub=np.concatenate(self._limits))]
            if self._rows
            else []
        )
        answer = milp(
            -cost,
            integrality=integrality,
            bounds=Bounds(lower, upper),
            constraints=constraints,
            options={"time_limit": max(seconds, 0.1), "mip_rel_gap": 1e-6},
        )
        bound = None if answer.mip_dual_bound is None else -float(answer.mip_dual_bound)
        trivial = self._goal.value(np.ones(len(self._shape.bands)))
        if bound is None or not np.isfinite(bound):
            return UpperBound(trivial, None)
        best = None if answer.x is None else np.clip(answer.x[: self._bands], 0.0, 1.0)[self._shape.bands]
        raised = bound + SLACK * (abs(bound) + float(np.abs(cost).max()))
        return UpperBound(min(raised, trivial), best)

    def _add(self, matrix: sparse.spmatrix, limit: FloatArray) -> None:
        self._rows.append(sparse.csr_matrix(matrix))
        self._limits.append(limit)

    def _choose(self) -> None:
        """``e <= deviation + (1 - deviation) (1 - z)``, and one z at least per no-good."""
        number = np.arange(self._choices)
        if not len(number):
            return
        band, column = number % self._bands, self._bands + number
        flat = self._deviations.reshape(-1)
        shape = (self._choices, self._columns)
        below = sparse.csr_matrix((np.ones(len(number)), (number, band)), shape=shape)
        below += sparse.csr_matrix((1.0 - flat, (number, column)), shape=shape)
        self._add(below, np.ones(len(number)))
        # nothing is strictly below 0
        able = flat > 0
        chosen = sparse.csr_matrix(
            (-np.ones(int(able.sum())), (number[able] // self._bands, column[able])),
            shape=(len(self._deviations), self._columns),
        )
        self._add(chosen, -np.ones(len(self._deviations)))

    def _ordered(self) -> None:
        sign = {Order.FREE: 0.0, Order.NON_INCREASING: 1.0, Order.NON_DECREASING: -1.0}[self._shape.order]
        if sign == 0.0 or self._bands < 2:
            return
        near = np.arange(self._bands - 1)
        steps = sparse.csr_matrix(
            (-sign * np.ones(len(near)), (near, near)), shape=(len(near), self._columns)
        )
        steps += sparse.csr_matrix(
            (sign * np.ones(len(near)), (near, near + 1)), shape=(len(near), self._columns)
        )
        self._add(steps, np.zeros(len(near)))

    def _objective(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Costs to maximise and bounds of all columns."""
        cost, lower, upper = np.zeros(self._columns), np.zeros(self._columns), np.ones(self._columns)
        match self._goal.objective:
            case Objective.MAX_MIN:
                cost[-1] = 1.0
                growing = np.flatnonzero(self._weights > 0)
                rows = np.arange(len(growing))
                smallest = sparse.csr_matrix(
                    (np.ones(len(growing)), (rows, np.full(len(growing), self._columns - 1))),
                    shape=(len(growing), self._columns),
                )
                smallest -= sparse.csr_matrix(
                    (np.ones(len(growing)), (rows, growing)), shape=(len(growing), self._columns)
                )
                self._add(smallest, np.zeros(len(growing)))
            case Objective.LOG_VOLUME:
                logs = np.arange(self._columns - self._bands, self._columns)
                cost[logs], lower[logs], upper[logs] = self._weights, np.log(SMALLEST_WIDTH), 0.0
                self._tangents(logs)
            case Objective.MEAN_WIDTH:
                cost[: self._bands] = self._weights / self._weights.sum()
            case _:
                cost[: self._bands] = self._weights
        return cost, lower, upper

    def _tangents(self, logs: NDArray[np.int64]) -> None:
        """``log e <= log a + (e - a) / a`` for every a: the tangents lie above the logarithm."""
        for point in np.geomspace(SMALLEST_WIDTH, 1.0, TANGENTS):
            rows = np.arange(self._bands)
            below = sparse.csr_matrix(
                (np.ones(self._bands), (rows, logs)), shape=(self._bands, self._columns)
            )
            below -= sparse.csr_matrix(
                (np.full(self._bands, 1.0 / point), (rows, rows)), shape=(self._bands, self._columns)
            )
            self._add(below, np.full(self._bands, np.log(point) - 1.0))
