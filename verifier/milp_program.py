"""Collecting the columns and rows of a program while it is being encoded."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from .affine import IndexArray, with_columns
from .milp_model import MilpModel
from .operators import FloatArray

# HiGHS and Gurobi can be told to keep coefficients down to this (and 1e-13), not smaller ones.
SMALLEST_COEFFICIENT = 1e-12


class ProgramBuilder:
    """Columns and rows in the order in which they are added."""

    def __init__(self) -> None:
        self._lower: list[FloatArray] = []
        self._upper: list[FloatArray] = []
        self._integral: list[NDArray[np.bool_]] = []
        self._blocks: list[sparse.csr_matrix] = []
        self._row_lower: list[FloatArray] = []
        self._row_upper: list[FloatArray] = []
        self.columns = 0

    def continuous(self, lower: FloatArray, upper: FloatArray) -> IndexArray:
        """Add continuous variables with these bounds; returns their columns."""
        return self._add(lower, upper, False)

    def binary(self, count: int) -> IndexArray:
        """Add binaries; returns their columns."""
        return self._add(np.zeros(count), np.ones(count), True)

    def _add(self, lower: FloatArray, upper: FloatArray, integral: bool) -> IndexArray:
        self._lower.append(lower)
        self._upper.append(upper)
        self._integral.append(np.full(len(lower), integral))
        first, self.columns = self.columns, self.columns + len(lower)
        return np.arange(first, self.columns)

    def at(self, columns: IndexArray, values: FloatArray | float = 1.0) -> sparse.csr_matrix:
        """Matrix with one entry per row: row i reads ``values[i]`` times column ``columns[i]``."""
        entries = np.broadcast_to(np.asarray(values, dtype=np.float64), columns.shape)
        rows = np.arange(len(columns))
        return sparse.csr_matrix((entries, (rows, columns)), shape=(len(columns), self.columns))

    def grouped(
        self, group: IndexArray, columns: IndexArray, values: FloatArray | float, groups: int
    ) -> sparse.csr_matrix:
        """Matrix whose row ``group[i]`` reads ``values[i]`` times column ``columns[i]``, for all i."""
        entries = np.broadcast_to(np.asarray(values, dtype=np.float64), columns.shape)
        return sparse.csr_matrix((entries, (group, columns)), shape=(groups, self.columns))

    def at_least(self, matrix: sparse.csr_matrix, bound: FloatArray) -> None:
        """Add rows ``matrix @ x >= bound``."""
        self._rows(matrix, bound, np.full(len(bound), np.inf))

    def at_most(self, matrix: sparse.csr_matrix, bound: FloatArray) -> None:
        """Add rows ``matrix @ x <= bound``."""
        self._rows(matrix, np.full(len(bound), -np.inf), bound)

    def equal(self, matrix: sparse.csr_matrix, value: FloatArray) -> None:
        """Add rows ``matrix @ x == value``."""
        self._rows(matrix, value, value)

    def _rows(self, matrix: sparse.csr_matrix, lower: FloatArray, upper: FloatArray) -> None:
        self._blocks.append(sparse.csr_matrix(matrix))
        self._row_lower.append(lower)
        self._row_upper.append(upper)

    def box(self) -> tuple[FloatArray, FloatArray]:
        """Bounds of the variables so far."""
        return np.concatenate([*self._lower, np.zeros(0)]), np.concatenate([*self._upper, np.zeros(0)])

    def maximising(self, column: int) -> MilpModel:
        """The program that maximises one variable."""
        model = self.feasibility()
        objective = np.zeros(self.columns)
        objective[column] = 1.0
        return replace(model, objective=objective)

    def feasibility(self) -> MilpModel:
        """The program without an objective.

        Solvers drop the smallest coefficients without a word, which can cut a real dependence: they are
        dropped here, and their rows loosened by as much as they could have contributed.
        """
        lower, upper = self.box()
        empty = sparse.csr_matrix((0, self.columns))
        matrix = sparse.vstack(
            [empty, *(with_columns(block, self.columns) for block in self._blocks)], format="csr"
        )
        matrix.eliminate_zeros()
        tiny = matrix.copy()
        tiny.data = np.where(np.abs(matrix.data) < SMALLEST_COEFFICIENT, np.abs(matrix.data), 0.0)
        slack = tiny @ np.maximum(np.abs(lower), np.abs(upper))
        matrix.data[tiny.data > 0] = 0.0
        matrix.eliminate_zeros()
        objective = np.zeros(self.columns)
        row_lower = np.concatenate([*self._row_lower, np.zeros(0)]) - slack
        row_upper = np.concatenate([*self._row_upper, np.zeros(0)]) + slack
        integral = np.concatenate([*self._integral, np.zeros(0, dtype=np.bool_)])
        return MilpModel(objective, matrix, row_lower, row_upper, lower, upper, integral)
