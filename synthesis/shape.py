"""Shape constraints: groups of layers tied to one epsilon, and epsilons that only fall or rise with distance.

Every shape is a cone: epsilons are a sum of generators with coefficients that are not negative. A band of tied
layers is one generator; falling epsilons are a sum of steps that cover the bands up to some distance.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ..errors import PropertyError
from ..verifier.operators import FloatArray


class Order(StrEnum):
    """How epsilons go with the distance from the object."""

    FREE = "free"
    NON_INCREASING = "non-increasing"
    NON_DECREASING = "non-decreasing"


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """Which vectors of epsilons are allowed.

    Attributes:
        bands: (layers,) number of the band of each layer, from 0, never falling with distance; layers of one
            band have the same epsilon.
        order: of the bands.
    """

    bands: NDArray[np.int64]
    order: Order = Order.FREE

    def __post_init__(self) -> None:
        """Check the bands.

        Raises:
            PropertyError: when bands are not numbered 0, 1, ... with distance.
        """
        steps = np.diff(self.bands)
        if len(self.bands) == 0 or self.bands[0] != 0 or not ((steps == 0) | (steps == 1)).all():
            raise PropertyError("bands of tied layers must be numbered 0, 1, 2, ... with the distance")

    @classmethod
    def free(cls, layers: int) -> Self:
        """No constraint."""
        return cls(np.arange(layers))

    @classmethod
    def tied(cls, layers: int, bands: int, order: Order = Order.FREE) -> Self:
        """So many bands of about as many layers each.

        Raises:
            PropertyError: when there are more bands than layers, or none.
        """
        if not 1 <= bands <= layers:
            raise PropertyError(f"{layers} layers can't be tied into {bands} bands; ask for 1 to {layers}")
        return cls(np.arange(layers) * bands // layers, order)

    @classmethod
    def starting(cls, layers: int, starts: Sequence[int], order: Order = Order.FREE) -> Self:
        """Bands that begin at these layers.

        Raises:
            PropertyError: unless they begin with 0, rise, and stay below the number of layers.
        """
        if list(starts) != sorted(set(starts)) or not starts or starts[0] != 0 or starts[-1] >= layers:
            raise PropertyError(
                f"bands start at layers {', '.join(map(str, starts))}: begin with 0, let them rise, and stay "
                f"below {layers}, the number of layers"
            )
        return cls(np.searchsorted(np.array(starts), np.arange(layers), side="right") - 1, order)

    @property
    def count(self) -> int:
        """Number of bands."""
        return int(self.bands[-1]) + 1

    @property
    def is_free(self) -> bool:
        """Whether every vector is allowed."""
        return self.count == len(self.bands) and self.order is Order.FREE

    @property
    def generators(self) -> FloatArray:
        """(layers, count): epsilons are this matrix times coefficients that are not negative."""
        numbers = np.arange(self.count)
        match self.order:
            case Order.FREE:
                covered = self.bands[:, None] == numbers
            case Order.NON_INCREASING:
                covered = self.bands[:, None] <= numbers
            case Order.NON_DECREASING:
                covered = self.bands[:, None] >= numbers
        return np.asarray(covered, dtype=np.float64)

    def coefficients(self, epsilons: FloatArray) -> FloatArray:
        """(count,) of epsilons (layers,) that have the shape; those that break it are brought down to it."""
        firsts = np.searchsorted(self.bands, np.arange(self.count))
        values = np.minimum.reduceat(epsilons, firsts)
        match self.order:
            case Order.FREE:
                return np.asarray(values)
            case Order.NON_INCREASING:
                falling = np.minimum.accumulate(values)
                return np.asarray(falling - np.append(falling[1:], 0.0))
            case Order.NON_DECREASING:
                rising = np.minimum.accumulate(values[::-1])[::-1]
                return np.asarray(rising - np.append(0.0, rising[:-1]))

    def inside(self, epsilons: FloatArray) -> FloatArray:
        """The largest vector of the shape below ``epsilons`` (layers,)."""
        firsts = np.searchsorted(self.bands, np.arange(self.count))
        return np.asarray(self.below(np.minimum.reduceat(epsilons, firsts)[None])[0, self.bands])

    def below(self, values: FloatArray) -> FloatArray:
        """The largest epsilons of the bands in their order below ``values`` (count, bands)."""
        match self.order:
            case Order.FREE:
                return values
            case Order.NON_INCREASING:
                return np.asarray(np.minimum.accumulate(values, axis=1))
            case Order.NON_DECREASING:
                return np.asarray(np.minimum.accumulate(values[:, ::-1], axis=1)[:, ::-1])

    def raised(self, epsilons: FloatArray, layer: int, value: float) -> FloatArray:
        """The smallest vector of the shape above ``epsilons`` whose ``layer`` reaches ``value``.

        Every vector of the shape that expands ``epsilons`` and has ``value`` in that layer contains it.
        """
        match self.order:
            case Order.FREE:
                lifted = self.bands == self.bands[layer]
            case Order.NON_INCREASING:
                lifted = self.bands <= self.bands[layer]
            case Order.NON_DECREASING:
                lifted = self.bands >= self.bands[layer]
        return np.where(lifted, np.maximum(epsilons, value), epsilons)

    def spanned(self, layers: NDArray[np.bool_]) -> FloatArray:
        """(layers,) the smallest vector of the shape that is 1 in ``layers`` (layers,), and 0 where it may be."""
        found = np.zeros(len(self.bands))
        for layer in np.flatnonzero(layers).tolist():
            found = self.raised(found, layer, 1.0)
        return found

    def grows(self, weights: FloatArray) -> NDArray[np.bool_]:
        """(count,) whether growing a generator adds to the size at all."""
        return np.asarray(self.generators.T @ weights > 0)
