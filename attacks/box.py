"""What the searches over a box share: the field they climb, their starting points and their result."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..errors import InputError

Objective = Callable[[Tensor], Tensor]
"""Maps points of shape (rows, *input_shape) to values of shape (rows,); >= 0 means success."""

Stop = Callable[[], bool]
"""Asked before every gradient step; true ends the search with what it has."""


@dataclass(frozen=True, slots=True)
class Slope:
    """What a search learns at a batch of points.

    Attributes:
        values: the quantity to raise, shape (rows,).
        direction: where to step, shape (rows, *input_shape), entries in [-1, 1]; the search
            multiplies it by its step sizes. A zero without shape where no step was to follow.
        success: whether the point is what is looked for, shape (rows,), bool.
    """

    values: Tensor
    direction: Tensor
    success: Tensor


class Field(Protocol):
    """Evaluates a batch of points; row i belongs to box ``i % boxes``."""

    def __call__(self, points: Tensor, *, final: bool = False) -> Slope:
        """Values and directions at points; of the ``final`` ones no step follows, which saves a gradient."""


@dataclass(frozen=True, slots=True)
class BoxSearch:
    """The outcome of a search, one row per box.

    Attributes:
        points: the best point found in each box, shape (boxes, *input_shape), inside it exactly;
            a success is preferred to a larger value.
        values: their values, shape (boxes,).
        success: whether they are successes, shape (boxes,), bool.
        steps: gradient steps taken, each one batched over all boxes and starts.
    """

    points: Tensor
    values: Tensor
    success: Tensor
    steps: int


def clamp(points: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Project on the box; the result satisfies both bounds exactly, in the precision given."""
    return points.clamp(lower, upper)


def check_box(lower: Tensor, upper: Tensor) -> None:
    """Refuse bounds that describe no box.

    Raises:
        InputError: shapes differ, or a lower bound is above its upper bound or not a number.
    """
    if lower.shape != upper.shape:
        raise InputError(
            f"the lower bounds have shape {tuple(lower.shape)} and the upper bounds {tuple(upper.shape)}; "
            "give both the shape (boxes, *input_shape)"
        )
    if not bool((lower <= upper).all()):
        raise InputError(
            "a lower bound of the box exceeds its upper bound or is not a number; check the region"
        )


def gradient_field(objective: Objective) -> Field:
    """The field of steepest ascent in the L-infinity norm: the sign of the gradient of `objective`.

    Raises:
        InputError: (when evaluated) the objective does not depend differentiably on its points.
    """

    def field(points: Tensor, *, final: bool = False) -> Slope:
        values, direction = value_and_direction(objective, points, final)
        return Slope(values, direction, values >= 0)

    return field


def value_and_direction(objective: Objective, points: Tensor, final: bool) -> tuple[Tensor, Tensor]:
    """Values and the direction of steepest ascent in the L-infinity norm, as a `Field` gives them."""
    if not final:
        values, gradient = value_and_gradient(objective, points)
        return values, gradient.sign()
    with torch.no_grad():
        return _ranked(objective(points)), points.new_zeros(())


def value_and_gradient(objective: Objective, points: Tensor) -> tuple[Tensor, Tensor]:
    """Values, shape (rows,), and their gradients, shape (rows, *input_shape), both detached.

    A value that is not a number counts as minus infinity and a gradient that is not as zero, so that
    one broken row can't spoil its batch.
    """
    with torch.enable_grad():
        inputs = points.detach().requires_grad_(True)
        values = objective(inputs)
        if not values.requires_grad:
            raise InputError(
                "the network gives no gradient with respect to its input; use a black-box method instead"
            )
        (gradient,) = torch.autograd.grad(values, inputs, torch.ones_like(values))
    # One sum is cheaper than mending every entry, which is hardly ever needed.
    if not math.isfinite(float(gradient.sum())):
        gradient = torch.nan_to_num(gradient, nan=0.0, posinf=0.0, neginf=0.0)
    return _ranked(values.detach()), gradient


def _ranked(values: Tensor) -> Tensor:
    return torch.nan_to_num(values, nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)


def starting_points(
    lower: Tensor, upper: Tensor, start: Tensor | None, count: int, generator: torch.Generator
) -> Tensor:
    """`count` points in each box: the given start, then uniform points and random corners in turn.

    Corners matter because the optimum of a nearly linear objective lies in one.

    Args:
        lower: lower bounds, shape (boxes, *input_shape).
        upper: upper bounds, same shape.
        start: the first points of each box, shape (given * boxes, *input_shape), row i in box
            ``i % boxes``, or None for random ones.
        count: how many points per box, those given included.
        generator: the source of randomness, on the CPU or on the device of the bounds.

    Returns:
        Points of shape (count * boxes, *input_shape); row i lies in box ``i % boxes``.

    Raises:
        InputError: the given points are no multiple of the boxes, or more than `count` for each.
    """
    given, rest = (0, 0) if start is None else divmod(len(start), len(lower))
    if rest or given > count:
        raise InputError(
            f"{given * len(lower) + rest} points given don't fit {count} starts in each of {len(lower)} boxes"
        )
    width = upper - lower
    points = []
    if start is not None:
        low, high = repeat_boxes(lower, given), repeat_boxes(upper, given)
        points.append(clamp(start.to(lower), low, high))
    for index in range(given, count):
        share = torch.rand(lower.shape, generator=generator, device=generator.device).to(lower)
        if index % 2 == 0:
            share = share.round()
        points.append(clamp(lower + share * width, lower, upper))
    return points[0] if len(points) == 1 else torch.cat(points)


def repeat_boxes(bounds: Tensor, count: int) -> Tensor:
    """The bounds of `starting_points`' rows: `count` copies, shape (count * boxes, *input_shape)."""
    if count == 1:
        return bounds
    return bounds.repeat(count, *[1] * (bounds.dim() - 1))


def per_row(values: Tensor, like: Tensor) -> Tensor:
    """Reshape one number per row, shape (rows,), so that it broadcasts over the inputs of `like`."""
    return values.reshape(-1, *[1] * (like.dim() - 1))


@dataclass(slots=True)
class BestSoFar:
    """The best point each row has visited: a success first, then the larger value."""

    points: Tensor
    values: Tensor
    success: Tensor
    shared: bool = True

    @classmethod
    def of(cls, points: Tensor, slope: Slope) -> "BestSoFar":
        """Start from the rows' first points."""
        return cls(points, slope.values, slope.success)

    def update(self, points: Tensor, slope: Slope) -> None:
        """Keep the rows of `points` that beat what is kept."""
        larger = slope.values > self.values
        better = torch.where(slope.success == self.success, larger, slope.success)
        count = int(better.sum())
        if not count:
            return
        if count == len(better):
            self.points, self.shared = points, True
        else:
            # Rows are written in place, which is cheaper than a new tensor, but never into the search's own.
            if self.shared:
                self.points, self.shared = self.points.clone(), False
            self.points[better] = points[better]
        self.values = torch.where(better, slope.values, self.values)
        self.success = self.success | slope.success

    def solved(self, boxes: int) -> bool:
        """Whether every box has a successful row."""
        return bool(self.success.reshape(-1, boxes).any(dim=0).all())

    def per_box(self, boxes: int, steps: int) -> BoxSearch:
        """The best row of each box."""
        values = self.values.reshape(-1, boxes)
        success = self.success.reshape(-1, boxes)
        barred = success.any(dim=0) & ~success
        # Two keys: values alone would let a failed row with a large value hide a success.
        rank = values.masked_fill(barred, -torch.inf)
        winner = torch.where(rank.isneginf().all(dim=0), (~barred).int().argmax(dim=0), rank.argmax(dim=0))
        rows = winner * boxes + torch.arange(boxes, device=winner.device)
        return BoxSearch(self.points[rows], self.values[rows], self.success[rows], steps)
