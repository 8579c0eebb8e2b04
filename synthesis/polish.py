"""Polishing: linear programs over the epsilons in turn with gradient steps on the slopes.

The barrier of the ascent keeps every layer inside the certified set and moves it by a factor at a time. At
its end a linear program over the linearised rows trades layers against one another, to caps and to zero as
well; steps on the slopes alone then make room for the next one.
"""

from dataclasses import dataclass

import numpy as np
import torch

from ..adam import Adam, descend
from ..verifier.budget import Budget
from ..verifier.operators import FloatArray
from .ascent import OnSize
from .rows import SEARCH_MARGIN, CertifiedRows, SearchPoint
from .step import best_step

# Rows further below zero than this do not constrain one small step (logits).
NEAR = 1.0
# At most this many rows are linearised; each costs a backward pass.
LINEARISED = 8
# Layers below this epsilon may still move as if they had it, so that a layer near zero can come back.
FLOOR = 0.02
SLOPE_STEPS = 2
SLOPE_SPEED = 0.3
# After steps on the slopes, epsilons give way by these shares; slopes that need more are no good.
GIVE_WAY = 0.002
MOST_GIVEN_WAY = 0.1


@dataclass(frozen=True, slots=True)
class PolishSettings:
    """Effort of the polishing.

    Attributes:
        rounds: linear programs.
        trust: first trust region, relative to each epsilon.
    """

    rounds: int = 40
    trust: float = 0.05


def polish(
    rows: CertifiedRows, settings: PolishSettings, budget: Budget, on_size: OnSize
) -> SearchPoint | None:
    """Improve the best point of ``rows``; returns the best one, the same when nothing was gained."""
    if rows.best is None or rows.best.slopes is None:
        return rows.best
    rows.restore(rows.best)
    optimiser = rows.optimiser(SLOPE_SPEED)
    assert optimiser is not None
    epsilons, trust = rows.best.epsilons.copy(), settings.trust
    for step in range(settings.rounds):
        if budget.exhausted:
            break
        moved, quality = _step(rows, epsilons, trust)
        trust = min(trust * quality, 0.5)
        if moved is not None:
            epsilons = moved
            rows.record(rows.linear.tensor(epsilons))
        loosened = _loosen(rows, epsilons, optimiser)
        if loosened is None:
            break
        epsilons = loosened
        on_size(step / settings.rounds, rows.best.size)
    return rows.best


def _step(rows: CertifiedRows, epsilons: FloatArray, trust: float) -> tuple[FloatArray | None, float]:
    """The linear program's step, shortened until it is certified; and the factor for the trust region."""
    direction = _direction(rows, epsilons, trust)
    if direction is None:
        return None, 0.4
    for length, quality in ((1.0, 1.2), (0.5, 0.8), (0.25, 0.8)):
        candidate = epsilons + length * direction
        if rows.worst(candidate) < -SEARCH_MARGIN:
            return candidate, quality
    return None, 0.4


def _direction(rows: CertifiedRows, epsilons: FloatArray, trust: float) -> FloatArray | None:
    """The change of the epsilons that raises the size most under the linearised rows, None if there is none."""
    variable = rows.linear.tensor(epsilons).requires_grad_()
    upper = rows.upper(variable)
    values = upper.detach().cpu().double().numpy()
    order = np.argsort(-values)[:LINEARISED]
    near = [int(row) for row in order if values[row] > -NEAR] or [int(order[0])]
    slopes = [
        torch.autograd.grad(upper[row], variable, retain_graph=True)[0].cpu().double().numpy() for row in near
    ]
    room = -1.5 * SEARCH_MARGIN - values[near]
    reach = trust * np.maximum(epsilons, FLOOR)
    return best_step(rows.goal, rows.shape, epsilons, np.array(slopes), room, reach)


def _loosen(rows: CertifiedRows, epsilons: FloatArray, optimiser: Adam) -> FloatArray | None:
    """Steps on the slopes at fixed epsilons; where they overshoot, the epsilons give way.

    None when the slopes became so bad that much smaller epsilons would not be certified either.
    """
    variable = rows.linear.tensor(epsilons)
    for _ in range(SLOPE_STEPS):
        slack = (-rows.upper(variable)).clamp(min=SEARCH_MARGIN / 2)
        descend(-torch.log(slack).sum(), optimiser)
        rows.clamp()
    share = 1.0
    while not rows.worst(share * epsilons) < -SEARCH_MARGIN:
        share *= 1.0 - GIVE_WAY
        if share < 1.0 - MOST_GIVEN_WAY:
            return None
    return share * epsilons
