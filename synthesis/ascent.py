"""Certified gradient ascent: epsilons, slopes and combinations of atoms climb together.

The size of the neighbourhood is raised under a log-barrier on linear upper bounds of the clause's rows, as
in interior-point methods: every point visited is certified by its own bounds. The slopes of the relaxations
and the convex combinations of atoms are parameters of the same ascent, so tighter bounds are found where the
growing neighbourhood needs them. The search runs in float32; its result is certified afresh in float64.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..adam import Adam, descend
from ..verifier.budget import Budget
from ..verifier.operators import FloatArray
from .rows import SEARCH_MARGIN, CertifiedRows, SearchPoint

# Weight of the barrier at the start and at the end; it falls geometrically between them.
BARRIER_START = 0.1
BARRIER_END = 0.003
# Adam's step on log-epsilon.
EPSILON_RATE = 0.06
# Share of the steps taken with default slopes, while the epsilons find their proportions.
SLOPES_FROM = 0.12
# After these shares of the steps the row that binds joins the atoms bounded in combination.
WIDEN_AT = (0.2, 0.35, 0.5)
# Where generators nest (epsilons that only rise or fall), all but the widest start at this share of it.
REST_OF_NEST = 1e-2
# Where the uniform start is sought, pixel units.
SMALLEST_START = 1e-6

OnSize = Callable[[float, float], None]
"""Told the share of the work done and the best size so far."""


@dataclass(frozen=True, slots=True)
class AscentSettings:
    """Effort of the ascent.

    Attributes:
        barrier: weight of the barrier at the start.
        steps: gradient steps; more rarely pay (1,000 gave 0 to 4 % over 300).
    """

    steps: int = 300
    barrier: float = BARRIER_START

    def variants(self) -> tuple["AscentSettings", ...]:
        """Settings for further ascents: which one ends highest differs from image to image."""
        return tuple(replace(self, barrier=self.barrier * factor) for factor in (0.4, 3.0, 10.0))


class Ascent:
    """One ascent on one image."""

    def __init__(self, rows: CertifiedRows, settings: AscentSettings, on_size: OnSize) -> None:
        """Climb on ``rows``; nothing is computed yet."""
        self._rows = rows
        self._settings = settings
        self._on_size = on_size
        self._slope_optimiser: Adam | None = None
        self._widened = 0

    def run(self, budget: Budget) -> SearchPoint | None:
        """Climb; the best certified point, None when not even a tiny neighbourhood is certified."""
        start = self._uniform_start(budget)
        allowed = budget.remaining
        if start is None or allowed <= 0.0:
            return self._rows.best
        log_epsilons = self._rows.linear.tensor(self._first_coefficients(start)).log().requires_grad_()
        optimiser = Adam([([log_epsilons], EPSILON_RATE)])
        good, misses = log_epsilons.detach().clone(), 0
        for step in range(self._settings.steps):
            if budget.exhausted:
                break
            spent = 1.0 - budget.remaining / allowed if allowed < np.inf else 0.0
            progress = max(step / self._settings.steps, spent)
            if progress >= 1.0:
                break
            self._adapt(progress, self._rows.expanded(good.exp()))
            upper = self._rows.upper(self._rows.expanded(log_epsilons.exp()))
            if not bool((upper < -SEARCH_MARGIN).all()):
                misses += 1
                _retreat(log_epsilons, good, misses, optimiser)
                continue
            good, misses = log_epsilons.detach().clone(), 0
            self._climb(log_epsilons, upper, progress, optimiser)
            self._on_size(progress, 0.0 if self._rows.best is None else self._rows.best.size)
        return self._rows.best

    def _climb(self, log_epsilons: Tensor, upper: Tensor, progress: float, optimiser: Adam) -> None:
        epsilons = self._rows.expanded(log_epsilons.exp())
        self._rows.record(epsilons)
        first = self._settings.barrier
        barrier = first * (BARRIER_END / first) ** progress
        loss = -self._rows.goal.climbed(epsilons) - barrier * torch.log(-upper).sum()
        slopes = [] if self._slope_optimiser is None else [self._slope_optimiser]
        descend(loss, optimiser, *slopes)
        with torch.no_grad():
            log_epsilons.clamp_(max=0.0)
        self._rows.clamp()

    def _first_coefficients(self, start: float) -> FloatArray:
        """Coefficients (generators,) of about the uniform vector: the widest generator nearly alone where they nest."""
        covered = self._rows.generators.sum(axis=0)
        nested = covered.max() > 1 and self._rows.generators.sum() > len(self._rows.generators)
        share = np.where(covered == covered.max(), 1.0, REST_OF_NEST) if nested else np.ones(len(covered))
        return 0.9 * start * share

    def _uniform_start(self, budget: Budget) -> float | None:
        """The largest uniform epsilon that counting certifies, to 5 %; chooses the first rows."""
        clause = self._rows.clause

        def certified(epsilon: float) -> bool:
            atoms = np.sort(self._rows.atoms(epsilon))
            return bool(atoms[clause.atoms - clause.needed] < -SEARCH_MARGIN)

        low = SMALLEST_START
        if not certified(low):
            return None
        high = low
        while high < 1.0 and certified(high):
            low, high = high, min(high * 4, 1.0)
        while high / low > 1.05 and not budget.exhausted:
            middle = float(np.sqrt(low * high))
            low, high = (middle, high) if certified(middle) else (low, middle)
        order = np.argsort(-self._rows.atoms(low))
        self._rows.set_together([int(atom) for atom in order[: clause.needed - 1]])
        self._rows.record(self._rows.linear.tensor(np.full(len(self._rows.goal.weights), low)))
        return low

    def _adapt(self, progress: float, epsilons: Tensor) -> None:
        """Free the slopes, and later bound in combination the atoms that bind alone."""
        if progress < SLOPES_FROM:
            return
        if self._slope_optimiser is None:
            self._rows.free_slopes(epsilons)
            self._slope_optimiser = self._rows.optimiser()
        elif self._widened < sum(progress >= mark for mark in WIDEN_AT):
            self._widened += 1
            if self._rows.can_widen():
                self._rows.widen(epsilons)
                self._slope_optimiser = self._rows.optimiser()


def _retreat(log_epsilons: Tensor, good: Tensor, misses: int, optimiser: Adam) -> None:
    """Back to the last certified point, a little inside it; further inside after every miss."""
    with torch.no_grad():
        log_epsilons.copy_(good - 0.02 * 2 ** min(misses, 6))
    optimiser.slow_down(0.97)
