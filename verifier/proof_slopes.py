"""Parameters of relaxations as a certificate keeps them: whole numbers per open neuron and row."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .operators import FloatArray

IndexArray = NDArray[np.int64]
# A position p in [0, 1] is kept as the whole number p * levels, in 8, 16 or 32 bits.
LEVELS = {np.dtype(kind): int(np.iinfo(kind).max) for kind in (np.uint8, np.uint16, np.uint32)}


@dataclass(frozen=True, slots=True, eq=False)
class ReluSlopes:
    """Lower slopes of some neurons of one ReLU.

    Attributes:
        neurons: (neurons,) flat indices, strictly increasing; others have the default slope.
        positions: (rows, neurons) whole numbers, from the slope below zero (0) to 1 (the type's largest).
    """

    neurons: IndexArray
    positions: NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class PoolSlopes:
    """Parameters of some outputs of one max-pool.

    Attributes:
        outputs: (outputs,) flat indices, strictly increasing; others have the default lines.
        thresholds: (rows, outputs) likewise: the upper line's threshold, from the window's largest lower
            bound (0) to its largest upper bound (the type's largest).
        weights: (rows, outputs, window) likewise: the lower line's convex weights of the window's
            elements in the window's order; what their sum lacks to the type's largest is the weight of the
            largest lower bound, and larger sums are scaled down to it.
    """

    outputs: IndexArray
    thresholds: NDArray[Any]
    weights: NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Slopes:
    """A table of parameters, one row per bounded quantity; keyed by the number of the ReLU's or pool's value."""

    rows: int
    relu: Mapping[int, ReluSlopes] = field(default_factory=dict)
    pool: Mapping[int, PoolSlopes] = field(default_factory=dict)

    def position(self, value: int, row: IndexArray, neuron: IndexArray) -> FloatArray:
        """Positions (entries,) in [0, 1], NaN for the default."""
        table = self.relu.get(value)
        if table is None:
            return np.full(len(neuron), np.nan)
        column, known = _columns(table.neurons, neuron)
        return np.where(known, _fractions(table.positions, row, column), np.nan)

    def threshold(self, value: int, row: IndexArray, output: IndexArray) -> FloatArray:
        """Thresholds (entries,) in [0, 1], NaN for the default."""
        table = self.pool.get(value)
        if table is None:
            return np.full(len(output), np.nan)
        column, known = _columns(table.outputs, output)
        return np.where(known, _fractions(table.thresholds, row, column), np.nan)

    def weights(self, value: int, row: IndexArray, output: IndexArray, width: int) -> FloatArray:
        """Weights (entries, width) with sums of at most 1 up to rounding, NaN for the default."""
        table = self.pool.get(value)
        if table is None:
            return np.full((len(output), width), np.nan)
        column, known = _columns(table.outputs, output)
        found = _fractions(table.weights, row, column)
        found = found / np.maximum(found.sum(axis=1, keepdims=True), 1.0)
        return np.where(known[:, None], found, np.nan)

    def check(self, relus: Mapping[int, int], pools: Mapping[int, tuple[int, int]]) -> None:
        """See that the table fits a network.

        Args:
            relus: sizes of the ReLUs' values, by value number.
            pools: outputs and window width of the max-pools, by value number.

        Raises:
            InputError: when it does not, or a number is out of range.
        """
        for number, relu in self.relu.items():
            _expect(number in relus, f"value {number} is no ReLU")
            _check_index(relu.neurons, relus[number])
            _check_bytes(relu.positions, (self.rows, len(relu.neurons)))
        for number, pool in self.pool.items():
            _expect(number in pools, f"value {number} is no max-pool")
            outputs, width = pools[number]
            _check_index(pool.outputs, outputs)
            _check_bytes(pool.thresholds, (self.rows, len(pool.outputs)))
            _check_bytes(pool.weights, (self.rows, len(pool.outputs), width))


def _columns(listed: IndexArray, wanted: IndexArray) -> tuple[IndexArray, NDArray[np.bool_]]:
    """Places of indices in a list, and whether they are in it."""
    place = np.full(max(listed.max(initial=-1), wanted.max(initial=-1)) + 1, -1)
    place[listed] = np.arange(len(listed))
    found = place[wanted]
    return found, found >= 0


def _fractions(table: NDArray[Any], row: IndexArray, column: IndexArray) -> FloatArray:
    if not table.shape[1]:
        return np.full((len(row), *table.shape[2:]), np.nan)
    return table[row, column] / float(LEVELS[table.dtype])


def _check_index(index: IndexArray, size: int) -> None:
    fits = index.ndim == 1 and bool(((index >= 0) & (index < size)).all())
    # compared, not subtracted: differences of numbers from a file overflow
    _expect(
        fits and bool((index[1:] > index[:-1]).all()), "indices of neurons are out of order or out of range"
    )


def _check_bytes(table: NDArray[Any], shape: tuple[int, ...]) -> None:
    _expect(table.dtype in LEVELS, f"slopes are {table.dtype}, not whole numbers")
    _expect(table.shape == shape, f"slopes have shape {table.shape}, {shape} is needed")


def _expect(fits: bool, why: str) -> None:
    if not fits:
        raise InputError(f"the certificate does not fit the network ({why}); write it again")
