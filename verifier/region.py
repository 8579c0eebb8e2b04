"""Regions: boxes of images around one image."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ..errors import PropertyError
from .operators import FloatArray, Shape


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """A closed box of inputs, without batch axis.

    The thesis bounds perturbations strictly; the closed box contains the open one, so a proof on it is at
    least as strong. Bounds are float64 and exact: a witness is in the region when its float32 numbers lie
    between them without any tolerance.

    Attributes:
        lower: smallest value per input, shape ``input_shape``.
        upper: largest value per input.
    """

    lower: FloatArray
    upper: FloatArray

    def __post_init__(self) -> None:
        """Reject reversed or non-finite bounds.

        Raises:
            PropertyError: when a bound is NaN or infinite, or a lower bound exceeds its upper bound.
        """
        if self.lower.shape != self.upper.shape:
            raise PropertyError(
                f"region bounds have shapes {self.lower.shape} and {self.upper.shape}; they must agree"
            )
        if not (np.isfinite(self.lower).all() and np.isfinite(self.upper).all()):
            raise PropertyError("region has a bound that is NaN or infinite")
        reversed_at = np.argwhere(self.lower > self.upper)
        if len(reversed_at):
            raise PropertyError(
                f"region is empty: lower bound above upper bound at input {tuple(map(int, reversed_at[0]))}"
            )

    @classmethod
    def linf(cls, image: NDArray[np.float32], epsilon: float) -> Self:
        """Every image within ``epsilon`` (pixel units) of ``image``, clipped to [0, 1]."""
        return cls.per_pixel(image, np.full(image.shape, epsilon))

    @classmethod
    def per_pixel(cls, image: NDArray[np.float32], epsilons: FloatArray) -> Self:
        """A box with its own epsilon (pixel units) for every input, clipped to [0, 1].

        Raises:
            PropertyError: for an epsilon that is negative or not a number.
        """
        if not (np.isfinite(epsilons).all() and (epsilons >= 0).all()):
            raise PropertyError("epsilons must be finite and not negative (pixel units, 0 to 1)")
        centre = image.astype(np.float64)
        moving = np.broadcast_to(epsilons, centre.shape)
        # where the image itself leaves [0, 1] the range ends at its own value: clipping to 0 or 1 there would
        # reach farther from the image than epsilon
        lower = np.maximum(centre - moving, np.minimum(centre, 0.0))
        upper = np.minimum(centre + moving, np.maximum(centre, 1.0))
        return cls(lower, upper)

    @property
    def shape(self) -> Shape:
        """Shape of one input."""
        return self.lower.shape

    @property
    def moving(self) -> NDArray[np.bool_]:
        """Inputs that have a range of more than one value."""
        return self.upper > self.lower

    def contains(self, point: NDArray[np.floating]) -> bool:
        """Whether ``point`` lies in the region, compared exactly in float64."""
        exact = point.astype(np.float64)
        return bool(np.isfinite(exact).all() and (exact >= self.lower).all() and (exact <= self.upper).all())

    def project(self, point: NDArray[np.floating]) -> NDArray[np.float32]:
        """The float32 image of the region nearest to ``point``, input by input.

        Rounding to float32 may step outside by half a unit in the last place; such inputs take the next
        float32 number inward. Where no float32 number lies in the range the result is not contained, and
        ``contains`` says so.
        """
        inside = np.clip(point.astype(np.float64), self.lower, self.upper)
        rounded = inside.astype(np.float32)
        high = rounded.astype(np.float64) > self.upper
        low = rounded.astype(np.float64) < self.lower
        rounded[high] = np.nextafter(rounded[high], np.float32(-np.inf))
        rounded[low] = np.nextafter(rounded[low], np.float32(np.inf))
        return rounded


@dataclass(frozen=True, slots=True, eq=False)
class Layered:
    """The layered neighbourhood of the thesis (Mour 2023, section 2): one epsilon per layer of pixels.

    Attributes:
        image: float32 (channels, height, width), pixels in [0, 1].
        layers: (height, width) integers, the layer (distance from the object) of each pixel.
        epsilons: (number of layers,) largest perturbation per layer, pixel units.
    """

    image: NDArray[np.float32]
    layers: NDArray[np.int64]
    epsilons: FloatArray

    def __post_init__(self) -> None:
        """Check that there is one epsilon for every layer.

        Raises:
            PropertyError: when the counts differ, the layer map does not fit the image, or a layer is negative.
        """
        if self.image.shape[-2:] != self.layers.shape:
            raise PropertyError(
                f"layer map {self.layers.shape} does not fit the image {self.image.shape[-2:]}"
            )
        if self.layers.min(initial=0) < 0:
            raise PropertyError("layers are numbered from 0; the layer map has a negative number")
        count = int(self.layers.max(initial=0)) + 1
        if self.epsilons.shape != (count,):
            raise PropertyError(f"{len(self.epsilons)} epsilons for {count} layers: give one per layer")

    @property
    def region(self) -> Region:
        """The box, clipped to [0, 1]."""
        return Region.per_pixel(self.image, self.epsilons[self.layers])
