"""Bounds of a convolution's neurons with slopes of their own per neuron, found by gradient steps on local patches.

A neuron's bound depends on the slopes of the few ReLUs inside its window, which is all that is kept for it. The
gradient is in closed form: the sweep down substitutes the relaxations, the sweep up evaluates them at the point where
the bound is reached (see :mod:`~.max_bounds`, which does the same for whole programs).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .affine import IndexArray
from .budget import Budget
from .interval import Interval, ValueBounds
from .linear_bounds import WIDENING, LinearBounds
from .local_backward import dot, scale_arrays
from .max_ascent import FIRST, Adam
from .max_domains import LEVELS
from .network import Network
from .operators import FloatArray, Relu, Scale
from .patch_plan import PatchPlan, PatchStep, Rows
from .patches import channels_last
from .proof_forward import Single
from .proof_record import Recorder
from .proof_slopes import ReluSlopes, Slopes
from .relaxation import relu_lines
from .torch_network import TorchNetwork

# Rows that climb together have about this many numbers per tensor; a step takes a dozen passes over them.
ASCENT_NUMBERS = 250_000


@dataclass(frozen=True, slots=True, eq=False)
class _Lines:
    """Relaxations of the ReLUs that rows see, (rows, window): ``lower + span * position`` is the lower slope."""

    lower: Tensor
    span: Tensor
    upper: Tensor
    shift: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class _Swept:
    """Bounds (2, rows), and by ReLU the negative coefficients and the values that its slopes multiply."""

    bounds: Tensor
    negative: Mapping[int, Tensor]
    values: Mapping[int, Tensor]


class _Climb:
    """Some neurons of one convolution over one box, in one precision."""

    def __init__(self, module: TorchNetwork, plan: PatchPlan, values: ValueBounds, rows: Rows) -> None:
        self._plan = plan
        self._rows = rows
        self._dtype, self._device = plan.weight.dtype, plan.weight.device
        self.lines: dict[int, _Lines] = {}
        self._scales: dict[int, tuple[Tensor, ...]] = {}
        for step in plan.steps:
            if isinstance(step.operator, Relu):
                self.lines[step.number] = self._relu(step, step.operator, values)
            elif isinstance(step.operator, Scale):
                arrays = scale_arrays(module, step.number, step.operator)
                self._scales[step.number] = tuple(
                    step.reads.seen(channels_last(item), rows) for item in arrays
                )
        low, high = self._tensor(values[0].lower), self._tensor(values[0].upper)
        self._centre = plan.inputs.seen(channels_last((low + high) / 2), rows)
        self._radius = plan.inputs.seen(channels_last((high - low) / 2), rows)

    def _tensor(self, array: FloatArray) -> Tensor:
        return torch.as_tensor(array, dtype=self._dtype, device=self._device).unsqueeze(0)

    def _relu(self, step: PatchStep, operator: Relu, values: ValueBounds) -> _Lines:
        source = values[operator.inputs[0]]
        low, high = self._tensor(source.lower), self._tensor(source.upper)
        lines = relu_lines(low, high, operator.negative_slope, torch.zeros_like(low))
        span = ((low < 0) & (high > 0)).to(self._dtype) * (1.0 - operator.negative_slope)
        arrays = (lines.lower_slope, span, lines.upper_slope, lines.upper_shift)
        return _Lines(*(step.reads.seen(channels_last(item), self._rows) for item in arrays))

    def start(self) -> dict[int, Tensor]:
        """Positions (2, rows, window) of the lower slopes in [0, 1]: the ends with the smaller areas."""
        return {
            number: (lines.upper > (lines.lower + lines.span) / 2).to(self._dtype).expand(2, -1, -1).clone()
            for number, lines in self.lines.items()
        }

    def sweep(self, free: Mapping[int, Tensor], *, up: bool) -> _Swept:
        """Upper bounds of the negated neurons and of the neurons with these positions."""
        rows = self._rows
        coefficients, total = self._plan.start(rows)
        on_output: dict[int, Tensor] = {}
        for step in self._plan.steps:
            if step.conv is not None:
                coefficients, constant = step.conv.back(coefficients, rows.position, rows.window)
                total = total + constant
            elif step.number in self._scales:
                scale, shift = self._scales[step.number]
                total = total + dot(coefficients, shift)
                coefficients = coefficients * scale
            else:
                on_output[step.number] = coefficients
                lines = self.lines[step.number]
                positive = coefficients.clamp(min=0)
                total = total + dot(positive, lines.shift)
                lower = torch.addcmul(lines.lower, lines.span, free[step.number])
                coefficients = positive * lines.upper + (coefficients - positive) * lower
        bounds = total + dot(coefficients, self._centre) + dot(coefficients.abs(), self._radius)
        if not up:
            return _Swept(bounds, {}, {})
        point = torch.addcmul(self._centre, torch.sign(coefficients), self._radius)
        return self._raised(bounds, point, on_output, free)

    def _raised(
        self, bounds: Tensor, point: Tensor, on_output: Mapping[int, Tensor], free: Mapping[int, Tensor]
    ) -> _Swept:
        rows, negative, values = self._rows, {}, {}
        for step in reversed(self._plan.steps):
            if step.conv is not None:
                point = step.conv.forward(point, rows.position, rows.window)
            elif step.number in self._scales:
                scale, shift = self._scales[step.number]
                point = torch.addcmul(shift, point, scale)
            else:
                lines, coefficients = self.lines[step.number], on_output[step.number]
                values[step.number] = point
                negative[step.number] = coefficients.clamp(max=0)
                lower = torch.addcmul(lines.lower, lines.span, free[step.number])
                above = torch.addcmul(lines.shift, lines.upper, point)
                point = torch.where(coefficients > 0, above, lower * point)
        return _Swept(bounds, negative, values)

    def climb(self, steps: int, budget: Budget) -> dict[int, Tensor]:
        """Positions after gradient steps; those of bounds that are below zero stay as they are."""
        free = self.start()
        adams = {number: Adam(item, FIRST.positions, FIRST.decay) for number, item in free.items()}
        best: Tensor | None = None
        for count in range(1, steps + 1):
            if budget.exhausted:
                break
            swept = self.sweep(free, up=True)
            best = swept.bounds if best is None else torch.minimum(best, swept.bounds)
            still = (best >= 0).to(self._dtype).unsqueeze(2)
            if not bool(still.any()):
                break
            for number, item in free.items():
                gradient = swept.negative[number] * swept.values[number] * self.lines[number].span * still
                adams[number].step(item, gradient, count)
                item.clamp_(0.0, 1.0)
        return free


class PatchAscent:
    """Tightens convolutions of one network: search in float32, bounds in float64 with slopes rounded to bytes."""

    def __init__(self, network: Network, device: str = "cpu") -> None:
        """Prepare both precisions."""
        self._network = network
        self._fast = LinearBounds(network, torch.float32, device)
        self._sure = LinearBounds(network, torch.float64, device)

    def applies_to(self, number: int) -> bool:
        """Whether the value is a convolution that patches reach and that has a ReLU below it."""
        plans = self._sure.local.plans
        return plans.applies_to(number) and any(
            isinstance(step.operator, Relu) for step in plans.of(number).steps
        )

    def tighten(
        self,
        number: int,
        values: ValueBounds,
        wanted: IndexArray,
        steps: int,
        budget: Budget,
        recorder: Recorder | None,
    ) -> Interval:
        """Bounds of a value that are as tight as before or tighter.

        Args:
            number: of the value; :meth:`applies_to` applies.
            values: bounds on every value.
            wanted: (chosen,) flat indices of the neurons to bound.
            steps: gradient steps.
            budget: neurons that are reached in time are bounded.
            recorder: receives the slopes.
        """
        old = values[number]
        channels, positions = old.lower.shape[0], old.lower[0].size
        lower, upper = old.lower.copy(), old.upper.copy()
        # rows are ordered by position, then by channel
        order = np.sort(wanted % positions * channels + wanted // positions)
        size = max(1, ASCENT_NUMBERS // (2 * self._sure.local.plans.of(number).widest))
        for start in range(0, len(order), size):
            if budget.exhausted:
                break
            part = order[start : start + size]
            rows = Rows.of(torch.as_tensor(part, device=self._sure.device), channels, positions)
            flat = part % channels * positions + part // channels
            negated, above = self._bound(number, values, rows, flat, steps, budget, recorder)
            held = upper.reshape(-1)[flat]
            upper.reshape(-1)[flat] = np.minimum(held, np.maximum(above, lower.reshape(-1)[flat]))
            held = lower.reshape(-1)[flat]
            lower.reshape(-1)[flat] = np.maximum(held, np.minimum(-negated, upper.reshape(-1)[flat]))
        return Interval(lower, upper)

    def _bound(
        self,
        number: int,
        values: ValueBounds,
        rows: Rows,
        flat: IndexArray,
        steps: int,
        budget: Budget,
        recorder: Recorder | None,
    ) -> tuple[FloatArray, FloatArray]:
        plan = self._fast.local.plans.of(number)
        free = _Climb(self._fast.module, plan, values, rows).climb(steps, budget)
        kept = {key: torch.round(item * LEVELS).to(torch.uint8) for key, item in free.items()}
        if recorder is not None:
            recorder.improve(_single(plan, number, rows, flat, kept))
        sure = _Climb(self._sure.module, self._sure.local.plans.of(number), values, rows)
        found = sure.sweep({key: item.double() / LEVELS for key, item in kept.items()}, up=False)
        bounds = found.bounds.cpu().numpy()
        bounds = bounds + WIDENING[torch.float64] * (1.0 + np.abs(bounds))
        bounds = np.where(np.isnan(bounds), np.inf, bounds)
        return bounds[0], bounds[1]


def _single(plan: PatchPlan, number: int, rows: Rows, flat: IndexArray, kept: Mapping[int, Tensor]) -> Single:
    """The slopes as a certificate keeps them: upper bounds first."""
    sides = np.repeat([1, 0], len(flat))
    targets = np.stack([np.full(len(sides), number), np.tile(flat, 2), sides], axis=1)
    relu = {}
    for step in plan.steps:
        if step.number not in kept:
            continue
        places = step.reads.flat(rows, step.operator.shape[0]).cpu().numpy()
        both = np.concatenate([kept[step.number][1].cpu().numpy(), kept[step.number][0].cpu().numpy()])
        neurons = np.unique(places[places >= 0])
        table = np.zeros((len(both), len(neurons) + 1), dtype=np.uint8)
        column = np.where(places < 0, len(neurons), np.searchsorted(neurons, places))
        table[np.arange(len(both))[:, None], np.tile(column, (2, 1))] = both
        relu[step.number] = ReluSlopes(neurons, table[:, :-1])
    return Single(targets, Slopes(len(both), relu))
