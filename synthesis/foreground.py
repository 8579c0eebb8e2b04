"""What stands out from an image's background, as groups of pixels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Mask = NDArray[np.bool_]
Pixels = NDArray[np.float32]

_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)
# Share of border pixels that must look alike before the image counts as objects on a plain background.
_PLAIN_BORDER = 0.7
# Two colours are alike within this distance per channel: JPEG artefacts and sensor noise stay below it.
_NOISE = 0.1
# Soft edges have fewer faint pixels than this share of the clear ones (MNIST: below 0.2).
_SOFT_EDGE = 0.4
# A foreground larger than this share of the image is not made of objects on a background.
_LARGEST_FOREGROUND = 0.6
# Strokes of one object may be this far apart, in parts of the image's shorter side: in DOUBLE-MNIST
# (64 pixels) pieces of a broken digit lie up to 4 pixels apart and different digits at least 11.
_GAP = 1 / 16
# A group with less than this share of the largest group's pixels is a speck, not an object of its own.
_SPECK = 0.08


@dataclass(frozen=True, slots=True, eq=False)
class Foreground:
    """Groups of foreground pixels, each a candidate for one object.

    Attributes:
        background: (channels,) colour around the objects, pixels in [0, 1].
        groups: masks (height, width), disjoint, largest first.
    """

    background: NDArray[np.float32]
    groups: tuple[Mask, ...]


def find_foreground(image: Pixels) -> Foreground | None:
    """Objects on a plain background, or None when the image has no plain background (a photo).

    Args:
        image: (channels, height, width), pixels in [0, 1].
    """
    border = _border(image)
    background = _most_frequent(border)
    deviation = np.abs(border - background[:, None]).max(axis=0)
    alike = deviation <= _NOISE
    if alike.mean() < _PLAIN_BORDER:
        return None
    contrast = np.abs(image - background[:, None, None]).max(axis=0)
    marked = np.asarray(contrast > _tolerance(contrast, deviation[alike]))
    if not marked.any() or marked.mean() > _LARGEST_FOREGROUND:
        return None
    return Foreground(background, _group(marked))


def fill(image: Pixels, mask: Mask, colour: NDArray[np.float32]) -> Pixels:
    """The image (channels, height, width) with ``colour`` (channels,) on ``mask`` (height, width)."""
    return np.where(mask, colour[:, None, None], image).astype(np.float32)


def connected(mask: Mask) -> tuple[Mask, ...]:
    """The 8-connected components of a mask, largest first."""
    numbered, count = ndimage.label(mask, _EIGHT_NEIGHBOURS)
    parts = [np.asarray(numbered == number) for number in range(1, count + 1)]
    return tuple(sorted(parts, key=lambda part: -int(part.sum())))


def _tolerance(contrast: NDArray[np.float32], border: NDArray[np.float32]) -> float:
    """Difference from the background above which a pixel is foreground.

    On a noiseless background every other value counts, however faint: soft edges belong to the object.
    Artefacts of JPEG around objects betray themselves by outnumbering what such edges have.
    """
    faint = int(((contrast > 0) & (contrast <= _NOISE)).sum())
    if faint > _SOFT_EDGE * int((contrast > _NOISE).sum()):
        return _NOISE
    return float(np.quantile(border, 0.95)) * 1.5


def _border(image: Pixels) -> Pixels:
    """Border pixels (channels, pixels)."""
    inner = np.zeros(image.shape[1:], dtype=bool)
    inner[1:-1, 1:-1] = True
    return image[:, ~inner]


def _most_frequent(border: Pixels) -> NDArray[np.float32]:
    """The commonest border colour (channels,): the median of the commonest coarse colour."""
    coarse = np.round(border / (2 * _NOISE)).astype(np.int64)
    kinds, member, counts = np.unique(coarse, axis=1, return_inverse=True, return_counts=True)
    del kinds
    chosen = border[:, member.reshape(-1) == int(counts.argmax())]
    # a value that occurs, so that a noiseless background is met exactly
    return np.asarray(np.quantile(chosen, 0.5, axis=1, method="nearest"), dtype=np.float32)


def _group(marked: Mask) -> tuple[Mask, ...]:
    """Components, fragments of one object merged, specks given to their neighbour."""
    groups = list(connected(marked))
    reach = max(2, round(min(marked.shape) * _GAP))
    while (pair := _mergeable(groups, reach)) is not None:
        first, second = pair
        groups[first] = groups[first] | groups[second]
        del groups[second]
    return tuple(sorted(groups, key=lambda group: -int(group.sum())))


def _mergeable(groups: list[Mask], reach: int) -> tuple[int, int] | None:
    """The pair to merge next: the closest within reach, else the smallest speck and its nearest group."""
    if len(groups) < 2:
        return None
    gaps = _gaps(groups)
    first, second = np.unravel_index(int(gaps.argmin()), gaps.shape)
    if gaps[first, second] <= reach:
        return min(int(first), int(second)), max(int(first), int(second))
    sizes = [int(group.sum()) for group in groups]
    speck = int(np.argmin(sizes))
    if sizes[speck] >= _SPECK * max(sizes):
        return None
    nearest = int(gaps[speck].argmin())
    return min(speck, nearest), max(speck, nearest)


def _gaps(groups: list[Mask]) -> NDArray[np.float64]:
    """Chebyshev distances between groups, infinite on the diagonal."""
    gaps = np.full((len(groups), len(groups)), np.inf)
    for row, group in enumerate(groups):
        distance = ndimage.distance_transform_cdt(~group, metric="chessboard")
        for column, other in enumerate(groups):
            if column != row:
                gaps[row, column] = distance[other].min()
    return gaps
