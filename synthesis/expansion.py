"""Expansion beyond linear bounds: propose, verify with the complete engines, cut what is not robust.

This is the loop of Mour (2023), section 3, with the verifier's portfolio as its oracle: a robust neighbourhood
is expanded by a step; where that is not robust it is shrunk toward the robust one with cutting weights, and
the step becomes smaller when cutting does not help either.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..errors import DisagreementError
from ..verifier.budget import Budget
from ..verifier.falsify import Falsifier
from ..verifier.operators import FloatArray
from ..verifier.problem import Problem
from ..verifier.region import Layered
from ..verifier.result import Result, Verdict
from .ascent import OnSize
from .cutting import Cutting, cut, cutting_weights, fixed_weights
from .objective import Goal, Objective
from .shape import Shape


@dataclass(frozen=True, slots=True)
class ExpansionSettings:
    """Steps of the loop.

    Attributes:
        step: first relative growth of all epsilons.
        smallest_step: the loop ends below it.
        floor: absolute growth (pixel units) of layers whose epsilon is smaller than it.
        cuts: how often a neighbourhood that is not robust is cut before a smaller step is tried.
        query_seconds: longest time for one question.
    """

    step: float = 0.1
    smallest_step: float = 0.01
    floor: float = 1e-3
    cuts: int = 1
    query_seconds: float = 6.0


class Oracle(Protocol):
    """What the loop needs of a verifier."""

    @property
    def falsifier(self) -> Falsifier:
        """Whose network is differentiated."""
        ...

    def verify(self, problem: Problem, budget: Budget) -> Result:
        """Answer a question."""
        ...

    def tell(self, subject: str, message: str) -> None:
        """Pass a notice on, once per subject."""
        ...


class Expansion:
    """One run of the loop; afterwards ``epsilons`` is the largest robust vector it verified, and ``proof`` says so."""

    def __init__(
        self,
        verifier: Oracle,
        at: Callable[[FloatArray], Problem],
        weights: FloatArray,
        neighbourhood: Layered,
        cutting: Cutting,
        settings: ExpansionSettings,
        objective: Objective = Objective.WEIGHTED_SUM,
        shape: Shape | None = None,
    ) -> None:
        """Prepare.

        Args:
            verifier: the oracle.
            at: the verifier's problem at given epsilons.
            weights: (layers,) of the size.
            neighbourhood: image and layers.
            cutting: kind of cutting weights.
            settings: steps.
            objective: what is made large.
            shape: allowed epsilons, None for all.
        """
        self._verifier = verifier
        self._at = at
        self._goal = goal = Goal(objective, weights)
        self._shape = shape or Shape.free(len(goal.weights))
        self._growing = self._shape.generators @ self._shape.grows(goal.weights) > 0
        self._neighbourhood = neighbourhood
        self._cutting = cutting
        self._settings = settings
        self.epsilons = np.zeros_like(goal.weights)
        self.proof: Result | None = None
        self.attack = self.bounds = self.bab = self.milp = self.complete = 0

    @property
    def size(self) -> float:
        """Weighted sum of the epsilons."""
        return self._goal.size(self.epsilons)

    @property
    def value(self) -> float:
        """Of the objective."""
        return self._goal.value(self.epsilons)

    def run(self, robust: FloatArray, budget: Budget, on_size: OnSize) -> None:
        """Expand ``robust``, epsilons (layers,) that are known to be robust."""
        self.epsilons = robust
        cutting = self._weights()
        step, first = self._settings.step, self._settings.step
        while step >= self._settings.smallest_step and not budget.exhausted:
            grown = self._try(self._expanded(step), cutting, budget)
            step = step * 1.5 if grown else step / 2
            on_size(min(1.0, self._settings.smallest_step / step if step < first else 0.0), self.size)

    def _expanded(self, step: float) -> FloatArray:
        growth = np.maximum(
            self.epsilons * step,
            np.where(self.epsilons < self._settings.floor, self._settings.floor * step, 0.0),
        )
        return np.minimum(self.epsilons + np.where(self._growing, growth, 0.0), 1.0)

    def _try(self, candidate: FloatArray, cutting: FloatArray, budget: Budget) -> bool:
        """Whether the candidate, or a cut of it, is robust; the first that is becomes the new vector."""
        for _ in range(1 + self._settings.cuts):
            if budget.exhausted or self._goal.value(candidate) <= self.value:
                return False
            result = self._ask(candidate, budget)
            if result.verdict is Verdict.HOLDS:
                self.epsilons, self.proof = candidate, result
                return True
            candidate = self._shape.inside(cut(candidate, self.epsilons, cutting))
        return False

    def _ask(self, epsilons: FloatArray, budget: Budget) -> Result:
        started = time.monotonic()
        try:
            result = self._verifier.verify(self._at(epsilons), budget.at_most(self._settings.query_seconds))
        except DisagreementError as error:
            # what is certified already stays certified; a question that can't be judged is not robust
            self._verifier.tell("disagreement", str(error))
            return Result(Verdict.UNKNOWN, str(error), "none", time.monotonic() - started)
        for stage in result.stages:
            self.attack += stage.engine.startswith("falsify")
            self.bounds += stage.engine.startswith("bounds")
            self.bab += stage.engine.startswith("bab")
            self.milp += stage.engine == "milp"
        self.complete += any(stage.engine.startswith(("bab", "milp")) for stage in result.stages)
        return result

    def _weights(self) -> FloatArray:
        if self._cutting is Cutting.FIXED:
            return fixed_weights(len(self.epsilons))
        return cutting_weights(
            self._cutting,
            self._verifier.falsifier.module,
            self._neighbourhood,
            self._at(self.epsilons).property.clauses[0],
        )
