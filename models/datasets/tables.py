"""The plainest layouts: a CSV file beside a folder of pictures, and arrays in an .npz file."""

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...arrays import read_arrays
from ...errors import InputError
from ..marks import Mark, checked_marks
from .dataset import ArrayStore, FileStore, LabelledImages, PixelReader, read_lines, require_files

_CELLS = {"1": Mark.PRESENT, "0": Mark.ABSENT, "-1": Mark.UNKNOWN, "": Mark.UNKNOWN, "?": Mark.UNKNOWN}


def read_csv(path: Path, reader: PixelReader, images: Path | None = None) -> LabelledImages:
    """Read a table with one row per image: its file, then a column per label.

    The first line is ``image,LABEL,LABEL,...``; cells are 1 present, 0 absent, and -1, ? or nothing where
    it is not known.

    Args:
        path: the table.
        reader: decodes pictures.
        images: folder of the pictures; by default that of the table.

    Raises:
        InputError: the table is missing or damaged (the line is named), or a picture is missing.
    """
    rows = list(csv.reader(read_lines(path, "data set")))
    if not rows or len(rows[0]) < 2 or rows[0][0].strip().casefold() != "image":
        raise InputError(f"{path} should begin with the line image,LABEL,LABEL,...")
    if len(rows) == 1:
        raise InputError(f"{path} has no row below its first line")
    names = tuple(cell.strip() for cell in rows[0][1:])
    marks = np.array(
        [_marks(path, number, row, len(names)) for number, row in enumerate(rows[1:], start=2)], np.int8
    )
    keys = tuple(row[0].strip() for row in rows[1:])
    folder = images or path.parent
    paths = tuple(folder / key for key in keys)
    require_files(paths, f"{path.name} in {folder}")
    return LabelledImages(path.name, names, marks, keys, FileStore(paths, reader))


def read_archive(path: Path) -> LabelledImages:
    """Read an .npz file: ``images`` uint8 (images, channels, height, width), ``labels`` (images, labels).

    Entries of ``labels`` are marks (1, 0, -1); ``label_names`` names the labels, which are numbered
    without it, and ``names`` the images.

    Raises:
        InputError: the file is missing, damaged, or has other arrays.
    """
    arrays = read_arrays(path, "a data set", "give another .npz", ("images", "labels"))
    images, labels = arrays["images"], arrays["labels"]
    if images.dtype != np.uint8 or images.ndim != 4:
        raise InputError(
            f"{path}: 'images' is {images.dtype} {images.shape}; give uint8 (images, channels, height, width)"
        )
    marks = checked_marks(labels)
    names = _texts(arrays.get("label_names"), marks.shape[1])
    keys = _texts(arrays.get("names"), len(images))
    return LabelledImages(path.name, names, marks, keys, ArrayStore(images))


def _marks(path: Path, number: int, row: list[str], labels: int) -> list[Mark]:
    if len(row) != labels + 1:
        raise InputError(f"{path}, row {number}: {len(row) - 1} cells for {labels} labels")
    cells = [cell.strip() for cell in row[1:]]
    strange = [cell for cell in cells if cell not in _CELLS]
    if strange:
        raise InputError(f"{path}, row {number}: '{strange[0]}' is not 1, 0, -1 or empty")
    return [_CELLS[cell] for cell in cells]


def _texts(array: NDArray[np.generic] | None, count: int) -> tuple[str, ...]:
    if array is None or array.shape != (count,):
        return tuple(str(number) for number in range(count))
    return tuple(str(item) for item in array)
