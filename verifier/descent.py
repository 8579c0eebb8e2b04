"""Gradient steps on the relaxations that bounded rows see (alpha-CROWN, Xu et al. 2021), many regions at once.

Bounds of inner values stay as they are: a step then costs one backward pass of the rows, a small part of what bounding
all values costs.
"""

import numpy as np
import torch
from torch import Tensor

from .bound_types import Bounds
from .budget import Budget
from .freedom import POSITION_RATE, WEIGHT_RATE, FreeSlopes
from .linear_bounds import LinearBounds
from .operators import FloatArray
from .property import Clause

# Few steps are made, so they are longer than those of a search that takes its time.
SPEED = 2.0
# Adam's averages (Kingma and Ba 2015), as short as the search is.
MEAN, SQUARE, TINY = 0.9, 0.95, 1e-12


def descended(linear: LinearBounds, clause: Clause, bounds: Bounds, steps: int, budget: Budget) -> FloatArray:
    """Upper bounds (regions, atoms) on a clause's atoms, the best of all steps.

    Args:
        linear: in float64 where the bounds are to prove something.
        clause: its atom that decides is pushed down, region by region.
        bounds: of all values.
        steps: at most so many.
        budget: checked before every step.
    """
    rows = linear.tensor(clause.weights).unsqueeze(0)
    offsets = linear.tensor(clause.offsets)
    slopes = FreeSlopes.initial(linear, bounds, clause.atoms, curves=True)
    adam = _Adam(slopes)
    best = torch.full((bounds.batch, clause.atoms), torch.inf, dtype=linear.dtype, device=linear.device)
    for step in range(steps + 1):
        if budget.exhausted:
            break
        with torch.enable_grad():
            upper = linear.upper(linear.network.output, rows, bounds, slopes.rows) + offsets
            decisive = upper.sort(dim=1).values[:, clause.atoms - clause.needed]
            total = decisive.nan_to_num(0.0, 0.0, 0.0).sum()
        # a bound that is not a number bounds nothing
        best = torch.fmin(best, upper.detach())
        if step == steps or not total.requires_grad:
            break
        adam.step(total)
        slopes.clamp()
    return np.asarray(best.cpu().numpy())


class _Adam:
    """Adam on free slopes; torch's own loads its compiler at the first step, which takes longer than most questions."""

    def __init__(self, slopes: FreeSlopes) -> None:
        self._parameters = [*slopes.positions(), *slopes.weights()]
        rates = [POSITION_RATE] * len(slopes.positions()) + [WEIGHT_RATE] * len(slopes.weights())
        self._rates = [SPEED * rate for rate in rates]
        self._means = [torch.zeros_like(item) for item in self._parameters]
        self._squares = [torch.zeros_like(item) for item in self._parameters]
        self._steps = 0

    @torch.no_grad()
    def step(self, total: Tensor) -> None:
        """One step down; what ``total`` does not depend on stays."""
        self._steps += 1
        bias, square_bias = 1 - MEAN**self._steps, 1 - SQUARE**self._steps
        # slopes of inner bounds are not used: they get zeros, and stay
        gradients = torch.autograd.grad(total, self._parameters, allow_unused=True, materialize_grads=True)
        for parameter, gradient, mean, square, rate in zip(
            self._parameters, gradients, self._means, self._squares, self._rates, strict=True
        ):
            gradient = gradient.nan_to_num(0.0, 0.0, 0.0)
            mean.mul_(MEAN).add_(gradient, alpha=1 - MEAN)
            square.mul_(SQUARE).addcmul_(gradient, gradient, value=1 - SQUARE)
            parameter.sub_(rate * (mean / bias) / ((square / square_bias).sqrt() + TINY))
