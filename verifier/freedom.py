"""The free parameters of relaxations, gathered for gradient steps (alpha-CROWN, Xu et al. 2021)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..adam import AVERAGES, Adam
from .bound_types import Bounds, Freedom
from .curves import CurveFreedom, initial_curve_freedom
from .linear_bounds import LinearBounds
from .operators import MaxPool, Relu, SShaped
from .relaxation import PoolFreedom, initial_pool_freedom

# Start of the lower bound of a pool: exp(10) to 1 in favour of the input with the largest centre, which
# loses next to nothing against picking that input, and still lets gradients through.
POOL_SHARPNESS = 10.0
# Steps of Adam: positions live in [0, 1], pool weights are logits of order POOL_SHARPNESS.
POSITION_RATE = 0.05
WEIGHT_RATE = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class FreeSlopes:
    """Free parameters for the scores' rows and for the inner values.

    Attributes:
        rows: parameters of the relaxations seen by each bounded row.
        inner: lower slopes used while bounding inner values, shared by all neurons of a value.
    """

    rows: Freedom
    inner: Freedom

    @classmethod
    def initial(
        cls, linear: LinearBounds, bounds: Bounds, rows: int, *, curves: bool = False
    ) -> "FreeSlopes":
        """Parameters that start where the default relaxations are.

        Args:
            linear: for the network.
            bounds: of all values.
            rows: bounded rows per region.
            curves: whether S-shaped functions have parameters too; kept certificates have none.
        """
        curve: dict[int, CurveFreedom] = {}
        relu: dict[int, Tensor] = {}
        inner: dict[int, Tensor] = {}
        pool: dict[int, PoolFreedom] = {}
        for number, operator in enumerate(linear.network.operators, start=1):
            source = operator.inputs[0] if operator.inputs else 0
            if isinstance(operator, Relu):
                position = (bounds.upper[source] > -bounds.lower[source]).to(linear.dtype)
                inner[number] = position.clone().requires_grad_()
                shape = (position.shape[0], rows, *position.shape[1:])
                relu[number] = position.unsqueeze(1).expand(shape).clone().requires_grad_()
            elif isinstance(operator, MaxPool):
                pool[number] = _pool(linear, number, bounds, source, rows)
            elif isinstance(operator, SShaped) and curves:
                curve[number] = _curve(operator, bounds, source, rows)
        return cls(Freedom(relu, pool, curve), Freedom(inner))

    def positions(self) -> list[Tensor]:
        """Parameters that live in [0, 1]."""
        thresholds = [pool.threshold for pool in self.rows.pool.values()]
        touching = [item for pair in self.rows.curve.values() for item in (pair.above, pair.below)]
        return [*self.rows.relu.values(), *self.inner.relu.values(), *thresholds, *touching]

    def weights(self) -> list[Tensor]:
        """Parameters without a range."""
        return [pool.weights for pool in self.rows.pool.values()]

    def optimiser(
        self,
        speed: float = 1.0,
        *others: tuple[Sequence[Tensor], float],
        averages: tuple[float, float] = AVERAGES,
    ) -> Adam:
        """Adam over all of them, and over ``others`` at rates of their own."""
        own = [(self.positions(), speed * POSITION_RATE), (self.weights(), speed * WEIGHT_RATE)]
        return Adam([*own, *others], averages)

    def clamp(self) -> None:
        """Put positions back into [0, 1]: any value there gives valid bounds, none outside does."""
        with torch.no_grad():
            for parameter in self.positions():
                parameter.clamp_(0.0, 1.0)

    def detached(self) -> "FreeSlopes":
        """A copy without gradients."""
        return self._mapped(_copy, _copy)

    def trainable(self) -> "FreeSlopes":
        """A copy whose parameters take gradients."""
        return self._mapped(
            lambda item: _copy(item).requires_grad_(), lambda item: _copy(item).requires_grad_()
        )

    def select(self, parents: Sequence[int]) -> "FreeSlopes":
        """A copy in which row i has the parameters of row ``parents[i]``."""
        return self._mapped(lambda item: item.detach()[:, list(parents)].clone(), _copy)

    def cast(self, linear: LinearBounds) -> "FreeSlopes":
        """A copy in the precision and on the device of ``linear``."""

        def move(item: Tensor) -> Tensor:
            return item.detach().to(linear.device, linear.dtype)

        return self._mapped(move, move)

    def _mapped(self, per_row: Callable[[Tensor], Tensor], inner: Callable[[Tensor], Tensor]) -> "FreeSlopes":
        pool = {
            number: PoolFreedom(per_row(item.threshold), per_row(item.weights))
            for number, item in self.rows.pool.items()
        }
        curve = {
            number: replace(item, above=per_row(item.above), below=per_row(item.below))
            for number, item in self.rows.curve.items()
        }
        relu = {number: per_row(item) for number, item in self.rows.relu.items()}
        return FreeSlopes(
            Freedom(relu, pool, curve),
            Freedom({number: inner(item) for number, item in self.inner.relu.items()}),
        )


def _copy(item: Tensor) -> Tensor:
    return item.detach().clone()


def _pool(linear: LinearBounds, number: int, bounds: Bounds, source: int, rows: int) -> PoolFreedom:
    low = linear.module.gather_windows(number - 1, bounds.lower[source])
    high = linear.module.gather_windows(number - 1, bounds.upper[source])
    free = initial_pool_freedom(low, high, POOL_SHARPNESS)
    threshold = free.threshold.unsqueeze(1).expand(-1, rows, -1)
    weights = free.weights.unsqueeze(1).expand(-1, rows, -1, -1)
    return PoolFreedom(threshold.clone().requires_grad_(), weights.clone().requires_grad_())


def _curve(operator: SShaped, bounds: Bounds, source: int, rows: int) -> CurveFreedom:
    free = initial_curve_freedom(operator.curve, bounds.lower[source], bounds.upper[source])
    above, below = (
        item.unsqueeze(1).expand(-1, rows, *item.shape[1:]).clone().requires_grad_()
        for item in (free.above.detach(), free.below.detach())
    )
    assert free.first_above is not None
    assert free.first_below is not None
    return CurveFreedom(above, below, free.first_above.unsqueeze(1), free.first_below.unsqueeze(1))
