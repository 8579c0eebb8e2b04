"""Bounds on every value of a network."""

from dataclasses import dataclass

import numpy as np

from .operators import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Interval:
    """Elementwise bounds on one value, float64, the value's shape (no batch)."""

    lower: FloatArray
    upper: FloatArray

    def intersect(self, other: "Interval") -> "Interval":
        """Both bounds at once; rounding can cross them by an ulp, then they meet in the middle."""
        lower, upper = np.maximum(self.lower, other.lower), np.minimum(self.upper, other.upper)
        crossed = lower > upper
        return Interval(np.where(crossed, upper, lower), np.where(crossed, lower, upper))


@dataclass(frozen=True, slots=True, eq=False)
class ValueBounds:
    """Bounds on all numbered values over a region; ``values[0]`` is the region itself."""

    values: tuple[Interval, ...]

    def __getitem__(self, number: int) -> Interval:
        return self.values[number]
