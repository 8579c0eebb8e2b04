"""Vectors between what linear bounds certify and what attacks break: where branch and bound may succeed.

The largest margin over a neighbourhood is at least an attack's and at most a linear bound. Branch and bound comes a
share of the way down from the one to the other in the time that it has; with that share fixed, a guess at what it would
prove is a differentiable function of the epsilons, and they are made as large as it allows. Nothing here is a proof.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from ..adam import descend
from ..verifier.budget import Budget
from ..verifier.operators import FloatArray
from .oracle import Oracle
from .rows import CertifiedRows
from .step import best_step
from .weakest import POINTS

# Points that climb again, the others begin at random corners; and steps of a climb.
KEPT = 10
STEPS = 10
# Points and rows of the linear bounds that take part, those with the largest margins.
NEAREST_POINTS, NEAREST_ROWS = 8, 4
# Steps on the slopes of the linear bounds for each of the epsilons, and how sharply they look at the largest row alone.
SLOPE_STEPS, SLOPE_SPEED, SHARPNESS = 2, 0.3, 4.0
# Trust region of the first linear program relative to each epsilon, and its factor from one to the next: after forty
# of them sizes are settled to a few percent.
TRUST, DECAY = 0.3, 0.95
# Layers below this epsilon may move as if they had it, so that a layer near zero can come back.
FLOOR = 0.02
# Kept free by each linear program (logits).
ROOM = 1e-3
# A vector that ends where the guess is not below zero becomes smaller by steps of this share, so many.
BACK, BACKS = 0.015, 8


class Between:
    """Makes epsilons large under the guess; deterministic for a seed of the attack."""

    def __init__(self, oracle: Oracle, rows: CertifiedRows, share: float) -> None:
        """Begin at the best point of ``rows``.

        Args:
            oracle: of the run.
            rows: with a best point.
            share: of the way from the linear bounds (0) to the attacks (1).
        """
        self._weakening = oracle.weakening
        self._goal, self._shape = oracle.scope.goal, oracle.scope.shape
        self._rows = rows.copied()
        self._optimiser = self._rows.optimiser(SLOPE_SPEED)
        self._share = share
        self._points: NDArray[np.float32] = self._weakening.corners(KEPT)
        self._count = oracle.count_attack

    def run(self, rounds: int, budget: Budget) -> FloatArray | None:
        """The largest epsilons (layers,) that the guess allows, None when it allows none that were visited."""
        assert self._rows.best is not None
        epsilons, best = np.minimum(self._rows.best.epsilons, 1.0), None
        trust = TRUST
        for _ in range(rounds):
            if budget.exhausted:
                return best
            values, slopes = self._guess(epsilons, budget)
            if values.max() <= 0 and self._is_larger(epsilons, best):
                best = epsilons
            reach = trust * np.maximum(epsilons, FLOOR)
            step = best_step(self._goal, self._shape, epsilons, slopes, -values - ROOM, reach)
            trust *= DECAY
            if step is not None:
                epsilons = np.clip(epsilons + step, 0.0, 1.0)
        for _ in range(BACKS):
            if budget.exhausted or not self._is_larger(epsilons, best):
                break
            if self._guess(epsilons, budget)[0].max() <= 0:
                return epsilons
            epsilons = (1.0 - BACK) * epsilons
        return best

    def _is_larger(self, epsilons: FloatArray, best: FloatArray | None) -> bool:
        return best is None or self._goal.value(epsilons) > self._goal.value(best)

    def _guess(self, epsilons: FloatArray, budget: Budget) -> tuple[FloatArray, FloatArray]:
        """Values (pairs,) and slopes (pairs, layers) for every pair of a row and a point."""
        bounds, falls = self._bounded(epsilons)
        margins, pulls = self._attacked(epsilons, budget)
        share = self._share
        values = (1.0 - share) * bounds[:, None] + share * margins
        slopes = (1.0 - share) * falls[:, None] + share * pulls
        return values.reshape(-1), slopes.reshape(-1, len(epsilons))

    def _attacked(self, epsilons: FloatArray, budget: Budget) -> tuple[FloatArray, FloatArray]:
        starts = np.concatenate([self._points, self._weakening.corners(POINTS - KEPT)])
        weak = self._weakening.climb(epsilons, starts, STEPS, budget)
        self._count()
        order = np.argsort(-weak.margins)
        self._points = weak.images[order[:KEPT]]
        nearest = order[:NEAREST_POINTS]
        return weak.margins[nearest], weak.slopes[nearest]

    def _bounded(self, epsilons: FloatArray) -> tuple[FloatArray, FloatArray]:
        rows = self._rows
        variable = rows.linear.tensor(epsilons)
        if self._optimiser is not None:
            for _ in range(SLOPE_STEPS):
                descend(torch.logsumexp(SHARPNESS * rows.upper(variable), 0), self._optimiser)
                rows.clamp()
        variable = variable.requires_grad_()
        upper = rows.upper(variable)
        values = upper.detach().cpu().double().numpy()
        nearest = np.argsort(-values)[:NEAREST_ROWS]
        slopes = [
            torch.autograd.grad(upper[row], variable, retain_graph=True)[0].cpu().double().numpy()
            for row in nearest.tolist()
        ]
        return values[nearest], np.array(slopes)
