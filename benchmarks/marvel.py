"""MaRVeL's update rule (Kabaha and Drachsler-Cohen, VMCAI 2023), re-implemented as a baseline.

MaRVeL grows one epsilon per pixel and side along ``max(0, sign(e) - lambda |sign(e)|/|G| G)``, normalised to unit
L2 norm, where G is the mean gradient of the margins at the weakest points, weighted by the softmax of those
margins. A neighbourhood that is not proved is reset to the last one that was, with a share of 0.99 where pixels
were touched; the pixels that most weakest points push against their bound are frozen, and lambda shrinks by a
quarter, as it does when the mean diameter hardly moves.

Here all pixels of a layer share an epsilon, so that both sides solve the same problem: directions are the per-pixel
ones averaged over the layer, norms are those of the pixels, and a failure freezes the layer with the largest share
of pixels at their bound. Its oracle (DeepPoly, then a MILP for the weakest points) is replaced by our portfolio and
a short gradient search. Where choices were left they favour the baseline: it starts from a uniform neighbourhood,
found by doubling, instead of from nothing, and its first step is at most a quarter of that, at most what MaRVeL
advises for MNIST; where MaRVeL would stop with time left (all frozen, or lambda small), it starts again from what
it has with half the step.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

from ..synthesis.largest_margin import search_rivals
from ..synthesis.problem import SynthesisProblem
from ..verifier.budget import Budget
from ..verifier.operators import FloatArray
from ..verifier.portfolio import Settings, Verifier
from ..verifier.result import Verdict
from .thesis import LoopOutcome, layer_gradient

# MNIST's pixels, for which the step is advised.
_MNIST_PIXELS = 784
# A pixel this close to its bound, as a share of its epsilon, is pushed against it.
_AT_BOUND = 0.999


@dataclass(frozen=True, slots=True)
class MarvelSettings:
    """Numbers of the loop; the defaults are MaRVeL's.

    Attributes:
        start: first epsilon of every layer (pixel units), doubled while it is proved.
        step: largest L2 norm of an expansion for 784 pixels (pixel units).
        first_step: first norm as a share of that of the start.
        relaxation: first lambda.
        decay: its factor after a failure.
        least_relaxation: below it the loop starts again with half the step.
        back_off: factor of the touched layers after a failure.
        least_move: of the mean diameter, below which lambda shrinks too.
        search_steps: of the search for weakest points.
        query_seconds: longest time for one question.
        threads: of the MILP solver.
    """

    start: float = 1e-4
    step: float = 0.2
    first_step: float = 0.25
    relaxation: float = 0.99
    decay: float = 0.75
    least_relaxation: float = 0.01
    back_off: float = 0.99
    least_move: float = 1e-4
    search_steps: int = 20
    query_seconds: float = 3.0
    threads: int = 2


class MarvelLoop:
    """One run on one problem."""

    def __init__(self, problem: SynthesisProblem, settings: MarvelSettings, budget: Budget) -> None:
        """Prepare the verifier; the time of this counts."""
        self._problem = problem
        self._settings = settings
        self._budget = budget
        self._clock, self._started = budget.clock, budget.clock()
        self._verifier = Verifier(problem.network, Settings(threads=settings.threads))
        where = problem.neighbourhood
        self._pixels = np.bincount(where.layers.reshape(-1), minlength=len(where.epsilons)).astype(np.float64)
        self._step = settings.step * math.sqrt(self._pixels.sum() / _MNIST_PIXELS)
        self._relaxation = settings.relaxation
        self._free = np.ones(len(self._pixels), dtype=bool)
        self._robust = np.zeros(len(self._pixels))
        self._best = self._robust
        self._seconds = 0.0
        self._queries = 0

    def run(self) -> LoopOutcome:
        """Expand until the budget ends or steps are too small to matter."""
        self._start()
        smallest = self._settings.least_move * math.sqrt(self._pixels.sum()) / 4
        while not self._budget.exhausted and self._step > smallest:
            self._expand()
            if self._relaxation < self._settings.least_relaxation or not self._free.any():
                self._start_again()
        size = float(self._problem.weights @ self._best)
        return LoopOutcome(self._best, size, self._seconds, self._queries)

    def _start(self) -> None:
        epsilon = self._settings.start
        while (
            epsilon <= 1.0 and not self._budget.exhausted and self._holds(np.full(len(self._pixels), epsilon))
        ):
            self._robust = np.full(len(self._pixels), epsilon)
            self._keep_best()
            epsilon *= 2
        norm = math.sqrt(float(self._pixels @ self._robust**2))
        if norm > 0:
            self._step = min(self._step, self._settings.first_step * norm)

    def _holds(self, epsilons: FloatArray) -> bool:
        self._queries += 1
        part = self._budget.at_most(self._settings.query_seconds)
        return self._verifier.verify(self._problem.at(epsilons), part).verdict is Verdict.HOLDS

    def _start_again(self) -> None:
        self._relaxation = self._settings.relaxation
        self._free[:] = True
        self._robust = self._best
        self._step /= 2

    def _expand(self) -> None:
        """One expansion, accepted or taken back."""
        gradient, _ = self._weakest(np.maximum(self._robust, self._settings.least_move))
        direction = pixel_direction(gradient, self._pixels, self._relaxation, self._free)
        candidate = np.minimum(self._robust + self._step * direction, 1.0)
        if self._holds(candidate):
            moved = self._mean(candidate) - self._mean(self._robust)
            self._robust = candidate
            self._keep_best()
            if 2 * moved < self._settings.least_move:
                self._relaxation *= self._settings.decay
            return
        self._take_back(candidate)

    def _take_back(self, candidate: FloatArray) -> None:
        self._relaxation *= self._settings.decay
        _, hits = self._weakest(candidate)
        hits[~self._free] = -1.0
        worst = int(hits.argmax())
        self._free[worst] = False
        self._robust = self._robust.copy()
        # a smaller neighbourhood of what was verified is robust as well
        self._robust[worst] *= self._settings.back_off

    def _keep_best(self) -> None:
        if self._mean(self._robust) > self._mean(self._best):
            self._best, self._seconds = self._robust, self._clock() - self._started

    def _mean(self, epsilons: FloatArray) -> float:
        return float(self._pixels @ epsilons / self._pixels.sum())

    def _weakest(self, epsilons: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Gradient (layers,) of the margins per pixel, and the share (layers,) of pixels at their bound."""
        problem = self._problem.at(epsilons)
        clause = problem.property.clauses[0]
        points = search_rivals(
            self._verifier, problem, clause, self._budget, self._settings.search_steps, starts=1
        )
        pixels = torch.tensor(points).requires_grad_()
        atoms = self._verifier.falsifier.module(pixels) @ torch.tensor(clause.weights, dtype=pixels.dtype).T
        margins = atoms.topk(clause.needed, dim=1).values[:, -1]
        share = torch.softmax(margins.detach(), dim=0)
        (slopes,) = torch.autograd.grad((share * margins).sum(), pixels)
        where = self._problem.neighbourhood
        gradient, hits = np.zeros(len(epsilons)), np.zeros(len(epsilons))
        for point, slope in zip(points, slopes.double().numpy(), strict=True):
            offset = point.astype(np.float64) - where.image
            gradient += layer_gradient(slope, offset, where.layers, epsilons)
            at_bound = (np.abs(offset) >= _AT_BOUND * epsilons[where.layers]) & (epsilons[where.layers] > 0)
            hits += np.bincount(where.layers.reshape(-1), at_bound.any(axis=0).reshape(-1), len(epsilons))
        return gradient / self._pixels, hits / (len(points) * self._pixels)


def pixel_direction(
    gradient: FloatArray,
    pixels: FloatArray,
    relaxation: float,
    free: "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]",
) -> FloatArray:
    """The direction (layers,) of unit L2 norm over the pixels in which to expand, no entry negative.

    Args:
        gradient: (layers,) of the margin by each pixel's epsilon.
        pixels: (layers,) number of pixels.
        relaxation: lambda, how much the margin counts beside the size.
        free: (layers,) bool, layers that may grow.
    """
    norm = math.sqrt(float(pixels @ gradient**2))
    scaled = gradient * (math.sqrt(float(pixels.sum())) / norm) if norm > 0 else gradient
    direction = np.where(free, np.maximum(0.0, 1.0 - relaxation * scaled), 0.0)
    length = math.sqrt(float(pixels @ direction**2))
    if length == 0.0:
        direction, length = free.astype(np.float64), math.sqrt(float(pixels @ free))
    return np.asarray(direction / length) if length > 0 else direction
