"""The synthesis loop of Mour (2023), section 3, re-implemented as a baseline.

Verifier, optimiser and counterexample-guided cuts take turns. The verifier is the MILP alone. The thesis
leaves its optimiser to MaRVeL (Kabaha and Drachsler-Cohen 2023), so the update rule is MaRVeL's with one
epsilon per layer: a step of unit L2 norm along ``max(0, w/|w| - lambda g/|g|)``, where g is the gradient of
the margin with respect to the epsilons at the weakest point, and lambda shrinks by a quarter after a failure.
Where MaRVeL freezes pixels, the thesis cuts with its cutting weights.

Where the papers are silent the choice favours the baseline: a robust neighbourhood's weakest point is sought
by a short gradient search instead of a MILP solved to the end; where MaRVeL would stop because lambda is
small, the loop goes on with half the step; and bounds behind the encoding are CROWN's.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..synthesis.cutting import Cutting, cut, fixed_weights, sensitivity_weights
from ..synthesis.problem import SynthesisProblem
from ..verifier.budget import Budget
from ..verifier.falsify import QUICK
from ..verifier.operators import FloatArray
from ..verifier.portfolio import Engine, Settings, Verifier
from ..verifier.result import Result, Verdict


@dataclass(frozen=True, slots=True)
class LoopSettings:
    """Numbers of the loop.

    Attributes:
        cutting: which cutting weights.
        start: first epsilon of every layer (pixel units), divided by four until it is robust.
        step: L2 norm of an expansion (pixel units), the middle of what MaRVeL advises per input.
        relaxation: first lambda.
        decay: its factor after a failure.
        least_relaxation: below it the step is halved and lambda starts again.
        cuts: at most so many in a row.
        least_gain: expansions and cuts that gain less size are not asked about.
        query_seconds: longest time for one question.
        threads: of the MILP solver.
        engines: of the verifier; the thesis has the MILP alone.
    """

    cutting: Cutting = Cutting.FIXED
    start: float = 1e-4
    step: float = 0.02
    relaxation: float = 0.99
    decay: float = 0.75
    least_relaxation: float = 0.01
    cuts: int = 8
    least_gain: float = 1e-4
    query_seconds: float = 5.0
    threads: int = 2
    engines: frozenset[Engine] = frozenset({Engine.MILP})


@dataclass(frozen=True, slots=True, eq=False)
class LoopOutcome:
    """What the loop reached.

    Attributes:
        epsilons: (layers,) the largest robust vector, pixel units.
        size: weighted sum.
        seconds: until this vector was verified.
        queries: questions to the verifier, to the end of the loop.
    """

    epsilons: FloatArray
    size: float
    seconds: float
    queries: int


class ThesisLoop:
    """One run on one problem."""

    def __init__(self, problem: SynthesisProblem, settings: LoopSettings, budget: Budget) -> None:
        """Prepare the verifier; the time of this counts."""
        self._problem = problem
        self._settings = settings
        self._budget = budget
        self._clock, self._started = budget.clock, budget.clock()
        self._verifier = Verifier(
            problem.network, Settings(threads=settings.threads, engines=settings.engines)
        )
        self._cutting = self._cutting_weights()
        self._step, self._relaxation = settings.step, settings.relaxation
        self._robust = np.zeros_like(problem.weights)
        self._seconds = 0.0
        self._queries = 0

    def run(self) -> LoopOutcome:
        """Expand until the budget ends or no step is worth a question."""
        if self._start():
            gradient = self._searched_gradient()
            while not self._budget.exhausted and self._step > self._settings.least_gain:
                gradient = self._expand(gradient)
        size = self._size(self._robust)
        return LoopOutcome(self._robust, size, self._seconds, self._queries)

    def _size(self, epsilons: FloatArray) -> float:
        return float(self._problem.weights @ epsilons)

    def _start(self) -> bool:
        epsilon = self._settings.start
        while epsilon > self._settings.start / 4**8 and not self._budget.exhausted:
            if self._holds(np.where(self._problem.weights > 0, epsilon, 0.0)):
                return True
            epsilon /= 4
        return False

    def _expand(self, gradient: FloatArray) -> FloatArray:
        """One expansion with its cuts; the gradient for the next one."""
        direction = expansion_direction(self._problem.weights, gradient, self._relaxation)
        candidate = np.minimum(self._robust + self._step * direction, 1.0)
        for attempt in range(1 + self._settings.cuts):
            if self._budget.exhausted or not self._is_worth_asking(candidate):
                break
            result = self._ask(candidate)
            if result.verdict is Verdict.HOLDS:
                if attempt > 0:
                    self._relax()
                return self._searched_gradient()
            if result.witness is not None:
                gradient = self._gradient(result.witness.image, candidate)
            candidate = cut(candidate, self._robust, self._cutting)
        self._relax()
        return gradient

    def _is_worth_asking(self, candidate: FloatArray) -> bool:
        return self._size(candidate) - self._size(self._robust) >= self._settings.least_gain

    def _relax(self) -> None:
        self._relaxation *= self._settings.decay
        if self._relaxation < self._settings.least_relaxation:
            self._relaxation = self._settings.relaxation
            self._step /= 2

    def _holds(self, epsilons: FloatArray) -> bool:
        return self._ask(epsilons).verdict is Verdict.HOLDS

    def _ask(self, epsilons: FloatArray) -> Result:
        self._queries += 1
        part = self._budget.at_most(self._settings.query_seconds)
        result = self._verifier.verify(self._problem.at(epsilons), part)
        if result.verdict is Verdict.HOLDS:
            self._robust, self._seconds = epsilons, self._clock() - self._started
        return result

    # --- gradients ------------------------------------------------------------------------------------

    def _searched_gradient(self) -> FloatArray:
        problem = self._problem.at(self._robust)
        found = self._verifier.falsifier.search(problem, QUICK, self._verifier.settings.seed, self._budget)
        return self._gradient(found.best, self._robust)

    def _gradient(self, weakest: NDArray[np.float32], epsilons: FloatArray) -> FloatArray:
        """Of the margin with respect to the epsilons (layers,), at the weakest point within them."""
        where = self._problem.neighbourhood
        clause = self._problem.question.clauses[0]
        module = self._verifier.falsifier.module
        pixels = torch.tensor(weakest).unsqueeze(0).requires_grad_()
        atoms = module(pixels) @ torch.tensor(clause.weights, dtype=pixels.dtype).T
        (slope,) = torch.autograd.grad(atoms.topk(clause.needed, dim=1).values[0, -1], pixels)
        return layer_gradient(
            slope[0].double().numpy(), weakest.astype(np.float64) - where.image, where.layers, epsilons
        )

    def _cutting_weights(self) -> FloatArray:
        where = self._problem.neighbourhood
        if self._settings.cutting is Cutting.FIXED:
            return fixed_weights(len(where.epsilons))
        clause = self._problem.question.clauses[0]
        return sensitivity_weights(self._verifier.falsifier.module, where.image, where.layers, clause)


def expansion_direction(weights: FloatArray, gradient: FloatArray, relaxation: float) -> FloatArray:
    """The unit direction in which to expand, no entry negative.

    Args:
        weights: (layers,) of the size.
        gradient: (layers,) of the margin with respect to the epsilons.
        relaxation: lambda, how much the margin counts beside the size.
    """
    ahead = _unit(weights)
    direction = np.maximum(ahead - relaxation * _unit(gradient), 0.0)
    direction[weights == 0] = 0.0
    return _unit(direction) if direction.any() else ahead


def _unit(vector: FloatArray) -> FloatArray:
    length = float(np.linalg.norm(vector))
    return vector / length if length > 0 else vector


def layer_gradient(
    slope: FloatArray, offset: FloatArray, layers: NDArray[np.int64], epsilons: FloatArray
) -> FloatArray:
    """Gradient (layers,) of the margin when every pixel keeps its relative position as its layer grows.

    Args:
        slope: (channels, height, width) gradient of the margin at the weakest point.
        offset: (channels, height, width) weakest point less image.
        layers: (height, width) layer numbers.
        epsilons: (layers,) of the neighbourhood that the weakest point is in.
    """
    reach = epsilons[layers]
    position = np.divide(offset, reach, out=np.zeros_like(offset), where=reach > 0)
    per_pixel = (slope * np.clip(position, -1.0, 1.0)).sum(axis=0)
    return np.bincount(layers.reshape(-1), per_pixel.reshape(-1), len(epsilons)).astype(np.float64)
