"""What linear bound propagation takes and gives: bounds of all values, and free parameters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .curves import CurveFreedom
from .interval import Interval, ValueBounds
from .relaxation import PoolFreedom


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

    def select(self, regions: Sequence[int] | NDArray[np.int64]) -> "Bounds":
        """The bounds of some regions only."""
        rows = torch.as_tensor(regions, device=self.lower[0].device)
        return Bounds(tuple(item[rows] for item in self.lower), tuple(item[rows] for item in self.upper))

    def cast(self, dtype: torch.dtype) -> "Bounds":
        """The same numbers in another precision."""
        return Bounds(
            tuple(item.to(dtype) for item in self.lower), tuple(item.to(dtype) for item in self.upper)
        )

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
        curve: parameters of S-shaped functions, (batch, rows, *shape), keyed by their own value.
    """

    relu: Mapping[int, Tensor] = field(default_factory=dict)
    pool: Mapping[int, PoolFreedom] = field(default_factory=dict)
    curve: Mapping[int, CurveFreedom] = field(default_factory=dict)
