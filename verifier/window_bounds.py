"""Bounds of the first value that is two convolutions above the pixels, from a search on every neuron's own patch."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from .bound_types import Bounds
from .bounds_engine import BoundsEngine
from .budget import Budget
from .linear_bounds import LinearBounds
from .network import Network
from .operators import Conv, Relu
from .region import Region
from .window_search import WindowProblems, WindowSearch

# The value that is tightened: pixels, convolution, ReLU, convolution.
NUMBER = 3
# Patches with more units than this are no small problems.
MOST_UNITS = 400
# Bounds closer than this share of a neuron's range to what it reaches have nothing to give.
TOLERANCE = 0.02
# Narrower ranges (of the neuron) are left as they are.
SMALLEST_RANGE = 1e-3


@dataclass(frozen=True, slots=True)
class WindowEffort:
    """Effort.

    Attributes:
        nodes: sub-problems for all neurons together, at most about.
        tolerance: share of a neuron's range.
    """

    nodes: int = 6_000
    tolerance: float = TOLERANCE


class WindowBounds:
    """The windows of one network."""

    def __init__(self, network: Network, effort: WindowEffort | None = None) -> None:
        """Gather what all windows share; ``is_available`` says whether the network begins as it has to."""
        self._network = network
        self._effort = effort or WindowEffort()
        found = _convolutions(network)
        self.is_available = found is not None
        if found is not None:
            self._first, self._second = found
            self._matrix, self._shift = _shared(*found)

    def improved(self, linear: LinearBounds, bounds: Bounds, budget: Budget | None = None) -> Bounds:
        """Better bounds of the second convolution's values, and by interval arithmetic of those after it.

        Args:
            linear: of the network, in float64.
            bounds: of all values over one region.
            budget: ends the search early; what it has by then is valid.
        """
        if not self.is_available:
            return bounds
        lower, upper = (item.to(linear.device) for item in self._searched(bounds, budget or Budget()))
        return linear.narrowed(bounds, NUMBER, lower, upper)

    def _searched(self, bounds: Bounds, budget: Budget) -> tuple[Tensor, Tensor]:
        lower, upper = bounds.lower[NUMBER].detach().cpu(), bounds.upper[NUMBER].detach().cpu()
        low, high = lower.flatten(), upper.flatten()
        # a unit that is never above zero is zero to every reader, and one that hardly moves needs no search
        wanted = torch.nonzero((high > 0) & (high - low > SMALLEST_RANGE)).flatten()
        if len(wanted) == 0:
            return lower, upper
        search = WindowSearch(self._problems(bounds, wanted))
        spans = (high - low)[wanted]
        search.run(self._effort.tolerance * torch.cat([spans, spans]), self._effort.nodes, budget)
        found, count = search.bounds, len(wanted)
        constant = torch.as_tensor(self._second.bias)[wanted // lower[0, 0].numel()]
        above = high.index_copy(0, wanted, torch.minimum(high[wanted], constant + found[:count]))
        below = low.index_copy(0, wanted, torch.maximum(low[wanted], constant - found[count:]))
        return below.reshape(lower.shape), above.reshape(upper.shape)

    def _problems(self, bounds: Bounds, wanted: Tensor) -> WindowProblems:
        """The wanted neurons, and their negatives."""
        shape = self._network.shape_of(NUMBER)
        windows = shape[1] * shape[2]
        channel, window = wanted // windows, wanted % windows
        places, box = torch.unique(window, return_inverse=True)
        # units outside the first convolution's output are padding
        inside = _units(torch.ones((1, *self._network.shape_of(1)), dtype=torch.float64), self._second)
        weights = torch.as_tensor(self._second.weight).flatten(1)[channel] * inside[window]
        lower, upper = (
            _patches(item.detach().cpu(), self._first, self._second, shape)[places]
            for item in (bounds.lower[0], bounds.upper[0])
        )
        both = torch.cat([weights, -weights])
        return WindowProblems(self._matrix, self._shift, both, torch.cat([box, box]), lower, upper)


class WindowedBounds(BoundsEngine):
    """The bounds engine on better bounds of the second convolution."""

    def __init__(self, network: Network, windows: WindowBounds, device: str = "cpu") -> None:
        """Prepare the network on ``device``."""
        super().__init__(network, device)
        self._windows = windows
        self._last: tuple[Region, Bounds] | None = None

    def propagated(self, region: Region) -> Bounds:
        """Bounds of all values; those of the last region are kept, several engines ask about it in turn."""
        if self._last is None or self._last[0] is not region:
            self._last = region, self._windows.improved(self.linear, super().propagated(region))
        return self._last[1]


def _convolutions(network: Network) -> tuple[Conv, Conv] | None:
    if len(network.operators) < NUMBER:
        return None
    first, relu, second = network.operators[:NUMBER]
    if not (isinstance(first, Conv) and isinstance(relu, Relu) and isinstance(second, Conv)):
        return None
    chained = [item.inputs for item in (first, relu, second)] == [(0,), (1,), (2,)]
    plain = first.groups == second.groups == 1 and first.dilation == second.dilation == (1, 1)
    small = second.weight[0].size <= MOST_UNITS
    return (first, second) if chained and plain and small and relu.negative_slope == 0.0 else None


def _kernel(first: Conv, second: Conv) -> tuple[int, int]:
    """Height and width of the pixels behind one window of the second convolution."""
    outer, inner = second.weight.shape[2:], first.weight.shape[2:]
    return (
        (outer[0] - 1) * first.stride[0] + inner[0],
        (outer[1] - 1) * first.stride[1] + inner[1],
    )


def _shared(first: Conv, second: Conv) -> tuple[Tensor, Tensor]:
    """The first convolution from the pixels behind one window to the units that the window reads."""
    shape = (first.weight.shape[1], *_kernel(first, second))
    inputs = math.prod(shape)
    basis = torch.eye(inputs, dtype=torch.float64).reshape(inputs, *shape)
    images = functional.conv2d(basis, torch.as_tensor(first.weight), stride=first.stride)
    each = math.prod(second.weight.shape[2:])
    return images.flatten(1).T.contiguous(), torch.as_tensor(first.bias).repeat_interleave(each)


def _units(values: Tensor, second: Conv) -> Tensor:
    """(windows, units) that the windows read of values (1, channels, height, width)."""
    top, left, bottom, right = second.padding
    padded = functional.pad(values, (left, right, top, bottom))
    return functional.unfold(padded, second.weight.shape[2:], stride=second.stride)[0].T


def _patches(pixels: Tensor, first: Conv, second: Conv, shape: tuple[int, ...]) -> Tensor:
    """(windows, inputs) the pixels (1, channels, height, width) behind every window; zero outside the image.

    What windows read of the second convolution's padding does not matter: its weights are zero there.
    """
    kernel = _kernel(first, second)
    stride = (first.stride[0] * second.stride[0], first.stride[1] * second.stride[1])
    top = first.padding[0] + first.stride[0] * second.padding[0]
    left = first.padding[1] + first.stride[1] * second.padding[1]
    height = (shape[1] - 1) * stride[0] + kernel[0]
    width = (shape[2] - 1) * stride[1] + kernel[1]
    bottom, right = height - top - pixels.shape[2], width - left - pixels.shape[3]
    padded = functional.pad(pixels, (left, max(0, right), top, max(0, bottom)))[:, :, :height, :width]
    return functional.unfold(padded, kernel, stride=stride)[0].T
