"""HiGHS on many objectives over the same rows, each started from the last one's basis."""

import math
from typing import Any

import numpy as np

from .budget import Budget
from .milp_model import MilpModel
from .operators import FloatArray


class RelaxationSolver:
    """A linear program whose objective changes."""

    def __init__(self, model: MilpModel) -> None:
        import highspy

        from .milp_highs import native_program

        self._solver: Any = highspy.Highs()
        self._solver.silent()
        self._solver.setOptionValue("threads", 1)
        self._columns = np.arange(model.columns, dtype=np.int32)
        self._solver.passModel(native_program(model))

    def multipliers(self, objective: FloatArray, budget: Budget) -> FloatArray | None:
        """Row duals (rows,) of maximising ``objective``, or None when the solver has none."""
        solver = self._solver
        # HiGHS minimises the negated objective, hence the negated duals
        solver.changeColsCost(len(self._columns), self._columns, -objective)
        if math.isfinite(budget.remaining):
            solver.setOptionValue("time_limit", solver.getRunTime() + budget.remaining)
        solver.run()
        solution = solver.getSolution()
        return -np.array(solution.row_dual, dtype=np.float64) if solution.dual_valid else None
