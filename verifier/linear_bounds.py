"""Linear bound propagation (CROWN), batched over regions, differentiable in the region's bounds.

Bounds on a linear function of some value are found by substituting relaxations backward until they are
linear in the input, where the box gives the extreme value (Zhang et al. 2018). All neurons of a
convolutional layer go backward together as local patches; fully connected layers and scores as dense rows.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..memory import keep_freed_memory
from .bound_types import Bounds, Freedom
from .curves import evaluate_curve
from .dense_backward import DenseBackward, applied
from .local_backward import LocalBackward
from .network import Network
from .operators import (
    Concat,
    Conv,
    Linear,
    MaxPool,
    Operator,
    Relu,
    Reshape,
    Scale,
    SShaped,
    Sum,
    Transpose,
)
from .region import Region
from .shallow_backward import ShallowBackward
from .tiled_input import CACHED_NUMBERS, TiledInput
from .torch_network import TorchNetwork
from .wanted_bounds import wanted_bounds

# Bounds of inner values are widened outward by this share of their magnitude before they are used. float64
# sums of up to 1e6 terms are exact to about 1e-10 relative; float32 ones (ascent only, never a verdict) to 1e-5.
WIDENING = {torch.float64: 1e-10, torch.float32: 2e-6}
# An S-shaped function that varies by less than this over an interval is as good as constant there.
SATURATED = 1e-9
# Dense rows go backward in slices whose largest intermediate tensor has about this many numbers (256 MB in float64).
DENSE_NUMBERS = 32_000_000


class LinearBounds:
    """CROWN for one network, on one device and in one precision."""

    def __init__(self, network: Network, dtype: torch.dtype = torch.float64, device: str = "cpu") -> None:
        """Prepare the weights of ``network``; float64 for verdicts, float32 for search."""
        keep_freed_memory()
        self.network = network
        self.dtype = dtype
        self.device = torch.device(device)
        self.module = TorchNetwork(network, dtype).to(self.device)
        self._widening = WIDENING[dtype]
        self._wanted = wanted_bounds(network)
        self._dense = DenseBackward(self.module)
        self.local = LocalBackward(self.module)
        self._shallow = ShallowBackward(self.module)
        self._tiled = TiledInput.of(self.module)

    def box(self, regions: list[Region]) -> tuple[Tensor, Tensor]:
        """Lower and upper bounds (batch, *input_shape) of some regions as tensors."""
        lower = np.stack([region.lower for region in regions])
        upper = np.stack([region.upper for region in regions])
        return self.tensor(lower), self.tensor(upper)

    def tensor(self, array: np.typing.NDArray[np.floating]) -> Tensor:
        """An array on this device, in this precision."""
        return torch.as_tensor(array, dtype=self.dtype, device=self.device)

    # --- bounds of inner values ---------------------------------------------------------------------

    def propagate(self, lower: Tensor, upper: Tensor, inner: Freedom | None = None) -> Bounds:
        """Bounds of all values over the boxes ``[lower, upper]`` (batch, *input_shape).

        Interval arithmetic everywhere; inputs of nonlinear operators that are not themselves interval-exact
        are tightened by a backward pass where a relaxation depends on them.
        """
        lowers, uppers = [lower], [upper]
        for position, operator in enumerate(self.network.operators):
            number = position + 1
            low, high = self._interval_step(position, operator, lowers, uppers)
            if number in self._wanted:
                back_low, back_high = self._backward_value(number, lowers, uppers, low, high, inner)
                low, high = torch.maximum(low, back_low), torch.minimum(high, back_high)
            moved = isinstance(operator, (Relu, Reshape, Transpose, Concat, MaxPool))
            # what is only moved or clipped has no rounding of its own, unless a backward pass bounded it
            if operator.inputs and not (moved and number not in self._wanted):
                low, high = self._widen(low, high)
            lowers.append(low)
            uppers.append(high)
        return Bounds(tuple(lowers), tuple(uppers))

    def narrowed(self, bounds: Bounds, number: int, lower: Tensor, upper: Tensor) -> Bounds:
        """Bounds with better ones of one value, and what interval arithmetic makes of them for the values after it.

        Args:
            bounds: of all values.
            number: the value.
            lower: (batch, *shape) of it.
            upper: likewise.
        """
        lowers, uppers = list(bounds.lower), list(bounds.upper)
        lowers[number] = torch.maximum(lowers[number], lower)
        uppers[number] = torch.minimum(uppers[number], upper)
        for position in range(number, len(self.network.operators)):
            operator = self.network.operators[position]
            low, high = self._interval_step(position, operator, lowers, uppers)
            if operator.inputs:
                low, high = self._widen(low, high)
            lowers[position + 1] = torch.maximum(lowers[position + 1], low)
            uppers[position + 1] = torch.minimum(uppers[position + 1], high)
        return Bounds(tuple(lowers), tuple(uppers))

    def _widen(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        slack = self._widening * (1.0 + torch.maximum(low.abs(), high.abs())).detach()
        return low - slack, high + slack

    def _interval_step(
        self, position: int, operator: Operator, lowers: list[Tensor], uppers: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        lows = [lowers[source] for source in operator.inputs]
        highs = [uppers[source] for source in operator.inputs]
        batch = len(lowers[0])
        match operator:
            case Conv() | Linear() | Scale():
                return self._affine_interval(position, operator, lows[0], highs[0])
            case Sum():
                parts = [
                    (sign * low, sign * high) if sign > 0 else (sign * high, sign * low)
                    for sign, low, high in zip(operator.signs, lows, highs, strict=True)
                ]
                return parts[0][0] + parts[1][0], parts[0][1] + parts[1][1]
            case _:
                step = self.module.step
                return step(position, operator, lows, batch), step(position, operator, highs, batch)

    def _affine_interval(
        self, position: int, operator: Conv | Linear | Scale, low: Tensor, high: Tensor
    ) -> tuple[Tensor, Tensor]:
        centre = self.module.affine(position, operator, (low + high) / 2)
        radius = (high - low) / 2
        match operator:
            case Conv():
                weight = self.module.array("weight", position).abs()
                top, left, bottom, right = operator.padding
                padded = functional.pad(radius, (left, right, top, bottom))
                spread = functional.conv2d(
                    padded, weight, None, operator.stride, 0, operator.dilation, operator.groups
                )
            case Linear():
                spread = functional.linear(radius, self.module.array("weight", position).abs())
            case Scale():
                spread = radius * self.module.array("scale", position).abs()
        return centre - spread, centre + spread

    # --- backward from inner values -----------------------------------------------------------------

    def _backward_value(
        self,
        number: int,
        lowers: list[Tensor],
        uppers: list[Tensor],
        low: Tensor,
        high: Tensor,
        inner: Freedom | None,
    ) -> tuple[Tensor, Tensor]:
        bounds = Bounds(tuple(lowers), tuple(uppers))
        if self.local.plans.applies_to(number):
            wanted = self._wanted[number].of(low, high)
            return self.local.bound(number, bounds, low, high, wanted, inner)
        return self._backward_rows(number, bounds, low, high)

    def _backward_rows(self, number: int, bounds: Bounds, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Dense rows for the neurons whose bounds matter to a reader in some region."""
        flat_low, flat_high = low.flatten(1), high.flatten(1)
        chosen = torch.nonzero(self._matters(number, flat_low, flat_high).any(dim=0)).flatten()
        if len(chosen) == 0:
            return low, high
        widest = max(int(np.prod(shape)) for shape in self._shapes_below(number))
        slice_rows = max(1, DENSE_NUMBERS // (widest * bounds.batch * 2))
        lows, highs = [], []
        for part in torch.split(chosen, slice_rows):
            extreme = self._extremes(number, part, bounds)
            highs.append(extreme[:, : len(part)])
            lows.append(-extreme[:, len(part) :])
        new_low = flat_low.index_copy(1, chosen, torch.cat(lows, dim=1))
        new_high = flat_high.index_copy(1, chosen, torch.cat(highs, dim=1))
        return new_low.reshape(low.shape), new_high.reshape(high.shape)

    def _matters(self, number: int, low: Tensor, high: Tensor) -> Tensor:
        """Neurons (batch, size) whose sign is open, and those on which an S-shaped function varies."""
        matters = (low < 0) & (high > 0)
        for operator in self.network.operators:
            if isinstance(operator, SShaped) and operator.inputs[0] == number:
                varies = evaluate_curve(operator.curve, high) - evaluate_curve(operator.curve, low)
                matters = matters | (varies > SATURATED)
        return matters

    def _extremes(self, number: int, neurons: Tensor, bounds: Bounds) -> Tensor:
        """Upper bounds (batch, 2 * neurons) of some neurons of a value, and of their negatives."""
        if self._shallow.applies_to(number):
            return self._shallow.extremes(number, neurons, bounds)
        operator = self.network.operators[number - 1]
        if isinstance(operator, Linear) and len(operator.shape) == 1:
            # the matrix's own rows, where a product with unit rows would only pick them
            weight = self.module.array("weight", number - 1)[neurons]
            bias = self.module.array("bias", number - 1)[neurons]
            both = torch.cat([weight, -weight]).unsqueeze(0)
            return self.upper(operator.inputs[0], both, bounds) + torch.cat([bias, -bias])
        shape = self.network.shape_of(number)
        rows = functional.one_hot(neurons, int(np.prod(shape))).to(self.dtype)
        both = torch.cat([rows, -rows]).reshape(1, -1, *shape)
        return self.upper(number, both, bounds)

    def _shapes_below(self, number: int) -> list[tuple[int, ...]]:
        return [self.network.shape_of(value) for value in range(number + 1)]

    # --- backward from any linear function ------------------------------------------------------------

    def upper(self, number: int, rows: Tensor, bounds: Bounds, free: Freedom | None = None) -> Tensor:
        """Upper bounds (batch, rows) of ``rows @ value[number]`` over the regions.

        Args:
            number: the value that ``rows`` reads.
            rows: (batch, rows, *shape of the value), or a batch of 1 that all regions share.
            bounds: of all values below it.
            free: parameters of the relaxations; None for the default lines.
        """
        if free is None and bounds.batch > 1:
            widest = max(int(np.prod(shape)) for shape in self._shapes_below(number))
            regions = max(1, CACHED_NUMBERS // (widest * rows.shape[1]))
            if regions < bounds.batch:
                return self._upper_in_slices(number, rows, bounds, regions)
        if self._tiled is not None and number:
            coefficients, total = self._back(number, rows, bounds, free or Freedom(), 1)
            return total + self._tiled.upper(coefficients, bounds.lower[0], bounds.upper[0])
        coefficients, total = self.to_input(number, rows, bounds, free)
        centre = (bounds.lower[0] + bounds.upper[0]) / 2
        radius = (bounds.upper[0] - bounds.lower[0]) / 2
        return total + applied(coefficients, centre) + applied(coefficients.abs(), radius)

    def _upper_in_slices(self, number: int, rows: Tensor, bounds: Bounds, regions: int) -> Tensor:
        found = []
        for first in range(0, bounds.batch, regions):
            part = slice(first, first + regions)
            below = Bounds(
                tuple(item[part] for item in bounds.lower), tuple(item[part] for item in bounds.upper)
            )
            found.append(self.upper(number, rows if len(rows) == 1 else rows[part], below))
        return torch.cat(found)

    def to_input(
        self,
        number: int,
        rows: Tensor,
        bounds: Bounds,
        free: Freedom | None = None,
        seen: dict[int, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """An affine upper bound of ``rows @ value[number]``: coefficients on the input and constants.

        Args:
            number: the value that ``rows`` reads.
            rows: (batch, rows, *shape of the value).
            bounds: of all values below it.
            free: parameters of the relaxations.
            seen: receives the coefficients on every value that the bound went through, if given.
        """
        return self._back(number, rows, bounds, free or Freedom(), 0, seen)

    def _back(
        self,
        number: int,
        rows: Tensor,
        bounds: Bounds,
        free: Freedom,
        last: int,
        seen: dict[int, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The same in terms of value ``last``, through which every way to the input has to go."""
        total = rows.new_zeros(rows.shape[:2])
        pending = {number: rows}
        for value in range(number, last, -1):
            coefficients = pending.pop(value, None)
            if coefficients is None:
                continue
            if seen is not None:
                seen[value] = coefficients
            operator = self.network.operators[value - 1]
            parts, constant = self._dense.step(value, operator, coefficients, bounds, free)
            total = total + constant
            for source, part in zip(operator.inputs, parts, strict=True):
                pending[source] = pending[source] + part if source in pending else part
        found = pending.get(last)
        if found is None:
            found = rows.new_zeros(*rows.shape[:2], *self.network.shape_of(last))
        return found, total
