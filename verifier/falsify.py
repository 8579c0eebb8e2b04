"""The falsifier: APGD on the property's margin, every hit replayed before it is believed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..attacks.apgd import Apgd
from ..attacks.box import BoxSearch
from ..attacks.diverse import DiverseApgd
from ..attacks.sampled import SampledApgd
from .budget import Budget
from .problem import Problem
from .property import Clause
from .replay import Rejection, Replay
from .result import Witness
from .torch_network import TorchNetwork

# A quick look before the bounds, and a thorough one after them.
QUICK = Apgd(steps=20, restarts=1)
THOROUGH = Apgd(steps=100, restarts=10)
# More starts than that as long as a step reads no more input numbers than these.
NUMBERS_PER_STEP = 50_000
MOST_STARTS = 1000
# Networks of so few inputs are evaluated at very many points before that.
FEW_INPUTS = 20
# Up to so many clauses have a search of their own.
MOST_APART = 12


@dataclass(frozen=True, slots=True, eq=False)
class AttackOutcome:
    """What a search for counterexamples found.

    Attributes:
        witness: replayed, or None.
        best: the input with the largest margin seen, whether or not it violates.
        margin: of that input, in float32.
        reason: in words.
    """

    witness: Witness | None
    best: NDArray[np.float32]
    margin: float
    reason: str


class Falsifier:
    """Gradient search for one network on one device."""

    def __init__(self, module: TorchNetwork, replay: Replay, device: str = "cpu") -> None:
        """Use a float32 ``module`` on ``device``; ``replay`` judges its finds."""
        self._device = torch.device(device)
        self.module = module.to(self._device)
        self._replay = replay

    def search(self, problem: Problem, attack: Apgd, seed: int, budget: Budget) -> AttackOutcome:
        """Look for a witness of every clause; deterministic for a seed unless the budget ends it.

        Many clauses are climbed together, each starting point towards the clause that is nearest to it.
        """
        clauses = problem.property.clauses
        groups = [(clause,) for clause in clauses] if len(clauses) <= MOST_APART else [clauses]
        if attack.restarts > 1 and len(groups) > 1:
            # The clause that a quick look comes nearest to goes first: the budget may end before the last one.
            looks = self._outcomes(problem, groups, QUICK, seed, budget)
            if looks[-1].witness is not None:
                return looks[-1]
            order = sorted(range(len(groups)), key=lambda index: -looks[index].margin)
            groups = [groups[index] for index in order]
        outcomes = self._outcomes(problem, groups, attack, seed, budget)
        return max(outcomes, key=lambda outcome: (outcome.witness is not None, outcome.margin))

    def _outcomes(
        self,
        problem: Problem,
        groups: Sequence[tuple[Clause, ...]],
        attack: Apgd,
        seed: int,
        budget: Budget,
    ) -> list[AttackOutcome]:
        """Of group after group, up to the first witness."""
        outcomes: list[AttackOutcome] = []
        for group in groups:
            outcomes.append(self._search_clauses(problem, group, attack, seed, budget))
            if outcomes[-1].witness is not None:
                break
        return outcomes

    def refine(
        self, problem: Problem, point: NDArray[np.floating], seed: int, budget: Budget
    ) -> AttackOutcome:
        """Judge a point from another engine; where it fails by rounding, climb from it."""
        judged = self._replay.judge(problem.region, problem.property, point)
        if isinstance(judged, Witness):
            return AttackOutcome(judged, judged.image, judged.margin, "replayed in onnxruntime")
        start = problem.region.project(point)
        nearby = Problem(problem.network, problem.region, problem.property, start)
        return self.search(nearby, Apgd(steps=40, restarts=1, initial_step=0.05), seed, budget)

    def _search_clauses(
        self, problem: Problem, clauses: tuple[Clause, ...], attack: Apgd, seed: int, budget: Budget
    ) -> AttackOutcome:
        lower, upper = self._tensor(problem.region.lower), self._tensor(problem.region.upper)
        start = None if problem.start is None else self._tensor(problem.start)
        generator = torch.Generator(self._device).manual_seed(seed)
        margins = [_Margin(clause, self._device) for clause in clauses]

        def margin_of(logits: Tensor) -> Tensor:
            return torch.stack([margin(logits) for margin in margins]).amax(dim=0)

        if attack.restarts > 1 and lower.numel() <= FEW_INPUTS:
            found = SampledApgd().maximize(
                lambda points: margin_of(self.module(points)),
                lower,
                upper,
                generator,
                lambda: budget.exhausted,
            )
            outcome = self._judged(problem, found)
            if outcome.witness is not None:
                return outcome
        found = DiverseApgd(_with_more_starts(attack, lower.numel())).maximize(
            self.module, margin_of, lower, upper, start, generator, lambda: budget.exhausted
        )
        return self._judged(problem, found)

    def _judged(self, problem: Problem, found: BoxSearch) -> AttackOutcome:
        point = found.points[0].cpu().numpy().reshape(problem.region.shape)
        margin = float(found.values[0])
        if margin < 0:
            return AttackOutcome(None, point, margin, f"largest margin found {margin:.4g}")
        judged = self._replay.judge(problem.region, problem.property, point)
        if isinstance(judged, Rejection):
            return AttackOutcome(None, point, margin, judged.reason)
        return AttackOutcome(judged, judged.image, margin, "replayed in onnxruntime")

    def _tensor(self, array: NDArray[np.floating]) -> Tensor:
        return torch.tensor(array, dtype=torch.float32, device=self._device).unsqueeze(0)


def _with_more_starts(attack: Apgd, inputs: int) -> Apgd:
    """Networks of few inputs are cheap to run, and their counterexamples hide in small places."""
    if attack.restarts == 1:
        return attack
    return replace(attack, restarts=max(attack.restarts, min(MOST_STARTS, NUMBERS_PER_STEP // inputs)))


class _Margin:
    """The margin of a clause at a batch of logits, differentiable almost everywhere."""

    def __init__(self, clause: Clause, device: torch.device) -> None:
        self._weights = torch.tensor(clause.weights, dtype=torch.float32, device=device)
        self._offsets = torch.tensor(clause.offsets, dtype=torch.float32, device=device)
        self._needed = clause.needed

    def __call__(self, logits: Tensor) -> Tensor:
        atoms = logits @ self._weights.T + self._offsets
        return atoms.topk(self._needed, dim=1).values[:, -1]
