"""The way from a convolution back to the input through convolutions, scales and activations: constants and look-ups."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .operators import Conv, Relu, Scale, SShaped
from .patches import PatchConv, Window
from .torch_network import TorchNetwork


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
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
    def of(cls, chosen: Tensor, channels: int, positions: int) -> "Rows":
        """From flat indices into (batch, positions, channels), ascending."""
        places, window = torch.unique_consecutive(chosen // channels, return_inverse=True)
        return cls(chosen % channels, window, places // positions, places % positions)


@dataclass(frozen=True, slots=True, eq=False)
class Reader:
    """Reads what the windows of rows see of one value.

    Attributes:
        elements: (positions, places) flat places in the value; the number of its places for those outside.
        places: number of places of the value.
    """

    elements: Tensor
    places: int

    def seen(self, value: Tensor, rows: Rows) -> Tensor:
        """(rows, places of a window * channels) of ``value`` (batch or 1, places + 1, channels)."""
        return self.windows(value, rows).index_select(-2, rows.window)

    def windows(self, value: Tensor, rows: Rows) -> Tensor:
        """The same per window; further axes before those of ``value`` stay."""
        place = self.elements.index_select(0, rows.position)
        if value.shape[-3] > 1:
            place = place + (rows.region * (self.places + 1)).unsqueeze(1)
        every = value.flatten(-3, -2).index_select(-2, place.flatten())
        return every.reshape(*value.shape[:-3], len(place), -1)

    def flat(self, rows: Rows, channels: int) -> Tensor:
        """(rows, places of a window * channels) flat indices into (channels, places), -1 for those outside."""
        place = self.elements.index_select(0, rows.position).unsqueeze(2)
        index = place + torch.arange(channels, device=place.device) * self.places
        return torch.where(place == self.places, -1, index).flatten(1).index_select(0, rows.window)


@dataclass(frozen=True, slots=True, eq=False)
class PatchStep:
    """One operator below a bounded convolution.

    Attributes:
        number: of its value.
        operator: itself.
        reads: what a ReLU or a scale looks up, at the windows of its output.
        conv: the step of a convolution.
    """

    number: int
    operator: Conv | Relu | SShaped | Scale
    reads: Reader
    conv: PatchConv | None


@dataclass(frozen=True, slots=True, eq=False)
class PatchPlan:
    """The way back to the input.

    Attributes:
        weight: (channels, places of a window * channels below) of the bounded convolution.
        bias: (channels,).
        steps: downward.
        inputs: windows on the network's input.
        widest: most coefficients that a row has on the way.
    """

    weight: Tensor
    bias: Tensor
    steps: tuple[PatchStep, ...]
    inputs: Reader
    widest: int

    def start(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """Coefficients (2, rows, window) of the negated neurons and of the neurons, and constants (2, rows)."""
        own, shift = self.weight.index_select(0, rows.channel), self.bias.index_select(0, rows.channel)
        return torch.stack([-own, own]), torch.stack([-shift, shift])


class PatchPlans:
    """Plans of one network's convolutions; made when first asked for."""

    def __init__(self, module: TorchNetwork) -> None:
        """Use the weights of ``module``."""
        self._module = module
        self._network = module.network
        self._plans: dict[int, PatchPlan] = {}

    def applies_to(self, number: int) -> bool:
        """Whether the value is a convolution above nothing but convolutions, scales and activations."""
        if not isinstance(self._network.operators[number - 1], Conv):
            return False
        while number > 0:
            operator = self._network.operators[number - 1]
            if not isinstance(operator, (Conv, Relu, SShaped, Scale)) or len(operator.shape) != 3:
                return False
            number = operator.inputs[0]
        return True

    def of(self, number: int) -> PatchPlan:
        """The plan of a value to which :meth:`applies_to` applies."""
        # weights do not change, so neither do the windows and products made of them
        if number not in self._plans:
            self._plans[number] = self._new(number)
        return self._plans[number]

    def _new(self, number: int) -> PatchPlan:
        operator = self._network.operators[number - 1]
        assert isinstance(operator, Conv)
        own = Window.of_output((operator.shape[1], operator.shape[2]))
        weight, bias = self._weights(number, operator)
        first, window = PatchConv.of(operator, own, weight, bias, cut=True)
        widest = first.weight.shape[1]
        steps: list[PatchStep] = []
        number = operator.inputs[0]
        while number > 0:
            below = self._network.operators[number - 1]
            assert isinstance(below, (Conv, Relu, SShaped, Scale))
            conv, reads = None, self._reader(window, number, weight.device)
            if isinstance(below, Conv):
                cut = bool(steps) and steps[-1].conv is None
                conv, window = PatchConv.of(below, window, *self._weights(number, below), cut=cut)
                widest = max(widest, len(window.offsets) * self._network.shape_of(below.inputs[0])[0])
            steps.append(PatchStep(number, below, reads, conv))
            number = below.inputs[0]
        return PatchPlan(first.weight, bias, tuple(steps), self._reader(window, 0, weight.device), widest)

    def _weights(self, number: int, operator: Conv) -> tuple[Tensor, Tensor]:
        """Weight (channels, channels below, kernel) with its groups spread out, and bias."""
        weight = self._module.array("weight", number - 1)
        bias = self._module.array("bias", number - 1)
        groups = operator.groups
        if groups == 1:
            return weight, bias
        out, per_group = weight.shape[:2]
        spread = weight.new_zeros(out, groups, *weight.shape[1:])
        channel = torch.arange(out, device=weight.device)
        spread[channel, channel // (out // groups)] = weight
        return spread.reshape(out, groups * per_group, *weight.shape[2:]), bias

    def _reader(self, window: Window, number: int, device: torch.device) -> Reader:
        shape = self._network.shape_of(number)
        return Reader(torch.as_tensor(window.elements(shape), device=device), shape[1] * shape[2])
