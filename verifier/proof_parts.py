"""Refutations by parts, for the proof checker: linear functions of the network's values that add up to more.

If all atoms of a refutation reached zero, so would their convex combination. It is the sum of the parts' functions
and of what is left; each of these has a bound of its own, and the bounds add up.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from .operators import FloatArray
from .proof_backward import Rows, full_error, merge, substituted, upper_bounds
from .proof_certificate import Cut, Part
from .proof_maxima import IndexArray, Maxima
from .proof_program import Bounds, Program
from .proof_rounding import above, slack
from .proof_slopes import Slopes
from .proof_windows import ABSENT, Joint, Window
from .property import Clause


def combination(
    clause: Clause, atoms: Sequence[int], shares: FloatArray, largest: FloatArray
) -> tuple[FloatArray, float, float]:
    """A convex combination of some atoms: weights (labels,), constant, and what rounding can cost.

    Args:
        clause: the atoms.
        atoms: their numbers.
        shares: (atoms,) of any scale, at least 0 and not all 0.
        largest: (labels,) absolute numbers that the logits can take.
    """
    chosen = list(atoms)
    # these numbers themselves are the weights; that they add up to 1 is needed for the margin only
    shares = shares / shares.sum()
    size = np.abs(clause.weights[chosen]) @ largest + np.abs(clause.offsets[chosen])
    error = slack(shares @ size, len(chosen) + len(largest))
    return shares @ clause.weights[chosen], float(shares @ clause.offsets[chosen]), float(error)


def functions(program: Program, part: Part, rows: int) -> dict[int, sparse.csr_matrix]:
    """The function of a part as coefficients by value, the same in every one of some rows."""
    found = {}
    for value in np.unique(part.places[:, 0]).tolist():
        own = np.flatnonzero(part.places[:, 0] == value)
        own = own[np.argsort(part.places[own, 1])]
        numbers, columns = np.tile(part.coefficients[own], rows), np.tile(part.places[own, 1], rows)
        starts = len(own) * np.arange(rows + 1)
        found[value] = sparse.csr_matrix((numbers, columns, starts), shape=(rows, program.sizes[value]))
    return found


def added(
    parts: dict[int, sparse.csr_matrix],
    more: dict[int, sparse.csr_matrix],
    bounds: Bounds,
    box: IndexArray,
) -> FloatArray:
    """Add coefficients to others in place; returns what their rounding can cost (rows,)."""
    cost = np.zeros(len(box))
    for value, matrix in more.items():
        cost = cost + merge(parts, value, matrix, bounds, box)
    return cost


def total_bound(
    program: Program, root: Bounds, clause: Clause, atoms: Sequence[int], cut: Cut, maxima: FloatArray
) -> float:
    """An upper bound on the combination of atoms of a cut, by what bounds its parts (parts,)."""
    rest = rest_bound(program, root, clause, atoms, cut)
    with np.errstate(all="ignore"):
        numbers = np.append(maxima, rest)
        return float(above(numbers.sum(), np.abs(numbers).sum(), len(numbers)))


def rest_bound(program: Program, root: Bounds, clause: Clause, atoms: Sequence[int], cut: Cut) -> float:
    """An upper bound on the combination of atoms less the parts' functions, in the region."""
    output, box = program.output, np.zeros(1, dtype=np.int64)
    largest = np.maximum(np.abs(root.lower[output][0]), np.abs(root.upper[output][0]))
    with np.errstate(all="ignore"):
        weights, constant, cost = combination(clause, atoms, cut.shares, largest)
        parts = {output: sparse.csr_matrix(weights[None])}
        error = np.full(1, cost)
        for part in cut.parts:
            negated = {value: -matrix for value, matrix in functions(program, part, 1).items()}
            error = error + added(parts, negated, root, box)
        rows = Rows(parts, np.full(1, constant), error, box, Slopes(1), box, {})
        return float(upper_bounds(program, root, rows)[0])


def joint_neurons(program: Program, root: Bounds, chosen: IndexArray) -> Joint:
    """The ReLUs (neurons, 3) of a part that are taken as they are, with what they read in terms of the input.

    Args:
        program: the network.
        root: bounds in the whole region, whose boxes are those of all sub-problems or contain them.
        chosen: each with its value, its flat index, and its window.
    """
    column = {}
    for value in np.unique(chosen[:, 0]).tolist():
        own = np.flatnonzero(chosen[:, 0] == value)
        column[value] = np.full(program.sizes[value], ABSENT)
        column[value][chosen[own, 1]] = own
    read = _read(program, root, chosen)
    lower, upper = root.lower[0][0], root.upper[0][0]
    windows = [
        _window(np.flatnonzero(chosen[:, 2] == number), read, lower, upper)
        for number in np.unique(chosen[:, 2]).tolist()
    ]
    return Joint(len(chosen), column, tuple(windows))


@dataclass(frozen=True, slots=True, eq=False)
class _Read:
    """What ReLUs read: ``weights @ input + constant``, off by an error at most; and their slopes below zero."""

    weights: sparse.csr_matrix
    constant: FloatArray
    error: FloatArray
    below: FloatArray


def _read(program: Program, root: Bounds, chosen: IndexArray) -> _Read:
    count = len(chosen)
    weights = sparse.csr_matrix((count, program.sizes[0]))
    constant, error, below = np.zeros(count), np.zeros(count), np.zeros(count)
    for value in np.unique(chosen[:, 0]).tolist():
        step = program.steps[value - 1]
        assert isinstance(step, Maxima)
        own = np.flatnonzero(chosen[:, 0] == value)
        box, zero = np.zeros(count, dtype=np.int64), np.zeros(count)
        shape = (count, program.sizes[step.source])
        units = sparse.csr_matrix((np.ones(len(own)), (own, chosen[own, 1])), shape=shape)
        rows = Rows({step.source: units}, zero, zero, box, Slopes(1), box, {})
        with np.errstate(all="ignore"):
            found = substituted(program, root, rows)
            error[own] = full_error(found.constant, found.error)[own]
        constant[own], below[own] = found.constant[own], step.slope
        # rows of other values are empty
        weights = weights + found.linear
    return _Read(weights, constant, error, below)


def _window(own: IndexArray, read: _Read, lower: FloatArray, upper: FloatArray) -> Window:
    """Some neurons as one window; the inputs that do not move are part of its constants."""
    weights = read.weights[own]
    inputs = np.unique(weights.indices)
    moves = lower[inputs] < upper[inputs]
    moving, still = inputs[moves], inputs[~moves]
    fixed = weights[:, still].toarray()
    size = np.abs(fixed) @ np.abs(lower[still]) + np.abs(read.constant[own])
    return Window(
        own,
        moving,
        weights[:, moving].toarray(),
        read.constant[own] + fixed @ lower[still],
        read.error[own] + slack(size, len(still) + 1),
        read.below[own],
    )
