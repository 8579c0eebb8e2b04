"""Gradient steps on the relaxations that bounded rows see (alpha-CROWN, Xu et al. 2021), many regions at once.

Bounds of inner values stay as they are: a step then costs one backward pass of the rows, a small part of what bounding
all values costs.
"""

import numpy as np
import torch

from .bound_types import Bounds
from .budget import Budget
from .freedom import FreeSlopes
from .linear_bounds import LinearBounds
from .operators import FloatArray
from .property import Clause

# Few steps are made, so they are longer than those of a search that takes its time.
SPEED = 2.0


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
    adam = slopes.optimiser(SPEED)
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
        # slopes of inner bounds are not used: they get zeros, and stay
        found = torch.autograd.grad(total, adam.parameters, allow_unused=True, materialize_grads=True)
        adam.step([item.nan_to_num(0.0, 0.0, 0.0) for item in found])
        slopes.clamp()
    return np.asarray(best.cpu().numpy())
