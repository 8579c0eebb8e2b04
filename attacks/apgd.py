"""APGD: projected gradient ascent whose step sizes need no tuning, batched over boxes and starts."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError
from .box import (
    BestSoFar,
    BoxSearch,
    Field,
    Objective,
    Slope,
    Stop,
    check_box,
    clamp,
    gradient_field,
    per_row,
    repeat_boxes,
    starting_points,
)

_FIRST_CHECKPOINT = 0.22
_CHECKPOINT_SHRINK = 0.03
_SHORTEST_CHECKPOINT = 0.06


@dataclass(frozen=True, slots=True)
class Apgd:
    """Auto-PGD over a box whose sides may differ from pixel to pixel.

    Steps are proportional to the width of the box in each pixel, so a pixel of zero range stays put
    and layers of different epsilon are all searched across their whole range.

    Attributes:
        steps: gradient steps of each start.
        restarts: starts per box, all climbing at once: the given point, then random points and corners.
        rho: a step size is halved when fewer than this share of its steps raised the value.
        momentum: weight of the new step against the previous move (1 = no momentum).
        initial_step: first step in units of the width of the box.
        exhaust: spend all steps even when every box has a success, to find its largest value.

    Reference:
        F. Croce and M. Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
        parameter-free attacks", ICML 2020, section 3 and algorithm 1.
    """

    steps: int = 100
    restarts: int = 1
    rho: float = 0.75
    momentum: float = 0.75
    initial_step: float = 1.0
    exhaust: bool = False

    def __post_init__(self) -> None:
        if self.steps < 1 or self.restarts < 1:
            raise InputError(
                f"APGD needs at least one step and one start, not {self.steps} and {self.restarts}"
            )

    def maximize(
        self,
        objective: Objective,
        lower: Tensor,
        upper: Tensor,
        start: Tensor | None,
        generator: torch.Generator,
        stop: Stop | None = None,
    ) -> BoxSearch:
        """Raise `objective` in every box.

        Args:
            objective: maps points (rows, *input_shape) to values (rows,); >= 0 means success. Row i is
                a point of box ``i % boxes``, and rows = restarts * boxes.
            lower: lower bounds, shape (boxes, *input_shape); a single box has boxes = 1.
            upper: upper bounds, same shape.
            start: first point of each box (the clean image), same shape, or None for a random one;
                several points of each box as `starting_points` takes them.
            generator: the source of the random starts.
            stop: asked before each step; true ends the search (a deadline, an interrupt).

        Returns:
            The best point of each box; the search ends early once every box has a success.

        Raises:
            InputError: the bounds describe no box, or the objective has no gradient.
        """
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
        """Like `maximize`, along the directions that `field` chooses (GMLA projects its gradients)."""
        check_box(lower, upper)
        boxes = lower.shape[0]
        points = starting_points(lower, upper, start, self.restarts, generator)
        run = _Run(
            points, repeat_boxes(lower, self.restarts), repeat_boxes(upper, self.restarts), field(points)
        )
        run.step = torch.full_like(run.slope.values, self.initial_step)
        checkpoints = _checkpoints(self.steps)
        since = 0
        taken = 0
        for taken in range(1, self.steps + 1):
            if (not self.exhaust and run.best.solved(boxes)) or (stop is not None and stop()):
                return run.best.per_box(boxes, taken - 1)
            run.advance(field, self.momentum if taken > 1 else 1.0, final=taken == self.steps)
            if taken in checkpoints:
                run.review(self.rho * (taken - since))
                since = taken
        return run.best.per_box(boxes, taken)


class _Run:
    """The moving parts of one search; all tensors have one row per start of each box."""

    def __init__(self, points: Tensor, lower: Tensor, upper: Tensor, slope: Slope) -> None:
        self.points = points
        self.previous = points
        self.lower = lower
        self.upper = upper
        self.width = upper - lower
        self.slope = slope
        self.best = BestSoFar.of(points, slope)
        self.top = _Top(points, slope)
        self.step = torch.ones_like(slope.values)
        self.rises = torch.zeros_like(slope.values)
        self.reviewed = slope.values.clone()
        self.halved = torch.zeros_like(slope.success)

    def advance(self, field: Field, momentum: float, final: bool) -> None:
        """One step of equation (1) of the reference and the evaluation of where it leads."""
        move = per_row(self.step, self.points) * self.width * self.slope.direction
        ahead = clamp(self.points + move, self.lower, self.upper)
        ahead = (
            self.points + momentum * (ahead - self.points) + (1 - momentum) * (self.points - self.previous)
        )
        self.previous, self.points = self.points, clamp(ahead, self.lower, self.upper)
        before = self.slope.values
        self.slope = field(self.points, final=final)
        self.rises += (self.slope.values > before).to(self.rises)
        self.best.update(self.points, self.slope)
        self.top.update(self.points, self.slope)

    def review(self, wanted_rises: float) -> None:
        """At a checkpoint: rows that no longer progress return to their best point with half the step."""
        stalled = (self.reviewed >= self.top.values) & ~self.halved
        halve = (self.rises < wanted_rises) | stalled
        self.step = torch.where(halve, self.step / 2, self.step)
        self.reviewed = self.top.values.clone()
        self.halved = halve
        self.rises = torch.zeros_like(self.rises)
        self._return_to_top(halve)

    def _return_to_top(self, rows: Tensor) -> None:
        wide = per_row(rows, self.points)
        self.points = torch.where(wide, self.top.points, self.points)
        self.previous = torch.where(wide, self.top.points, self.previous)
        self.slope = Slope(
            torch.where(rows, self.top.values, self.slope.values),
            torch.where(wide, self.top.direction, self.slope.direction),
            torch.where(rows, self.top.success, self.slope.success),
        )


class _Top:
    """The point of largest value of each row and its slope, kept so that a return costs no gradient."""

    def __init__(self, points: Tensor, slope: Slope) -> None:
        self.points = points
        self.values = slope.values
        self.direction = slope.direction
        self.success = slope.success

    def update(self, points: Tensor, slope: Slope) -> None:
        """Keep the rows whose value rose above everything seen."""
        higher = slope.values > self.values
        wide = per_row(higher, points)
        self.points = torch.where(wide, points, self.points)
        self.values = torch.where(higher, slope.values, self.values)
        self.direction = torch.where(wide, slope.direction, self.direction)
        self.success = torch.where(higher, slope.success, self.success)


def _checkpoints(steps: int) -> frozenset[int]:
    """After how many steps to review: intervals that shrink from 22 % to 6 % of all steps."""
    marks = []
    previous, current = 0.0, _FIRST_CHECKPOINT
    while current <= 1.0:
        marks.append(max(1, round(current * steps)))
        interval = max(current - previous - _CHECKPOINT_SHRINK, _SHORTEST_CHECKPOINT)
        previous, current = current, current + interval
    return frozenset(marks)
