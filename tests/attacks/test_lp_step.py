"""The linear program of MLA-LP against a generic solver on the 2d-row formulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlverify.attacks.jma import least_distance
from mlverify.attacks.lp_step import LpStatus, smallest_step
from mlverify.attacks.ml_deepfool import least_norm_step
from scipy.optimize import linprog, minimize
from torch import from_numpy


def explicit(rows, limits, lower, upper):
    """All 2d + l rows, as in eq. (14) of the paper."""
    d = rows.shape[1]
    eye, ones = np.eye(d), -np.ones((d, 1))
    matrix = np.block([[eye, ones], [-eye, ones], [rows, np.zeros((len(rows), 1))]])
    right = np.concatenate([np.zeros(2 * d), limits])
    bounds = [*zip(lower, upper, strict=True), (0, None)]
    return linprog(np.append(np.zeros(d), 1.0), matrix, right, bounds=bounds)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), labels=st.integers(1, 6), pixels=st.integers(1, 25), shifted=st.booleans())
def test_agrees_with_a_generic_solver(seed, labels, pixels, shifted):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(labels, pixels))
    lower, upper = -rng.random(pixels) * rng.choice([0.1, 1.0]), rng.random(pixels)
    if shifted:
        lower[: pixels // 2] = 0.02
        upper = np.maximum(upper, lower)
    limits = rng.normal(size=labels) * 0.3
    truth = explicit(rows, limits, lower, upper)
    mine = smallest_step(rows, limits, lower, upper, gap=1e-6)
    assert ((mine.step >= lower) & (mine.step <= upper)).all()
    if truth.status == 2:
        assert mine.status is LpStatus.INFEASIBLE
        assert mine.violation > 0
        return
    assert mine.status is LpStatus.OPTIMAL
    assert mine.size == pytest.approx(truth.fun, abs=2e-6)
    assert mine.bound <= truth.fun + 1e-6
    assert (rows @ mine.step <= limits + 1e-5).all()


def test_one_row_has_a_closed_form():
    gradient = np.array([[3.0, -1.0, 0.5]])
    mine = smallest_step(gradient, np.array([-0.9]), -np.ones(3), np.ones(3))
    assert mine.size == pytest.approx(0.9 / 4.5)
    assert mine.step == pytest.approx([-0.2, 0.2, -0.2])


def test_an_infeasible_program_gives_the_least_violating_step():
    rows = np.array([[1.0, 0.0], [-1.0, 0.0]])
    mine = smallest_step(rows, np.array([-0.5, -0.5]), -np.ones(2), np.ones(2), weights=np.array([1.0, 0.1]))
    assert mine.status is LpStatus.INFEASIBLE
    assert mine.step[0] <= -0.5 + 1e-6
    assert mine.violation == pytest.approx(0.1 * 1.0, abs=1e-5)


def test_many_pixels_are_solved_to_a_proven_gap():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(20, 5)) @ rng.normal(size=(5, 20000)) + rng.normal(size=(20, 20000))
    limits = np.full(20, 50.0)
    limits[:3] = -80.0
    mine = smallest_step(rows, limits, np.full(20000, -0.5), np.full(20000, 0.5), gap=1e-4)
    assert mine.status is LpStatus.OPTIMAL
    assert mine.size <= mine.bound * (1 + 2e-4)
    assert (rows @ mine.step <= limits + 1e-4 * np.abs(rows).max()).all()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_least_distance_agrees_with_a_generic_solver(seed):
    rng = np.random.default_rng(seed)
    rows, needs = rng.normal(size=(3, 8)), rng.normal(size=3)
    step, feasible = least_distance(rows, needs)
    assert feasible
    assert (rows @ step >= needs - 1e-8).all()
    truth = minimize(
        lambda r: r @ r,
        np.linalg.lstsq(rows, np.abs(needs), rcond=None)[0],
        jac=lambda r: 2 * r,
        constraints={"type": "ineq", "fun": lambda r: rows @ r - needs, "jac": lambda r: rows},
    )
    assert step @ step == pytest.approx(truth.fun, rel=1e-4, abs=1e-6)


def test_least_distance_recognises_contradicting_rows():
    row = np.array([1.0, 2.0, 0.0])
    step, feasible = least_distance(np.stack([row, -row]), np.array([1.0, 1.0]))
    assert not feasible
    assert np.isfinite(step).all()


def test_least_norm_step_meets_the_equations():
    rng = np.random.default_rng(1)
    jacobian, missing = rng.normal(size=(2, 3, 10)), rng.normal(size=(2, 3))
    step = least_norm_step(from_numpy(jacobian), from_numpy(missing)).numpy()
    np.testing.assert_allclose(np.einsum("ild,id->il", jacobian, step), missing, atol=1e-10)
    np.testing.assert_allclose(step[0], np.linalg.lstsq(jacobian[0], missing[0], rcond=None)[0], atol=1e-10)
