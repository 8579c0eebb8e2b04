"""Exact maxima over windows of the input, in place of some ReLUs' upper lines, for the proof checker.

A (leaky) ReLU is the larger of two linear functions of what it reads, so that a sum of some with positive
coefficients is the largest of the sums over all choices of sides. Each sum is linear over the window's inputs, and
largest at a corner of the box. The linear function of inputs that several windows read is shared out among them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import sparse

from .operators import FloatArray
from .proof_maxima import IndexArray
from .proof_rounding import slack

# Numbers of a slice of rows: of their coefficients on a window's inputs in every choice.
SLICE_NUMBERS = 1_000_000
ABSENT = -1


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """ReLUs whose sides are chosen jointly.

    Attributes:
        neurons: (neurons,) numbers among all joint neurons.
        inputs: (inputs,) flat indices of those that move and that they read.
        weights: (neurons, inputs) of the affine functions that the ReLUs read.
        constant: (neurons,) likewise, with the inputs that do not move.
        error: (neurons,) what the affine functions are off by in the region, at most.
        below: (neurons,) the ReLUs' slopes below zero.
    """

    neurons: IndexArray
    inputs: IndexArray
    weights: FloatArray
    constant: FloatArray
    error: FloatArray
    below: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Joint:
    """The ReLUs that are taken as they are.

    Attributes:
        count: number of them.
        column: by the number of a ReLU's value, (size,) a neuron's number among them, or ``ABSENT``.
        windows: every one of them is in one.
    """

    count: int
    column: dict[int, IndexArray]
    windows: tuple[Window, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Excess:
    """What joint neurons are above their upper lines without shift: ``factor * (relu(x) - slope * x)``, summed up.

    Both have shape (rows, joint neurons); a factor of zero stands for a neuron that has its lines.
    """

    factor: FloatArray
    slope: FloatArray

    @classmethod
    def none(cls, rows: int, joint: Joint) -> "Excess":
        """Without any."""
        return cls(np.zeros((rows, joint.count)), np.zeros((rows, joint.count)))

    def add(self, row: IndexArray, neuron: IndexArray, factor: FloatArray, slope: FloatArray) -> None:
        """Take note of some neurons, each once."""
        self.factor[row, neuron] = factor
        self.slope[row, neuron] = slope


def largest(
    joint: Joint, excess: Excess, linear: sparse.csr_matrix, lower: FloatArray, upper: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """The largest values of linear functions of the input plus an excess.

    Args:
        joint: the neurons.
        excess: of each row, with factors of at least 0.
        linear: (rows, inputs).
        lower: (rows, inputs) the boxes' lower bounds.
        upper: likewise.

    Returns:
        Values (rows,), and what rounding can have cost (rows,), at most.
    """
    copies = np.zeros(linear.shape[1])
    for window in joint.windows:
        copies[window.inputs] += 1
    dense = linear.toarray()
    alone = np.where(copies == 0, dense, 0.0)
    size = np.maximum(np.abs(lower), np.abs(upper))
    total = np.maximum(alone * lower, alone * upper).sum(axis=1)
    error = slack((np.abs(dense) * size).sum(axis=1), linear.shape[1] + len(joint.windows) + 2)
    shared = dense / np.maximum(copies, 1.0)
    for window in joint.windows:
        value, cost = _of_window(window, excess, shared, lower, upper)
        total, error = total + value, error + cost
    return total, error + slack(np.abs(total), len(joint.windows))


def _of_window(
    window: Window, excess: Excess, linear: FloatArray, lower: FloatArray, upper: FloatArray
) -> tuple[FloatArray, FloatArray]:
    sides = np.array(list(product((0, 1), repeat=len(window.neurons))))
    # (choices, neurons) slopes of the chosen sides
    chosen = np.where(sides == 1, 1.0, window.below)
    rows = max(1, SLICE_NUMBERS // (len(chosen) * (len(window.inputs) + 1)))
    pieces = [
        _of_rows(window, excess, chosen, slice(start, start + rows), (linear, lower, upper))
        for start in range(0, len(linear), rows)
    ]
    values, costs = zip(*pieces, strict=True)
    return np.concatenate(values), np.concatenate(costs)


def _of_rows(
    window: Window, excess: Excess, chosen: FloatArray, rows: slice, parts: Sequence[FloatArray]
) -> tuple[FloatArray, FloatArray]:
    linear, lower, upper = (part[rows][:, window.inputs] for part in parts)
    factor, slope = (part[rows][:, window.neurons] for part in (excess.factor, excess.slope))
    own = factor[:, None] * (chosen - slope[:, None])
    moved = own @ window.weights + linear[:, None]
    values = np.maximum(moved * lower[:, None], moved * upper[:, None]).sum(axis=2) + own @ window.constant
    size = np.maximum(np.abs(lower), np.abs(upper))
    most = np.abs(own).max(axis=1)
    terms = (most * (size @ np.abs(window.weights).T + np.abs(window.constant))).sum(axis=1)
    terms += (np.abs(linear) * size).sum(axis=1)
    count = 2 * len(window.inputs) + 2 * len(window.neurons) + 8
    return values.max(axis=1), slack(terms, count) + slack(most @ window.error, count) + most @ window.error
