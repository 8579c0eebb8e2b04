"""The frame of every attack: checks the question, lets the method search, and judges the result itself."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..errors import InputError
from ..memory import keep_freed_memory
from .ball import Ball, Norm
from .box import Stop, per_row
from .decision import Decision, Threshold
from .flips import Flips, Goal

Network = Callable[[Tensor], Tensor]
"""Maps images (rows, *input_shape) in [0, 1] to scores (rows, labels): a torch module or any callable."""


@dataclass(frozen=True, slots=True)
class AttackRecord:
    """What came out of an attack, recounted on the clipped images.

    Attributes:
        images: the adversarial images, shape (images, *input_shape), inside the ball and [0, 1]; where
            the attack failed, its best attempt.
        success: shape (images,), bool, by `Flips.success` on these very images.
        before: label sets of the clean images, shape (images, labels), bool.
        after: label sets of the adversarial images, same shape.
        infeasible: shape (images,), bool: the method found its own sub-problem without a solution.
        steps: iterations of the method, each batched over all images.
        gradients: backward passes, each batched over all images.
        seconds: wall time of the search.
    """

    images: Tensor
    success: Tensor
    before: Tensor
    after: Tensor
    infeasible: Tensor
    steps: int
    gradients: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Attempt:
    """What a method hands back; nothing in it is believed but the images.

    Attributes:
        images: shape (images, *input_shape), anywhere.
        steps: iterations.
        gradients: backward passes.
        infeasible: shape (images,), bool, or None when the method has no such notion.
    """

    images: Tensor
    steps: int
    gradients: int
    infeasible: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """One question to a method, checked and with the clean prediction known.

    Attributes:
        network: scores of images.
        images: the clean images, shape (images, *input_shape), in [0, 1].
        flips: the wish, on the device of the images.
        ball: the allowed images.
        decision: how scores become labels.
        present: label sets of the clean images, shape (images, labels), bool.
        generator: the only source of randomness.
        stop: asked before each iteration.
    """

    network: Network
    images: Tensor
    flips: Flips
    ball: Ball
    decision: Decision
    present: Tensor
    generator: torch.Generator
    stop: Stop = field(default=lambda: False)

    def rows(self, chosen: Tensor) -> "Task":
        """The same question for some of the images, shape (count,) of their numbers."""
        return replace(
            self, images=self.images[chosen], flips=self.flips.rows(chosen), present=self.present[chosen]
        )

    @property
    def wanted(self) -> Tensor:
        """The wish as numbers: +1 show, -1 hide, 0 not asked; shape (images, labels)."""
        return self.flips.wanted.to(self.images)

    @property
    def kept(self) -> Tensor:
        """The present side (+1, -1) of the labels not asked for, 0 elsewhere; shape (images, labels)."""
        side = 2 * self.present.to(self.images) - 1
        return side * (self.flips.wanted == 0)

    def margins(self, points: Tensor) -> Tensor:
        """Margins of every label, shape (rows, labels); differentiable when the network is."""
        return self.decision.margins(self.network(points))

    @property
    def goal(self) -> Goal:
        """What the wish asks of each label of these images."""
        return self.flips.goal(self.present)


class Incumbent:
    """The best allowed image seen so far for each clean one: most labels right, then smallest norm.

    Methods whose iterates wander (penalties, linearisations, populations) offer each of them here.
    """

    def __init__(self, task: Task, norm: Norm) -> None:
        self._task = task
        self._norm = norm
        self.images = task.images.clone()
        self.matched = task.flips.matched(task.present, task.present)
        self.complete = task.flips.complete(task.present, task.present)
        self._size = torch.zeros_like(task.images.flatten(1)[:, 0])

    def offer(self, points: Tensor, margins: Tensor) -> Tensor:
        """Consider one point per image; points outside the ball are ignored.

        Args:
            points: shape (images, *input_shape).
            margins: their margins, shape (images, labels).

        Returns:
            Which of the points fulfil the whole wish, shape (images,), bool.
        """
        task = self._task
        present = margins.detach() >= 0
        matched = task.flips.matched(present, task.present)
        size = self._norm.of(points.detach() - task.images)
        allowed = (task.ball.project(points.detach(), task.images) == points.detach()).flatten(1).all(dim=1)
        better = (matched > self.matched) | ((matched == self.matched) & (size < self._size))
        better &= allowed
        self.images = torch.where(per_row(better, points), points.detach(), self.images)
        self.matched = torch.where(better, matched, self.matched)
        self._size = torch.where(better, size, self._size)
        complete = task.flips.complete(present, task.present)
        self.complete |= complete & allowed
        return complete & allowed


class Attack(ABC):
    """A method; subclasses implement `search` and nothing else."""

    __slots__ = ()

    @abstractmethod
    def search(self, task: Task) -> Attempt:
        """Look for adversarial images; called with a checked task."""

    def attack(
        self,
        model: Network,
        images: Tensor,
        flips: Flips,
        *,
        ball: Ball | None = None,
        decision: Decision | None = None,
        generator: torch.Generator | None = None,
        stop: Stop | None = None,
    ) -> AttackRecord:
        """Attack a batch of images.

        Args:
            model: maps images to scores (logits), shape (rows, labels); put a module in eval mode first.
            images: shape (images, *input_shape), pixels in [0, 1].
            flips: which labels to hide and show, one row per image.
            ball: the allowed images; by default all of [0, 1].
            decision: how scores become labels; by default score >= 0.
            generator: source of randomness; by default seeded with 0, so that runs repeat.
            stop: asked before each iteration; true ends the search with its best attempt.

        Returns:
            The adversarial images, clipped to the ball, and what they achieve.

        Raises:
            InputError: the images or flips do not fit the network, or the method needs gradients that
                the network does not give.
        """
        task = _checked_task(model, images, flips, ball, decision, generator, stop)
        keep_freed_memory()
        begun = time.perf_counter()
        attempt = self.search(task)
        seconds = time.perf_counter() - begun
        return _judge(task, attempt, seconds)


def _checked_task(
    model: Network,
    images: Tensor,
    flips: Flips,
    ball: Ball | None,
    decision: Decision | None,
    generator: torch.Generator | None,
    stop: Stop | None,
) -> Task:
    if not images.is_floating_point() or images.dim() < 2 or not _in_range(images):
        raise InputError(
            "the images to attack need the shape (images, ...) and floating-point pixels in [0, 1]; "
            "divide 8-bit values by 255"
        )
    rule = decision or Threshold()
    with torch.no_grad():
        scores = model(images)
    if scores.dim() != 2 or scores.shape != flips.wanted.shape:
        raise InputError(
            f"the network gives scores of shape {tuple(scores.shape)}, but the flips have shape "
            f"{tuple(flips.wanted.shape)}; both must be (images, labels)"
        )
    return Task(
        network=model,
        images=images.detach(),
        flips=flips.to(images.device),
        ball=ball or Ball(),
        decision=rule,
        present=rule.present(scores.to(images.device)),
        generator=generator or torch.Generator().manual_seed(0),
        stop=stop or (lambda: False),
    )


def _in_range(images: Tensor) -> bool:
    if not images.numel():
        return True
    least, most = images.aminmax()
    return bool(least >= 0) and bool(most <= 1)


def _judge(task: Task, attempt: Attempt, seconds: float) -> AttackRecord:
    """Clip and recount: what a method says of its own success plays no part."""
    with torch.no_grad():
        images = task.ball.project(attempt.images.detach(), task.images)
        after = task.decision.present(task.network(images)).to(task.images.device)
    nowhere = torch.zeros_like(task.present[:, 0])
    return AttackRecord(
        images=images,
        success=task.flips.success(after, task.present),
        before=task.present,
        after=after,
        infeasible=nowhere if attempt.infeasible is None else attempt.infeasible,
        steps=attempt.steps,
        gradients=attempt.gradients,
        seconds=seconds,
    )
