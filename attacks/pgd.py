"""PGD with a fixed step, and its momentum variant, batched over boxes and starts."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError
from .box import (
    BestSoFar,
    BoxSearch,
    Field,
    Objective,
    Stop,
    check_box,
    gradient_field,
    repeat_boxes,
    starting_points,
)


@dataclass(frozen=True, slots=True)
class Pgd:
    """Projected gradient ascent over a box.

    Attributes:
        steps: gradient steps of each start.
        restarts: starts per box, all climbing at once.
        relative_step: step in units of half the width of the box (its epsilon); None takes
            2.5 / steps, which crosses the box about once.
        decay: 0 is plain PGD; above it directions accumulate, as in MI-FGSM (1 is its default).
        exhaust: spend all steps even when every box has a success.

    Reference:
        A. Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018, eq. (2);
        momentum: Y. Dong et al., "Boosting adversarial attacks with momentum", CVPR 2018, algorithm 1.
    """

    steps: int = 40
    restarts: int = 1
    relative_step: float | None = None
    decay: float = 0.0
    exhaust: bool = False

    def __post_init__(self) -> None:
        if self.steps < 1 or self.restarts < 1:
            raise InputError(f"PGD needs a step and a start at least, not {self.steps} and {self.restarts}")

    def maximize(
        self,
        objective: Objective,
        lower: Tensor,
        upper: Tensor,
        start: Tensor | None,
        generator: torch.Generator,
        stop: Stop | None = None,
    ) -> BoxSearch:
        """Raise `objective` in every box; arguments and result as of `Apgd.maximize`."""
        return self.climb(gradient_field(objective), lower, upper, start, generator, stop)

    def climb(
        self,
        field: Field,
        lower: Tensor,
        upper: Tensor,
        start: Tensor | None,
        generator: torch.Generator,
        stop: Stop | None = None,
    ) -> BoxSearch:
        """Like `maximize`, along the directions that `field` chooses."""
        check_box(lower, upper)
        boxes = lower.shape[0]
        low, high = repeat_boxes(lower, self.restarts), repeat_boxes(upper, self.restarts)
        points = starting_points(lower, upper, start, self.restarts, generator)
        slope = field(points)
        best = BestSoFar.of(points, slope)
        move = (high - low) / 2 * (2.5 / self.steps if self.relative_step is None else self.relative_step)
        velocity = slope.direction
        for taken in range(self.steps):
            if (not self.exhaust and best.solved(boxes)) or (stop is not None and stop()):
                return best.per_box(boxes, taken)
            # With momentum the sum of directions can leave [-1, 1]; its sign is the step of MI-FGSM.
            direction = velocity.sign() if self.decay else slope.direction
            points = torch.addcmul(points, move, direction).clamp_(low, high)
            slope = field(points, final=taken + 1 == self.steps)
            if self.decay:
                velocity = self.decay * velocity + slope.direction
            best.update(points, slope)
        return best.per_box(boxes, self.steps)
