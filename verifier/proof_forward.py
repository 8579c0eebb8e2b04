"""Bounds of every value of a network, forward: intervals, improved by backward substitution."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from .operators import FloatArray
from .proof_affine import Affine
from .proof_backward import Rows, upper_bounds
from .proof_maxima import IndexArray
from .proof_program import SLICE_NUMBERS, Bounds, Program, Step
from .proof_rounding import above, below
from .proof_slopes import Slopes


@dataclass(frozen=True, slots=True, eq=False)
class Single:
    """Bounds of single elements, with slopes of their own.

    Attributes:
        targets: (rows, 3) number of the element's value, flat index, and 1 for its upper bound or 0 for its lower.
        slopes: one row each.
    """

    targets: IndexArray
    slopes: Slopes


@dataclass(frozen=True, slots=True, eq=False)
class Inner:
    """How bounds of inner values are improved beyond the default slopes; any numbers give valid bounds.

    Attributes:
        shared: slopes with which every bound that matters is computed again, once per row of each table.
        single: bounds that are improved one by one.
        plain: whether the default slopes improve them too. Where they do, lines move, and what was proved with the
            shared slopes alone may be missed: bounds by lines are not monotone in the bounds that lines hang on.
    """

    shared: tuple[Slopes, ...] = ()
    single: tuple[Single, ...] = ()
    plain: bool = True


def propagate(
    program: Program, lower: FloatArray, upper: FloatArray, inner: Inner, *, every: bool = False
) -> Bounds:
    """Bounds of all values over boxes of inputs ``[lower, upper]`` (boxes, inputs).

    Backward substitution improves the elements for whose maxima that matters, or ``every`` one that some
    maximum reads.
    """
    lowers, uppers, sizes = [lower], [upper], [np.empty((len(lower), 0))]
    relaxed = program.relaxed()
    for number, step in enumerate(program.steps, start=1):
        with np.errstate(all="ignore"):
            low, high, size = _interval_step(step, lowers, uppers)
        lowers.append(np.where(np.isnan(low), -np.inf, low))
        uppers.append(np.where(np.isnan(high), np.inf, high))
        sizes.append(size)
        wanted = _worth_bounding(program, number, lowers[-1], uppers[-1], every=every)
        # where no maximum comes before, and straight after one, intervals are kept as they are
        wanted &= isinstance(step, Affine) and number in relaxed
        _tighten(program, number, Bounds(tuple(lowers), tuple(uppers), tuple(sizes)), wanted, inner)
    return Bounds(tuple(lowers), tuple(uppers), tuple(sizes))


def _interval_step(
    step: Step, lowers: Sequence[FloatArray], uppers: Sequence[FloatArray]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    if isinstance(step, Affine):
        low = high = size = np.tile(step.constant, (len(lowers[0]), 1))
        size = np.abs(size)
        for source, matrix in zip(step.inputs, step.matrices, strict=True):
            positive, negative = matrix.maximum(0), matrix.minimum(0)
            below_all, above_all = lowers[source].T, uppers[source].T
            low = low + (positive @ below_all + negative @ above_all).T
            high = high + (positive @ above_all + negative @ below_all).T
            size = size + (abs(matrix) @ np.maximum(np.abs(below_all), np.abs(above_all))).T
        return below(low, size, 2 * step.terms), above(high, size, 2 * step.terms), size
    least, most = lowers[step.source], uppers[step.source]
    low, high = step.largest(least), step.largest(most)
    if step.slope:
        low, high = below(low, np.abs(low), 1), above(high, np.abs(high), 1)
    return low, high, np.empty((len(low), 0))


def _worth_bounding(
    program: Program, number: int, low: FloatArray, high: FloatArray, *, every: bool
) -> NDArray[np.bool_]:
    """Elements (boxes, size) whose bounds matter to a maximum that reads them, or all that one reads."""
    wanted = np.zeros(low.shape, dtype=np.bool_)
    for step in program.readers(number):
        read = np.isin(np.arange(low.shape[1]), step.windows)
        if every:
            wanted |= read
        elif step.relu:
            wanted |= (low < 0) & (high > 0)
        else:
            wanted |= read & (high > 0) if step.floored else read
    return wanted


@dataclass(frozen=True, slots=True, eq=False)
class _Wanted:
    """Bounds to be computed: boxes, elements, and 1 for upper or 0 for lower, with rows of some slopes."""

    box: IndexArray
    element: IndexArray
    side: IndexArray
    slopes: Slopes
    chosen: IndexArray


def _tighten(program: Program, number: int, bounds: Bounds, wanted: NDArray[np.bool_], inner: Inner) -> None:
    """Improve the bounds of a value in place: by default slopes if so, shared ones, and those of single bounds."""
    box, element = np.nonzero(wanted)
    boxes, elements, sides = np.tile(box, 2), np.tile(element, 2), np.repeat([1, 0], len(box))
    jobs = [
        _Wanted(boxes, elements, sides, slopes, np.full(len(sides), row))
        for slopes in (*([Slopes(1)] if inner.plain else []), *inner.shared)
        for row in range(slopes.rows)
    ]
    every = np.arange(len(wanted))
    for single in inner.single:
        chosen = np.flatnonzero(single.targets[:, 0] == number)
        _, element, side = (np.tile(column, len(every)) for column in single.targets[chosen].T)
        boxes = np.repeat(every, len(chosen))
        jobs.append(_Wanted(boxes, element, side, single.slopes, np.tile(chosen, len(every))))
    for job in jobs:
        found, is_upper = _bound(program, number, bounds, job), job.side == 1
        at = job.box[is_upper], job.element[is_upper]
        np.fmin.at(bounds.upper[number], at, found[is_upper])
        at = job.box[~is_upper], job.element[~is_upper]
        np.fmax.at(bounds.lower[number], at, -found[~is_upper])


def _bound(program: Program, number: int, bounds: Bounds, job: _Wanted) -> FloatArray:
    """Upper bounds of elements (side 1), or of minus the elements (side 0)."""
    found = np.empty(len(job.box))
    step = max(1, SLICE_NUMBERS // program.widest)
    for start in range(0, len(found), step):
        part = slice(start, start + step)
        sign = np.where(job.side[part] == 1, 1.0, -1.0)
        zero = np.zeros(len(sign))
        shape = (len(sign), program.sizes[number])
        matrix = sparse.csr_matrix((sign, (np.arange(len(sign)), job.element[part])), shape=shape)
        rows = Rows({number: matrix}, zero, zero, job.box[part], job.slopes, job.chosen[part], {})
        found[part] = upper_bounds(program, bounds, rows)
    return found
