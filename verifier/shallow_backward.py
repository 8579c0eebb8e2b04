"""Backward bounds of the second layer of a network with few inputs.

Neurons that are one activation away from the input have bounds that are one matrix product: of the layer's weights,
cut by sign, with the first layer's, scaled by the slopes of the activation's lines. Nothing of the size (regions,
neurons, neurons) is ever made, which is what the general way spends most of its time on where boxes are many.
"""

import torch
from torch import Tensor

from .bound_types import Bounds
from .curves import curve_lines
from .operators import Linear, Relu, SShaped
from .relaxation import relu_lines
from .torch_network import TorchNetwork

# The product grows with the inputs; with more than these, rows that are kept dense cost less.
FEW_INPUTS = 32


class ShallowBackward:
    """Bounds neurons of a fully connected layer that reads an activation of the first one."""

    def __init__(self, module: TorchNetwork) -> None:
        """Use the weights of ``module``."""
        self._module = module
        self._network = module.network

    def applies_to(self, number: int) -> bool:
        """Whether the value is a fully connected layer of an activation of such a layer of a few inputs."""
        network = self._network
        expected: tuple[type | tuple[type, ...], ...] = (Linear, (Relu, SShaped), Linear)
        for kinds in expected:
            if number == 0:
                return False
            operator = network.operators[number - 1]
            if not isinstance(operator, kinds) or len(operator.shape) != 1:
                return False
            number = operator.inputs[0]
        return number == 0 and network.input_shape[0] <= FEW_INPUTS

    def extremes(self, number: int, neurons: Tensor, bounds: Bounds) -> Tensor:
        """Upper bounds (batch, 2 * neurons) of some neurons, and of their negatives."""
        activation = self._network.operators[number - 1].inputs[0]
        first = self._network.operators[activation - 1].inputs[0]
        weight = self._module.array("weight", number - 1)[neurons]
        bias = self._module.array("bias", number - 1)[neurons]
        signed = torch.cat([weight.clamp(min=0), weight.clamp(max=0)], dim=1)
        above, below = self._lines(activation, first, bounds)
        high = self._extreme(signed, torch.cat([above, below]), bounds)
        low = self._extreme(signed, torch.cat([below, above]), bounds, sign=-1.0)
        return torch.cat([high + bias, low - bias], dim=1)

    def _lines(self, activation: int, first: int, bounds: Bounds) -> tuple[Tensor, Tensor]:
        """Lines above and below the activation, (neurons, batch, inputs + 1): coefficients and constant."""
        operator = self._network.operators[activation - 1]
        low, high = bounds.lower[first], bounds.upper[first]
        weight = self._module.array("weight", first - 1)
        bias = self._module.array("bias", first - 1)
        if isinstance(operator, Relu):
            relu = relu_lines(low, high, operator.negative_slope)
            pairs = (relu.upper_slope, relu.upper_shift), (relu.lower_slope, torch.zeros_like(low))
        else:
            assert isinstance(operator, SShaped)
            lines = curve_lines(operator.curve, low, high)
            pairs = (lines.upper_slope, lines.upper_shift), (lines.lower_slope, lines.lower_shift)
        above, below = (
            torch.cat([slope.T[:, :, None] * weight[:, None], (slope * bias + shift).T[:, :, None]], dim=2)
            for slope, shift in pairs
        )
        return above, below

    def _extreme(self, signed: Tensor, lines: Tensor, bounds: Bounds, sign: float = 1.0) -> Tensor:
        """Largest values (batch, rows) over the boxes of ``sign`` times rows of lines."""
        affine = sign * (signed @ lines.flatten(1)).reshape(len(signed), *lines.shape[1:]).permute(1, 0, 2)
        slopes, constant = affine[:, :, :-1], affine[:, :, -1]
        centre = ((bounds.lower[0] + bounds.upper[0]) / 2).unsqueeze(1)
        radius = ((bounds.upper[0] - bounds.lower[0]) / 2).unsqueeze(1)
        return constant + (slopes * centre).sum(dim=2) + (slopes.abs() * radius).sum(dim=2)
