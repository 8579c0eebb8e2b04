"""Backward substitution (CROWN) with outward rounding, for the proof checker.

It replaces a linear function of some value by one of the values before it that is nowhere smaller (Zhang et
al. 2018), down to the input. Coefficients are taken as the floating-point numbers they are; what their
rounding can cost on the box is added to the bound.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from .operators import FloatArray
from .proof_affine import Affine
from .proof_maxima import PADDING, UNDECIDED, IndexArray, Lines, Maxima, decide, pool_lines, relu_lines
from .proof_program import Bounds, Program
from .proof_rounding import SAFETY, UNDERFLOW, UNIT, slack
from .proof_slopes import Slopes
from .proof_windows import ABSENT, Excess, Joint, largest

NO_JOINT = Joint(0, {}, ())


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Linear functions to be bounded from above, one per row.

    Attributes:
        parts: coefficients on values, csr (rows, size) by value number.
        constant: (rows,).
        error: (rows,) what rounding has cost so far, at most.
        box: (rows,) which row of the bounds holds.
        slopes: parameters of the relaxations.
        chosen: (rows,) rows of ``slopes``.
        winners: decided maxima by value number, (rows, outputs): the position in the window, ``ZERO_WINS`` or
            ``UNDECIDED``.
        joint: neurons that are taken as they are, and not by their upper lines.
    """

    parts: Mapping[int, sparse.csr_matrix]
    constant: FloatArray
    error: FloatArray
    box: IndexArray
    slopes: Slopes
    chosen: IndexArray
    winners: Mapping[int, IndexArray]
    joint: Joint = NO_JOINT


@dataclass(frozen=True, slots=True, eq=False)
class Substituted:
    """Functions of the input that are nowhere smaller than some rows, by more than an error.

    Attributes:
        linear: (rows, inputs).
        constant: (rows,).
        error: (rows,) what rounding has cost, at most.
        excess: of joint neurons, to be added.
    """

    linear: sparse.csr_matrix
    constant: FloatArray
    error: FloatArray
    excess: Excess


def upper_bounds(program: Program, bounds: Bounds, rows: Rows) -> FloatArray:
    """Upper bounds (rows,) over the boxes; NaN or infinity where arithmetic overflows."""
    with np.errstate(all="ignore"):
        found = substituted(program, bounds, rows)
        constant, error = found.constant, found.error
        if rows.joint.count:
            box = bounds.lower[0][rows.box], bounds.upper[0][rows.box]
            reached, cost = largest(rows.joint, found.excess, found.linear, *box)
            constant = constant + reached
            error = error + cost + UNIT * np.abs(constant)
        elif found.linear.nnz:
            entry = _Entries(found.linear)
            low, high = (
                bounds.lower[0][rows.box[entry.row], entry.column],
                bounds.upper[0][rows.box[entry.row], entry.column],
            )
            reached = np.where(entry.number > 0, entry.number * high, entry.number * low)
            size = np.abs(entry.number) * np.maximum(np.abs(low), np.abs(high))
            constant = constant + entry.sums(reached)
            error = error + slack(entry.sums(size), program.sizes[0]) + UNIT * np.abs(constant)
        return constant + full_error(constant, error)


def full_error(constant: FloatArray, error: FloatArray) -> FloatArray:
    """What a constant can be off by, the sum that makes the error included."""
    return SAFETY * (error + UNIT * np.abs(constant)) + UNDERFLOW


def substituted(program: Program, bounds: Bounds, rows: Rows) -> Substituted:
    """Replace all values by functions of the values before them, down to the input."""
    parts = dict(rows.parts)
    constant, error = rows.constant, rows.error
    excess = Excess.none(len(constant), rows.joint)
    for value in range(max(parts, default=0), 0, -1):
        part = parts.pop(value, None)
        if part is None:
            continue
        part.eliminate_zeros()
        step = program.steps[value - 1]
        if isinstance(step, Affine):
            sources, shift, cost = _through_affine(step, part, bounds.size[value], rows.box)
        else:
            sources, shift, cost = _through_maxima(program, step, value, part, bounds, rows, excess)
        constant = constant + shift
        error = error + cost + UNIT * np.abs(constant)
        for source, moved in sources:
            error = error + merge(parts, source, moved, bounds, rows.box)
    linear = parts.get(0, sparse.csr_matrix((len(constant), program.sizes[0])))
    return Substituted(linear, constant, error, excess)


class _Entries:
    """The entries of a sparse matrix with their rows, columns and numbers."""

    def __init__(self, part: sparse.csr_matrix) -> None:
        self.rows = int(part.shape[0])
        self.row = np.repeat(np.arange(self.rows), np.diff(part.indptr))
        self.column = part.indices
        self.number = part.data

    def sums(self, numbers: FloatArray) -> FloatArray:
        """Sums (rows,) of one number per entry."""
        return np.bincount(self.row, weights=numbers, minlength=self.rows).astype(np.float64)


Moved = tuple[list[tuple[int, sparse.csr_matrix]], FloatArray, FloatArray]


def _through_affine(step: Affine, part: sparse.csr_matrix, size: FloatArray, box: IndexArray) -> Moved:
    """``part @ (M x + b) = (part @ M) x + part @ b``, with both products rounded."""
    entry = _Entries(part)
    cost = slack(entry.sums(np.abs(entry.number) * size[box[entry.row], entry.column]), len(step.constant))
    moved = [
        (source, sparse.csr_matrix(part @ matrix))
        for source, matrix in zip(step.inputs, step.matrices, strict=True)
    ]
    return moved, np.asarray(part @ step.constant), cost


def _through_maxima(
    program: Program,
    step: Maxima,
    value: int,
    part: sparse.csr_matrix,
    bounds: Bounds,
    rows: Rows,
    excess: Excess,
) -> Moved:
    """Positive coefficients take the upper line, negative ones the lower line."""
    entry = _Entries(part)
    columns = step.windows[entry.column]
    at = rows.box[entry.row][:, None], columns
    low = np.where(columns == PADDING, -np.inf, bounds.lower[step.source][at])
    high = np.where(columns == PADDING, -np.inf, bounds.upper[step.source][at])
    lines = _lines(step, value, low, high, rows, entry)
    positive = entry.number > 0
    slope = np.where(positive[:, None], lines.upper_slope, lines.lower_slope)
    shift = np.where(positive, lines.upper_shift, lines.lower_shift) * entry.number
    if value in rows.joint.column:
        shift = np.where(_taken(value, low[:, 0], high[:, 0], rows, entry, slope, excess), 0.0, shift)
    size = np.where(columns == PADDING, 0.0, np.maximum(np.abs(low), np.abs(high)))
    moved = np.where(columns == PADDING, 0.0, slope * entry.number[:, None])
    cost = entry.sums((np.abs(moved) * size).sum(axis=1) + np.abs(shift))
    starts = np.concatenate([[0], np.cumsum(np.bincount(entry.row, minlength=entry.rows))]) * columns.shape[1]
    indices = np.where(columns == PADDING, 0, columns).reshape(-1)
    shape = (entry.rows, program.sizes[step.source])
    found = sparse.csr_matrix((moved.reshape(-1), indices, starts), shape=shape)
    if columns.shape[1] > 1:
        found.sum_duplicates()
    return [(step.source, found)], entry.sums(shift), slack(cost, step.windows.size)


def _taken(
    value: int,
    low: FloatArray,
    high: FloatArray,
    rows: Rows,
    entry: _Entries,
    slope: FloatArray,
    excess: Excess,
) -> NDArray[np.bool_]:
    """The open joint neurons (entries,) with positive coefficients, which are handed to ``excess``."""
    neuron = rows.joint.column[value][entry.column]
    taken = (neuron != ABSENT) & (entry.number > 0) & (low < 0) & (high > 0)
    winner = rows.winners.get(value)
    if winner is not None:
        taken &= winner[entry.row, entry.column] == UNDECIDED
    excess.add(entry.row[taken], neuron[taken], entry.number[taken], slope[taken, 0])
    return np.asarray(taken)


def _lines(step: Maxima, value: int, low: FloatArray, high: FloatArray, rows: Rows, entry: _Entries) -> Lines:
    at = value, rows.chosen[entry.row], entry.column
    if step.relu:
        lines = relu_lines(low[:, 0], high[:, 0], step.slope, rows.slopes.position(*at))
    else:
        threshold, weights = rows.slopes.threshold(*at), rows.slopes.weights(*at, low.shape[1])
        lines = pool_lines(low, high, step.floored, threshold, weights)
    winner = rows.winners.get(value)
    return lines if winner is None else decide(lines, winner[entry.row, entry.column], step.slope)


def merge(
    parts: dict[int, sparse.csr_matrix],
    source: int,
    moved: sparse.csr_matrix,
    bounds: Bounds,
    box: IndexArray,
) -> FloatArray | float:
    """Add coefficients on a value to those that are there; returns what their rounding can cost."""
    if source not in parts:
        parts[source] = moved
        return 0.0
    parts[source] = sparse.csr_matrix(parts[source] + moved)
    entry = _Entries(parts[source])
    size = bounds.largest(source, box[entry.row], entry.column)
    return slack(entry.sums(np.abs(entry.number) * size), 2)
