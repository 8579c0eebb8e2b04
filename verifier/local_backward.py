"""Backward bounds of convolutions as local patches."""

import torch
from torch import Tensor

from .bound_types import Bounds, Freedom
from .operators import Conv, Operator, Relu, Scale
from .patches import Patches
from .relaxation import ReluLines, relu_lines
from .torch_network import TorchNetwork


class LocalBackward:
    """Bounds all neurons of a convolution at once, through convolutions, scales and ReLUs."""

    def __init__(self, module: TorchNetwork) -> None:
        """Use the weights of ``module``."""
        self._module = module
        self._network = module.network

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

    def bound(self, number: int, bounds: Bounds, inner: Freedom | None) -> tuple[Tensor, Tensor]:
        """Both bounds of all neurons of a convolution; rows are the neurons' channels, then their negatives."""
        operator = self._network.operators[number - 1]
        assert isinstance(operator, Conv)
        patches, total = self._conv_rows(number, operator, bounds.batch)
        number = operator.inputs[0]
        while number > 0:
            operator = self._network.operators[number - 1]
            patches, constant = self._patch_step(number, operator, patches, bounds, inner)
            total = total + constant
            number = operator.inputs[0]
        centre = patches.dot((bounds.lower[0] + bounds.upper[0]) / 2)
        radius = patches.with_coefficients(patches.coefficients.abs())
        extreme = total + centre + radius.dot((bounds.upper[0] - bounds.lower[0]) / 2)
        extreme = extreme.permute(0, 3, 1, 2)
        half = extreme.shape[1] // 2
        return -extreme[:, half:], extreme[:, :half]

    def _conv_rows(self, number: int, operator: Conv, batch: int) -> tuple[Patches, Tensor]:
        weight = self._module.array("weight", number - 1)
        bias = self._module.array("bias", number - 1)
        out, per_group, height, width = weight.shape
        kernel = weight
        if operator.groups > 1:
            kernel = weight.new_zeros(out, operator.groups, per_group, height, width)
            group = torch.arange(out, device=weight.device) // (out // operator.groups)
            kernel[torch.arange(out, device=weight.device), group] = weight
            kernel = kernel.reshape(out, -1, height, width)
        if operator.dilation != (1, 1):
            kernel = _dilate(kernel, operator.dilation)
        rows = torch.cat([kernel, -kernel])
        positions = (operator.shape[1], operator.shape[2])
        patches = Patches(rows[None, None, None], positions, operator.stride, operator.padding[:2])
        return patches, torch.cat([bias, -bias]).expand(batch, *positions, 2 * out)

    def _patch_step(
        self, number: int, operator: Operator, patches: Patches, bounds: Bounds, inner: Freedom | None
    ) -> tuple[Patches, Tensor]:
        match operator:
            case Relu():
                free = None if inner is None else inner.relu.get(number)
                source = operator.inputs[0]
                lines = relu_lines(bounds.lower[source], bounds.upper[source], operator.negative_slope, free)
                return _patch_relu(patches, lines)
            case Scale():
                scale = self._module.array("scale", number - 1).expand(bounds.batch, *operator.shape)
                shift = self._module.array("shift", number - 1).expand(bounds.batch, *operator.shape)
                moved = patches.with_coefficients(patches.coefficients * patches.windows_of(scale))
                return moved, patches.dot(shift)
            case Conv():
                bias = self._module.array("bias", number - 1)[None, :, None, None]
                inside = patches.windows_of(torch.ones_like(bounds.lower[number][:1]))
                kept = patches.with_coefficients(patches.coefficients * inside)
                constant = kept.dot(bias.expand(bounds.batch, *operator.shape))
                weight = self._module.array("weight", number - 1)
                padding = operator.padding[:2]
                return kept.through_conv(
                    weight, operator.stride, padding, operator.dilation, operator.groups
                ), constant
            case _:
                raise TypeError(f"{type(operator).__name__} is not local")


def _patch_relu(patches: Patches, lines: ReluLines) -> tuple[Patches, Tensor]:
    positive = patches.with_coefficients(patches.coefficients.clamp(min=0))
    gap = patches.windows_of(lines.upper_slope - lines.lower_slope)
    moved = patches.coefficients * patches.windows_of(lines.lower_slope) + positive.coefficients * gap
    return patches.with_coefficients(moved), positive.dot(lines.upper_shift)


def _dilate(kernel: Tensor, dilation: tuple[int, int]) -> Tensor:
    height, width = kernel.shape[2:]
    spread = kernel.new_zeros(
        *kernel.shape[:2], (height - 1) * dilation[0] + 1, (width - 1) * dilation[1] + 1
    )
    spread[:, :, :: dilation[0], :: dilation[1]] = kernel
    return spread
