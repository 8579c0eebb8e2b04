"""The one interface of all data sets: annotated images that are read when they are needed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ..marks import Mark, Marks, checked_marks

Pixels = NDArray[np.float32]
Rows = NDArray[np.int64]
Shape = tuple[int, ...]

PixelReader = Callable[[Path, Shape], Pixels]
"""Reads one picture as pixels in [0, 1] of a wanted shape (channels, height, width)."""

_NAMED = 5


class ImageStore(Protocol):
    """Where the pixels are."""

    def read(self, rows: Rows, shape: Shape) -> Pixels:
        """Images (len(rows), *shape), pixels in [0, 1].

        Raises:
            InputError: an image is missing, damaged, or does not fit the shape.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class ArrayStore:
    """Images in memory.

    Attributes:
        images: uint8, shape (images, channels, height, width); 255 is pixel 1.
    """

    images: NDArray[np.uint8]

    def read(self, rows: Rows, shape: Shape) -> Pixels:
        """Images in [0, 1]; they are never scaled."""
        if self.images.shape[1:] != tuple(shape):
            raise InputError(
                f"the images have shape {self.images.shape[1:]}, the network reads {tuple(shape)}: "
                "use images of that size"
            )
        return np.asarray(self.images[rows].astype(np.float32) / np.float32(255))


@dataclass(frozen=True, slots=True, eq=False)
class FileStore:
    """Images in files, decoded when they are read.

    Attributes:
        paths: one per image.
        reader: decodes and scales.
    """

    paths: tuple[Path, ...]
    reader: PixelReader

    def read(self, rows: Rows, shape: Shape) -> Pixels:
        """Images in [0, 1], scaled by the reader."""
        return np.stack([self.reader(self.paths[row], shape) for row in rows])


class CachedStore:
    """Another store that keeps what it has read, as long as there is room; for images of one shape."""

    def __init__(self, store: ImageStore, most_bytes: int) -> None:
        """Keep up to ``most_bytes`` of the pixels of ``store``."""
        self._store = store
        self._room = most_bytes
        self._shape: Shape | None = None
        self._kept: dict[int, Pixels] = {}

    def read(self, rows: Rows, shape: Shape) -> Pixels:
        """Images in [0, 1]."""
        if shape != self._shape:
            self._room += sum(pixels.nbytes for pixels in self._kept.values())
            self._kept, self._shape = {}, shape
        missing = np.array([row for row in rows.tolist() if row not in self._kept], np.int64)
        fresh = dict(
            zip(missing.tolist(), self._store.read(missing, shape) if len(missing) else (), strict=True)
        )
        found = np.stack([self._kept[row] if row in self._kept else fresh[row] for row in rows.tolist()])
        for row, pixels in fresh.items():
            if pixels.nbytes <= self._room:
                self._room -= pixels.nbytes
                self._kept[row] = pixels.copy()
        return found


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """Some images of another store."""

    whole: ImageStore
    rows: Rows

    def read(self, rows: Rows, shape: Shape) -> Pixels:
        return self.whole.read(self.rows[rows], shape)


@dataclass(frozen=True, slots=True, eq=False)
class LabelledImages:
    """A data set.

    Attributes:
        title: what it is, in a few words.
        names: of the labels.
        marks: annotations, shape (images, labels), see `Mark`.
        keys: one name per image, unique.
        store: the pixels.
    """

    title: str
    names: tuple[str, ...]
    marks: Marks
    keys: tuple[str, ...]
    store: ImageStore

    def __post_init__(self) -> None:
        """Check that everything speaks of the same images and labels.

        Raises:
            InputError: sizes differ, a name occurs twice, or there is no image.
        """
        checked_marks(self.marks)
        if self.marks.shape != (len(self.keys), len(self.names)):
            raise InputError(
                f"{self.title}: annotations of shape {self.marks.shape} do not fit {len(self.keys)} images and "
                f"{len(self.names)} labels"
            )
        if not self.keys:
            raise InputError(f"{self.title} has no image")
        for kind, values in (("label", self.names), ("image", self.keys)):
            if len(set(values)) != len(values):
                twice = sorted({value for value in values if values.count(value) > 1})[:_NAMED]
                raise InputError(f"{self.title}: {kind} {', '.join(twice)} occurs twice")

    def __len__(self) -> int:
        """Number of images."""
        return len(self.keys)

    def pixels(self, rows: Rows, shape: Shape) -> Pixels:
        """Some images (len(rows), *shape), pixels in [0, 1].

        Raises:
            InputError: an image is missing, damaged, or does not fit the shape.
        """
        return self.store.read(np.asarray(rows, np.int64), shape)

    def take(self, rows: Rows) -> "LabelledImages":
        """Only these images, in this order."""
        chosen = np.asarray(rows, np.int64)
        keys = tuple(self.keys[row] for row in chosen)
        return replace(self, marks=self.marks[chosen], keys=keys, store=_Part(self.store, chosen))

    def sample(self, count: int, seed: int) -> "LabelledImages":
        """Some of the images, drawn without replacement and kept in order; all when there are fewer."""
        if count >= len(self):
            return self
        rows = np.random.default_rng(seed).choice(len(self), count, replace=False)
        return self.take(np.sort(rows))

    def cached(self, most_bytes: int) -> "LabelledImages":
        """The same images, kept in memory once they were read, as long as there is room."""
        return replace(self, store=CachedStore(self.store, most_bytes))

    def for_labels(self, wanted: Sequence[str]) -> "LabelledImages":
        """The labels in the order of a network.

        A network that only numbers its labels takes those of the data set by position.

        Raises:
            InputError: names or their number differ; the message lists them.
        """
        names = tuple(wanted)
        if names == self.names:
            return self
        if names == tuple(str(number) for number in range(len(self.names))):
            return replace(self, names=names)
        if set(names) != set(self.names):
            raise InputError(_mismatch(self.title, self.names, names))
        order = [self.names.index(name) for name in names]
        return replace(self, names=names, marks=self.marks[:, order])


def marks_of_sets(sets: Sequence[Sequence[int]], labels: int) -> Marks:
    """Annotations of images whose label sets are complete: everything not listed is absent."""
    marks = np.full((len(sets), labels), Mark.ABSENT, np.int8)
    for row, members in enumerate(sets):
        marks[row, list(members)] = Mark.PRESENT
    return marks


def require_files(paths: Sequence[Path], what: str) -> None:
    """Refuse a data set of which files are missing.

    Raises:
        InputError: with the number of missing files and the first of them.
    """
    missing = [path for path in paths if not path.is_file()]
    if missing:
        count = f"{len(missing)} of {len(paths)} files are missing" if len(paths) > 1 else "a file is missing"
        raise InputError(f"{what}: {count}: {listed([str(path) for path in missing])}")


def listed(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def read_lines(path: Path, what: str) -> list[str]:
    """Lines of a text file without surrounding space and without the empty ones.

    Raises:
        InputError: the file is missing or no text.
    """
    try:
        text = path.read_text("utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{what}: {path} is missing") from None
    except OSError as error:
        raise InputError(f"{what}: {path} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{what}: {path} is not a text file") from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def _mismatch(title: str, have: Sequence[str], want: Sequence[str]) -> str:
    absent = [name for name in want if name not in have]
    extra = [name for name in have if name not in want]
    parts = [f"{title} has {len(have)} labels and the network {len(want)}"]
    if absent:
        parts.append(f"the data set lacks {listed(absent)}")
    if extra:
        parts.append(f"the network lacks {listed(extra)}")
    return "; ".join(parts) + ": use the network's data set, or give its label names with --labels"
