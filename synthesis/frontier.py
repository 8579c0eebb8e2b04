"""Steps beyond the linear bounds: proposals that only a complete engine can prove, sized by what it managed before.

Directions come from :mod:`~.between`: vectors that are large where branch and bound may still succeed; the certified
vector is the last. A step makes the one that was proved last larger by a share. A proposal that is not proved is
cut once toward the best vector (Mour 2023, section 3), and the next direction takes a shorter step. With few tied bands
there are steps toward the vector that the no-goods leave possible at most, too.
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

# Steps along a direction: first and smallest one, and by how much the next one is longer after a proof and shorter
# without one. A step of 5 % makes a question two to three times as hard.
FIRST_STRETCH = 0.05
SMALLEST_STRETCH = 0.005
STRETCH_UP, STRETCH_DOWN = 1.5, 0.5
# What is left for a question has to be so much of what the first one had; what is cut gets as much.
LEAST_SHARE = 0.25
# Shares of the way from linear bounds to attacks at which directions are sought, and of the time for each: on six
# questions about DOUBLE-MNIST networks, four with defences, 0.5 or 0.75 was proved further than 1, 0.5 best on five.
DIRECTIONS = (0.5, 0.8)
DIRECTION_SHARE = 0.1
# A direction is followed from where it is worth what the best vector is; so many bisections find that.
BISECTIONS = 40
# A proposal that is larger by less than this share is not worth a question.
WORTHWHILE = 2e-3
# Toward a vector, so many steps at a time, the first of this share of the way, and by how much the next one is longer
# after a proof and shorter without one: near the frontier questions get hard.
STEPS = 4
FIRST_PACE = 0.25
PACE_UP, PACE_DOWN = 2.0, 0.5


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
    query_share: float = 0.2
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
        self._pace = FIRST_PACE
        self.epsilons = start

    @property
    def _goal(self) -> Goal:
        return self._oracle.scope.goal

    @property
    def _goal_value(self) -> float:
        return self._goal.value(self.epsilons)

    def beyond(self, rows: CertifiedRows | None, budget: Budget) -> None:
        """Steps along directions that ``rows`` and attacks give, until even small ones fail.

        Where a direction fails, the next one is asked about half the step: they rarely differ by more, and the time is
        for few hard questions.
        """
        self._tell()
        directions = self._directions(rows, budget)
        longest, step = self._slice(budget), FIRST_STRETCH
        while step >= SMALLEST_STRETCH and budget.remaining > LEAST_SHARE * longest and self._may_ask(budget):
            proposal = self._along(directions[0], step)
            if proposal is not None and self.try_vector(proposal, budget, longest):
                step *= STRETCH_UP
            else:
                step *= STRETCH_DOWN
                if proposal is not None:
                    self._try_cut(proposal, budget, LEAST_SHARE * longest)
                directions.append(directions.pop(0))
            self._tell()

    def _directions(self, rows: CertifiedRows | None, budget: Budget) -> list[FloatArray]:
        """Vectors (layers,): between bounds and attacks, and the best one itself."""
        found: list[FloatArray] = []
        if rows is not None and rows.best is not None and self._goal.objective is not Objective.MAX_MIN:
            for share in DIRECTIONS:
                part = budget.at_most(DIRECTION_SHARE * budget.remaining)
                vector = Between(self._oracle, rows, share).run(self._settings.rounds, part)
                found += [] if vector is None else [vector]
        return [*found, self.epsilons]

    def _try_cut(self, proposal: FloatArray, budget: Budget, longest: float) -> None:
        if self._cutting is not None and self._may_ask(budget):
            shape = self._oracle.scope.shape
            self.try_vector(shape.inside(cut(proposal, self.epsilons, self._cutting)), budget, longest)

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
        """Steps on the way to ``target`` (layers,), of the shape; their length goes on from the last ones."""
        for _ in range(STEPS):
            if not self._may_ask(budget):
                return
            proved = self.try_vector(self.epsilons + self._pace * (target - self.epsilons), budget)
            self._pace = min(1.0, self._pace * (PACE_UP if proved else PACE_DOWN))
            self._tell()

    def try_vector(self, epsilons: FloatArray, budget: Budget, longest: float | None = None) -> bool:
        """Whether a vector that is better was proved, in ``longest`` seconds; it is the new best one then."""
        # sums of generators are rounded: bands that a linear program makes equal come out in the wrong order
        epsilons = self._oracle.scope.shape.inside(epsilons)
        if not self._is_better(epsilons):
            return False
        known = self._oracle.is_known(epsilons)
        if known is None:
            weak = self._oracle.attack(epsilons, budget)
            known = False if weak.margins.max() >= 0 else None
        if known is None:
            part = budget.at_most(self._slice(budget) if longest is None else longest)
            known = self._oracle.ask(epsilons, part, completely=True).verdict is Verdict.HOLDS
        if known:
            self.epsilons = epsilons
        return known

    def _is_better(self, epsilons: FloatArray) -> bool:
        value = self._oracle.scope.goal.value(epsilons)
        return value > self._goal_value + WORTHWHILE * abs(self._goal_value)

    def _may_ask(self, budget: Budget) -> bool:
        return not budget.exhausted and self._oracle.complete < self._settings.questions

    def _slice(self, budget: Budget) -> float:
        """Seconds for one question."""
        longest = self._settings.query_seconds
        return (
            min(longest, self._settings.query_share * budget.remaining)
            if budget.remaining < np.inf
            else longest
        )
