"""Steps beyond the linear bounds: proposals that only a complete engine can prove, sized by what it managed before.

Directions come from :mod:`~.between`: vectors that are large where branch and bound may still succeed. A step makes the
one that was proved last larger by a share; where no direction is proved, the last proposal is cut once toward the best
vector (Mour 2023, section 3), and steps get shorter. With few tied bands there are steps toward the vector that the
no-goods leave possible at most, too.
"""

from dataclasses import dataclass

import numpy as np

from ..verifier.budget import Budget
from ..verifier.operators import FloatArray
from ..verifier.result import Verdict
from .ascent import OnSize
from .between import Between
from .cutting import cut
from .objective import Goal, Objective
from .oracle import Oracle
from .rows import CertifiedRows

# Steps along a direction: first and smallest one. A step of 5 % makes a question two to three times as hard.
FIRST_STRETCH = 0.1
SMALLEST_STRETCH = 0.01
# Shares of the way from linear bounds to attacks at which directions are sought, and of the time for each: of 0, 0.5,
# 0.75, 0.9 and 1 these two were proved furthest on six of seven images of DOUBLE-MNIST.
DIRECTIONS = (0.5, 0.75)
DIRECTION_SHARE = 0.1
# A direction is followed from where it is worth what the best vector is; so many bisections find that.
BISECTIONS = 40
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
        rounds: linear programs behind one direction.
    """

    questions: int = 24
    query_seconds: float = 30.0
    query_share: float = 0.3
    rounds: int = 40


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
    def _goal(self) -> Goal:
        return self._oracle.scope.goal

    @property
    def _goal_value(self) -> float:
        return self._goal.value(self.epsilons)

    def beyond(self, rows: CertifiedRows | None, budget: Budget) -> None:
        """Steps along directions that ``rows`` and attacks give, until even small ones fail."""
        self._tell()
        directions = self._directions(rows, budget)
        step = FIRST_STRETCH
        while step >= SMALLEST_STRETCH and self._may_ask(budget):
            if not self._stretch(directions, step, budget):
                step /= 2
            self._tell()

    def _directions(self, rows: CertifiedRows | None, budget: Budget) -> list[FloatArray]:
        """Vectors (layers,), the best one itself where there are none between bounds and attacks."""
        found: list[FloatArray] = []
        if rows is not None and rows.best is not None and self._goal.objective is not Objective.MAX_MIN:
            for share in DIRECTIONS:
                part = budget.at_most(DIRECTION_SHARE * budget.remaining)
                vector = Between(self._oracle, rows, share).run(self._settings.rounds, part)
                found += [] if vector is None else [vector]
        return found or [self.epsilons]

    def _stretch(self, directions: list[FloatArray], step: float, budget: Budget) -> bool:
        """Whether one of the directions was proved a step further; it is the first one then."""
        proposal = None
        for direction in tuple(directions):
            found = self._along(direction, step)
            if found is None or not self._may_ask(budget):
                continue
            proposal = found
            if self.try_vector(proposal, budget):
                directions.sort(key=lambda item: item is not direction)
                return True
        if proposal is None or self._cutting is None or not self._may_ask(budget):
            return False
        shape = self._oracle.scope.shape
        return self.try_vector(shape.inside(cut(proposal, self.epsilons, self._cutting)), budget)

    def _along(self, direction: FloatArray, step: float) -> FloatArray | None:
        """The direction's vector a step beyond the one that is worth what the best is, None where none is."""
        moving = direction[direction > 0]
        low, high = 0.0, 1.0 / float(moving.min()) if len(moving) else 0.0
        if self._goal.value(np.minimum(high * direction, 1.0)) <= self._goal_value:
            return None
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            reaches = self._goal.value(np.minimum(middle * direction, 1.0)) >= self._goal_value
            low, high = (low, middle) if reaches else (middle, high)
        return np.asarray(np.minimum((1.0 + step) * high * direction, 1.0))

    def _tell(self) -> None:
        self._on_size(0.0, self._goal.size(self.epsilons))

    def toward(self, target: FloatArray, budget: Budget) -> None:
        """Steps on the way to ``target`` (layers,), of the shape; half as long after each that was not proved."""
        done, step, start = 0.0, FIRST_STEP, self.epsilons
        for _ in range(STEPS):
            if not self._may_ask(budget):
                return
            proved = self.try_vector(start + min(1.0, done + step) * (target - start), budget)
            done, step = (done + step, step) if proved else (done, step / 2)
            self._tell()

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
