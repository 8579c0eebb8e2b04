"""Linear relaxations of ReLU and max-pool over an interval, batched and differentiable.

Shapes carry leading axes ``(batch, rows)``: one relaxation per region and, where free slopes are optimised,
per bounded quantity. ``rows`` is 1 when all rows share it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class ReluLines:
    """``lower_slope * x <= relu(x) <= upper_slope * x + upper_shift`` on the interval."""

    lower_slope: Tensor
    upper_slope: Tensor
    upper_shift: Tensor


def relu_lines(lower: Tensor, upper: Tensor, negative_slope: float, free: Tensor | None = None) -> ReluLines:
    """Relaxation of (leaky) ReLU (Zhang et al. 2018, CROWN; Xu et al. 2021 for free lower slopes).

    Args:
        lower: pre-activation lower bounds.
        upper: pre-activation upper bounds, same shape.
        negative_slope: slope below zero, 0 for ReLU.
        free: position of the lower slope of unstable neurons between ``negative_slope`` (0) and 1 (1);
            None picks the end with the smaller area.
    """
    total = lower + upper
    # what is not a number counts as open, and makes the lines none either
    unstable = ~((lower >= 0) | (upper <= 0)) | total.isnan()
    # also right where the sign is not open: the end with the smaller area is the one slope there
    stable = _slope(negative_slope, (total > 0).to(upper.dtype))
    rise = upper - negative_slope * lower if negative_slope else upper
    chord = rise / torch.where(unstable, upper - lower, 1.0)
    upper_slope = torch.where(unstable, chord, stable)
    upper_shift = torch.where(unstable, (negative_slope - chord) * lower, 0.0)
    if free is None:
        return ReluLines(stable, upper_slope, upper_shift)
    return ReluLines(torch.where(unstable, _slope(negative_slope, free), stable), upper_slope, upper_shift)


def _slope(negative_slope: float, position: Tensor) -> Tensor:
    return negative_slope + (1.0 - negative_slope) * position if negative_slope else position


@dataclass(frozen=True, slots=True, eq=False)
class PoolLines:
    """Linear bounds on the maximum of a window; the last axis runs over the window's inputs.

    ``sum(lower_slope * x) + lower_shift <= max(x) <= sum(upper_slope * x) + upper_shift``.
    """

    lower_slope: Tensor
    lower_shift: Tensor
    upper_slope: Tensor
    upper_shift: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class PoolFreedom:
    """Free parameters of :func:`pool_lines`.

    Attributes:
        threshold: (..., outputs) in [0, 1], where the threshold of the upper bound lies between the largest
            lower and the largest upper bound.
        weights: (..., outputs, window + 1) logits of the lower bound's convex combination; the last one
            weighs the constant largest lower bound.
    """

    threshold: Tensor
    weights: Tensor


def pool_lines(lower: Tensor, upper: Tensor, free: PoolFreedom | None = None) -> PoolLines:
    """Relaxation of a maximum over inputs in ``[lower, upper]`` (last axis; padding is -inf in both).

    Upper bound: for a threshold m between the largest lower and the largest upper bound,
    ``max(x) <= m + sum(relu(x_i - m))``, and each term is below its chord. It is exact when one input
    dominates, and the constant largest upper bound is the case m = max(upper).
    Lower bound: any convex combination of the inputs and of the largest lower bound.
    """
    # not "lower is finite": a lower bound that overflowed belongs to a real input
    real = upper != -torch.inf
    floor = lower.amax(dim=-1)
    ceiling = upper.amax(dim=-1)
    low = torch.where(real, lower, floor.unsqueeze(-1))
    high = torch.where(real, upper, floor.unsqueeze(-1))
    if free is None:
        threshold = _second_largest(high).clamp(min=floor)
        # padding must never be chosen, not even where it ties with the best input: it has no number to read
        centre = torch.where(real, low + high, torch.full_like(low, -torch.inf))
        chosen = torch.nn.functional.one_hot(centre.argmax(dim=-1), low.shape[-1]).to(low.dtype)
        lower_slope, lower_shift = chosen, torch.zeros_like(floor)
    else:
        threshold = floor + free.threshold * (ceiling - floor)
        mixed = torch.softmax(_masked(free.weights, real), dim=-1)
        lower_slope, lower_shift = mixed[..., :-1], mixed[..., -1] * floor
    above = (high - threshold.unsqueeze(-1)).clamp(min=0)
    width = high - low
    degenerate = width <= 0
    slope = above / torch.where(degenerate, torch.ones_like(width), width)
    upper_slope = torch.where(degenerate, torch.zeros_like(slope), slope)
    # an input of zero range above the threshold contributes its constant excess
    constant = torch.where(degenerate, above, -upper_slope * low).sum(dim=-1)
    return PoolLines(lower_slope, lower_shift, upper_slope, threshold + constant)


def _second_largest(high: Tensor) -> Tensor:
    if high.shape[-1] == 1:
        return high[..., 0]
    return high.topk(2, dim=-1).values[..., 1]


def _masked(weights: Tensor, real: Tensor) -> Tensor:
    keep = torch.cat([real, torch.ones_like(real[..., :1])], dim=-1)
    return torch.where(keep, weights, torch.full_like(weights, -torch.inf))


def initial_pool_freedom(lower: Tensor, upper: Tensor, sharpness: float) -> PoolFreedom:
    """Starting values for the free parameters, close to what :func:`pool_lines` picks by itself.

    Args:
        lower: (..., outputs, window) lower bounds, -inf for padding.
        upper: upper bounds likewise.
        sharpness: how strongly the lower bound starts on the input with the largest centre.
    """
    floor, ceiling = lower.amax(dim=-1), upper.amax(dim=-1)
    span = (ceiling - floor).clamp(min=torch.finfo(lower.dtype).tiny)
    threshold = ((_second_largest(upper).clamp(min=floor) - floor) / span).clamp(0.0, 1.0)
    centre = torch.cat([(lower + upper) / 2, floor.unsqueeze(-1)], dim=-1)
    best = torch.nn.functional.one_hot(centre[..., :-1].argmax(dim=-1), centre.shape[-1]).to(lower.dtype)
    return PoolFreedom(threshold, sharpness * best)
