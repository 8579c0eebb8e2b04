"""Steps beyond the linear bounds: proposals that only a complete engine can prove, sized by what it managed before.

Three kinds of proposals. Multiples of the best vector. Rows of the linear bounds that are allowed to exceed zero a
little lead to epsilons that are larger and still easy to prove; how much they may exceed grows with every proof and
falls with every failure. And points between the best vector and the one that the no-goods leave possible at most,
where few bands are tied.
"""

from dataclasses import dataclass

import numpy as np

from ..verifier.budget import Budget
from ..verifier.operators import FloatArray
from ..verifier.result import Verdict
from .ascent import OnSize
from .cutting import cut
from .oracle import Oracle
from .polish import PolishSettings, polish
from .rows import CertifiedRows, SearchPoint

# Steps of the allowance, as shares of the margin that attacks leave at the start: first and smallest; a step that was
# proved is followed by a larger one.
FIRST_SHARE = 0.25
SMALLEST_SHARE = 0.01
GROWTH = 1.8
# Multiples of the vector: first step and smallest one, and the share of the time for them.
FIRST_STRETCH = 0.1
SMALLEST_STRETCH = 0.02
STRETCH_SHARE = 0.6
# A proposal that is larger by less than this share is not worth a question.
WORTHWHILE = 2e-3
# Toward a vector, so many steps, the first of this share of the way: near the frontier questions get hard.
STEPS = 4
FIRST_STEP = 0.25


@dataclass(frozen=True, slots=True)
class FrontierSettings:
    """Effort.

    Attributes:
        questions: to complete engines, at most.
        query_seconds: for one of them, at most.
        query_share: of the time that is left, at most, for one of them.
        rounds: of polishing behind one proposal.
    """

    questions: int = 24
    query_seconds: float = 30.0
    query_share: float = 0.4
    rounds: int = 8


class Frontier:
    """Proposes, asks, and keeps the best vector that was proved; never smaller than where it began."""

    def __init__(
        self,
        oracle: Oracle,
        settings: FrontierSettings,
        on_size: OnSize,
        start: FloatArray,
        cutting: FloatArray | None = None,
    ) -> None:
        """Prepare.

        Args:
            oracle: of the run.
            settings: effort.
            on_size: told the best size after every proposal.
            start: (layers,) proved before.
            cutting: (layers,) weights with which proposals that were not proved are cut once, None for not at all.
        """
        self._oracle = oracle
        self._cutting = cutting
        self._settings = settings
        self._on_size = on_size
        self.epsilons = start

    @property
    def _goal_value(self) -> float:
        return self._oracle.scope.goal.value(self.epsilons)

    def beyond(self, rows: CertifiedRows, budget: Budget) -> None:
        """Multiples of the vector, then proposals from relaxed rows, until even small steps fail."""
        self._on_size(0.0, self._oracle.scope.goal.size(self.epsilons))
        self._stretch(budget.at_most(STRETCH_SHARE * budget.remaining))
        left = -float(self._oracle.attack(self.epsilons, budget).margins.max())
        # what rows may exceed zero by: proved so far, and the step beyond it
        proved, step = 0.0, FIRST_SHARE * left
        while step >= SMALLEST_SHARE * left > 0 and self._may_ask(budget):
            # attacks break most of what exceeds zero by more than their margin
            allowance = min(proved + step, left)
            point = self._relaxed(rows, allowance, budget)
            if point is None:
                return
            proposal = np.minimum(point.epsilons, 1.0)
            if self._is_better(proposal):
                held = self._try_and_cut(proposal, budget)
                if held:
                    # the next proposal starts from here
                    rows.best = point
                proved, step = (allowance, step * GROWTH) if held else (proved, (allowance - proved) / 2)
            elif allowance < left:
                step *= GROWTH
            else:
                return
            self._on_size(0.0, self._oracle.scope.goal.size(self.epsilons))

    def _stretch(self, budget: Budget) -> None:
        """Multiples of the best vector: branch and bound proves them more easily than what relaxed rows propose."""
        step = FIRST_STRETCH
        while step >= SMALLEST_STRETCH and self._may_ask(budget):
            held = self.try_vector(np.minimum((1.0 + step) * self.epsilons, 1.0), budget)
            step = step if held else step / 2
            self._on_size(0.0, self._oracle.scope.goal.size(self.epsilons))

    def _try_and_cut(self, proposal: FloatArray, budget: Budget) -> bool:
        if self.try_vector(proposal, budget):
            return True
        if self._cutting is not None and self._may_ask(budget):
            shape = self._oracle.scope.shape
            self.try_vector(shape.inside(cut(proposal, self.epsilons, self._cutting)), budget)
        return False

    def toward(self, target: FloatArray, budget: Budget) -> None:
        """Steps on the way to ``target`` (layers,), of the shape; half as long after each that was not proved."""
        done, step, start = 0.0, FIRST_STEP, self.epsilons
        for _ in range(STEPS):
            if not self._may_ask(budget):
                return
            proved = self.try_vector(start + min(1.0, done + step) * (target - start), budget)
            done, step = (done + step, step) if proved else (done, step / 2)
            self._on_size(0.0, self._oracle.scope.goal.size(self.epsilons))

    def try_vector(self, epsilons: FloatArray, budget: Budget) -> bool:
        """Whether a vector that is better was proved; it is the new best one then."""
        if not self._is_better(epsilons):
            return False
        known = self._oracle.is_known(epsilons)
        if known is None:
            weak = self._oracle.attack(epsilons, budget)
            known = False if weak.margins.max() >= 0 else None
        if known is None:
            known = self._oracle.ask(epsilons, self._slice(budget), completely=True).verdict is Verdict.HOLDS
        if known:
            self.epsilons = epsilons
        return known

    def _is_better(self, epsilons: FloatArray) -> bool:
        value = self._oracle.scope.goal.value(epsilons)
        return value > self._goal_value + WORTHWHILE * abs(self._goal_value)

    def _may_ask(self, budget: Budget) -> bool:
        return not budget.exhausted and self._oracle.complete < self._settings.questions

    def _slice(self, budget: Budget) -> Budget:
        longest = self._settings.query_seconds
        if budget.remaining < np.inf:
            longest = min(longest, self._settings.query_share * budget.remaining)
        return budget.at_most(longest)

    def _relaxed(self, rows: CertifiedRows, allowance: float, budget: Budget) -> SearchPoint | None:
        if rows.best is None or rows.best.slopes is None:
            return None
        relaxed = rows.relaxed(allowance)
        relaxed.settle()
        polish(relaxed, PolishSettings(rounds=self._settings.rounds, trust=0.1), budget, _unseen)
        if relaxed.best is None:
            return None
        self._oracle.slopes = relaxed.best.certificate
        return relaxed.best


def _unseen(share: float, size: float) -> None:
    del share, size
