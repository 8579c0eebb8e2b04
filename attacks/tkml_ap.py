"""TkML-AP: attacks on the set of the k highest scores."""

from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from ..errors import InputError
from .ball import Norm
from .base import Attack, Attempt, Incumbent, Task
from .box import per_row, value_and_gradient
from .decision import TopK
from .losses import exactly_top_k, outside_top_k, outside_top_k_average


class TopKLoss(Enum):
    """Which hinge an untargeted attack lowers."""

    AVERAGE = "average"
    EXACT = "exact"


@dataclass(frozen=True, slots=True)
class TkmlAp(Attack):
    """Gradient descent on top-k hinges, projected on the L2 or L-infinity ball.

    With labels to hide only, they must leave the top k (untargeted); with labels to show as well, the
    top k must become the present labels less the hidden plus the shown (targeted).

    Attributes:
        iterations: gradient steps.
        rate: length of a step as a share of epsilon, along the gradient of unit norm (L2) or its sign
            (L-infinity).
        loss: the untargeted hinge, as published or exact.

    Reference:
        S. Hu, L. Ke, X. Wang and S. Lyu, "TkML-AP: adversarial attacks to top-k multi-label learning",
        ICCV 2021. The published code takes plain gradient steps of rate 0.01; steps of fixed length do
        not depend on the scale of the scores.
    """

    iterations: int = 200
    rate: float = 0.05
    loss: TopKLoss = TopKLoss.AVERAGE

    def search(self, task: Task) -> Attempt:
        """Descend until every image fulfils its wish or the iterations end.

        Raises:
            InputError: the decision is not top-k, or the labels to show and hide do not keep k labels.
        """
        if not isinstance(task.decision, TopK):
            raise InputError("TkML-AP attacks the k highest scores; choose the decision top-k")
        target = _target(task, task.decision.k)
        best = Incumbent(task, task.ball.norm)
        points = task.images
        for taken in range(self.iterations):
            if task.stop():
                return Attempt(best.images, taken, taken)
            margins, gradient = self._evaluate(task, target, task.decision.k, points)
            best.offer(points, margins)
            if bool(best.complete.all()):
                return Attempt(best.images, taken, taken + 1)
            points = task.ball.project(points + self._step(task, gradient), task.images)
        with torch.no_grad():
            best.offer(points, task.margins(points))
        return Attempt(best.images, self.iterations, self.iterations)

    def _evaluate(self, task: Task, target: Tensor, k: int, points: Tensor) -> tuple[Tensor, Tensor]:
        hidden = task.wanted < 0
        targeted = (task.wanted > 0).any(dim=1)
        untargeted = outside_top_k if self.loss is TopKLoss.EXACT else outside_top_k_average
        seen: list[Tensor] = []

        def objective(inputs: Tensor) -> Tensor:
            scores = task.network(inputs)
            seen.append(task.decision.margins(scores.detach()))
            if bool(targeted.all()):
                return exactly_top_k(scores, target)
            if not bool(targeted.any()):
                return untargeted(scores, hidden, k)
            either = untargeted(scores, hidden | targeted[:, None], k)
            return torch.where(targeted, exactly_top_k(scores, target), either)

        _, gradient = value_and_gradient(objective, points)
        return seen[0], gradient

    def _step(self, task: Task, gradient: Tensor) -> Tensor:
        length = self.rate * task.ball.epsilon
        if task.ball.norm is Norm.LINF:
            return length * gradient.sign()
        norms = Norm.L2.of(gradient).clamp_min(torch.finfo(gradient.dtype).tiny)
        return length * gradient / per_row(norms, gradient)


def _target(task: Task, k: int) -> Tensor:
    """The label set a targeted attack aims at, shape (images, labels), bool."""
    target = (task.present | (task.wanted > 0)) & ~(task.wanted < 0)
    targeted = (task.wanted > 0).any(dim=1)
    wrong = targeted & (target.sum(dim=1) != k)
    if bool(wrong.any()):
        row = int(torch.nonzero(wrong)[0])
        raise InputError(
            f"image {row}: the flips leave {int(target[row].sum())} labels present, but the top-{k} set has "
            f"{k}; show as many labels as you hide"
        )
    return target
