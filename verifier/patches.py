"""Windows: which elements of an earlier value a neuron of a convolution depends on.

A neuron's linear bound is kept as the coefficients of its window only, so bounding many neurons of a layer costs
one small matrix product instead of one dense row per neuron. Channels come last: the coefficients of one row are
ordered by place in the window, then by channel.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from .operators import Conv, Shape

# A product for a whole row of a window does more arithmetic than single products that are added up, but runs about
# this many times faster per operation on a CPU; beyond that ratio the single products are taken.
DENSE_ADVANTAGE = 5
# Products with a multiple of so many columns take less time than with fewer: 24 columns 0.6 of the time of 21.
ALIGNED = 8


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
class Window:
    """Where the neurons of a bounded value, at ``positions``, look in an earlier value.

    Attributes:
        positions: (height, width) of the bounded value.
        stride: by which windows of neighbouring positions are apart.
        offsets: (places, 2) rows and columns of the window's places, seen from ``position * stride``.
    """

    positions: tuple[int, int]
    stride: tuple[int, int]
    offsets: NDArray[np.int64]

    @classmethod
    def of_output(cls, positions: tuple[int, int]) -> Self:
        """Every neuron sees itself."""
        return cls(positions, (1, 1), np.zeros((1, 2), dtype=np.int64))

    def below(self, conv: Conv) -> tuple[Self, NDArray[np.int64]]:
        """What the window needs of the convolution's input.

        Returns:
            the window below, and (places, kernel_height, kernel_width) the number of the place below that each
            weight reads.
        """
        height, width = conv.weight.shape[2:]
        steps = np.stack(
            np.meshgrid(
                np.arange(height) * conv.dilation[0] - conv.padding[0],
                np.arange(width) * conv.dilation[1] - conv.padding[1],
                indexing="ij",
            ),
            axis=-1,
        )
        reached = self.offsets[:, None, None] * np.array(conv.stride) + steps
        offsets, number = np.unique(reached.reshape(-1, 2), axis=0, return_inverse=True)
        if len(offsets) == len(number):
            # each place is reached once, so they may stand as the weights do, and products need no reordering
            offsets, number = reached.reshape(-1, 2), np.arange(len(number))
        stride = (self.stride[0] * conv.stride[0], self.stride[1] * conv.stride[1])
        return type(self)(self.positions, stride, offsets), number.reshape(reached.shape[:3])

    def elements(self, shape: Shape) -> NDArray[np.int64]:
        """Flat places (positions, places) in a plane of ``shape``; ``height * width`` for those outside of it."""
        rows, cols = np.divmod(np.arange(self.positions[0] * self.positions[1]), self.positions[1])
        row = rows[:, None] * self.stride[0] + self.offsets[:, 0]
        col = cols[:, None] * self.stride[1] + self.offsets[:, 1]
        inside = (row >= 0) & (row < shape[1]) & (col >= 0) & (col < shape[2])
        return np.where(inside, row * shape[2] + col, shape[1] * shape[2])


def channels_last(value: Tensor) -> Tensor:
    """(batch, channels, height, width) as (batch, height * width + 1, channels), with zeros in the last place."""
    flat = value.flatten(2).transpose(1, 2)
    return torch.cat([flat, flat.new_zeros(len(flat), 1, flat.shape[2])], dim=1)


@dataclass(frozen=True, slots=True, eq=False)
class Band:
    """A product for the places in one row of a window, which reach a few rows of the window below.

    Attributes:
        above: coefficients on those places.
        below: coefficients on the places that they reach.
        weight: (above, below).
    """

    above: slice
    below: slice
    weight: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class PatchConv:
    """A convolution's step backward on coefficients of windows.

    Attributes:
        outside: (positions, places) 0 where the window leaves the convolution's output, else 1; None if it never does.
        bias: (places * channels,).
        weight: (channels, kernel_height * kernel_width * channels below) for single products.
        targets: (places * kernel_height * kernel_width * channels below,) coefficients below that they are added to;
            None when each has its own.
        bands: products for whole rows of the window, in place of the single ones; empty if those cost less.
        width: number of coefficients below.
    """

    outside: Tensor | None
    bias: Tensor
    weight: Tensor
    targets: Tensor | None
    bands: tuple[Band, ...]
    width: int

    @classmethod
    def of(
        cls, conv: Conv, window: Window, weight: Tensor, bias: Tensor, *, cut: bool
    ) -> tuple[Self, Window]:
        """The step for windows on the convolution's output, and the window on its input.

        Args:
            conv: the convolution.
            window: on its output.
            weight: (channels, channels below, kernel_height, kernel_width), groups spread out.
            bias: (channels,).
            cut: whether what lies outside the output is zero without this step's doing: look-ups of the step above
                are zero there.
        """
        below, number = window.below(conv)
        elements = window.elements(conv.shape)
        inside = torch.as_tensor(elements < conv.shape[1] * conv.shape[2], device=weight.device)
        flat = weight.permute(0, 2, 3, 1).flatten(1)
        own = bool(len(below.offsets) == number.size)
        channels = weight.shape[1]
        element = number.reshape(-1, 1) * channels + np.arange(channels)
        targets = None if own else torch.as_tensor(element.reshape(-1), device=weight.device)
        width = len(below.offsets) * channels
        bands = () if own else _bands(window, number, flat)
        outside = None if cut or bool(inside.all()) else inside.to(weight.dtype)
        return cls(outside, bias.repeat(len(number)), flat, targets, bands, width), below

    def back(self, coefficients: Tensor, position: Tensor, window: Tensor) -> tuple[Tensor, Tensor]:
        """Coefficients on the input and constants (signs, rows), given coefficients on the output.

        Args:
            coefficients: (signs, rows, places * channels).
            position: (windows,) of the windows.
            window: (rows,) which of them a row looks through.
        """
        coefficients = self.inside(coefficients, position, window)
        constant = coefficients @ self.bias
        signs, rows = coefficients.shape[:2]
        if self.bands:
            flat = coefficients.flatten(0, 1)
            below = flat.new_zeros(len(flat), max(band.below.stop for band in self.bands))
            for band in self.bands:
                below[:, band.below].addmm_(flat[:, band.above], band.weight)
            return below.reshape(signs, rows, -1), constant
        single = coefficients.reshape(-1, len(self.weight)) @ self.weight
        if self.targets is None:
            return single.reshape(signs, rows, -1), constant
        single = single.reshape(signs * rows, -1)
        below = single.new_zeros(len(single), self.width).index_add_(1, self.targets, single)
        return below.reshape(signs, rows, -1), constant

    def forward(self, values: Tensor, position: Tensor, window: Tensor) -> Tensor:
        """What the windows on the output hold (signs, rows, places * channels), given those on the input."""
        signs, rows = values.shape[:2]
        if self.bands:
            flat = values.flatten(0, 1)
            found = torch.cat([flat[:, band.below] @ band.weight.T for band in self.bands], dim=1)
        else:
            below = values.flatten(0, 1)
            if self.targets is not None:
                below = below.index_select(1, self.targets)
            found = below.reshape(-1, self.weight.shape[1]) @ self.weight.T
        return self.inside(found.reshape(signs, rows, -1) + self.bias, position, window)

    def inside(self, values: Tensor, position: Tensor, window: Tensor) -> Tensor:
        """Zero in place of what lies outside the output."""
        if self.outside is None:
            return values
        mask = self.outside.index_select(0, position).index_select(0, window)
        return (values.reshape(*values.shape[:2], mask.shape[1], -1) * mask.unsqueeze(2)).flatten(2)


def _bands(window: Window, number: NDArray[np.int64], weight: Tensor) -> tuple[Band, ...]:
    """Products for the rows of a window; none where single products cost less.

    Args:
        window: on the convolution's output.
        number: (places, kernel_height, kernel_width) the number of the place below that each weight reads.
        weight: (channels, kernel_height * kernel_width * channels below).
    """
    number = number.reshape(len(number), -1)
    places, parts = int(number.max()) + 1, weight.reshape(len(weight), number.shape[1], -1)
    breaks = np.flatnonzero(np.diff(window.offsets[:, 0])) + 1
    runs = [(run, _span(number[run], places)) for run in np.split(np.arange(len(number)), breaks)]
    if sum(len(run) * (high - low) for run, (low, high) in runs) > DENSE_ADVANTAGE * number.size:
        return ()
    bands = []
    for run, (low, high) in runs:
        block = weight.new_zeros(len(run), len(weight), high - low, parts.shape[2])
        for line, reached in zip(block, number[run] - low, strict=True):
            line[:, torch.as_tensor(reached, device=weight.device)] = parts
        above = slice(int(run[0]) * len(weight), (int(run[-1]) + 1) * len(weight))
        below = slice(low * parts.shape[2], high * parts.shape[2])
        bands.append(Band(above, below, block.flatten(2).flatten(0, 1)))
    return tuple(bands)


def _span(reached: NDArray[np.int64], places: int) -> tuple[int, int]:
    """First place and the one after the last, a multiple of ``ALIGNED`` places where there are as many."""
    low, high = int(reached.min()), int(reached.max()) + 1
    width = min(places, -(-(high - low) // ALIGNED) * ALIGNED)
    low = min(low, places - width)
    return low, low + width
