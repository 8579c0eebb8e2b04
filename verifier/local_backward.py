"""Backward bounds of convolutions as local patches."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .bound_types import Bounds, Freedom
from .operators import Conv, Relu, Scale
from .patches import PatchConv, Window, channels_last
from .relaxation import relu_lines
from .torch_network import TorchNetwork

# Rows go backward in slices whose largest tensor has about this many numbers, so that one step finds in the cache what
# the step before wrote.
PATCH_NUMBERS = 250_000


@dataclass(frozen=True, slots=True, eq=False)
class _Reader:
    """Reads what the windows of rows see of one value.

    Attributes:
        elements: (positions, places) flat places in the value.
        height_width: number of places of the value.
    """

    elements: Tensor
    height_width: int

    def seen(self, value: Tensor, rows: "_Rows") -> Tensor:
        """(rows, places * channels) of ``value`` (batch or 1, height * width + 1, channels)."""
        place = self.elements.index_select(0, rows.position)
        if len(value) > 1:
            place = place + (rows.region * (self.height_width + 1)).unsqueeze(1)
        every = value.flatten(0, 1).index_select(0, place.flatten())
        return every.reshape(len(place), -1).index_select(0, rows.window)


@dataclass(frozen=True, slots=True, eq=False)
class _Step:
    """One operator below a bounded convolution.

    Attributes:
        number: of its value.
        reads: what a nonlinear operator or a scale looks up, at the windows of its output.
        conv: the step of a convolution.
    """

    number: int
    reads: _Reader
    conv: PatchConv | None


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """The way from one convolution back to the input: constants only.

    Attributes:
        rows: (channels, places * channels below) coefficients of the convolution's neurons on its input.
        bias: (channels,).
        steps: downward.
        inputs: windows on the network's input.
        widest: most coefficients that a row has on the way.
    """

    rows: Tensor
    bias: Tensor
    steps: tuple[_Step, ...]
    inputs: _Reader
    widest: int


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """Neurons to be bounded together, ordered by region and position.

    Attributes:
        channel: (rows,) of each.
        window: (rows,) which of the windows it looks through.
        region: (windows,).
        position: (windows,) in the bounded value.
    """

    channel: Tensor
    window: Tensor
    region: Tensor
    position: Tensor

    @classmethod
    def of(cls, chosen: Tensor, channels: int, positions: int) -> "_Rows":
        """From flat indices into (batch, positions, channels), ascending."""
        places, window = torch.unique_consecutive(chosen // channels, return_inverse=True)
        return cls(chosen % channels, window, places // positions, places % positions)


class LocalBackward:
    """Bounds neurons of a convolution together, through convolutions, scales and ReLUs."""

    def __init__(self, module: TorchNetwork) -> None:
        """Use the weights of ``module``."""
        self._module = module
        self._network = module.network
        self._plans: dict[int, _Plan] = {}

    def applies_to(self, number: int) -> bool:
        """Whether the value is a convolution above nothing but convolutions, scales and ReLUs."""
        if not isinstance(self._network.operators[number - 1], Conv):
            return False
        while number > 0:
            operator = self._network.operators[number - 1]
            if not isinstance(operator, (Conv, Relu, Scale)) or len(operator.shape) != 3:
                return False
            number = operator.inputs[0]
        return True

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
        plan = self._plan(number)
        values = self._values(plan, bounds, inner)
        channels, positions = low.shape[1], low[0, 0].numel()
        found = [
            self._bound_rows(plan, values, _Rows.of(part, channels, positions))
            for part in torch.split(chosen, max(1, PATCH_NUMBERS // (2 * plan.widest)))
        ]
        negated, above = torch.cat(found, dim=1)
        # the order of the chosen is that of channels last
        place = chosen // (positions * channels) * channels + chosen % channels
        place = place * positions + chosen // channels % positions
        return (
            low.flatten().index_copy(0, place, -negated).reshape(low.shape),
            high.flatten().index_copy(0, place, above).reshape(high.shape),
        )

    def _plan(self, number: int) -> _Plan:
        # weights do not change, so neither do the windows and products made of them
        if number not in self._plans:
            self._plans[number] = self._new_plan(number)
        return self._plans[number]

    def _new_plan(self, number: int) -> _Plan:
        operator = self._conv(number)
        own = Window.of_output((operator.shape[1], operator.shape[2]))
        weight, bias = self._weights(number)
        first, window = PatchConv.of(operator, own, weight, bias)
        widest, steps = first.weight.shape[1], []
        number = operator.inputs[0]
        while number > 0:
            below = self._network.operators[number - 1]
            conv, reads = None, self._reader(window, number, weight.device)
            if isinstance(below, Conv):
                conv, window = PatchConv.of(below, window, *self._weights(number))
                widest = max(widest, len(window.offsets) * self._network.shape_of(below.inputs[0])[0])
            steps.append(_Step(number, reads, conv))
            number = below.inputs[0]
        return _Plan(first.weight, bias, tuple(steps), self._reader(window, 0, weight.device), widest)

    def _conv(self, number: int) -> Conv:
        operator = self._network.operators[number - 1]
        assert isinstance(operator, Conv)
        return operator

    def _weights(self, number: int) -> tuple[Tensor, Tensor]:
        """Weight (channels, channels below, kernel) with its groups spread out, and bias."""
        weight = self._module.array("weight", number - 1)
        bias = self._module.array("bias", number - 1)
        groups = self._conv(number).groups
        if groups == 1:
            return weight, bias
        out, per_group = weight.shape[:2]
        spread = weight.new_zeros(out, groups, *weight.shape[1:])
        channel = torch.arange(out, device=weight.device)
        spread[channel, channel // (out // groups)] = weight
        return spread.reshape(out, groups * per_group, *weight.shape[2:]), bias

    def _reader(self, window: Window, number: int, device: torch.device) -> _Reader:
        shape = self._network.shape_of(number)
        elements: NDArray[np.int64] = window.elements(shape)
        return _Reader(torch.as_tensor(elements, device=device), shape[1] * shape[2])

    def _values(self, plan: _Plan, bounds: Bounds, inner: Freedom | None) -> dict[int, tuple[Tensor, ...]]:
        """What the steps look up, by number: for ReLUs slopes, their gap and shifts; for scales scale and shift."""
        found: dict[int, tuple[Tensor, ...]] = {}
        for step in plan.steps:
            operator = self._network.operators[step.number - 1]
            if isinstance(operator, Relu):
                free = None if inner is None else inner.relu.get(step.number)
                source = operator.inputs[0]
                lines = relu_lines(bounds.lower[source], bounds.upper[source], operator.negative_slope, free)
                gap = lines.upper_slope - lines.lower_slope
                looked_up: tuple[Tensor, ...] = (lines.lower_slope, gap, lines.upper_shift)
            elif isinstance(operator, Scale):
                arrays = (self._module.array(name, step.number - 1) for name in ("scale", "shift"))
                looked_up = tuple(array.expand(1, *operator.shape) for array in arrays)
            else:
                continue
            found[step.number] = tuple(channels_last(item) for item in looked_up)
        low, high = bounds.lower[0], bounds.upper[0]
        found[0] = (channels_last((low + high) / 2), channels_last((high - low) / 2))
        return found

    def _bound_rows(self, plan: _Plan, values: dict[int, tuple[Tensor, ...]], rows: _Rows) -> Tensor:
        """Upper bounds (2, rows) of the negated neurons and of the neurons."""
        own, shift = plan.rows.index_select(0, rows.channel), plan.bias.index_select(0, rows.channel)
        coefficients, total = torch.stack([-own, own]), torch.stack([-shift, shift])
        for step in plan.steps:
            if step.conv is not None:
                if step.conv.outside is not None:
                    inside = step.conv.outside.index_select(0, rows.position).index_select(0, rows.window)
                    shape = (*coefficients.shape[:2], inside.shape[1], -1)
                    coefficients = (coefficients.reshape(shape) * inside.unsqueeze(2)).flatten(2)
                total = total + coefficients @ step.conv.bias
                coefficients = step.conv.back(coefficients)
                continue
            seen = [step.reads.seen(item, rows) for item in values[step.number]]
            if len(seen) == 2:
                total = total + _dot(coefficients, seen[1])
                coefficients = coefficients * seen[0]
            else:
                positive = coefficients.clamp(min=0)
                total = total + _dot(positive, seen[2])
                coefficients = torch.addcmul(coefficients * seen[0], positive, seen[1])
        centre, radius = (plan.inputs.seen(item, rows) for item in values[0])
        return total + _dot(coefficients, centre) + _dot(coefficients.abs(), radius)


def _dot(coefficients: Tensor, seen: Tensor) -> Tensor:
    return (coefficients * seen).sum(dim=2)
