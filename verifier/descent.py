"""Gradient steps on the relaxations that bounded rows see (alpha-CROWN, Xu et al. 2021), many regions at once.

Bounds of inner values stay as they are: a step then costs one backward pass of the rows, a small part of what bounding
all values costs.
"""

from dataclasses import dataclass

import numpy as np
import torch

from .bound_types import Bounds
from .budget import Budget
from .freedom import FreeSlopes
from .linear_bounds import LinearBounds
from .operators import FloatArray
from .property import Clause


@dataclass(frozen=True, slots=True)
class Pace:
    """How slopes are moved.

    Attributes:
        steps: at most so many.
        speed: length of the first step, in those of a search that takes its time.
        slowing: every step is as long as the one before times this.
        momentum: of Adam.
    """

    steps: int
    speed: float
    slowing: float
    momentum: float


# Where bounds are wanted that hardly get better; more steps gain little.
PATIENT = Pace(40, 2.0, 1.0, 0.9)
# Most slopes belong at one of the two ends, where few steps of half the way bring them.
BRISK = Pace(3, 10.0, 0.7, 0.0)
# What Adam keeps of the mean square of gradients.
_SQUARES = 0.95


def descended(
    linear: LinearBounds,
    clause: Clause,
    bounds: Bounds,
    pace: Pace,
    budget: Budget,
    search: LinearBounds | None = None,
) -> FloatArray:
    """Upper bounds (regions, atoms) on a clause's atoms.

    Args:
        linear: in float64 where the bounds are to prove something.
        clause: its atoms are pushed down, each for itself.
        bounds: of all values.
        pace: of the steps.
        budget: checked before every step.
        search: the same network in another precision, to find the slopes; then only the bounds with the last of them
            count, and otherwise the best of all steps.
    """
    own = search or linear
    rows, offsets = linear.tensor(clause.weights).unsqueeze(0), linear.tensor(clause.offsets)
    sought, values = rows.to(own.dtype), bounds.cast(own.dtype)
    slopes = FreeSlopes.initial(own, values, clause.atoms, curves=True)
    adam = slopes.optimiser(pace.speed, averages=(pace.momentum, _SQUARES))
    output = linear.network.output
    best = torch.full((bounds.batch, clause.atoms), torch.inf, dtype=linear.dtype, device=linear.device)
    for _ in range(pace.steps):
        if budget.exhausted:
            break
        with torch.enable_grad():
            upper = own.upper(output, sought, values, slopes.rows)
            total = upper.nan_to_num(0.0, 0.0, 0.0).sum()
        if search is None:
            # a bound that is not a number bounds nothing
            best = torch.fmin(best, upper.detach() + offsets)
        if not total.requires_grad:
            break
        # slopes of inner bounds are not used: they get zeros, and stay
        found = torch.autograd.grad(total, adam.parameters, allow_unused=True, materialize_grads=True)
        adam.step([item.nan_to_num(0.0, 0.0, 0.0) for item in found])
        adam.slow_down(pace.slowing)
        slopes.clamp()
    with torch.no_grad():
        last = linear.upper(output, rows, bounds, slopes.cast(linear).rows) + offsets
    return np.asarray(torch.fmin(best, last).cpu().numpy())
