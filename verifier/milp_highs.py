"""HiGHS as a MILP backend: open source, no limit on the size."""

import importlib.util
import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import SolverUnavailableError
from .budget import Budget
from .lp_certificate import dual_bound
from .milp_model import MilpAnswer, MilpModel, MilpStatus, early_stop
from .milp_program import SMALLEST_COEFFICIENT
from .solver_thread import run_interruptibly

# HiGHS accepts points that violate rows by 1e-7 (1e-6 for integrality) unless told otherwise; big-M rows
# multiply that, so we ask for the tightest it offers and keep MILP_MARGIN above what is left.
FEASIBILITY_TOLERANCE = 1e-9
# Only signs matter to the caller, who names the ends with stop_above and stop_below: a gap that is relative
# to the objective would end the search before the sign of a margin near zero is settled.
ABSOLUTE_GAP = 1e-7
# Heuristics that solve sub-programs for better points. Attacks have looked for points before; with the
# cutoff these cost two thirds of the time of a proof (2.1 to 0.3 s, 3.0 to 0.6 s, 7.4 to 3.8 s).
HEURISTICS_OFF = (
    "mip_heuristic_run_rins",
    "mip_heuristic_run_rens",
    "mip_heuristic_run_root_reduced_cost",
)


@dataclass(slots=True)
class _Progress:
    """What the callbacks have seen and been asked to do."""

    stop_above: float
    stop_below: float
    cutoff: bool
    cancelled: bool = False
    early: MilpStatus | None = None
    relaxed: bool = False

    def asks_to_end(self) -> bool:
        """Whether the solver has to come back now."""
        return self.cancelled or self.early is not None

    def saw(self, objective: float, bound: float) -> None:
        """Look at the incumbent's objective and the dual bound of a running search.

        The bound is infinite before the first relaxation is solved and after the last node is pruned;
        neither is a number to stop at.
        """
        if math.isfinite(bound):
            self.relaxed = True
            self.early = self.early or early_stop(objective, bound, self.stop_above, self.stop_below)


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
        progress = _Progress(
            stop_above, stop_below, cutoff=bool(model.binaries) and math.isfinite(stop_below)
        )
        answer = _once(model, budget, progress, threads, seed)
        if answer.status is MilpStatus.INFEASIBLE and progress.cutoff:
            # pruned before any relaxation was solved: ask without the cutoff, so that an infeasible
            # program and one that is only bounded are told apart
            progress = _Progress(stop_above, stop_below, cutoff=False)
            answer = _once(model, budget, progress, threads, seed)
        return answer


def _once(model: MilpModel, budget: Budget, progress: _Progress, threads: int, seed: int) -> MilpAnswer:
    started = time.monotonic()
    solver = _prepared(model, budget, progress, threads, seed)

    def stop() -> None:
        progress.cancelled = True

    run_interruptibly(lambda: _run(solver), stop, budget)
    return _answer(solver, model, progress, budget, time.monotonic() - started)


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
        # its default of 1e-9 could cut a real dependence on a pixel
        "small_matrix_value": SMALLEST_COEFFICIENT,
        "mip_rel_gap": 0.0,
        "mip_abs_gap": ABSOLUTE_GAP,
        **dict.fromkeys(HEURISTICS_OFF, False),
    }
    if math.isfinite(budget.remaining):
        options["time_limit"] = budget.remaining
    if progress.cutoff:
        # HiGHS minimises the negated objective: nodes that can't get above the cutoff are pruned
        options["objective_bound"] = -_cutoff(progress)
    for name, value in options.items():
        solver.setOptionValue(name, value)
    _subscribe(solver, progress)
    solver.passModel(native_program(model))
    return solver


def _cutoff(progress: _Progress) -> float:
    """Where nodes are pruned: clearly below ``stop_below``, so that pruning them all proves it."""
    return progress.stop_below - ABSOLUTE_GAP


def _subscribe(solver: Any, progress: _Progress) -> None:
    def interrupt(event: Any) -> None:
        if progress.asks_to_end():
            event.interrupt()

    def watch(event: Any) -> None:
        seen = event.data_out
        progress.saw(-seen.mip_primal_bound, -seen.mip_dual_bound)
        interrupt(event)

    solver.cbMipInterrupt += watch
    solver.cbSimplexInterrupt += interrupt
    solver.cbIpmInterrupt += interrupt


def native_program(model: MilpModel) -> Any:
    """The program as HiGHS's own object, minimising the negated objective."""
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


def _status(native: Any, progress: _Progress, budget: Budget) -> MilpStatus:
    import highspy

    interrupted = MilpStatus.TIME_LIMIT if budget.remaining <= 0 else MilpStatus.INTERRUPTED
    # with a cutoff, a search that ran and ended without a point has pruned everything
    pruned = progress.cutoff and progress.relaxed
    known = {
        highspy.HighsModelStatus.kOptimal: MilpStatus.OPTIMAL,
        highspy.HighsModelStatus.kInfeasible: MilpStatus.STOPPED_BELOW if pruned else MilpStatus.INFEASIBLE,
        highspy.HighsModelStatus.kTimeLimit: MilpStatus.TIME_LIMIT,
        highspy.HighsModelStatus.kInterrupt: progress.early or interrupted,
    }
    return known.get(native, MilpStatus.ERROR)


def _answer(solver: Any, model: MilpModel, progress: _Progress, budget: Budget, seconds: float) -> MilpAnswer:
    import highspy

    info = solver.getInfo()
    status = _status(solver.getModelStatus(), progress, budget)
    has_point = info.primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible
    incumbent = np.array(solver.getSolution().col_value, dtype=np.float64) if has_point else None
    objective = -float(info.objective_function_value) if has_point else math.nan
    if not model.binaries:
        return MilpAnswer(status, _linear_bound(solver, model), incumbent, objective, 0, seconds)
    nodes = max(0, int(info.mip_node_count))
    return MilpAnswer(status, _bound(info, status, progress), incumbent, objective, nodes, seconds)


def _linear_bound(solver: Any, model: MilpModel) -> float:
    """The bound of a linear program, recomputed from the row duals."""
    solution = solver.getSolution()
    if not solution.dual_valid:
        return math.nan
    # HiGHS minimises the negated objective
    return dual_bound(model, -np.array(solution.row_dual, dtype=np.float64))


def _bound(info: Any, status: MilpStatus, progress: _Progress) -> float:
    """The dual bound, never below the cutoff.

    What was pruned by the cutoff is not in the solver's own bound, which then speaks of the rest only; a tree
    that was pruned to nothing leaves the cutoff as its bound.
    """
    bound = -float(info.mip_dual_bound)
    if math.isfinite(bound):
        return max(bound, _cutoff(progress)) if progress.cutoff else bound
    return _cutoff(progress) if status is MilpStatus.STOPPED_BELOW and progress.cutoff else math.nan
