"""Backward bounds of convolutions as local patches."""

import torch
from torch import Tensor

from .bound_types import Bounds, Freedom
from .curves import curve_lines
from .operators import Relu, Scale, SShaped
from .patch_plan import PatchPlan, PatchPlans, PatchStep, Rows
from .patches import channels_last
from .relaxation import relu_lines
from .torch_network import TorchNetwork

# Rows go backward in slices whose largest tensor has about this many numbers, so that one step finds in the cache what
# the step before wrote.
PATCH_NUMBERS = 250_000


class LocalBackward:
    """Bounds neurons of a convolution together, through convolutions, scales and activations."""

    def __init__(self, module: TorchNetwork) -> None:
        """Use the weights of ``module``."""
        self._module = module
        self.plans = PatchPlans(module)

    def bound(
        self, number: int, bounds: Bounds, low: Tensor, high: Tensor, wanted: Tensor, inner: Freedom | None
    ) -> tuple[Tensor, Tensor]:
        """Both bounds of a convolution; where ``wanted`` is false ``low`` and ``high`` are left as they are.

        Args:
            number: the convolution's value.
            bounds: of all values below it.
            low: (batch, *shape) lower bounds so far.
            high: likewise.
            wanted: (batch, *shape) which neurons to bound.
            inner: free slopes.
        """
        chosen = torch.nonzero(wanted.flatten(2).transpose(1, 2).flatten()).flatten()
        if len(chosen) == 0:
            return low, high
        plan = self.plans.of(number)
        values = self._values(plan, bounds, inner)
        channels, positions = low.shape[1], low[0, 0].numel()
        found = [
            _bound_rows(plan, values, Rows.of(part, channels, positions))
            for part in torch.split(chosen, slice_rows(plan))
        ]
        negated, above = torch.cat(found, dim=1)
        # the order of the chosen is that of channels last
        place = chosen // (positions * channels) * channels + chosen % channels
        place = place * positions + chosen // channels % positions
        return (
            low.flatten().index_copy(0, place, -negated).reshape(low.shape),
            high.flatten().index_copy(0, place, above).reshape(high.shape),
        )

    def _values(
        self, plan: PatchPlan, bounds: Bounds, inner: Freedom | None
    ) -> dict[int, tuple[Tensor, ...]]:
        """What the steps look up, by number.

        For ReLUs lower slopes, the gap to the upper ones and upper shifts (for one that the plan begins with, the
        negated upper and the lower slopes together come first); for S-shaped functions slopes and shifts of the upper
        and of the lower lines; for scales scale and shift.
        """
        found: dict[int, tuple[Tensor, ...]] = {}
        for step in plan.steps:
            if isinstance(step.operator, Relu):
                free = None if inner is None else inner.relu.get(step.number)
                source = step.operator.inputs[0]
                low, high = bounds.lower[source], bounds.upper[source]
                lines = relu_lines(low, high, step.operator.negative_slope, free)
                gap = lines.upper_slope - lines.lower_slope
                looked_up: tuple[Tensor, ...] = (lines.lower_slope, gap, lines.upper_shift)
            elif isinstance(step.operator, SShaped):
                source = step.operator.inputs[0]
                curve = curve_lines(step.operator.curve, bounds.lower[source], bounds.upper[source])
                looked_up = (curve.upper_slope, curve.upper_shift, curve.lower_slope, curve.lower_shift)
            elif isinstance(step.operator, Scale):
                looked_up = scale_arrays(self._module, step.number, step.operator)
            else:
                continue
            found[step.number] = tuple(channels_last(item) for item in looked_up)
        if plan.steps and isinstance(plan.steps[0].operator, Relu):
            lower, gap, shift = found[plan.steps[0].number]
            found[plan.steps[0].number] = (torch.stack([-lower - gap, lower]), gap, shift)
        low, high = bounds.lower[0], bounds.upper[0]
        found[0] = (channels_last((low + high) / 2), channels_last((high - low) / 2))
        return found


def slice_rows(plan: PatchPlan) -> int:
    """Rows that go backward together."""
    return max(1, PATCH_NUMBERS // (2 * plan.widest))


def scale_arrays(module: TorchNetwork, number: int, operator: Scale) -> tuple[Tensor, Tensor]:
    """Scale and shift (1, *shape) of a scale's value."""
    scale, shift = (module.array(name, number - 1) for name in ("scale", "shift"))
    return scale.expand(1, *operator.shape), shift.expand(1, *operator.shape)


def _bound_rows(plan: PatchPlan, values: dict[int, tuple[Tensor, ...]], rows: Rows) -> Tensor:
    """Upper bounds (2, rows) of the negated neurons and of the neurons."""
    steps = plan.steps
    if steps and isinstance(steps[0].operator, Relu):
        coefficients, total = _first_relu(plan, steps[0], values[steps[0].number], rows)
        steps = steps[1:]
    else:
        coefficients, total = plan.start(rows)
    for step in steps:
        if step.conv is not None:
            coefficients, constant = step.conv.back(coefficients, rows.position, rows.window)
            total = total + constant
            continue
        seen = [step.reads.seen(item, rows) for item in values[step.number]]
        if len(seen) == 2:
            total = total + dot(coefficients, seen[1])
            coefficients = coefficients * seen[0]
        elif len(seen) == 4:
            positive, negative = coefficients.clamp(min=0), coefficients.clamp(max=0)
            total = total + dot(positive, seen[1]) + dot(negative, seen[3])
            coefficients = (positive * seen[0]).addcmul_(negative, seen[2])
        else:
            positive = coefficients.clamp(min=0)
            total = total + dot(positive, seen[2])
            coefficients = (coefficients * seen[0]).addcmul_(positive, seen[1])
    centre, radius = (plan.inputs.seen(item, rows) for item in values[0])
    return total + dot(coefficients, centre) + dot(coefficients.abs(), radius)


def _first_relu(
    plan: PatchPlan, step: PatchStep, lines: tuple[Tensor, ...], rows: Rows
) -> tuple[Tensor, Tensor]:
    """Coefficients and constants after the ReLU that the bounded convolution reads.

    Before it the coefficients are a channel's weights, so that constants are products of all windows with all channels,
    and both signs share the positive part of the weights times the gap between the lines.
    """
    slopes, gap, shift = lines
    positive = plan.weight.clamp(min=0)
    both = torch.cat([positive - plan.weight, positive])
    constants = step.reads.windows(shift, rows) @ both.T
    index = rows.window * len(both) + rows.channel
    shifts = constants.flatten()[torch.stack([index, index + len(plan.weight)])]
    own, bias = plan.weight.index_select(0, rows.channel), plan.bias.index_select(0, rows.channel)
    shared = positive.index_select(0, rows.channel).mul_(step.reads.seen(gap, rows))
    return torch.addcmul(shared, own, step.reads.seen(slopes, rows)), torch.stack([-bias, bias]) + shifts


def dot(coefficients: Tensor, seen: Tensor) -> Tensor:
    """(signs, rows) of coefficients (signs, rows, window) applied to what the windows see."""
    return (coefficients * seen).sum(dim=2)
