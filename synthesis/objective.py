"""What synthesis maximises: how a vector of epsilons is valued, and by which weights.

The size of a neighbourhood is always the weighted sum of its epsilons (Mour 2023, section 2); the objective
says what the search makes large, which may be something else.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import torch
from torch import Tensor

from ..errors import PropertyError
from ..verifier.operators import FloatArray
from .layers import ObjectLayers

# Epsilons below this (pixel units) count as this in a logarithm: a 400th of a grey level is as good as none.
SMALLEST_WIDTH = 1e-5
# The object's epsilon is next to nothing below this share of the largest one; caps that make up this share of the
# size are most of it.
LITTLE = 0.01
MOST = 0.5


class Weighting(StrEnum):
    """Ready-made weights: all distances alike, by the number of pixels, or less the farther they are."""

    UNIFORM = "uniform"
    PIXELS = "pixels"
    DISTANCE = "distance"


class Objective(StrEnum):
    """What is made large.

    weighted-sum: the size itself (Mour 2023). log-volume: the weighted sum of the logarithms, the volume of the
    box when weights are pixels (Liu et al. 2019). mean-width: the mean over pixels (MaRVeL, Kabaha and
    Drachsler-Cohen 2023), the weighted sum when weights are pixels. max-min: the smallest epsilon first, then
    one layer after another. lexicographic: layer 0 as large as can be, then layer 1, and so on, each by
    bisection (the naive algorithm of Mour 2023, section 3).
    """

    WEIGHTED_SUM = "weighted-sum"
    LOG_VOLUME = "log-volume"
    MEAN_WIDTH = "mean-width"
    MAX_MIN = "max-min"
    LEXICOGRAPHIC = "lexicographic"

    @property
    def weighting(self) -> Weighting:
        """The weights that belong to the objective when none are given."""
        by_pixel = self in (Objective.LOG_VOLUME, Objective.MEAN_WIDTH)
        return Weighting.PIXELS if by_pixel else Weighting.UNIFORM


def weights_of(weighting: Weighting, layers: ObjectLayers) -> FloatArray:
    """Weights (layers,)."""
    match weighting:
        case Weighting.UNIFORM:
            # a band counts as much as its distances would one by one
            return np.array([part.distances for part in layers.parts], dtype=np.float64)
        case Weighting.PIXELS:
            return np.array(layers.pixels, dtype=np.float64)
        case Weighting.DISTANCE:
            counts = [(1.0 / (1.0 + np.arange(part.first, part.last + 1))).sum() for part in layers.parts]
            return np.array(counts, dtype=np.float64)


def check_weights(weights: FloatArray, layers: int) -> None:
    """Check that weights make a size.

    Raises:
        PropertyError: wrong length, a number that is negative, NaN or infinite, or all zero.
    """
    if weights.shape != (layers,):
        raise PropertyError(f"{len(weights)} weights for {layers} layers: give one per layer, layer 0 first")
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise PropertyError("weights must be finite and not negative")
    if not weights.any():
        raise PropertyError("all weights are zero: no neighbourhood would be larger than another")


@dataclass(frozen=True, slots=True, eq=False)
class Goal:
    """An objective with its weights.

    Attributes:
        objective: what is made large.
        weights: (layers,) not negative, not all zero.
    """

    objective: Objective
    weights: FloatArray

    def value(self, epsilons: FloatArray) -> float:
        """The objective at epsilons (layers,); for lexicographic, the size."""
        return float(self.values(epsilons[None])[0])

    def values(self, epsilons: FloatArray) -> FloatArray:
        """(count,) the objective at epsilons (count, layers); for lexicographic, the size."""
        match self.objective:
            case Objective.LOG_VOLUME:
                found = np.log(np.maximum(epsilons, SMALLEST_WIDTH)) @ self.weights
            case Objective.MEAN_WIDTH:
                found = epsilons @ self.weights / self.weights.sum()
            case Objective.MAX_MIN:
                found = epsilons[:, self.weights > 0].min(axis=1)
            case Objective.WEIGHTED_SUM | Objective.LEXICOGRAPHIC:
                found = epsilons @ self.weights
        return np.asarray(found)

    def size(self, epsilons: FloatArray) -> float:
        """The weighted sum."""
        return float(self.weights @ epsilons)

    def slope(self, epsilons: FloatArray) -> FloatArray:
        """Derivative (layers,) of the smooth objectives; for the others, that of the size."""
        if self.objective is Objective.LOG_VOLUME:
            return np.asarray(self.weights / np.maximum(epsilons, SMALLEST_WIDTH))
        return self.weights

    def climbed(self, epsilons: Tensor) -> Tensor:
        """What an ascent on the logarithms of the epsilons raises: a number whose natural scale is 1."""
        weights = torch.as_tensor(
            self.weights / self.weights.max(), dtype=epsilons.dtype, device=epsilons.device
        )
        if self.objective is Objective.LOG_VOLUME:
            return (weights * torch.log(epsilons.clamp(min=SMALLEST_WIDTH))).sum() / weights.sum()
        size = (weights * epsilons).sum()
        return size / size.detach()


def degenerate(weights: FloatArray, epsilons: FloatArray) -> str | None:
    """A word of warning where far layers took the whole size and the object has none; None where they did not."""
    parts = weights * epsilons
    total = float(parts.sum())
    if total <= 0 or weights[0] == 0 or len(parts) < 2:
        return None
    share = _share_of_caps(parts, epsilons, total)
    if epsilons[0] > LITTLE * float(epsilons.max()) or share < MOST:
        return None
    return (
        f"layers at the whole pixel range make up {share:.0%} of the size while the object's own layer is at "
        f"{epsilons[0]:.2g}: a far layer counts as much as a near one under these weights"
    )


def _share_of_caps(parts: FloatArray, epsilons: FloatArray, total: float) -> float:
    return float(parts[1:][epsilons[1:] >= 1.0].sum()) / total
