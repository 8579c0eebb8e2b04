"""The values of a reduced network as affine expressions over pixels and the outputs of what is left nonlinear.

The walk is the same whatever the expressions are for; an encoder decides what an unstable ReLU or an open
pool becomes (rows of a MILP, nodes of branch and bound).
"""

from typing import Protocol

import numpy as np
from scipy import sparse

from .affine import AffineMap, AffineStep, IndexArray, with_columns
from .interval import Interval, ValueBounds
from .milp_reduction import Plan, PoolPlan, Reduction, ReluPlan
from .network import Network
from .operators import FloatArray


class Encoder(Protocol):
    """Receives what is left of a network, in order, and answers with expressions over its columns."""

    @property
    def columns(self) -> int:
        """Number of columns so far."""

    def pixels(self, lower: FloatArray, upper: FloatArray) -> None:
        """The pixels that move, with their bounds; they are the first columns."""

    def relu(self, plan: ReluPlan, unstable: AffineMap, bounds: Interval) -> AffineMap:
        """The unstable neurons of a ReLU, given what they read."""

    def pool(self, plan: PoolPlan, contestants: AffineMap, bounds: Interval) -> AffineMap:
        """The open windows of a pool, given its contestants."""


class ReducedValues:
    """The values in terms of an encoder's columns, one row per element that is asked for.

    Rows go backward through all layers to the columns. Few are ever asked for (unstable neurons, contestants, scores),
    while whole layers in terms of the pixels are large: on a photo network they took most of the time.
    """

    def __init__(
        self, encoder: Encoder, network: Network, bounds: ValueBounds, reduction: Reduction, last: int
    ) -> None:
        """Add the columns of the values 0 to ``last``."""
        self._encoder, self._network, self._reduction = encoder, network, reduction
        self._made: dict[int, tuple[IndexArray, AffineMap]] = {}
        self._pixels = np.flatnonzero(reduction.needed[0])
        region = bounds[0]
        encoder.pixels(region.lower.reshape(-1)[self._pixels], region.upper.reshape(-1)[self._pixels])
        for number, plan in enumerate(reduction.plans[:last], start=1):
            match plan:
                case ReluPlan():
                    read = self.rows(plan.source, plan.unstable)
                    self._made[number] = plan.unstable, encoder.relu(plan, read, bounds[plan.source])
                case PoolPlan():
                    read = self.rows(plan.source, plan.contestants)
                    self._made[number] = plan.open, encoder.pool(plan, read, bounds[plan.source])

    def rows(self, number: int, index: IndexArray) -> AffineMap:
        """Some elements (flat indices) of a value."""
        return self.combined(number, _selection(index, len(self._reduction.constants[number])))

    def combined(self, number: int, weights: sparse.csr_matrix) -> AffineMap:
        """``weights @ value``, with weights (rows, size of the value)."""
        count = weights.shape[0]
        constant = np.zeros(count)
        nodes = sparse.csr_matrix((count, self._encoder.columns))
        pending = {number: weights}
        for value in range(number, 0, -1):
            weights = pending.pop(value, sparse.csr_matrix((count, 0)))
            if not weights.nnz:
                continue
            constant = constant + weights @ self._still(value)
            if value in self._made:
                outputs, made = self._made[value]
                part = weights @ _selection(outputs, weights.shape[1]).T.tocsr()
                nodes = nodes + part @ with_columns(made.matrix, self._encoder.columns)
                constant = constant + part @ made.constant
            plan, needed = self._reduction.plans[value - 1], self._reduction.needed[value]
            if isinstance(plan, AffineStep):
                constant = constant + weights @ np.where(needed, plan.constant, 0.0)
            if plan is not None:
                sources = (
                    self._network.operators[value - 1].inputs
                    if isinstance(plan, AffineStep)
                    else (plan.source,)
                )
                for source, part in zip(sources, self._through(plan, weights), strict=True):
                    pending[source] = pending[source] + part if source in pending else part
        pixels = pending.pop(0, None)
        if pixels is not None and pixels.nnz:
            constant = constant + pixels @ self._still(0)
            nodes = self._with_pixels(nodes, pixels)
        return AffineMap(nodes, constant)

    def _still(self, value: int) -> FloatArray:
        """The elements that do not move, and NaN for what moves though nothing was to need it."""
        return np.where(self._reduction.needed[value], 0.0, self._reduction.constants[value])

    def _through(self, plan: Plan, weights: sparse.csr_matrix) -> list[sparse.csr_matrix]:
        """Weights on what a plan reads, but for what the encoder has made of it."""
        match plan:
            case AffineStep():
                # rows that are not needed are empty
                return [sparse.csr_matrix(weights @ matrix) for matrix in plan.matrices]
            case ReluPlan():
                slopes = np.zeros(weights.shape[1])
                slopes[plan.on], slopes[plan.off] = 1.0, plan.slope
                return [_scaled(weights, slopes)]
            case PoolPlan():
                size = len(self._reduction.constants[plan.source])
                ones = np.ones(len(plan.copied))
                shape = weights.shape[1], size
                winners = sparse.csr_matrix((ones, (plan.copied, plan.winners)), shape=shape)
                return [sparse.csr_matrix(weights @ winners)]

    def _with_pixels(self, nodes: sparse.csr_matrix, weights: sparse.csr_matrix) -> sparse.csr_matrix:
        moving = self._reduction.needed[0]
        weights = _scaled(weights, moving.astype(np.float64))
        places = np.cumsum(moving) - 1
        count = len(self._pixels)
        first = sparse.csr_matrix(
            (weights.data, places[weights.indices], weights.indptr), shape=(nodes.shape[0], count)
        )
        below = nodes[:, :count]
        # leaky neurons read pixels too
        first = first + below if below.nnz else first
        return sparse.csr_matrix(sparse.hstack([first, nodes[:, count:]], format="csr"))


def _selection(index: IndexArray, size: int) -> sparse.csr_matrix:
    """Unit rows (index, size)."""
    return sparse.csr_matrix(
        (np.ones(len(index)), index, np.arange(len(index) + 1)), shape=(len(index), size)
    )


def _scaled(matrix: sparse.csr_matrix, factors: FloatArray) -> sparse.csr_matrix:
    """Columns times factors, without those whose factor is zero."""
    data = matrix.data * factors[matrix.indices]
    kept = data != 0
    first = np.concatenate([[0], np.cumsum(kept)])[matrix.indptr]
    return sparse.csr_matrix((data[kept], matrix.indices[kept], first), shape=matrix.shape)
