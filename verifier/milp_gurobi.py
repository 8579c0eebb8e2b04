"""Gurobi as a MILP backend, for programs that its licence admits."""

import importlib.util
import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import SolverUnavailableError
from .budget import Budget
from .milp_model import MilpAnswer, MilpModel, MilpStatus, early_stop
from .solver_thread import run_interruptibly

# Gurobi's default is 1e-6; its tightest, 1e-9, gave wrong optima (see OUTWARD), this never did.
FEASIBILITY_TOLERANCE = 1e-8
# The tightest that Gurobi takes (defaults 1e-5 and 1e-6); see MILP_MARGIN for what is left.
TIGHTEST_TOLERANCE = 1e-9
# Only the sign of the optimum matters, see the same constant of the HiGHS backend.
ABSOLUTE_GAP = 1e-7
# What the licence inside the gurobipy package admits.
BUNDLED_VARIABLES = 2000
BUNDLED_ROWS = 2000
# Gurobi's error codes for "no licence", "expired", and "model too large for this licence".
_LICENCE_ERRORS = (10009, 10010)


@dataclass(frozen=True, slots=True)
class GurobiBackend:
    """Gurobi through gurobipy, which is imported on first use."""

    name: str = "gurobi"

    def is_available(self) -> bool:
        """Whether gurobipy is installed; takes no licence."""
        return importlib.util.find_spec("gurobipy") is not None

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
        """Maximise; see :class:`MilpBackend`.

        Raises:
            SolverUnavailableError: when gurobipy is missing, or its licence is or does not admit the model.
        """
        if not self.is_available():
            raise SolverUnavailableError(
                "Gurobi is not installed: pip install gurobipy, or use --solver highs"
            )
        import gurobipy

        started = time.monotonic()
        try:
            with gurobipy.Env(
                params=_parameters(budget, stop_above, stop_below, threads, seed)
            ) as environment:
                return _solved(environment, model, budget, (stop_above, stop_below), started)
        except gurobipy.GurobiError as error:
            if error.errno in _LICENCE_ERRORS:
                raise _refused(model, str(error)) from None
            return MilpAnswer(MilpStatus.ERROR, math.nan, None, math.nan, 0, time.monotonic() - started)


def _refused(model: MilpModel, reason: str) -> SolverUnavailableError:
    return SolverUnavailableError(
        f"Gurobi's licence does not admit this program of {model.columns} variables and {model.rows} rows "
        f"({reason.split(';')[0]}); the bundled one admits {BUNDLED_VARIABLES} and {BUNDLED_ROWS}, a full licence "
        "or --solver highs helps"
    )


def _parameters(
    budget: Budget, stop_above: float, stop_below: float, threads: int, seed: int
) -> dict[str, float | int]:
    parameters: dict[str, float | int] = {
        "OutputFlag": 0,
        "Threads": threads,
        "Seed": seed,
        "FeasibilityTol": FEASIBILITY_TOLERANCE,
        "IntFeasTol": TIGHTEST_TOLERANCE,
        "OptimalityTol": TIGHTEST_TOLERANCE,
        "MIPGap": 0.0,
        "MIPGapAbs": ABSOLUTE_GAP,
        # points below this don't interest the caller: their part of the tree is pruned
        "Cutoff": stop_below - ABSOLUTE_GAP,
        # Gurobi stops at values that reach these; ours have to pass them
        "BestObjStop": np.nextafter(stop_above, math.inf),
        "BestBdStop": np.nextafter(stop_below, -math.inf),
    }
    if math.isfinite(budget.remaining):
        parameters["TimeLimit"] = budget.remaining
    return parameters


def _solved(
    environment: Any, model: MilpModel, budget: Budget, stops: tuple[float, float], started: float
) -> MilpAnswer:
    import gurobipy

    with gurobipy.Model(env=environment) as native:
        _fill(native, model)
        run_interruptibly(native.optimize, native.terminate, budget)
        return _answer(native, stops, budget, time.monotonic() - started)


def _fill(native: Any, model: MilpModel) -> None:
    import gurobipy

    # not BINARY, which would overrule the bounds
    kinds = np.where(model.integral, gurobipy.GRB.INTEGER, gurobipy.GRB.CONTINUOUS)
    variables = native.addMVar(model.columns, lb=model.lower, ub=model.upper, vtype=kinds)
    native.setObjective(model.objective @ variables, gurobipy.GRB.MAXIMIZE)
    equal = model.row_lower == model.row_upper
    above, below = np.isfinite(model.row_lower) & ~equal, np.isfinite(model.row_upper) & ~equal
    for rows, sense, bound in (
        (equal, "=", model.row_lower),
        (above, ">", model.row_lower),
        (below, "<", model.row_upper),
    ):
        if rows.any():
            native.addMConstr(model.matrix[rows], variables, sense, bound[rows])


def _status(
    code: int, objective: float, bound: float, stops: tuple[float, float], budget: Budget
) -> MilpStatus:
    import gurobipy

    status = gurobipy.GRB.Status
    interrupted = MilpStatus.TIME_LIMIT if budget.remaining <= 0 else MilpStatus.INTERRUPTED
    if code == status.USER_OBJ_LIMIT:
        return early_stop(objective, bound, *stops) or MilpStatus.ERROR
    known = {
        status.OPTIMAL: MilpStatus.OPTIMAL,
        status.INFEASIBLE: MilpStatus.INFEASIBLE,
        status.CUTOFF: MilpStatus.STOPPED_BELOW,
        status.TIME_LIMIT: MilpStatus.TIME_LIMIT,
        status.INTERRUPTED: interrupted,
    }
    return known.get(code, MilpStatus.ERROR)


def _answer(native: Any, stops: tuple[float, float], budget: Budget, seconds: float) -> MilpAnswer:
    found = native.SolCount > 0
    incumbent = np.array(native.getAttr("X", native.getVars()), dtype=np.float64) if found else None
    objective = float(native.ObjVal) if found else math.nan
    bound = _bound(native, stops)
    status = _status(native.Status, objective, bound, stops, budget)
    return MilpAnswer(status, bound, incumbent, objective, int(native.NodeCount), seconds)


def _bound(native: Any, stops: tuple[float, float]) -> float:
    """The dual bound, which is the cutoff when everything was pruned by it.

    Gurobi's infinity (1e100) and missing attributes mean that there is none.
    """
    import gurobipy

    if native.Status == gurobipy.GRB.Status.CUTOFF:
        return stops[1] - ABSOLUTE_GAP
    try:
        bound = float(native.ObjBound)
    except (AttributeError, gurobipy.GurobiError):
        return math.nan
    # what the cutoff pruned may be missing from the solver's own bound
    return max(bound, stops[1] - ABSOLUTE_GAP) if abs(bound) < gurobipy.GRB.INFINITY else math.nan
