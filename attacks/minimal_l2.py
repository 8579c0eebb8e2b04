"""The skeleton of ML-CW and ML-Rank: smallest squared L2 norm plus a penalty whose weight is searched."""

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from ..adam import Adam, descend
from ..errors import InputError
from .ball import Norm
from .base import Attack, Attempt, Incumbent, Task
from .box import clamp

_OFF_THE_BORDER = 0.999
"""tanh has no slope at the border; a black pixel starts this close to it and can still move."""

_CHECKS = 10
_STALLED = 0.9999
_HEAVIEST = 1e10


@dataclass(frozen=True, slots=True)
class MinimalL2(Attack):
    """Minimise |r|_2^2 + c * penalty by Adam over w with x + r = tanh(w), rescaled to the allowed box.

    Attributes:
        iterations: Adam steps for each weight c.
        searches: values of c tried: times 10 until a success, then bisection.
        weight: the first c.
        rate: learning rate of Adam.
        overshoot: how far past its threshold each label must go, in score units.

    Reference:
        N. Carlini and D. Wagner, "Towards evaluating the robustness of neural networks", S&P 2017;
        Q. Song et al., "Multi-label adversarial perturbations", ICDM 2018.
    """

    iterations: int = 200
    searches: int = 5
    weight: float = 10.0
    rate: float = 0.01
    overshoot: float = 1e-3

    @abstractmethod
    def penalty(self, margins: Tensor, wanted: Tensor, kept: Tensor) -> Tensor:
        """What is to become zero: shape (rows,), from margins of shape (rows, labels)."""

    def search(self, task: Task) -> Attempt:
        """Search the penalty's weight for every image at once."""
        best = Incumbent(task, Norm.L2)
        weights = _Weights(task, self.weight)
        gradients = 0
        steps = 0
        for _ in range(self.searches):
            reached, used = self._descend(task, best, weights.current)
            gradients += used
            steps += used
            weights.learn(reached)
            if task.stop():
                break
        return Attempt(best.images, steps, gradients)

    def _descend(self, task: Task, best: Incumbent, weights: Tensor) -> tuple[Tensor, int]:
        """One run of Adam; which images met their wish, and how many gradients it took."""
        lower, upper = task.ball.box(task.images)
        width = (upper - lower).clamp_min(torch.finfo(lower.dtype).tiny)
        share = (2 * (task.images - lower) / width - 1).clamp(-_OFF_THE_BORDER, _OFF_THE_BORDER)
        latent = torch.atanh(share).requires_grad_(True)
        adam = Adam([([latent], self.rate)], averages=(0.9, 0.999))
        reached = torch.zeros_like(task.present[:, 0])
        previous = torch.inf
        for step in range(1, self.iterations + 1):
            points = clamp(lower + (upper - lower) * (torch.tanh(latent) + 1) / 2, lower, upper)
            margins = task.margins(points)
            if not margins.requires_grad:
                raise InputError("this method needs gradients and the network gives none; use MlaDe instead")
            reached |= best.offer(points.detach(), margins)
            loss = self._objective(task, points, margins, weights)
            descend(loss, adam)
            if step % max(1, self.iterations // _CHECKS) == 0:
                if task.stop() or loss.item() > _STALLED * previous:
                    return reached, step
                previous = loss.item()
        return reached, self.iterations

    def _objective(self, task: Task, points: Tensor, margins: Tensor, weights: Tensor) -> Tensor:
        short_of = margins - self.overshoot * (task.wanted + task.kept)
        penalty = self.penalty(short_of, task.wanted, task.kept)
        return ((points - task.images).flatten(1).square().sum(dim=1) + weights * penalty).sum()


class _Weights:
    """The weight c of each image: times 10 until it succeeds, then bisection for the smallest that does."""

    def __init__(self, task: Task, first: float) -> None:
        self.current = torch.full_like(task.images.flatten(1)[:, 0], first)
        self._low = torch.zeros_like(self.current)
        self._high = torch.full_like(self.current, torch.inf)

    def learn(self, reached: Tensor) -> None:
        """Move every weight after a run."""
        self._high = torch.where(reached, torch.minimum(self._high, self.current), self._high)
        self._low = torch.where(reached, self._low, torch.maximum(self._low, self.current))
        between = (self._low + self._high) / 2
        grown = (self.current * 10).clamp_max(_HEAVIEST)
        self.current = torch.where(self._high.isinf(), grown, between)
