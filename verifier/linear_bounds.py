"""Linear bound propagation (CROWN), batched over regions, differentiable in the region's bounds.

Bounds on a linear function of some value are found by substituting relaxations backward until they are
linear in the input, where the box gives the extreme value (Zhang et al. 2018). All neurons of a
convolutional layer go backward together as local patches; fully connected layers and scores as dense rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .interval import Interval, ValueBounds
from .network import Network
from .operators import (
    NONLINEAR,
    Concat,
    Constant,
    Conv,
    Linear,
    MaxPool,
    Operator,
    Pad,
    Relu,
    Reshape,
    Scale,
    Sum,
    Transpose,
)
from .patches import Patches, framed
from .region import Region
from .relaxation import PoolFreedom, PoolLines, ReluLines, pool_lines, relu_lines
from .torch_network import TorchNetwork

# Bounds of inner values are widened outward by this share of their magnitude before they are used. float64
# sums of up to 1e6 terms are exact to about 1e-10 relative; float32 ones (ascent only, never a verdict) to 1e-5.
WIDENING = {torch.float64: 1e-10, torch.float32: 2e-6}
# Dense rows go backward in slices whose largest intermediate tensor has about this many numbers (256 MB in float64).
DENSE_NUMBERS = 32_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Bounds:
    """Bounds of every numbered value: tensors (batch, *shape)."""

    lower: tuple[Tensor, ...]
    upper: tuple[Tensor, ...]

    @property
    def batch(self) -> int:
        """Number of regions."""
        return len(self.lower[0])

    def intersect(self, other: "Bounds") -> "Bounds":
        """Both at once; where rounding crosses them, this one's."""
        lower, upper = [], []
        for mine, theirs in zip(
            zip(self.lower, self.upper, strict=True), zip(other.lower, other.upper, strict=True), strict=True
        ):
            low, high = torch.maximum(mine[0], theirs[0]), torch.minimum(mine[1], theirs[1])
            crossed = low > high
            lower.append(torch.where(crossed, mine[0], low))
            upper.append(torch.where(crossed, mine[1], high))
        return Bounds(tuple(lower), tuple(upper))

    def detached(self) -> "Bounds":
        """The same numbers without gradients."""
        return Bounds(
            tuple(item.detach() for item in self.lower), tuple(item.detach() for item in self.upper)
        )

    def numpy(self, row: int = 0) -> ValueBounds:
        """The bounds of one region as float64 arrays."""
        pairs = zip(self.lower, self.upper, strict=True)
        return ValueBounds(
            tuple(
                Interval(low[row].detach().cpu().double().numpy(), high[row].detach().cpu().double().numpy())
                for low, high in pairs
            )
        )


@dataclass(frozen=True, slots=True, eq=False)
class Freedom:
    """Free parameters of the relaxations for a set of bounded rows, by the number of the relaxed value.

    Attributes:
        relu: positions of lower slopes in [0, 1], (batch, rows, *shape), keyed by the ReLU's own value.
        pool: parameters of pools, keyed by the pool's own value.
        splits: multipliers of split constraints (batch, rows, *shape), keyed by the ReLU's own value: at
            least 0 where the input is known to be at least 0, at most 0 where it is at most 0, else 0
            (the beta of Wang et al. 2021, with the sign of the split).
    """

    relu: Mapping[int, Tensor] = field(default_factory=dict)
    pool: Mapping[int, PoolFreedom] = field(default_factory=dict)
    splits: Mapping[int, Tensor] = field(default_factory=dict)


class LinearBounds:
    """CROWN for one network, on one device and in one precision."""

    def __init__(self, network: Network, dtype: torch.dtype = torch.float64, device: str = "cpu") -> None:
        """Prepare the weights of ``network``; float64 for verdicts, float32 for search."""
        self.network = network
        self.dtype = dtype
        self.device = torch.device(device)
        self.module = TorchNetwork(network, dtype).to(self.device)
        self._widening = WIDENING[dtype]

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

        Interval arithmetic everywhere; inputs of ReLU and max-pool that are not themselves interval-exact
        are tightened by a backward pass.
        """
        lowers, uppers = [lower], [upper]
        tightened = self._worth_tightening()
        for position, operator in enumerate(self.network.operators):
            number = position + 1
            low, high = self._interval_step(position, operator, lowers, uppers)
            if number in tightened:
                back_low, back_high = self._backward_value(number, lowers, uppers, low, high, inner)
                low, high = torch.maximum(low, back_low), torch.minimum(high, back_high)
            if operator.inputs and not isinstance(operator, (Relu, Reshape, Transpose, Concat, MaxPool)):
                low, high = self._widen(low, high)
            lowers.append(low)
            uppers.append(high)
        return Bounds(tuple(lowers), tuple(uppers))

    def _widen(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        slack = self._widening * (1.0 + torch.maximum(low.abs(), high.abs())).detach()
        return low - slack, high + slack

    def _worth_tightening(self) -> set[int]:
        """Values read by a ReLU or max-pool that depend on an earlier nonlinear operator."""
        relaxed: set[int] = set()
        wanted: set[int] = set()
        for number, operator in enumerate(self.network.operators, start=1):
            if isinstance(operator, NONLINEAR):
                source = operator.inputs[0]
                if source in relaxed and not self._is_elementwise_of_relu(source):
                    wanted.add(source)
                relaxed.add(number)
            elif any(source in relaxed for source in operator.inputs):
                relaxed.add(number)
        return wanted

    def _is_elementwise_of_relu(self, number: int) -> bool:
        operator = self.network.operators[number - 1]
        while isinstance(operator, Reshape):
            number = operator.inputs[0]
            if number == 0:
                return True
            operator = self.network.operators[number - 1]
        return isinstance(operator, NONLINEAR)

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
        if self._is_local(number):
            return self._backward_patches(number, bounds, inner)
        return self._backward_rows(number, bounds, low, high)

    def _is_local(self, number: int) -> bool:
        """Whether the value is a convolution above nothing but convolutions, scales and ReLUs."""
        if not isinstance(self.network.operators[number - 1], Conv):
            return False
        while number > 0:
            operator = self.network.operators[number - 1]
            if not isinstance(operator, (Conv, Relu, Scale)) or len(operator.shape) != 3:
                return False
            number = operator.inputs[0]
        return True

    def _backward_patches(self, number: int, bounds: Bounds, inner: Freedom | None) -> tuple[Tensor, Tensor]:
        """Both bounds of all neurons of a convolution; rows are the neurons' channels, then their negatives."""
        operator = self.network.operators[number - 1]
        assert isinstance(operator, Conv)
        patches, total = self._conv_rows(number, operator, bounds.batch)
        number = operator.inputs[0]
        while number > 0:
            operator = self.network.operators[number - 1]
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
        weight = self.module.array("weight", number - 1)
        bias = self.module.array("bias", number - 1)
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
                scale = self.module.array("scale", number - 1).expand(bounds.batch, *operator.shape)
                shift = self.module.array("shift", number - 1).expand(bounds.batch, *operator.shape)
                moved = patches.with_coefficients(patches.coefficients * patches.windows_of(scale))
                return moved, patches.dot(shift)
            case Conv():
                bias = self.module.array("bias", number - 1)[None, :, None, None]
                inside = patches.windows_of(torch.ones_like(bounds.lower[number][:1]))
                kept = patches.with_coefficients(patches.coefficients * inside)
                constant = kept.dot(bias.expand(bounds.batch, *operator.shape))
                weight = self.module.array("weight", number - 1)
                padding = operator.padding[:2]
                return kept.through_conv(
                    weight, operator.stride, padding, operator.dilation, operator.groups
                ), constant
            case _:
                raise TypeError(f"{type(operator).__name__} is not local")

    def _backward_rows(self, number: int, bounds: Bounds, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Dense rows for the neurons whose sign interval arithmetic leaves open in some region."""
        flat_low, flat_high = low.flatten(1), high.flatten(1)
        chosen = torch.nonzero(((flat_low < 0) & (flat_high > 0)).any(dim=0)).flatten()
        if len(chosen) == 0:
            return low, high
        widest = max(int(np.prod(shape)) for shape in self._shapes_below(number))
        slice_rows = max(1, DENSE_NUMBERS // (widest * bounds.batch * 2))
        lows, highs = [], []
        for part in torch.split(chosen, slice_rows):
            rows = functional.one_hot(part, flat_low.shape[1]).to(self.dtype)
            both = torch.cat([rows, -rows]).unsqueeze(0).expand(bounds.batch, -1, -1)
            extreme = self.upper(number, both.reshape(*both.shape[:2], *low.shape[1:]), bounds)
            highs.append(extreme[:, : len(part)])
            lows.append(-extreme[:, len(part) :])
        new_low = flat_low.index_copy(1, chosen, torch.cat(lows, dim=1))
        new_high = flat_high.index_copy(1, chosen, torch.cat(highs, dim=1))
        return new_low.reshape(low.shape), new_high.reshape(high.shape)

    def _shapes_below(self, number: int) -> list[tuple[int, ...]]:
        return [self.network.shape_of(value) for value in range(number + 1)]

    # --- backward from any linear function ------------------------------------------------------------

    def upper(self, number: int, rows: Tensor, bounds: Bounds, free: Freedom | None = None) -> Tensor:
        """Upper bounds (batch, rows) of ``rows @ value[number]`` over the regions.

        Args:
            number: the value that ``rows`` reads.
            rows: (batch, rows, *shape of the value).
            bounds: of all values below it.
            free: parameters of the relaxations; None for the default lines.
        """
        coefficients, total = self.to_input(number, rows, bounds, free)
        centre = (bounds.lower[0] + bounds.upper[0]).flatten(1) / 2
        radius = (bounds.upper[0] - bounds.lower[0]).flatten(1) / 2
        flat = coefficients.flatten(2)
        return total + (flat @ centre.unsqueeze(2)).squeeze(2) + (flat.abs() @ radius.unsqueeze(2)).squeeze(2)

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
        free = free or Freedom()
        total = rows.new_zeros(rows.shape[:2])
        pending = {number: rows}
        for value in range(number, 0, -1):
            coefficients = pending.pop(value, None)
            if coefficients is None:
                continue
            if seen is not None:
                seen[value] = coefficients
            operator = self.network.operators[value - 1]
            parts, constant = self._dense_step(value, operator, coefficients, bounds, free)
            total = total + constant
            for source, part in zip(operator.inputs, parts, strict=True):
                pending[source] = pending[source] + part if source in pending else part
        inputs = pending.get(0)
        if inputs is None:
            inputs = rows.new_zeros(*rows.shape[:2], *self.network.input_shape)
        return inputs, total

    def _dense_step(
        self, value: int, operator: Operator, rows: Tensor, bounds: Bounds, free: Freedom
    ) -> tuple[list[Tensor], Tensor | float]:
        source = operator.inputs[0] if operator.inputs else 0
        match operator:
            case Relu():
                low, high = bounds.lower[source].unsqueeze(1), bounds.upper[source].unsqueeze(1)
                lines = relu_lines(low, high, operator.negative_slope, free.relu.get(value))
                parts, constant = _dense_relu(rows, lines)
                split = free.splits.get(value)
                return (parts if split is None else [parts[0] + split]), constant
            case MaxPool():
                lines_pool = self._pool_lines(value, source, bounds, free)
                return self._dense_pool(value, operator, rows, lines_pool, bounds.lower[source].shape)
            case Sum():
                return [sign * rows for sign in operator.signs], 0.0
            case Concat():
                sizes = [self.network.shape_of(item)[operator.axis] for item in operator.inputs]
                return list(torch.split(rows, sizes, dim=operator.axis + 2)), 0.0
            case Constant():
                constant = self.module.array("value", value - 1)
                return [], (rows.flatten(2) * constant.flatten()).sum(dim=2)
            case _:
                return self._dense_affine(value - 1, operator, rows, bounds.lower[source].shape[1:])

    def _dense_affine(
        self, position: int, operator: Operator, rows: Tensor, below: torch.Size
    ) -> tuple[list[Tensor], Tensor | float]:
        batch, count = rows.shape[:2]
        match operator:
            case Conv():
                constant = rows.sum(dim=(3, 4)) @ self.module.array("bias", position)
                return [self._conv_transposed(position, operator, rows, below)], constant
            case Linear():
                constant = (rows * self.module.array("bias", position)).flatten(2).sum(dim=2)
                return [rows @ self.module.array("weight", position)], constant
            case Scale():
                constant = (rows * self.module.array("shift", position)).flatten(2).sum(dim=2)
                return [rows * self.module.array("scale", position)], constant
            case Pad():
                top, left, bottom, right = operator.padding
                inside = functional.pad(rows, (-left, -right, -top, -bottom))
                constant = operator.value * (rows.flatten(2).sum(dim=2) - inside.flatten(2).sum(dim=2))
                return [inside], constant
            case Reshape():
                return [rows.reshape(batch, count, *below)], 0.0
            case Transpose():
                back = np.argsort(operator.permutation)
                return [rows.permute(0, 1, *(int(axis) + 2 for axis in back))], 0.0
            case _:
                raise TypeError(f"no backward step for {type(operator).__name__}")

    def _conv_transposed(self, position: int, operator: Conv, rows: Tensor, below: torch.Size) -> Tensor:
        batch, count = rows.shape[:2]
        flat = rows.reshape(batch * count, *rows.shape[2:])
        weight = self.module.array("weight", position)
        padded = functional.conv_transpose2d(
            flat, weight, stride=operator.stride, groups=operator.groups, dilation=operator.dilation
        )
        top, left, _, _ = operator.padding
        # strides that do not divide the input leave its last rows and columns unread: they get zero
        bottom = below[1] + top - padded.shape[2]
        right = below[2] + left - padded.shape[3]
        return framed(padded, (-left, right, -top, bottom)).reshape(batch, count, *below)

    def _pool_lines(self, value: int, source: int, bounds: Bounds, free: Freedom) -> PoolLines:
        low = self.module.gather_windows(value - 1, bounds.lower[source]).unsqueeze(1)
        high = self.module.gather_windows(value - 1, bounds.upper[source]).unsqueeze(1)
        return pool_lines(low, high, free.pool.get(value))

    def _dense_pool(
        self, value: int, operator: MaxPool, rows: Tensor, lines: PoolLines, below: torch.Size
    ) -> tuple[list[Tensor], Tensor]:
        flat = rows.flatten(2)
        positive, negative = flat.clamp(min=0), flat.clamp(max=0)
        constant = (positive * lines.upper_shift + negative * lines.lower_shift).sum(dim=2)
        parts = positive.unsqueeze(3) * lines.upper_slope + negative.unsqueeze(3) * lines.lower_slope
        windows = self.module.array("windows", value - 1)
        size = int(np.prod(below[1:]))
        target = rows.new_zeros(*rows.shape[:2], size + 1)
        index = torch.where(windows < 0, size, windows).flatten()
        spread = target.index_add(2, index, parts.flatten(2))[..., :size]
        return [spread.reshape(*rows.shape[:2], *below[1:])], constant


def _dense_relu(rows: Tensor, lines: ReluLines) -> tuple[list[Tensor], Tensor]:
    positive = rows.clamp(min=0)
    constant = (positive * lines.upper_shift).flatten(2).sum(dim=2)
    return [rows * lines.lower_slope + positive * (lines.upper_slope - lines.lower_slope)], constant


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
