"""The ball of allowed images: within epsilon of the clean one and inside [0, 1]."""

import math
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from ..errors import InputError
from .box import clamp, per_row

_BISECTIONS = 60


class Norm(Enum):
    """How the size of a perturbation is measured."""

    LINF = "linf"
    L2 = "l2"

    def of(self, perturbation: Tensor) -> Tensor:
        """The norm of each row, shape (rows,)."""
        flat = perturbation.flatten(1)
        return flat.abs().amax(dim=1) if self is Norm.LINF else flat.norm(dim=1)


@dataclass(frozen=True, slots=True)
class Ball:
    """Images within `epsilon` (pixels in [0, 1]) of the clean one in `norm`, and inside [0, 1].

    The default admits every image: methods that look for the smallest perturbation need no budget.
    """

    epsilon: float = 1.0
    norm: Norm = Norm.LINF

    def __post_init__(self) -> None:
        if not (math.isfinite(self.epsilon) and self.epsilon >= 0):
            raise InputError(f"epsilon {self.epsilon} is no size of a perturbation; give a number >= 0")
        if self.norm is Norm.LINF and self.epsilon > 1:
            raise InputError(
                f"epsilon {self.epsilon} is above 1, the whole range of a pixel; "
                "pixels are measured in [0, 1], so write 8/255 for 8 grey levels"
            )

    def box(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """A box around the ball: lower and upper bounds of the shape of `images`.

        Smaller than asked by the precision of the pixels, so that rounding never leads out of the ball.
        """
        if self.epsilon >= 1:
            return torch.zeros_like(images), torch.ones_like(images)
        reach = max(0.0, self.epsilon - torch.finfo(images.dtype).eps / 2)
        return (images - reach).clamp_min(0.0), (images + reach).clamp_max(1.0)

    def project(self, points: Tensor, images: Tensor) -> Tensor:
        """The nearest allowed image in the Euclidean sense, exactly inside [0, 1].

        Args:
            points: shape (rows, *input_shape).
            images: the clean images, same shape, in [0, 1].
        """
        lower, upper = self.box(images)
        if self.norm is Norm.LINF:
            return clamp(points, lower, upper)
        return clamp(images + _onto_l2(points - images, -images, 1 - images, self.epsilon), lower, upper)


def _onto_l2(delta: Tensor, low: Tensor, high: Tensor, epsilon: float) -> Tensor:
    """Project on {|d|_2 <= epsilon, low <= d <= high} with low <= 0 <= high.

    By the optimality conditions d = clip(delta / (1 + t), low, high) for the t >= 0 at which the norm
    meets epsilon. Scaling first and clipping after is feasible too, but not the nearest point.
    """
    size = torch.finfo(delta.dtype)
    shrink_low = torch.zeros_like(delta.flatten(1)[:, 0])
    # At this factor the scaled perturbation fits whatever the clipping does.
    shrink_high = torch.ones_like(shrink_low)
    inside = Norm.L2.of(clamp(delta, low, high)) <= epsilon
    for _ in range(_BISECTIONS):
        middle = (shrink_low + shrink_high) / 2
        fits = Norm.L2.of(clamp(per_row(middle, delta) * delta, low, high)) <= epsilon * (1 - 4 * size.eps)
        shrink_low = torch.where(fits, middle, shrink_low)
        shrink_high = torch.where(fits, shrink_high, middle)
    factor = torch.where(inside, torch.ones_like(shrink_low), shrink_low)
    return clamp(per_row(factor, delta) * delta, low, high)
