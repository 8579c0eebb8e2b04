"""HiGHS as a MILP backend: open source, no limit on the size."""

import importlib.util
import math
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import SolverUnavailableError
from .budget import Budget
from .milp_model import MilpAnswer, MilpModel, MilpStatus, early_stop
from .solver_thread import run_interruptibly

# HiGHS accepts points that violate rows by 1e-7 (1e-6 for integrality) unless told otherwise; big-M rows
# multiply that, so we ask for the tightest it offers and keep MILP_MARGIN above what is left.
FEASIBILITY_TOLERANCE = 1e-9
# Coefficients below this are dropped by HiGHS; its default of 1e-9 could cut a real dependence on a pixel.
SMALLEST_COEFFICIENT = 1e-12
# Only signs matter to the caller, who names the ends with stop_above and stop_below: a gap that is relative
# to the objective would end the search before the sign of a margin near zero is settled.
ABSOLUTE_GAP = 1e-7


@dataclass(slots=True)
class _Progress:
    """What the callbacks have seen and been asked to do."""

    stop_above: float
    stop_below: float
    cancelled: bool = False
    early: MilpStatus | None = field(default=None)

    def asks_to_end(self) -> bool:
        """Whether the solver has to come back now."""
        return self.cancelled or self.early is not None


@dataclass(frozen=True, slots=True)
class HighsBackend:
    """HiGHS through its own Python package."""

    name: str = "highs"

    def is_available(self) -> bool:
        """Whether highspy is installed."""
        return importlib.util.find_spec("highspy") is not None

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
            SolverUnavailableError: when highspy is not installed.
        """
        if not self.is_available():
            raise SolverUnavailableError("HiGHS is not installed: pip install highspy")
        started = time.monotonic()
        progress = _Progress(stop_above, stop_below)
        solver = _prepared(model, budget, progress, threads, seed)

        def stop() -> None:
            progress.cancelled = True

        run_interruptibly(lambda: _run(solver), stop, budget)
        return _answer(solver, model, progress, time.monotonic() - started)


def _run(solver: Any) -> None:
    solver.run()
    # HiGHS keeps its worker threads per calling thread; ours is about to end
    type(solver).resetGlobalScheduler(True)


def _prepared(model: MilpModel, budget: Budget, progress: _Progress, threads: int, seed: int) -> Any:
    import highspy

    solver = highspy.Highs()
    solver.silent()
    options = {
        "threads": threads,
        "random_seed": seed,
        "primal_feasibility_tolerance": FEASIBILITY_TOLERANCE,
        "mip_feasibility_tolerance": FEASIBILITY_TOLERANCE,
        "small_matrix_value": SMALLEST_COEFFICIENT,
        "mip_rel_gap": 0.0,
        "mip_abs_gap": ABSOLUTE_GAP,
    }
    if math.isfinite(budget.remaining):
        options["time_limit"] = budget.remaining
    for name, value in options.items():
        solver.setOptionValue(name, value)
    _subscribe(solver, progress)
    solver.passModel(_native(model))
    return solver


def _subscribe(solver: Any, progress: _Progress) -> None:
    def interrupt(event: Any) -> None:
        if progress.asks_to_end():
            event.interrupt()

    def watch(event: Any) -> None:
        seen = event.data_out
        if progress.early is None:
            objective, bound = -seen.mip_primal_bound, -seen.mip_dual_bound
            progress.early = early_stop(objective, bound, progress.stop_above, progress.stop_below)
        interrupt(event)

    solver.cbMipInterrupt += watch
    solver.cbSimplexInterrupt += interrupt
    solver.cbIpmInterrupt += interrupt


def _native(model: MilpModel) -> Any:
    import highspy

    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = model.columns, model.rows
    # HiGHS minimises here, so that the signs of the bounds in its callbacks need no second thought
    lp.col_cost_ = -model.objective
    lp.col_lower_, lp.col_upper_ = model.lower, model.upper
    lp.row_lower_, lp.row_upper_ = model.row_lower, model.row_upper
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_ = model.matrix.indptr
    lp.a_matrix_.index_ = model.matrix.indices
    lp.a_matrix_.value_ = model.matrix.data
    kinds = (highspy.HighsVarType.kContinuous, highspy.HighsVarType.kInteger)
    if model.binaries:
        lp.integrality_ = [kinds[int(integral)] for integral in model.integral]
    return lp


def _status(native: Any, progress: _Progress) -> MilpStatus:
    import highspy

    known = {
        highspy.HighsModelStatus.kOptimal: MilpStatus.OPTIMAL,
        highspy.HighsModelStatus.kInfeasible: MilpStatus.INFEASIBLE,
        highspy.HighsModelStatus.kTimeLimit: MilpStatus.TIME_LIMIT,
        highspy.HighsModelStatus.kInterrupt: progress.early or MilpStatus.INTERRUPTED,
    }
    return known.get(native, MilpStatus.ERROR)


def _answer(solver: Any, model: MilpModel, progress: _Progress, seconds: float) -> MilpAnswer:
    import highspy

    info = solver.getInfo()
    status = _status(solver.getModelStatus(), progress)
    has_point = info.primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible
    incumbent = np.array(solver.getSolution().col_value, dtype=np.float64) if has_point else None
    objective = -float(info.objective_function_value) if has_point else math.nan
    bound, nodes = _bound(solver, info, model, status)
    return MilpAnswer(status, bound, incumbent, objective, nodes, seconds)


def _bound(solver: Any, info: Any, model: MilpModel, status: MilpStatus) -> tuple[float, int]:
    """The dual bound and the nodes; a linear program has a bound only when it was solved."""
    if model.binaries:
        # an infeasible program reports an infinite bound, which says nothing that the status doesn't
        bound = -float(info.mip_dual_bound)
        return (bound if math.isfinite(bound) else math.nan), max(0, int(info.mip_node_count))
    if status is not MilpStatus.OPTIMAL:
        return math.nan, 0
    code, value = solver.getDualObjectiveValue()
    return (-float(value) if code is not None else math.nan), 0
