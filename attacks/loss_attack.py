"""PGD and APGD on any multi-label loss."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..errors import InputError
from .apgd import Apgd
from .ball import Norm
from .base import Attack, Attempt, Incumbent, Task
from .box import Field, Slope, repeat_boxes, value_and_direction
from .flips import Aim, Flips, Others
from .losses import Loss, hinge_sum, target_cross_entropy, worst_margin
from .pgd import Pgd


@dataclass(frozen=True, slots=True)
class LossAttack(Attack):
    """Raise a multi-label loss over the L-infinity ball.

    Attributes:
        engine: APGD or PGD with its settings.
        loss: one of `losses`, or any function of the same form. None chooses: the worst margin when
            other labels are free, which is >= 0 exactly at success; the sum of hinges when they must
            stay, where many labels compete and the worst one alone is a poor guide; the cross-entropy
            against the wish for as many flips as possible.
    """

    engine: Apgd | Pgd = field(default_factory=Apgd)
    loss: Loss | None = None

    def search(self, task: Task) -> Attempt:
        """Climb the loss; early points that fulfil the wish are kept."""
        loss_field = LossField(task, self.loss or _usual_loss(task.flips), self.engine.restarts)
        return climb(self.engine, loss_field, task, gradients_per_step=1)


def _usual_loss(flips: Flips) -> Loss:
    if flips.aim is Aim.MOST:
        return target_cross_entropy
    return hinge_sum if flips.others is Others.KEEP else worst_margin


class LossField:
    """The steepest direction of a loss, and whether the wish is fulfilled; one backward pass."""

    def __init__(self, task: Task, loss: Loss, copies: int) -> None:
        """For ``copies`` points of every image at once."""
        self._task = task
        self._goal = task.goal
        self._loss = loss
        self._wanted = repeat_boxes(task.wanted, copies)
        self._kept = repeat_boxes(task.kept, copies)

    def __call__(self, points: Tensor, *, final: bool = False) -> Slope:
        """Evaluate rows of points; row i belongs to image ``i % images``."""
        seen: list[Tensor] = []

        def objective(inputs: Tensor) -> Tensor:
            margins = self._task.margins(inputs)
            seen.append(margins.detach())
            return self._loss(margins, self._wanted, self._kept)

        values, direction = value_and_direction(objective, points, final)
        return Slope(values, direction, self._goal.reached(seen[0] >= 0))


def climb(engine: Apgd | Pgd, slopes: Field, task: Task, gradients_per_step: int) -> Attempt:
    """Run an engine over the box of a task's ball from the clean images.

    Raises:
        InputError: the ball is not an L-infinity ball.
    """
    if task.ball.norm is not Norm.LINF:
        raise InputError("this method searches L-infinity balls; use TkML-AP, ML-CW or JMA for an L2 budget")
    lower, upper = task.ball.box(task.images)
    if task.flips.aim is Aim.MOST:
        slopes = remember = _Remember(slopes, task)
    found = engine.climb(slopes, lower, upper, task.images, task.generator, task.stop)
    images = remember.best.images if task.flips.aim is Aim.MOST else found.points
    # One evaluation more than steps, but none of its gradient where all steps were taken.
    return Attempt(images, found.steps, gradients_per_step * min(found.steps + 1, engine.steps))


class _Remember:
    """Passes a field through and keeps, for each image, the point with most labels as wanted.

    The engines rank points by success and loss, which for "as many as possible" is not the wish.
    """

    def __init__(self, field: Field, task: Task) -> None:
        self._field = field
        self._task = task
        self.best = Incumbent(task, Norm.LINF)

    def __call__(self, points: Tensor, *, final: bool = False) -> Slope:
        slope = self._field(points, final=final)
        with torch.no_grad():
            margins = self._task.margins(points)
        images = len(self._task.images)
        for first in range(0, len(points), images):
            self.best.offer(points[first : first + images], margins[first : first + images])
        return slope
