"""The values of a reduced network as affine expressions over pixels and the outputs of what is left nonlinear.

The walk is the same whatever the expressions are for; an encoder decides what an unstable ReLU or an open
pool becomes (rows of a MILP, nodes of branch and bound).
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from scipy import sparse

from .affine import AffineMap, AffineStep, IndexArray
from .interval import Interval, ValueBounds
from .milp_reduction import Plan, PoolPlan, Reduction, ReluPlan
from .network import Network
from .operators import FloatArray


class Encoder(Protocol):
    """Receives what is left of a network, in order, and answers with expressions over its columns."""

    @property
    def columns(self) -> int:
        """Number of columns so far."""

    def pixels(self, lower: FloatArray, upper: FloatArray) -> AffineMap:
        """The pixels that move, with their bounds."""

    def relu(self, plan: ReluPlan, source: AffineMap, bounds: Interval) -> AffineMap:
        """The unstable neurons of a ReLU that reads ``source``."""

    def pool(self, plan: PoolPlan, source: AffineMap, bounds: Interval) -> AffineMap:
        """The open windows of a pool whose contestants are in ``source``."""


def reduced_values(
    encoder: Encoder, network: Network, bounds: ValueBounds, reduction: Reduction, last: int
) -> list[AffineMap]:
    """The values 0 to ``last`` in terms of the encoder's columns, which are added on the way."""
    values = [_pixels(encoder, bounds[0], reduction)]
    for operator, plan in zip(network.operators[:last], reduction.plans, strict=False):
        number = len(values)
        inputs = [values[source] for source in operator.inputs]
        still = _still(reduction, number)
        if plan is None:
            values.append(still)
        else:
            values.append(_value(encoder, plan, inputs, values, bounds, still))
    return values


def _pixels(encoder: Encoder, region: Interval, reduction: Reduction) -> AffineMap:
    moving = np.flatnonzero(reduction.needed[0])
    variables = encoder.pixels(region.lower.reshape(-1)[moving], region.upper.reshape(-1)[moving])
    return _placed(_still(reduction, 0), [(moving, variables)])


def _still(reduction: Reduction, number: int) -> AffineMap:
    """The elements of a value that do not move; the others are not built yet (NaN)."""
    constants = reduction.constants[number]
    return AffineMap(sparse.csr_matrix((len(constants), 0)), constants)


def _placed(base: AffineMap, parts: Sequence[tuple[IndexArray, AffineMap]]) -> AffineMap:
    """``base`` (whose matrix is empty) with rows replaced."""
    variables = max([base.variables, *(part.variables for _, part in parts)])
    constant = base.constant.copy()
    # one gather from all parts, with an empty row for what none of them replaces
    given = [part.widened(variables).matrix for _, part in parts]
    stacked = sparse.vstack([*given, sparse.csr_matrix((1, variables))], format="csr")
    source = np.full(len(constant), stacked.shape[0] - 1)
    first = 0
    for rows, part in parts:
        source[rows] = first + np.arange(len(rows))
        constant[rows] = part.constant
        first += len(rows)
    return AffineMap(stacked[source], constant)


def _value(
    encoder: Encoder,
    plan: Plan,
    inputs: Sequence[AffineMap],
    values: Sequence[AffineMap],
    bounds: ValueBounds,
    still: AffineMap,
) -> AffineMap:
    match plan:
        case AffineStep():
            # the rows that are not needed are empty already
            built = plan.apply(inputs, encoder.columns)
            return AffineMap(built.matrix, np.where(np.isnan(plan.constant), still.constant, built.constant))
        case ReluPlan():
            source = values[plan.source]
            unstable = encoder.relu(plan, source, bounds[plan.source])
            off = source.rows(plan.off)
            falling = AffineMap(
                plan.slope * off.matrix, plan.slope * off.constant if plan.slope else off.constant * 0
            )
            parts = [(plan.on, source.rows(plan.on)), (plan.unstable, unstable), (plan.off, falling)]
        case PoolPlan():
            source = values[plan.source]
            windows = encoder.pool(plan, source, bounds[plan.source])
            parts = [(plan.copied, source.rows(plan.winners)), (plan.open, windows)]
    return _placed(still, parts)
