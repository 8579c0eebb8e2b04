"""Rows and variables of the nonlinear operators (MIPVerify: Tjeng et al. 2019, section 4.1)."""

from dataclasses import dataclass

import numpy as np

from .affine import AffineMap, IndexArray
from .interval import Interval
from .milp_program import ProgramBuilder
from .milp_reduction import PoolPlan, ReluPlan
from .operators import FloatArray

# Bounds are float64 sums of up to some thousand terms, right to about 1e-13 of activations of order one, and
# solvers let rows be missed by 1e-9 to 1e-8. Every bound that enters the program is moved outward by far more
# than both, relative to its size and never less than this of one unit. It can't be smaller: with 1e-8 here
# and a tolerance of 1e-9, Gurobi 13's presolve cut off optima (0.60 became -0.88, a wrong proof), because the
# big-M of a ReLU that is unstable only by rounding was of the tolerances' order.
OUTWARD = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Range:
    """Bounds (elements,) of some elements, moved outward."""

    lower: FloatArray
    upper: FloatArray

    @classmethod
    def of(cls, lower: FloatArray, upper: FloatArray) -> "Range":
        """Move bounds outward by ``OUTWARD``."""
        slack = OUTWARD * np.maximum(1.0, np.maximum(np.abs(lower), np.abs(upper)))
        return cls(lower - slack, upper + slack)

    @classmethod
    def at(cls, interval: Interval, index: IndexArray) -> "Range":
        """Outward bounds of the elements ``index`` (flat) of a value."""
        return cls.of(interval.lower.reshape(-1)[index], interval.upper.reshape(-1)[index])


@dataclass(frozen=True, slots=True, eq=False)
class MilpEncoder:
    """Turns pixels, unstable ReLUs and open pools into columns and rows of a program."""

    program: ProgramBuilder

    @property
    def columns(self) -> int:
        """Number of columns so far."""
        return self.program.columns

    def pixels(self, lower: FloatArray, upper: FloatArray) -> None:
        """Add the pixels that move."""
        self.program.continuous(lower, upper)

    def relu(self, plan: ReluPlan, unstable: AffineMap, bounds: Interval) -> AffineMap:
        """Add the unstable neurons of a ReLU."""
        return self._variables(encode_relu(self.program, plan, unstable, bounds))

    def pool(self, plan: PoolPlan, contestants: AffineMap, bounds: Interval) -> AffineMap:
        """Add the open windows of a pool."""
        return self._variables(encode_pool(self.program, plan, contestants, bounds))

    def _variables(self, columns: IndexArray) -> AffineMap:
        return AffineMap(self.program.at(columns), np.zeros(len(columns)))


def encode_relu(program: ProgramBuilder, plan: ReluPlan, inner: AffineMap, bounds: Interval) -> IndexArray:
    """Add y = relu(x) for the unstable elements x = ``inner``.

    One binary a per element, 1 for the positive side. With l <= x <= u and slope p:
    ``y >= x``, ``y >= p x``, ``y <= x - (1 - p) l (1 - a)``, ``y <= p x + (1 - p) u a``.

    Returns:
        The columns of y.
    """
    reach = Range.at(bounds, plan.unstable)
    keep = 1.0 - plan.slope
    output = program.continuous(plan.slope * reach.lower, reach.upper)
    on = program.binary(len(output))
    inner = inner.widened(program.columns)
    above = program.at(output) - inner.matrix
    program.at_least(above, inner.constant)
    program.at_most(above - program.at(on, keep * reach.lower), inner.constant - keep * reach.lower)
    shifted = program.at(output) - plan.slope * inner.matrix
    program.at_most(shifted - program.at(on, keep * reach.upper), plan.slope * inner.constant)
    if plan.slope:
        program.at_least(shifted, plan.slope * inner.constant)
    return output


def encode_pool(program: ProgramBuilder, plan: PoolPlan, inner: AffineMap, bounds: Interval) -> IndexArray:
    """Add m = max(x_1, ..., x_n), or max(0, x_1, ..., x_n) where zero competes, for the windows of x = ``inner``.

    One binary a_i per contestant, at most one of them 1; none means that zero wins. With U_i the largest
    upper bound of the others: ``m >= x_i``, ``m <= x_i + (U_i - l_i) (1 - a_i)``, ``m <= sum u_i a_i``.

    Returns:
        The columns of m.
    """
    reach = Range.at(bounds, plan.contestants)
    windows = len(plan.open)
    output = _pool_outputs(program, plan, reach)
    wins = program.binary(len(plan.contestants))
    inner = inner.widened(program.columns)
    above = program.at(output[plan.window]) - inner.matrix
    program.at_least(above, inner.constant)
    gap = _largest_other(plan, reach.upper) - reach.lower
    program.at_most(above + program.at(wins, gap), inner.constant + gap)
    highest = program.at(output) - program.grouped(plan.window, wins, reach.upper, windows)
    program.at_most(highest, np.zeros(windows))
    _one_winner(program, plan, wins)
    return output


def _pool_outputs(program: ProgramBuilder, plan: PoolPlan, reach: Range) -> IndexArray:
    floor = np.where(plan.floored, 0.0, -np.inf)
    lower, upper = floor.copy(), floor.copy()
    np.maximum.at(lower, plan.window, reach.lower)
    np.maximum.at(upper, plan.window, reach.upper)
    return program.continuous(lower, upper)


def _largest_other(plan: PoolPlan, upper: FloatArray) -> FloatArray:
    """For every contestant, the largest upper bound among the others of its window (and zero)."""
    floor = np.where(plan.floored, 0.0, -np.inf)
    first, second = floor.copy(), np.full(len(floor), -np.inf)
    np.maximum.at(first, plan.window, upper)
    leads = upper == first[plan.window]
    # two leaders: each is the other's best rival
    count = np.bincount(plan.window, leads, minlength=len(floor))
    np.maximum.at(second, plan.window[~leads], upper[~leads])
    second = np.maximum(np.where(count > 1, first, second), floor)
    return np.asarray(np.where(leads, second[plan.window], first[plan.window]))


def _one_winner(program: ProgramBuilder, plan: PoolPlan, wins: IndexArray) -> None:
    windows = len(plan.open)
    total = program.grouped(plan.window, wins, 1.0, windows)
    program.equal(total[~plan.floored], np.ones(int((~plan.floored).sum())))
    # zero may win instead; a lone contestant against zero needs no row
    several = plan.floored & (np.bincount(plan.window, minlength=windows) > 1)
    program.at_most(total[several], np.ones(int(several.sum())))
