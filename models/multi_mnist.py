"""DOUBLE-MNIST and TRIPLE-MNIST: several digits of different classes on one dark canvas.

An image of n digits is made by choosing n different classes uniformly, one MNIST digit of each, and
uniformly random positions under the condition that the 28x28 squares of the digits do not overlap.
The published DOUBLE-MNIST and TRIPLE-MNIST samples have this form.
"""

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .mnist import CLASSES, DIGIT_SIDE, Digits


class MultiMnist(Enum):
    """A family of composed images; the value is what configurations call it."""

    DOUBLE = "double-mnist"
    TRIPLE = "triple-mnist"

    @property
    def digits(self) -> int:
        """Digits, hence labels, per image."""
        return {MultiMnist.DOUBLE: 2, MultiMnist.TRIPLE: 3}[self]

    @property
    def side(self) -> int:
        """Height and width of an image in pixels."""
        return {MultiMnist.DOUBLE: 64, MultiMnist.TRIPLE: 84}[self]


@dataclass(frozen=True, slots=True)
class Composition:
    """Composed images with everything that is known about them.

    Attributes:
        images: uint8, shape (count, 1, side, side); a pixel in [0, 1] is this divided by 255.
        labels: uint8 multi-hot, shape (count, 10).
        objects: uint8, shape (count, side, side): 0 background, label + 1 on the pixels of its digit.
        sources: int64, shape (count, digits): which MNIST digits were used, by index.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    objects: NDArray[np.uint8]
    sources: NDArray[np.int64]


def compose(digits: Digits, family: MultiMnist, count: int, rng: np.random.Generator) -> Composition:
    """Compose images of several digits.

    Args:
        digits: where the digits come from; pass one half of MNIST only.
        family: how many digits on which canvas.
        count: how many images, at least 1.
        rng: decides everything: equal state gives equal images.

    Returns:
        The images with labels, object masks and the digits used.

    Raises:
        InputError: count is below 1.
    """
    if count < 1:
        raise InputError(f"cannot compose {count} images: ask for at least 1")
    sources = _choose_digits(digits.labels, count, family.digits, rng)
    corners = _place_squares(count, family.digits, family.side - DIGIT_SIDE, rng)
    images = np.zeros((count, family.side, family.side), np.uint8)
    objects = np.zeros_like(images)
    labels = np.zeros((count, CLASSES), np.uint8)
    rows = np.arange(count)
    for position in range(family.digits):
        chosen = sources[:, position]
        pixels, classes = digits.images[chosen], digits.labels[chosen]
        tagged = np.where(pixels > 0, (classes + 1)[:, None, None], 0).astype(np.uint8)
        row, column = corners[:, position, 0], corners[:, position, 1]
        _windows(images)[rows, row, column] = pixels
        _windows(objects)[rows, row, column] = tagged
        labels[rows, classes] = 1
    return Composition(images[:, None], labels, objects, sources)


def _windows(canvas: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A writable view, shape (count, rows, columns, 28, 28), of every square that a digit can fill."""
    square = (DIGIT_SIDE, DIGIT_SIDE)
    return np.lib.stride_tricks.sliding_window_view(canvas, square, (1, 2), writeable=True)


def _choose_digits(
    labels: NDArray[np.uint8], count: int, per_image: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Indices of digits of different classes, shape (count, per_image), classes uniform."""
    every_class = np.broadcast_to(np.arange(CLASSES), (count, CLASSES))
    classes = rng.permuted(every_class, axis=1)[:, :per_image]
    by_class = np.argsort(labels, kind="stable")
    sizes = np.bincount(labels, minlength=CLASSES)
    first = np.cumsum(sizes) - sizes
    return np.asarray(by_class[first[classes] + rng.integers(0, sizes[classes])], np.int64)


def _place_squares(count: int, per_image: int, largest: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Upper left corners of disjoint squares, shape (count, per_image, 2), by rejection."""
    corners = np.empty((count, per_image, 2), np.int64)
    pending = np.arange(count)
    while len(pending):
        trial = rng.integers(0, largest, (len(pending), per_image, 2), endpoint=True)
        disjoint = _are_disjoint(trial)
        corners[pending[disjoint]] = trial[disjoint]
        pending = pending[~disjoint]
    return corners


def _are_disjoint(corners: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether no two squares of a row overlap, shape (count,)."""
    first, second = np.triu_indices(corners.shape[1], 1)
    distance = np.abs(corners[:, first] - corners[:, second]).max(axis=2)
    return np.asarray((distance >= DIGIT_SIDE).all(axis=1))
