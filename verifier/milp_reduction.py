"""What of a network a clause depends on over a region: the walk back from the output.

Everything that is decided by the bounds is left out before a program exists: neurons that are always on
or off, elements that hardly move, pooling windows with one possible winner, and whatever only those read
(the reductions of MIPVerify, Tjeng et al. 2019, section 4.2, and some that need the whole graph).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import DisagreementError
from .affine import AffineStep, IndexArray, affine_step
from .interval import Interval, ValueBounds
from .milp_constants import constant_values
from .network import Network
from .operators import FloatArray, MaxPool, Operator, Relu
from .windows import OUTSIDE

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class ReluPlan:
    """The needed elements of a ReLU by their phase (flat indices).

    Attributes:
        source: number of the value it reads.
        slope: its negative slope.
        on: always at or above zero, output = input.
        off: always at or below zero, output = slope * input.
        unstable: can be on either side; each costs a variable and a binary.
    """

    source: int
    slope: float
    on: IndexArray
    off: IndexArray
    unstable: IndexArray


@dataclass(frozen=True, slots=True, eq=False)
class PoolPlan:
    """The needed windows of a max-pool by what they cost.

    A pool that reads a ReLU is planned as ``max(0, inputs of the ReLU)``, so that the ReLU needs no
    binaries of its own.

    Attributes:
        source: number of the value that holds the contestants (the ReLU's input if ``floored``).
        copied: windows with one possible winner (flat output indices).
        winners: that winner, flat index into the source.
        open: windows with several contestants (flat output indices).
        floored: (open,) whether zero is a contestant too.
        window: (contestants,) position in ``open`` of every contestant.
        contestants: (contestants,) flat indices into the source, grouped by window.
    """

    source: int
    copied: IndexArray
    winners: IndexArray
    open: IndexArray
    floored: Mask
    window: IndexArray
    contestants: IndexArray


Plan = AffineStep | ReluPlan | PoolPlan


@dataclass(frozen=True, slots=True, eq=False)
class Reduction:
    """What has to be built.

    Attributes:
        plans: per operator, None for those that nothing needs.
        needed: per value, flat mask of the elements that move and are read.
        constants: per value, flat: the number of every element that does not move, NaN for the others.
    """

    plans: tuple[Plan | None, ...]
    needed: tuple[Mask, ...]
    constants: tuple[FloatArray, ...]


def reduce_network(network: Network, bounds: ValueBounds, outputs: IndexArray) -> Reduction:
    """Walk back from some scores to the pixels.

    Args:
        network: the network.
        bounds: on every value over the region.
        outputs: the scores that are asked about.

    Raises:
        DisagreementError: for a bound that is NaN, which no comparison here would notice.
    """
    _check(bounds)
    constants = constant_values(network, bounds)
    needed = [np.zeros(value.size, dtype=np.bool_) for value in constants]
    needed[network.output][outputs] = True
    plans: list[Plan | None] = [None] * len(network.operators)
    for number in range(network.output, -1, -1):
        needed[number] &= np.isnan(constants[number])
        if number and needed[number].any():
            plans[number - 1] = _planned(network, bounds, number, np.flatnonzero(needed[number]))
            _pull(network.operators[number - 1], plans[number - 1], needed)
    return Reduction(tuple(plans), tuple(needed), constants)


def _check(bounds: ValueBounds) -> None:
    for number, interval in enumerate(bounds.values):
        if not (interval.lower <= interval.upper).all():
            raise DisagreementError(
                f"bounds of value {number} are NaN or reversed; please report this network"
            )


def _planned(network: Network, bounds: ValueBounds, number: int, rows: IndexArray) -> Plan:
    operator = network.operators[number - 1]
    match operator:
        case Relu():
            return _relu(operator, bounds[operator.inputs[0]], rows)
        case MaxPool():
            return _pool(network, operator, bounds, rows)
        case _:
            return affine_step(operator, [network.shape_of(source) for source in operator.inputs], rows)


def _pull(operator: Operator, plan: Plan | None, needed: list[Mask]) -> None:
    """Mark what a plan reads."""
    match plan:
        case AffineStep():
            for source, matrix in zip(operator.inputs, plan.matrices, strict=True):
                needed[source][matrix.indices] = True
        case ReluPlan():
            read = (plan.on, plan.unstable, plan.off) if plan.slope else (plan.on, plan.unstable)
            needed[plan.source][np.concatenate(read)] = True
        case PoolPlan():
            needed[plan.source][plan.winners] = True
            needed[plan.source][plan.contestants] = True


def _relu(operator: Relu, bounds: Interval, rows: IndexArray) -> ReluPlan:
    lower, upper = bounds.lower.reshape(-1)[rows], bounds.upper.reshape(-1)[rows]
    on, off = lower >= 0, upper <= 0
    return ReluPlan(operator.inputs[0], operator.negative_slope, rows[on], rows[off & ~on], rows[~on & ~off])


def _pool(network: Network, operator: MaxPool, bounds: ValueBounds, rows: IndexArray) -> PoolPlan:
    source, floored = _contestants(network, operator)
    lower, upper = (
        _at(array, operator.windows[rows]) for array in (bounds[source].lower, bounds[source].upper)
    )
    sure = lower.argmax(axis=1)
    best = lower.max(axis=1)
    zero = floored & (best < 0)
    kept = upper > np.maximum(best, 0.0 if floored else -np.inf)[:, None]
    # the input with the best lower bound can be a single number, which "upper > best" would leave out
    kept[np.arange(len(rows)), sure] |= ~zero
    single = (kept.sum(axis=1) == 1) & ~zero
    winners = operator.windows[rows[single], kept[single].argmax(axis=1)]
    window, position = np.nonzero(kept[~single])
    contestants = operator.windows[rows[~single]][window, position]
    return PoolPlan(source, rows[single], winners, rows[~single], zero[~single], window, contestants)


def _contestants(network: Network, operator: MaxPool) -> tuple[int, bool]:
    """The value whose elements compete, and whether zero competes with them."""
    source = operator.inputs[0]
    producer = network.operators[source - 1] if source else None
    if isinstance(producer, Relu) and producer.negative_slope == 0:
        return producer.inputs[0], True
    return source, False


def _at(bound: FloatArray, windows: IndexArray) -> FloatArray:
    """A bound for every entry of the windows; padding never wins."""
    padded = np.append(bound.reshape(-1), -np.inf)
    return np.asarray(padded[np.where(windows == OUTSIDE, len(padded) - 1, windows)])
