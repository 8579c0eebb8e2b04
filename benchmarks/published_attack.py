"""The schedule of alpha-beta-CROWN's attack stage, written anew, to measure the falsifier against.

Its default configuration: before anything else the centre of the box is tried, then 30 uniform starts for each
conjunction climb 100 steps; all inputs step by the sign of Adam's first moment (0.9), by a quarter of the largest
half-width of the box, times 0.99 per step and corrected for the moment's bias; the loss is the sum of hinges of a
conjunction's inequalities; it stops at the first success. Options it leaves off (diversified starts, GAMA) are off.
It runs once; here it starts anew until the time is over.

Reference:
    H. Zhang et al., alpha-beta-CROWN, complete_verifier/attack (attack_pgd.py, attack_utils.py) and the defaults
    of arguments.py: pgd_order before, pgd_steps 100, pgd_restarts 30, pgd_alpha auto, pgd_lr_decay 0.99.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from ..verifier.budget import Budget
from ..verifier.problem import Problem
from ..verifier.property import Clause
from ..verifier.replay import Replay
from ..verifier.result import Witness
from ..verifier.torch_network import TorchNetwork

_STEPS = 100
_RESTARTS = 30
_DECAY = 0.99
_MOMENT = 0.9
# An inequality that holds by so much counts no further.
_SATISFIED = 1e-5


@dataclass(frozen=True, slots=True, eq=False)
class _Conjunctions:
    """Inequalities that must hold together: weights (conjunctions, atoms, labels), offsets (conjunctions, atoms)."""

    weights: Tensor
    offsets: Tensor

    @classmethod
    def of(cls, clause: Clause) -> "_Conjunctions":
        """A clause that needs some of its atoms, as VNN-LIB writes it: each such subset is a conjunction."""
        subsets = torch.tensor(list(combinations(range(clause.atoms), clause.needed)))
        weights, offsets = (
            torch.tensor(array, dtype=torch.float32) for array in (clause.weights, clause.offsets)
        )
        return cls(weights[subsets], offsets[subsets])

    def atoms(self, scores: Tensor) -> Tensor:
        """Values (restarts, conjunctions, atoms) at scores (restarts, conjunctions, labels); >= 0 holds."""
        return torch.einsum("rcl,cal->rca", scores, self.weights) + self.offsets


class PublishedAttack:
    """The stage for one network; a hit is replayed in onnxruntime like ours."""

    def __init__(self, module: TorchNetwork, replay: Replay) -> None:
        """Use a float32 ``module``; ``replay`` judges its finds."""
        self._module = module
        self._replay = replay

    def search(self, problem: Problem, seed: int, budget: Budget) -> bool:
        """Whether one run of the stage finds a counterexample."""
        generator = torch.Generator().manual_seed(seed)
        clauses = problem.property.clauses
        climbs = (self._climb(problem, _Conjunctions.of(clause), generator) for clause in clauses)
        return any(self._violates(problem, climb, budget) for climb in climbs)

    def _violates(self, problem: Problem, climb: Iterator[Tensor | None], budget: Budget) -> bool:
        for point in climb:
            if budget.exhausted:
                return False
            if point is not None and isinstance(
                self._replay.judge(problem.region, problem.property, point.numpy()), Witness
            ):
                return True
        return False

    def _climb(
        self, problem: Problem, wanted: _Conjunctions, generator: torch.Generator
    ) -> Iterator[Tensor | None]:
        """After each step the best point where a conjunction holds, or None."""
        lower, upper = (
            torch.tensor(bound, dtype=torch.float32) for bound in (problem.region.lower, problem.region.upper)
        )
        rows = (_RESTARTS, len(wanted.weights))
        centre = ((lower + upper) / 2).expand(1, rows[1], *lower.shape)
        yield self._held(centre, wanted.atoms(self._scores(centre).detach()))
        points = lower + torch.rand((*rows, *lower.shape), generator=generator) * (upper - lower)
        moment = torch.zeros_like(points)
        reach = float((upper - lower).max()) / 2 / 4
        for step in range(1, _STEPS + 1):
            points = points.requires_grad_(True)
            atoms = wanted.atoms(self._scores(points))
            (slope,) = torch.autograd.grad(atoms.clamp_max(_SATISFIED).sum(), points)
            points = points.detach()
            yield self._held(points, atoms.detach())
            moment = _MOMENT * moment + (1 - _MOMENT) * slope
            size = reach * _DECAY ** (step - 1) / (1 - _MOMENT**step)
            points = (points + size * moment.sign()).clamp(lower, upper)
        yield self._held(points, wanted.atoms(self._scores(points).detach()))

    def _scores(self, points: Tensor) -> Tensor:
        scores: Tensor = self._module(points.flatten(0, 1))
        return scores.reshape(*points.shape[:2], -1)

    def _held(self, points: Tensor, atoms: Tensor) -> Tensor | None:
        worst = atoms.amin(dim=2).flatten()
        best = int(worst.argmax())
        return points.flatten(0, 1)[best] if worst[best] >= 0 else None
