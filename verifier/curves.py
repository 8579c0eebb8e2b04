"""S-shaped functions and their linear relaxations over an interval, batched and differentiable.

A line above such a function is found on ``[l, u]`` as in Zhang et al. 2018 (CROWN, table 3) and Boopathy et al.
2019: the chord where the function is convex, a tangent where it is concave, and in between the tangent at or beyond
the point whose tangent runs through the left end. Lines below are those above the function turned around the origin.

How near the points of contact are found only matters for how tight a line is. Its shift is computed from the slope
as it is, rounding included: where the function is concave it stays below the line of slope k through its point
``t`` but for ``|k - f'(t)| * (u - l)``, and where it is convex ``f(x) - k * x`` is largest at an end.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .operators import Curve

# Absolute error allowed for, as a share of 1 + |l| + |u|. Both functions and their slopes are within 1 and computed
# from one exponential (below 1 ulp) and up to four roundings; a line's value adds a product and a sum. Together less
# than ten roundings: 1.1e-15 in float64, 6e-7 in float32 (which never proves).
CURVE_ERROR = {torch.float64: 4e-15, torch.float32: 2e-6}
# The tangent through the left end is found by so many halvings.
HALVINGS = 12


@dataclass(frozen=True, slots=True, eq=False)
class CurveLines:
    """``lower_slope * x + lower_shift <= f(x) <= upper_slope * x + upper_shift`` on the interval."""

    lower_slope: Tensor
    lower_shift: Tensor
    upper_slope: Tensor
    upper_shift: Tensor


def evaluate_curve(curve: Curve, value: Tensor) -> Tensor:
    """The function of every element."""
    match curve:
        case Curve.SIGMOID:
            return torch.sigmoid(value)
        case Curve.TANH:
            return torch.tanh(value)


@dataclass(frozen=True, slots=True, eq=False)
class CurveFreedom:
    """Free parameters of :func:`curve_lines`, of the arguments' shape or broadcast with it.

    Attributes:
        above: in [0, 1], where the upper line touches, from the first point whose tangent stays above to the right end.
        below: in [0, 1], where the lower line touches, from the last point whose tangent stays below to the left end.
        first_above: that first point, for the upper line; any number gives a valid line. None to search it.
        first_below: the same for the function turned around the origin, on the turned interval.
    """

    above: Tensor
    below: Tensor
    first_above: Tensor | None = None
    first_below: Tensor | None = None


def curve_lines(curve: Curve, lower: Tensor, upper: Tensor, free: CurveFreedom | None = None) -> CurveLines:
    """Relaxation of an S-shaped function.

    Args:
        curve: the function.
        lower: bounds of its argument.
        upper: likewise, same shape.
        free: where tangents touch; None for about the smallest area.
    """
    above, below = (None, None) if free is None else (free.above, free.below)
    first_above, first_below = (None, None) if free is None else (free.first_above, free.first_below)
    upper_slope, upper_shift = _line_above(curve, lower, upper, above, first_above)
    lower_slope, mirrored = _line_above(curve, -upper, -lower, below, first_below)
    return CurveLines(lower_slope, _turned(curve) - mirrored, upper_slope, upper_shift)


def initial_curve_freedom(curve: Curve, lower: Tensor, upper: Tensor) -> CurveFreedom:
    """Free parameters at which lines are what :func:`curve_lines` picks by itself."""
    first_above, first_below = _left_tangent(curve, lower, upper), _left_tangent(curve, -upper, -lower)
    above, below = _middle(lower, upper, first_above), _middle(-upper, -lower, first_below)
    return CurveFreedom(above, below, first_above, first_below)


def curve_slope(curve: Curve, value: Tensor) -> Tensor:
    """The derivative at every element."""
    if curve is Curve.SIGMOID:
        return torch.sigmoid(value) * torch.sigmoid(-value)
    bent = torch.tanh(value)
    return (1.0 - bent) * (1.0 + bent)


def _turned(curve: Curve) -> float:
    """``f(x) + f(-x)``."""
    return 1.0 if curve is Curve.SIGMOID else 0.0


def _middle(lower: Tensor, upper: Tensor, first: Tensor) -> Tensor:
    """The position of the middle, or 0 where that does not reach the first point."""
    room = upper - first
    offset = ((lower + upper) / 2 - first) / torch.where(room > 0, room, torch.ones_like(room))
    return offset.clamp(0.0, 1.0)


def _line_above(
    curve: Curve, lower: Tensor, upper: Tensor, position: Tensor | None, first: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Slope and shift of a line that is not below the function anywhere on the interval."""
    touching = _left_tangent(curve, lower, upper) if first is None else first
    # whatever was given: not where the function is convex
    touching = torch.where(upper <= 0, upper, torch.maximum(touching, lower.clamp(min=0)))
    if position is None:
        touch = torch.maximum(touching, (lower + upper) / 2)
    else:
        touch = touching + position * (upper - touching)
    # never beyond the interval
    touch = torch.minimum(torch.maximum(touch, touching), upper)
    low, high = evaluate_curve(curve, lower), evaluate_curve(curve, upper)
    steep, shallow = curve_slope(curve, lower), curve_slope(curve, upper)
    width = upper - lower
    chord = (high - low) / torch.where(width > 0, width, torch.ones_like(width))
    # the mean value theorem holds for numbers too small for their difference to mean anything
    chord = torch.minimum(torch.maximum(chord, torch.minimum(steep, shallow)), shallow)
    straight = touching >= upper
    slope = torch.where(straight, chord, curve_slope(curve, touch))
    touched = torch.where(straight, high - slope * upper, evaluate_curve(curve, touch) - slope * touch)
    shift = torch.maximum(torch.maximum(low - slope * lower, high - slope * upper), touched)
    slack = CURVE_ERROR[lower.dtype] * (1.0 + lower.abs() + upper.abs())
    return slope, shift + slack.detach()


def _left_tangent(curve: Curve, lower: Tensor, upper: Tensor) -> Tensor:
    """Where tangents to the right of it stay above the left end; at ``upper`` and beyond, the chord is the line."""
    with torch.no_grad():
        start = torch.zeros_like(lower)
        # the tangent that runs through l < 0 touches before -l / 2, where it would touch a cubic; and where f is
        # nearly 0 at l and nearly 1 at t, exp(t) = t - l - 1
        far = (-lower).clamp(min=0)
        end = torch.minimum(far / 2, 1.0 + torch.log1p(far))
        low = evaluate_curve(curve, lower)
        crossing = (lower < 0) & (upper > 0)
        for _ in range(HALVINGS):
            middle = (start + end) / 2
            reached = evaluate_curve(curve, middle) + curve_slope(curve, middle) * (lower - middle)
            enough = reached >= low
            start, end = torch.where(enough, start, middle), torch.where(enough, middle, end)
        return torch.where(crossing, end, torch.where(upper <= 0, upper, lower))
