"""The augmented Lagrangian of Liu, Tomioka and Cevher (ICML 2019), re-implemented as a baseline.

Maximise the sum of the logarithms of the epsilons subject to ``m_j >= delta`` for every competing label j, where m_j
is a certified lower bound on the target's lead. With ``err_j = min(m_j - delta, -lambda_j / beta)`` the Lagrangian is
``-sum log e + lambda . err + beta/2 |err|^2``; lambda grows by ``beta err`` every 5 iterations and beta fivefold
every 80, for 400 iterations; then the epsilons shrink by a hundredth until the bound proves them.

Here all pixels of a layer share an epsilon and count in the sum one by one; top-k membership exempts the k - 1
labels whose bounds are worst at the start; bounds are CROWN's in place of the weaker ones of the paper. Papers and
code say nothing of the step size, so three are tried and the best result counts. Time that is left goes into
stretching the result with the complete portfolio, which the paper does not do.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..adam import Adam, descend
from ..synthesis.problem import SynthesisProblem
from ..synthesis.rows import CertifiedRows
from ..verifier.budget import Budget
from ..verifier.linear_bounds import LinearBounds
from ..verifier.operators import FloatArray
from ..verifier.portfolio import Settings, Verifier
from ..verifier.result import Verdict
from ..verifier.threads import few_threads
from .thesis import LoopOutcome


@dataclass(frozen=True, slots=True)
class LiuSettings:
    """Numbers of the algorithm; the defaults are the paper's code's, but for the rates.

    Attributes:
        iterations: gradient steps.
        start: first epsilon (pixel units), divided by four until it is proved.
        delta: lead (logits) that is asked for.
        multiplier_every: iterations between updates of lambda.
        penalty_every: iterations between updates of beta.
        penalty_factor: of beta.
        shrink: factor of the final safeguard.
        rates: step sizes of Adam on the roots of the epsilons, tried in turn.
        share: of the time, for all of this; the rest stretches the result.
        query_seconds: longest time for one question.
        threads: of the MILP solver.
    """

    iterations: int = 400
    start: float = 1e-3
    delta: float = 1e-4
    multiplier_every: int = 5
    penalty_every: int = 80
    penalty_factor: float = 5.0
    shrink: float = 0.99
    rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2)
    share: float = 0.7
    query_seconds: float = 3.0
    threads: int = 2


class Liu:
    """One run on one problem."""

    def __init__(self, problem: SynthesisProblem, settings: LiuSettings, budget: Budget) -> None:
        """Prepare bounds and verifier; the time of this counts."""
        self._problem = problem
        self._settings = settings
        self._budget = budget
        self._clock, self._started = budget.clock, budget.clock()
        self._verifier = Verifier(problem.network, Settings(threads=settings.threads))
        where = problem.neighbourhood
        count = len(where.epsilons)
        self._pixels = np.bincount(where.layers.reshape(-1), minlength=count).astype(np.float64)
        clause = problem.question.clauses[0]
        linear = LinearBounds(problem.network, torch.float32)
        self._rows = CertifiedRows(linear, where.image, where.layers, np.ones(count), clause)
        self._best = np.zeros(count)
        self._seconds = 0.0
        self._queries = 0

    def run(self) -> LoopOutcome:
        """All rates, then the stretch."""
        with few_threads():
            searching = self._budget.at_most(self._settings.share * self._budget.remaining)
            start = self._start(searching)
            for rate in self._settings.rates:
                if start is not None and not searching.exhausted:
                    self._keep(self._proved(self._climb(start, rate, searching)))
        self._stretch()
        return LoopOutcome(self._best, log_volume(self._best, self._pixels), self._seconds, self._queries)

    def _start(self, budget: Budget) -> float | None:
        """A uniform epsilon that counting proves; chooses the exempt labels."""
        clause = self._problem.question.clauses[0]
        epsilon = self._settings.start
        while epsilon > self._settings.start / 4**8 and not budget.exhausted:
            atoms = self._rows.atoms(epsilon)
            order = np.argsort(-atoms)
            if atoms[order[clause.needed - 1]] < -self._settings.delta:
                asked: list[tuple[int, ...]] = [(int(atom),) for atom in order[clause.needed - 1 :]]
                self._rows.subsets = asked
                self._rows.shares = self._rows.linear.tensor(np.ones((len(asked), 1)))
                self._keep(self._proved(np.full(len(self._best), epsilon)))
                return epsilon
            epsilon /= 4
        return None

    def _climb(self, start: float, rate: float, budget: Budget) -> FloatArray:
        settings = self._settings
        roots = torch.full((len(self._best),), float(np.sqrt(start))).requires_grad_()
        pixels = self._rows.linear.tensor(self._pixels / self._pixels.sum())
        multipliers, penalty = torch.zeros(len(self._rows.subsets)), 1.0
        optimiser = Adam([([roots], rate)], averages=(0.9, 0.999))
        for iteration in range(1, settings.iterations + 1):
            if budget.exhausted:
                break
            leads = -self._rows.upper((roots**2).clamp(max=1.0))
            loss = -(pixels * torch.log(roots**2)).sum() + _penalty(
                leads - settings.delta, multipliers, penalty
            )
            descend(loss, optimiser)
            if iteration % settings.multiplier_every == 0:
                multipliers = multipliers + penalty * _errors(
                    leads.detach() - settings.delta, multipliers, penalty
                )
            if iteration % settings.penalty_every == 0:
                penalty *= settings.penalty_factor
        return np.asarray(np.minimum((roots.detach() ** 2).double().numpy(), 1.0))

    def _proved(self, epsilons: FloatArray) -> FloatArray | None:
        """Shrunk until the bound proves it in float64, None when time ends first."""
        while not self._budget.exhausted:
            self._queries += 1
            region, question = self._problem.region(epsilons), self._problem.question
            if self._verifier.bounds.crown(region, question).proved:
                return epsilons
            epsilons = epsilons * self._settings.shrink
        return None

    def _stretch(self) -> None:
        """All epsilons times the largest factor that the complete portfolio proves, by doubling and bisection."""
        low, high = 1.0, 2.0
        base = self._best
        while base.any() and not self._budget.exhausted and high - low > 1 - self._settings.shrink:
            middle = (low + high) / 2
            candidate = np.minimum(base * middle, 1.0)
            self._queries += 1
            part = self._budget.at_most(self._settings.query_seconds)
            if self._verifier.verify(self._problem.at(candidate), part).verdict is Verdict.HOLDS:
                self._keep(candidate)
                low = middle
            else:
                high = middle

    def _keep(self, epsilons: FloatArray | None) -> None:
        known = log_volume(self._best, self._pixels)
        if epsilons is not None and log_volume(epsilons, self._pixels) > known:
            self._best, self._seconds = epsilons, self._clock() - self._started


def _errors(leads: Tensor, multipliers: Tensor, penalty: float) -> Tensor:
    return torch.minimum(leads, -multipliers / penalty)


def _penalty(leads: Tensor, multipliers: Tensor, penalty: float) -> Tensor:
    errors = _errors(leads, multipliers, penalty)
    return (multipliers * errors).sum() + penalty / 2 * (errors**2).sum()


def log_volume(epsilons: FloatArray, pixels: FloatArray) -> float:
    """Sum of the logarithms of the epsilons over all pixels; minus infinity when one is zero.

    Args:
        epsilons: (layers,) pixel units.
        pixels: (layers,) number of pixels.
    """
    with np.errstate(divide="ignore"):
        return float(pixels @ np.log(epsilons))
