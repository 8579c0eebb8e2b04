"""Backends on small programs: statuses, early ends, cancellation, tolerances, errors."""

import math
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from mlverify.errors import SolverUnavailableError
from mlverify.verifier.budget import Budget
from mlverify.verifier.lp_certificate import dual_bound
from mlverify.verifier.milp_gurobi import BUNDLED_VARIABLES, GurobiBackend
from mlverify.verifier.milp_highs import HighsBackend
from mlverify.verifier.milp_model import MilpModel, MilpStatus
from mlverify.verifier.solver_thread import run_interruptibly
from scipy import optimize, sparse

BACKENDS = [backend for backend in (HighsBackend(), GurobiBackend()) if backend.is_available()]
each_backend = pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)


def model_of(objective, matrix, row_upper, integral, *, row_lower=None, lower=0.0, upper=1.0):
    objective = np.array(objective, dtype=np.float64)
    row_upper = np.array(row_upper, dtype=np.float64)
    row_lower = (
        np.full(len(row_upper), -np.inf) if row_lower is None else np.array(row_lower, dtype=np.float64)
    )
    shape = objective.shape
    kinds = np.broadcast_to(integral, shape).copy()
    matrix = sparse.csr_matrix(np.array(matrix, dtype=np.float64).reshape(len(row_upper), len(objective)))
    return MilpModel(
        objective, matrix, row_lower, row_upper, np.full(shape, lower), np.full(shape, upper), kinds
    )


KNAPSACK = model_of([5.0, 4.0, 3.0], [[2.0, 3.0, 1.0], [4.0, 1.0, 2.0]], [4.0, 5.0], True)


def hard(size=30):
    """A market-split program, on which branch and bound gets nowhere for a long time."""
    rng = np.random.default_rng(0)
    matrix = rng.integers(1, 100, (4, size)).astype(np.float64)
    half = np.floor(matrix.sum(axis=1) / 2)
    rows = np.hstack([matrix, -np.eye(4), np.eye(4)])
    objective = np.append(np.zeros(size), -np.ones(8))
    integral = np.append(np.ones(size, dtype=bool), np.zeros(8, dtype=bool))
    model = model_of(objective, rows, half, integral, row_lower=half)
    model.upper[size:] = 1000.0
    return model


def solve(backend, model, budget=None, above=math.inf, below=-math.inf):
    return backend.solve(model, budget or Budget(), stop_above=above, stop_below=below, threads=1, seed=0)


@each_backend
def test_optimum_bound_and_point(backend):
    answer = solve(backend, KNAPSACK)
    assert answer.status is MilpStatus.OPTIMAL
    assert answer.objective == pytest.approx(7.0)
    assert answer.best_bound == pytest.approx(7.0, abs=1e-6)
    np.testing.assert_allclose(answer.incumbent, [0.0, 1.0, 1.0], atol=1e-9)


@each_backend
def test_a_linear_program_and_one_without_rows(backend):
    answer = solve(backend, replace(KNAPSACK, integral=np.zeros(3, dtype=np.bool_)))
    assert answer.status is MilpStatus.OPTIMAL
    assert answer.best_bound == pytest.approx(answer.objective, abs=1e-9)
    empty = model_of([1.0, -2.0], [], [], [True, False], lower=-1.0)
    assert solve(backend, empty).best_bound == pytest.approx(3.0)


@each_backend
def test_infeasible_is_plain_and_comes_without_a_bound(backend):
    answer = solve(backend, model_of([1.0, 1.0], [[1.0, 1.0]], [5.0], True, row_lower=[3.0]))
    assert answer.status is MilpStatus.INFEASIBLE
    assert answer.incumbent is None
    assert math.isnan(answer.objective)


@each_backend
def test_infeasible_stays_infeasible_with_a_cutoff(backend):
    """A cutoff must not dress an infeasible program, which contradicts the encoder, as a proof."""
    model = model_of([1.0, 1.0], [[1.0, 1.0]], [1.5], True, row_lower=[1.2])
    assert solve(backend, model, above=1e-4, below=-1e-6).status is MilpStatus.INFEASIBLE


@each_backend
def test_stops_above_at_a_good_point(backend):
    answer = solve(backend, KNAPSACK, above=1.0, below=-1.0)
    assert answer.status in (MilpStatus.STOPPED_ABOVE, MilpStatus.OPTIMAL)
    assert answer.objective > 1.0


@each_backend
def test_a_maximum_below_the_stop_is_reported_as_a_bound_below_it(backend):
    answer = solve(backend, KNAPSACK, above=20.0, below=10.0)
    assert answer.status in (MilpStatus.STOPPED_BELOW, MilpStatus.OPTIMAL)
    assert 7.0 - 1e-6 <= answer.best_bound < 10.0


@each_backend
def test_a_maximum_just_above_the_stop_is_not_cut_off(backend):
    answer = solve(backend, KNAPSACK, above=20.0, below=7.0 - 1e-6)
    assert answer.status is MilpStatus.OPTIMAL
    assert answer.objective == pytest.approx(7.0)


@each_backend
def test_time_limit_and_cancellation(backend):
    answer = solve(backend, hard(), Budget.of_seconds(0.3))
    assert answer.status is MilpStatus.TIME_LIMIT
    flag = threading.Event()
    threading.Timer(0.3, flag.set).start()
    started = time.monotonic()
    answer = solve(backend, hard(), Budget(cancelled=flag.is_set))
    assert answer.status is MilpStatus.INTERRUPTED
    assert time.monotonic() - started < 5.0
    assert not answer.best_bound < 0.0 - 1e-6


@each_backend
@settings(max_examples=15, deadline=None)
@given(arrays.arrays(np.float64, (4, 5), elements=st.integers(-5, 5)), st.integers(0, 100))
def test_agrees_with_scipy(backend, matrix, seed):
    rng = np.random.default_rng(seed)
    objective, limits = rng.normal(size=5), rng.uniform(0, 4, 4)
    integral = np.array([True, True, False, True, False])
    model = model_of(objective, matrix, limits, integral, lower=-1.0, upper=2.0)
    reference = optimize.milp(
        -objective,
        integrality=integral,
        bounds=optimize.Bounds(model.lower, model.upper),
        constraints=optimize.LinearConstraint(matrix, -np.inf, limits),
    )
    if reference.status == 0:
        # both keep rows and integers to 1e-6 only, times coefficients up to 5
        assert solve(backend, model).objective == pytest.approx(-reference.fun, abs=1e-5)
    else:
        assert solve(backend, model).status is MilpStatus.INFEASIBLE


def test_a_program_beyond_the_licence_names_its_size_and_the_remedy():
    backend = GurobiBackend()
    if not backend.is_available():
        pytest.skip("gurobipy is not installed")
    size = BUNDLED_VARIABLES + 1
    model = model_of(np.ones(size), [np.ones(size)], [1.0], False)
    if not licence_is_bundled():
        pytest.skip("a full licence is installed")
    with pytest.raises(SolverUnavailableError, match=f"{size} variables and 1 rows.*--solver highs"):
        solve(backend, model)


def licence_is_bundled():
    """Whether Gurobi refuses one variable more than the bundled licence admits."""
    import gurobipy

    try:
        with gurobipy.Env(params={"OutputFlag": 0}) as environment, gurobipy.Model(env=environment) as model:
            model.addMVar(BUNDLED_VARIABLES + 1)
            model.optimize()
    except gurobipy.GurobiError:
        return True
    return False


def test_ctrl_c_stops_the_solver_before_it_is_raised():
    stopped = threading.Event()

    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_interruptibly(lambda: stopped.wait(10), stopped.set, Budget(cancelled=interrupted))
    assert stopped.is_set()


def test_an_error_in_the_solver_reaches_the_caller():
    def fails():
        raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        run_interruptibly(fails, lambda: None, Budget())


@settings(max_examples=50, deadline=None)
@given(arrays.arrays(np.float64, 2, elements=st.floats(-1e3, 1e3) | st.sampled_from([np.nan, np.inf])))
def test_no_multipliers_give_a_bound_below_the_maximum(multipliers):
    assert dual_bound(KNAPSACK, multipliers) >= 7.0 - 1e-9
    sided = model_of(
        [5.0, 4.0, 3.0], [[2.0, 3.0, 1.0], [4.0, 1.0, 2.0]], [4.0, np.inf], True, row_lower=[-np.inf, 1]
    )
    assert dual_bound(sided, multipliers) >= 9.0 - 1e-9
