"""Backward bounds of convolutional layers as local patches.

A neuron of a convolution depends on a small window of every earlier layer. Its linear bound is kept as the
coefficients of that window only, so bounding all neurons of a layer costs one small matrix product instead
of one dense row per neuron.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

# A matrix product over whole windows does more arithmetic than a transposed convolution but runs about this
# many times faster per operation on a CPU; beyond that ratio the transposed convolution is taken.
DENSE_ADVANTAGE = 8


def framed(value: Tensor, pads: tuple[int, int, int, int], fill: float = 0.0) -> Tensor:
    """The last two axes padded by (left, right, top, bottom), where negative amounts crop.

    Torch crops before it pads and refuses to crop more than there is; windows that lie outside the value
    altogether need the other order.
    """
    left, right, top, bottom = (max(pad, 0) for pad in pads)
    wide = functional.pad(value, (left, right, top, bottom), value=fill)
    left, right, top, bottom = (max(-pad, 0) for pad in pads)
    return wide[..., top : wide.shape[-2] - bottom, left : wide.shape[-1] - right]


@dataclass(frozen=True, slots=True, eq=False)
class Patches:
    """Coefficients of row (i, j, r) on inputs (c, i * stride + a - padding, j * stride + b - padding).

    Rows of one position lie next to one another, so that what their window sees is read once for all.

    Attributes:
        coefficients: (batch, height, width, rows, channels, kernel_height, kernel_width); batch, height and
            width may be 1 where all share them.
        positions: (height, width) of the bounded value.
        stride: of the window in the current value.
        padding: (top, left) by which windows start outside.
    """

    coefficients: Tensor
    positions: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]

    @property
    def kernel(self) -> tuple[int, int]:
        """Height and width of the window."""
        return self.coefficients.shape[5], self.coefficients.shape[6]

    def windows_of(self, value: Tensor, fill: float = 0.0) -> Tensor:
        """What every window sees of ``value`` (batch, channels, height, width).

        Returns:
            (batch, height, width, 1, channels, kernel_height, kernel_width), which broadcasts with the
            coefficients; positions outside the value read ``fill``.
        """
        rows, cols = self.positions
        kernel = self.kernel
        bottom = (rows - 1) * self.stride[0] + kernel[0] - value.shape[2] - self.padding[0]
        right = (cols - 1) * self.stride[1] + kernel[1] - value.shape[3] - self.padding[1]
        padded = framed(value, (self.padding[1], right, self.padding[0], bottom), fill)
        seen = padded.unfold(2, kernel[0], self.stride[0]).unfold(3, kernel[1], self.stride[1])
        return seen.permute(0, 2, 3, 1, 4, 5).contiguous().unsqueeze(3)

    def dot(self, value: Tensor) -> Tensor:
        """Rows (batch, height, width, rows) of the coefficients applied to ``value``."""
        return (self.coefficients.flatten(4) @ self.windows_of(value).flatten(4).transpose(3, 4)).squeeze(4)

    def with_coefficients(self, coefficients: Tensor) -> "Patches":
        """Other coefficients on the same windows."""
        return Patches(coefficients, self.positions, self.stride, self.padding)

    def through_conv(
        self,
        weight: Tensor,
        stride: tuple[int, int],
        padding: tuple[int, int],
        dilation: tuple[int, int],
        groups: int,
    ) -> "Patches":
        """Coefficients on the input of a convolution, given coefficients on its output.

        The caller must have zeroed coefficients of positions outside the convolution's output.
        """
        flat = self.coefficients.reshape(-1, *self.coefficients.shape[4:])
        kernel = tuple(
            (size - 1) * step + gap * (width - 1) + 1
            for size, step, gap, width in zip(self.kernel, stride, dilation, weight.shape[2:], strict=True)
        )
        channels = weight.shape[1] * groups
        moved = _transposed(flat, weight, stride, dilation, groups, (channels, *kernel))
        return Patches(
            moved.reshape(*self.coefficients.shape[:4], channels, *kernel),
            self.positions,
            (self.stride[0] * stride[0], self.stride[1] * stride[1]),
            (self.padding[0] * stride[0] + padding[0], self.padding[1] * stride[1] + padding[1]),
        )


def _transposed(
    flat: Tensor,
    weight: Tensor,
    stride: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    result: tuple[int, ...],
) -> Tensor:
    width_in = flat[0].numel()
    width_out = result[0] * result[1] * result[2]
    if width_out > DENSE_ADVANTAGE * weight[0].numel():
        return functional.conv_transpose2d(flat, weight, stride=stride, dilation=dilation, groups=groups)
    basis = torch.eye(width_in, dtype=flat.dtype, device=flat.device).reshape(width_in, *flat.shape[1:])
    matrix = functional.conv_transpose2d(basis, weight, stride=stride, dilation=dilation, groups=groups)
    return flat.reshape(len(flat), width_in) @ matrix.reshape(width_in, width_out)
