"""Word vectors of label names: from an npz file, from GloVe's text format, or one axis per label."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..arrays import read_arrays
from ..errors import InputError

Vectors = NDArray[np.float32]


def one_hot_vectors(labels: Sequence[str]) -> Vectors:
    """A unit vector per label, which says nothing of meaning; shape (labels, labels)."""
    return np.eye(len(labels), dtype=np.float32)


def read_word_vectors(path: Path, labels: Sequence[str]) -> Vectors:
    """Vectors of label names, in the order of the labels.

    Args:
        path: `.npz` with `names` (n,) and `vectors` (n, width); or GloVe text, a word and its numbers per
            line. A name of several words, which may be joined by spaces, hyphens or underscores, that
            the file does not have as a whole gets the mean of its words' vectors.
        labels: names; upper and lower case count as equal.

    Returns:
        float32, shape (labels, width).

    Raises:
        InputError: the file can't be read, is not of this form, or lacks words, which are listed.
    """
    table = _read_npz(path) if path.suffix == ".npz" else _read_glove(path, _wanted(labels))
    missing = [label for label in labels if _lookup(table, label) is None]
    if missing:
        shown = ", ".join(missing[:10]) + (f" and {len(missing) - 10} more" if len(missing) > 10 else "")
        raise InputError(f"'{path}' has no word vector of {shown}: rename the labels or use another file")
    return np.stack([vector for label in labels if (vector := _lookup(table, label)) is not None])


def _lookup(table: dict[str, Vectors], label: str) -> Vectors | None:
    whole = table.get(_folded(label))
    if whole is not None:
        return whole
    parts = [table.get(word) for word in _folded(label).split()]
    known = [part for part in parts if part is not None]
    return np.mean(known, axis=0, dtype=np.float32) if known and len(known) == len(parts) else None


def _folded(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())


def _wanted(labels: Sequence[str]) -> set[str]:
    """The words and names to keep of a large text file."""
    return {word for label in labels for word in (*_folded(label).split(), _folded(label))}


def _read_npz(path: Path) -> dict[str, Vectors]:
    remedy = "give an npz with 'names' and 'vectors'"
    arrays = read_arrays(path, "word vectors", remedy, ("names", "vectors"))
    names, vectors = arrays["names"], arrays["vectors"]
    if vectors.dtype.kind not in "fiu":
        raise InputError(f"'{path}' has vectors of {vectors.dtype}; {remedy}")
    vectors = vectors.astype(np.float32)
    if vectors.ndim != 2 or names.shape != (len(vectors),) or not np.isfinite(vectors).all():
        raise InputError(
            f"'{path}' has names of shape {names.shape} and vectors of shape {vectors.shape}, or numbers that "
            "are not finite: give (n,) and (n, width)"
        )
    return {_folded(str(name)): vector for name, vector in zip(names, vectors, strict=True)}


def _read_glove(path: Path, wanted: set[str]) -> dict[str, Vectors]:
    """Only the wanted words: published files have hundreds of thousands."""
    table: dict[str, Vectors] = {}
    try:
        with path.open(encoding="utf-8") as stream:
            for number, line in enumerate(stream, 1):
                word, _, rest = line.partition(" ")
                if _folded(word) in wanted and _folded(word) not in table:
                    table[_folded(word)] = _parse(rest, path, number)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"'{path}' can't be read as word vectors ({error}): give an npz or GloVe's text"
        ) from error
    widths = {len(vector) for vector in table.values()}
    if len(widths) > 1:
        raise InputError(f"'{path}' has word vectors of different lengths {sorted(widths)}: it is damaged")
    return table


def _parse(text: str, path: Path, line: int) -> Vectors:
    try:
        vector = np.array([float(part) for part in text.split()], np.float32)
    except ValueError as error:
        raise InputError(f"'{path}', line {line}: {error}; a word must be followed by its numbers") from error
    if not vector.size or not np.isfinite(vector).all():
        raise InputError(f"'{path}', line {line}: no finite numbers follow the word")
    return vector
