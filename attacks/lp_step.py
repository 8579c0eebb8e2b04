"""The linear program of MLA-LP: the smallest perturbation in L-infinity that satisfies linear rows.

    min z   such that   A r <= b,   lower <= r <= upper,   |r_i| <= z

has one column and two rows per pixel when written out. It is solved here over the l rows of A alone.
For multipliers u >= 0 of the rows, the best r is known pixel by pixel (each goes against the sign of A^T u,
as far as z and its bounds allow), and the best z follows by sorting. So a master program keeps a convex
combination of such responses, its multipliers ask for the next one, and the two values bracket the optimum:
Dantzig-Wolfe decomposition, that is, a cutting-plane method on the l-dimensional dual.
"""

import math
from dataclasses import dataclass
from enum import Enum

import highspy
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_RELATIVE_GAP = 1e-4
"""HiGHS works to 1e-7 on numbers of size one; below 1e-6 the two values stop closing in."""

_NO_PROGRESS = 1e-6
_VIOLATION = 1e-7
"""Relative to the size of the rows; HiGHS itself guarantees 1e-7."""


class LpStatus(Enum):
    """How the linear program ended."""

    OPTIMAL = "optimal"
    INFEASIBLE = "infeasible"
    UNFINISHED = "unfinished"


@dataclass(frozen=True, slots=True)
class LpStep:
    """The answer of the linear program.

    Attributes:
        step: r, shape (inputs,), within its bounds exactly. When infeasible: the r that violates the
            rows least in (weighted) sum.
        size: z, the largest absolute entry of r.
        bound: a proven lower bound on the optimal z (0 unless optimal or unfinished).
        violation: the sum of weighted violations of A r <= b; 0 when feasible.
        status: whether the optimum was reached.
        columns: responses generated.
    """

    step: Floats
    size: float
    bound: float
    violation: float
    status: LpStatus
    columns: int


def smallest_step(
    rows: Floats,
    limits: Floats,
    lower: Floats,
    upper: Floats,
    weights: Floats | None = None,
    gap: float = _RELATIVE_GAP,
    columns: int = 500,
) -> LpStep:
    """Solve the linear program.

    Args:
        rows: A, shape (rows, inputs).
        limits: b, shape (rows,).
        lower: lower bounds of r, shape (inputs,); need not be below 0.
        upper: upper bounds, same shape, at least `lower`.
        weights: price of violating each row when not all can hold, shape (rows,); by default all 1.
        gap: relative distance to the proven bound at which to stop.
        columns: responses to generate at most, in each of the two phases.

    Returns:
        The smallest step, or the least violating one when there is none.

    Reference:
        N. Zhou et al., "Generating multi-label adversarial examples by linear programming", IJCNN 2020,
        eqs (10) and (14).
    """
    # Rows of unit length: the violations and multipliers of different labels become comparable.
    scale = np.abs(rows).max(axis=1)
    scale[scale == 0] = 1.0
    pricing = _Pricing(rows / scale[:, None], lower, upper)
    master = _Master(limits / scale, np.ones(len(limits)) if weights is None else weights)
    violation, complete = _least_violation(pricing, master, columns)
    if violation > _VIOLATION:
        status = LpStatus.INFEASIBLE if complete else LpStatus.UNFINISHED
        return _result(pricing, master, 0.0, violation, status)
    return _least_size(pricing, master, gap, columns)


def _least_violation(pricing: "_Pricing", master: "_Master", columns: int) -> tuple[float, bool]:
    """Phase one: minimise the violation; stops as soon as there is none."""
    master.price_violation()
    master.add(pricing.smallest_response())
    for _ in range(columns):
        violation, multipliers, level = master.solve()
        if violation <= _VIOLATION:
            return 0.0, True
        response = pricing.furthest_response(multipliers)
        bound = float(response.products @ multipliers) - level
        # The bound is below the least violation: nothing is left to gain, or no solution can exist.
        if bound >= -_NO_PROGRESS * violation:
            return violation, True
        master.add(response)
    return master.solve()[0], False


def _least_size(pricing: "_Pricing", master: "_Master", gap: float, columns: int) -> LpStep:
    """Phase two: minimise z without violation, from the columns of phase one."""
    master.price_size()
    best = 0.0
    for _ in range(columns):
        size, multipliers, level = master.solve()
        response = pricing.best_response(multipliers)
        reduced = response.size + float(response.products @ multipliers) - level
        best = max(best, size + min(reduced, 0.0))
        if size - best <= gap * max(size, np.finfo(np.float64).tiny) or reduced >= 0:
            return _result(pricing, master, best, 0.0, LpStatus.OPTIMAL)
        master.add(response)
    master.solve()
    return _result(pricing, master, best, 0.0, LpStatus.UNFINISHED)


def _result(
    pricing: "_Pricing", master: "_Master", bound: float, violation: float, status: LpStatus
) -> LpStep:
    step = np.clip(master.combination(), pricing.lower, pricing.upper)
    size = float(np.abs(step).max(initial=0.0))
    return LpStep(step, size, bound, violation, status, len(master.responses))


@dataclass(frozen=True, slots=True)
class _Response:
    """One admissible r with its z, and A r."""

    step: Floats
    size: float
    products: Floats


class _Pricing:
    """Answers multipliers with the best r and z, pixel by pixel."""

    def __init__(self, rows: Floats, lower: Floats, upper: Floats) -> None:
        self.rows = rows
        self.lower = lower
        self.upper = upper
        # Below this z some pixel could not stay within its bounds.
        self._smallest: float = np.maximum(lower, -upper).max(initial=0.0).item()

    def smallest_response(self) -> _Response:
        """The r closest to zero."""
        return self._response(np.clip(0.0, self.lower, self.upper))

    def furthest_response(self, multipliers: Floats) -> _Response:
        """The r that lowers u.A r most, whatever its size."""
        slopes = self._slopes(multipliers)
        step = np.where(slopes > 0, self.lower, self.upper)
        return self._response(np.where(slopes == 0, np.clip(0.0, self.lower, self.upper), step))

    def best_response(self, multipliers: Floats) -> _Response:
        """The r and z that minimise z + u.A r."""
        slopes = self._slopes(multipliers)
        reach = np.where(slopes > 0, -self.lower, self.upper)
        size = self._best_size(np.abs(slopes), reach)
        step = np.clip(-np.sign(slopes) * size, self.lower, self.upper)
        return self._response(step)

    def _best_size(self, gains: Floats, reach: Floats) -> float:
        """Where the slope 1 - sum of gains of the pixels that can still move further changes sign."""
        order = np.argsort(-reach)
        total = np.cumsum(gains[order])
        index = int(np.searchsorted(total, 1.0, side="right"))
        if index == len(order):
            return self._smallest
        return max(self._smallest, float(reach[order[index]]))

    def _slopes(self, multipliers: Floats) -> Floats:
        active = np.flatnonzero(multipliers)
        product: Floats = multipliers[active] @ self.rows[active]
        return product

    def _response(self, step: Floats) -> _Response:
        return _Response(step, float(np.abs(step).max(initial=0.0)), self.rows @ step)


class _Master:
    """Convex combinations of responses: variables are one violation per row, then one weight each."""

    def __init__(self, limits: Floats, weights: Floats) -> None:
        self.responses: list[_Response] = []
        self._count = len(limits)
        self._weights = weights
        self._unit = math.inf
        self._solver = highspy.Highs()
        self._solver.setOptionValue("output_flag", False)
        self._solver.setOptionValue("threads", 1)
        infinity = highspy.kHighsInf
        none = np.array([], dtype=np.int32)
        for limit in limits:
            self._solver.addRow(-infinity, float(limit), 0, none, np.array([]))
        self._solver.addRow(1.0, 1.0, 0, none, np.array([]))
        for row in range(self._count):
            self._solver.addCol(
                float(weights[row]), 0.0, infinity, 1, np.array([row], dtype=np.int32), np.array([-1.0])
            )

    def price_violation(self) -> None:
        """Minimise the weighted violation."""
        self._unit = math.inf

    def price_size(self) -> None:
        """Forbid violations and minimise z, in units of the z at hand (tolerances are absolute)."""
        size = float(np.abs(self.combination()).max(initial=0.0))
        self._unit = size if size > 0 else 1.0
        for row in range(self._count):
            self._solver.changeColBounds(row, 0.0, 0.0)
            self._solver.changeColCost(row, 0.0)
        for index, response in enumerate(self.responses):
            self._solver.changeColCost(self._count + index, response.size / self._unit)

    def add(self, response: _Response) -> None:
        """Offer another response."""
        self.responses.append(response)
        entries = np.append(response.products, 1.0)
        cost = response.size / self._unit
        places = np.arange(len(entries), dtype=np.int32)
        self._solver.addCol(cost, 0.0, highspy.kHighsInf, len(entries), places, entries)

    def solve(self) -> tuple[float, Floats, float]:
        """The objective, the multipliers u >= 0 of the rows, and that of the convexity row."""
        self._solver.run()
        if self._solver.getModelStatus() != highspy.HighsModelStatus.kOptimal:
            self._loosen()
            self._solver.clearSolver()
            self._solver.run()
        solution = self._solver.getSolution()
        unit = self._unit if math.isfinite(self._unit) else 1.0
        duals = np.array(solution.row_dual) * unit
        value = float(self._solver.getInfo().objective_function_value) * unit
        return value, np.maximum(-duals[:-1], 0.0), float(duals[-1])

    def _loosen(self) -> None:
        """Let pass in phase two what phase one let pass, where it makes the program infeasible."""
        if math.isfinite(self._unit):
            for row in range(self._count):
                self._solver.changeColBounds(row, 0.0, 2 * _VIOLATION)

    def combination(self) -> Floats:
        """The r of the last solution."""
        solution = np.array(self._solver.getSolution().col_value)[self._count :]
        total: Floats = np.zeros_like(self.responses[0].step)
        for weight, response in zip(solution, self.responses, strict=True):
            if weight > 0:
                total += weight * response.step
        return total
