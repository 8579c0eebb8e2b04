"""APGD from starting points that are spread out in the space of scores rather than of pixels.

Where ReLUs are off around an image, random pixels give the same scores and the same useless gradient. Points
that first climb random combinations of the scores wake other neurons up. They end near the border of the
box, though, and with few inputs the optimum may lie well inside: so only half of the starts are spread.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..errors import InputError
from .apgd import Apgd
from .box import BoxSearch, Stop, clamp, repeat_boxes, value_and_gradient

Outputs = Callable[[Tensor], Tensor]
"""Maps points (rows, *input_shape) to scores (rows, labels)."""

_STEP_OF_WIDTH = 0.25


@dataclass(frozen=True, slots=True)
class DiverseApgd:
    """APGD from the given point, from points spread in the space of scores, and from random ones.

    Attributes:
        engine: APGD; its number of restarts is that of the starting points, the given one included.
        spread_steps: gradient steps that spread half of the others.

    Reference:
        Y. Tashiro, Y. Song and S. Ermon, "Diversity can be transferred: output diversification for white-
        and black-box attacks", NeurIPS 2020, eq. (3).
    """

    engine: Apgd = field(default_factory=lambda: Apgd(steps=60, restarts=20))
    spread_steps: int = 10

    def maximize(
        self,
        outputs: Outputs,
        margin: Callable[[Tensor], Tensor],
        lower: Tensor,
        upper: Tensor,
        start: Tensor | None,
        generator: torch.Generator,
        stop: Stop | None = None,
    ) -> BoxSearch:
        """Raise ``margin(outputs(points))`` in every box.

        Args:
            outputs: scores of points, shape (rows, labels).
            margin: from scores (rows, labels) to values (rows,); >= 0 means success.
            lower: lower bounds, shape (boxes, *input_shape).
            upper: upper bounds, same shape.
            start: first point of each box, same shape, or None.
            generator: the source of the random points and combinations.
            stop: asked before each step; true ends the search.

        Returns:
            The best point of each box, as `Apgd.maximize`; the steps of the spreading are counted.
        """
        given = 0 if start is None else 1
        spread = (self.engine.restarts - given) // 2
        points = [] if start is None else [start]
        if spread > 0:
            points.append(spread_points(outputs, lower, upper, spread, self.spread_steps, generator, stop))
        starts = torch.cat(points) if points else None
        found = self.engine.maximize(
            lambda inputs: margin(outputs(inputs)), lower, upper, starts, generator, stop
        )
        return replace(found, steps=found.steps + (self.spread_steps if spread > 0 else 0))


def spread_points(
    outputs: Outputs,
    lower: Tensor,
    upper: Tensor,
    count: int,
    steps: int,
    generator: torch.Generator,
    stop: Stop | None = None,
) -> Tensor:
    """Random points moved along random combinations of the scores.

    Args:
        outputs: scores of points, shape (rows, labels).
        lower: lower bounds, shape (boxes, *input_shape).
        upper: upper bounds, same shape.
        count: points per box.
        steps: sign-gradient steps, each a quarter of the box's width.
        generator: the source of randomness.
        stop: asked before each step.

    Returns:
        Points of shape (count * boxes, *input_shape); row i lies in box ``i % boxes``.

    Raises:
        InputError: count or steps is not positive.
    """
    if count < 1 or steps < 0:
        raise InputError(f"spreading needs a point at least and no negative steps, not {count} and {steps}")
    low, high = repeat_boxes(lower, count), repeat_boxes(upper, count)
    points = clamp(low + _uniform(low.shape, generator, low) * (high - low), low, high)
    weights: Tensor | None = None

    def combination(inputs: Tensor) -> Tensor:
        nonlocal weights
        scores = outputs(inputs)
        if weights is None:
            weights = 2 * _uniform(scores.shape, generator, scores) - 1
        return (scores * weights).sum(dim=1)

    for _ in range(steps):
        if stop is not None and stop():
            break
        _, gradient = value_and_gradient(combination, points)
        points = clamp(points + _STEP_OF_WIDTH * (high - low) * gradient.sign(), low, high)
    return points


def _uniform(shape: torch.Size, generator: torch.Generator, like: Tensor) -> Tensor:
    return torch.rand(shape, generator=generator, device=generator.device).to(like.detach())
