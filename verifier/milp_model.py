"""A mixed-integer linear program as sparse arrays, and what a solver of it has to offer."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from .budget import Budget
from .operators import FloatArray


class MilpStatus(StrEnum):
    """Why a solver came back; anything it can't say in these words is an ERROR.

    INFEASIBLE is only a plain infeasible: "infeasible or unbounded" is an ERROR. STOPPED_ABOVE and
    STOPPED_BELOW are the early ends that the caller asked for.
    """

    OPTIMAL = "optimal"
    INFEASIBLE = "infeasible"
    STOPPED_ABOVE = "stopped above"
    STOPPED_BELOW = "stopped below"
    TIME_LIMIT = "time limit"
    INTERRUPTED = "interrupted"
    ERROR = "error"


@dataclass(frozen=True, slots=True, eq=False)
class MilpModel:
    """Maximise ``objective @ x`` with ``row_lower <= matrix @ x <= row_upper`` and bounds on x.

    Attributes:
        objective: (columns,).
        matrix: csr (rows, columns).
        row_lower: (rows,), minus infinity for none.
        row_upper: (rows,), infinity for none.
        lower: (columns,) finite.
        upper: (columns,) finite.
        integral: (columns,) true for integers.
    """

    objective: FloatArray
    matrix: sparse.csr_matrix
    row_lower: FloatArray
    row_upper: FloatArray
    lower: FloatArray
    upper: FloatArray
    integral: NDArray[np.bool_]

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self.matrix.shape[0])

    @property
    def columns(self) -> int:
        """Number of variables."""
        return int(self.matrix.shape[1])

    @property
    def binaries(self) -> int:
        """Number of integer variables (they are all binaries here)."""
        return int(self.integral.sum())

    @property
    def largest(self) -> float:
        """The largest number in the program, which solvers' absolute tolerances are measured against."""
        numbers = (self.matrix.data, self.lower, self.upper, self.row_lower, self.row_upper)
        finite = [np.abs(array[np.isfinite(array)]).max(initial=0.0) for array in numbers]
        return float(max(finite))

    def is_finite(self) -> bool:
        """Whether every number is one: a NaN here means that the encoder read what it had not built."""
        finite = (self.objective, self.matrix.data, self.lower, self.upper)
        rows = np.isnan(self.row_lower).any() or np.isnan(self.row_upper).any()
        return all(bool(np.isfinite(array).all()) for array in finite) and not rows


@dataclass(frozen=True, slots=True, eq=False)
class MilpAnswer:
    """What a solver says; none of it is a verdict.

    Attributes:
        status: why it came back.
        best_bound: the solver's dual bound, an upper bound on the maximum; NaN when it has none.
        incumbent: its best point (columns,), or None.
        objective: the value that the solver gives to the incumbent; NaN without one.
        nodes: of its search tree.
        seconds: inside the solver.
    """

    status: MilpStatus
    best_bound: float
    incumbent: FloatArray | None
    objective: float
    nodes: int
    seconds: float


class MilpBackend(Protocol):
    """A solver of mixed-integer linear programs."""

    @property
    def name(self) -> str:
        """Short name for reports, for example "highs"."""
        ...

    def is_available(self) -> bool:
        """Whether the solver is installed; cheap, and without taking a licence."""
        ...

    def solve(
        self,
        model: MilpModel,
        budget: Budget,
        *,
        stop_above: float,
        stop_below: float,
        threads: int,
        seed: int,
    ) -> MilpAnswer:
        """Maximise.

        Args:
            model: the program.
            budget: the solver comes back soon after it is exhausted or cancelled.
            stop_above: come back as soon as an incumbent has a larger objective.
            stop_below: come back as soon as the dual bound is smaller.
            threads: at most this many.
            seed: of the solver's own random choices.

        Raises:
            SolverUnavailableError: when the solver is missing or its licence does not admit the model.
            KeyboardInterrupt: on Ctrl-C, after the solver has stopped.
        """
        ...


def early_stop(
    objective: float, best_bound: float, stop_above: float, stop_below: float
) -> MilpStatus | None:
    """Which of the early ends that the caller asked for has been reached, if any."""
    if objective > stop_above:
        return MilpStatus.STOPPED_ABOVE
    if best_bound < stop_below:
        return MilpStatus.STOPPED_BELOW
    return None
