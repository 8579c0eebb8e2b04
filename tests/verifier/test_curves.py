"""Lines above and below S-shaped functions, judged in extended precision."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mlverify.verifier.curves import (
    CURVE_ERROR,
    CurveFreedom,
    CurveLines,
    curve_lines,
    curve_slope,
    evaluate_curve,
    initial_curve_freedom,
)
from mlverify.verifier.operators import Curve
from numpy.typing import NDArray

EXACT = np.longdouble
CURVES = list(Curve)
positions = st.none() | st.tuples(st.floats(0, 1), st.floats(0, 1))
firsts = st.none() | st.floats(-10, 10) | st.floats(-1e6, 1e6)
ends = st.one_of(
    st.floats(-6, 6), st.floats(-1e-6, 1e-6), st.floats(-60, 60), st.floats(-1e6, 1e6), st.just(0.0)
)
widths = st.one_of(st.just(0.0), st.floats(0, 1e-12), st.floats(0, 1e-4), st.floats(0, 10), st.floats(0, 1e6))


def exactly(curve: Curve, value: NDArray[np.longdouble]) -> NDArray[np.longdouble]:
    """The function in the longest floats there are; 64 bits of mantissa on x86."""
    if curve is Curve.TANH:
        return np.tanh(value)
    small = np.exp(-np.abs(value))
    return np.where(value >= 0, 1 / (1 + small), small / (1 + small))


def lines_on(
    curve: Curve, low: float, high: float, free: tuple[float, float] | None = None, first: float | None = None
) -> CurveLines:
    points = None if first is None else double(first)
    chosen = None if free is None else CurveFreedom(double(free[0]), double(free[1]), points, points)
    return curve_lines(curve, double(low), double(high), chosen)


def double(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def points_between(low: float, high: float) -> NDArray[np.longdouble]:
    """Evenly, and closely around the ends, zero, and wherever the function bends."""
    shares = np.linspace(0, 1, 301, dtype=EXACT)
    near = np.concatenate([shares * 1e-6, shares, 1 - shares * 1e-6])
    bends = np.linspace(-20, 20, 801, dtype=EXACT)
    every = np.concatenate([EXACT(low) + (EXACT(high) - EXACT(low)) * near, bends, EXACT([low, high, 0.0])])
    return every[(every >= low) & (every <= high)]


@pytest.mark.skipif(np.finfo(EXACT).nmant < 63, reason="no floats longer than float64 here")
@settings(max_examples=400, deadline=None)
@given(curve=st.sampled_from(CURVES), low=ends, width=widths, free=positions, first=firsts)
def test_lines_never_cross_the_function(curve, low, width, free, first):
    """Wherever tangents touch, and from whatever point on they are looked for."""
    high = low + width
    lines = lines_on(curve, low, high, free, first)
    points = points_between(low, high)
    values = exactly(curve, points)
    upper = EXACT(lines.upper_slope.item()) * points + EXACT(lines.upper_shift.item())
    lower = EXACT(lines.lower_slope.item()) * points + EXACT(lines.lower_shift.item())
    assert (upper >= values).all()
    assert (lower <= values).all()


@settings(max_examples=300, deadline=None)
@given(curve=st.sampled_from(CURVES), point=ends)
def test_one_point_has_its_value(curve, point):
    lines = lines_on(curve, point, point)
    value = evaluate_curve(curve, double(point)).item()
    allowed = 4 * CURVE_ERROR[torch.float64] * (1 + abs(point))
    assert abs(lines.upper_slope.item() * point + lines.upper_shift.item() - value) <= allowed
    assert abs(lines.lower_slope.item() * point + lines.lower_shift.item() - value) <= allowed


@settings(max_examples=300, deadline=None)
@given(curve=st.sampled_from(CURVES), low=st.floats(-8, 8), width=st.floats(1e-3, 12))
def test_lines_touch_the_function(curve, low, width):
    """No line can be moved towards the function by more than the search for its point of contact leaves."""
    lines = lines_on(curve, low, low + width)
    points = np.linspace(low, low + width, 4001)
    values = exactly(curve, points.astype(EXACT)).astype(np.float64)
    above = lines.upper_slope.item() * points + lines.upper_shift.item() - values
    below = values - lines.lower_slope.item() * points - lines.lower_shift.item()
    assert above.min() <= 1e-5 * width
    assert below.min() <= 1e-5 * width


@pytest.mark.parametrize("curve", CURVES)
def test_saturated_ends_give_nearly_constant_lines(curve):
    ends_of = {Curve.SIGMOID: (0.0, 1.0), Curve.TANH: (-1.0, 1.0)}[curve]
    for low, high, value in ((-1e5, -200.0, ends_of[0]), (200.0, 1e5, ends_of[1])):
        lines = lines_on(curve, low, high)
        for point in (low, high):
            assert lines.upper_slope.item() * point + lines.upper_shift.item() == pytest.approx(
                value, abs=1e-6
            )
            assert lines.lower_slope.item() * point + lines.lower_shift.item() == pytest.approx(
                value, abs=1e-6
            )


@pytest.mark.parametrize("curve", CURVES)
def test_free_lines_start_where_the_default_ones_are(curve):
    random = np.random.default_rng(0)
    low = torch.tensor(random.normal(size=500) * 4)
    high = low + torch.tensor(random.random(500) * 8)
    free = initial_curve_freedom(curve, low, high)
    for default, same in zip(
        vars_of(curve_lines(curve, low, high)), vars_of(curve_lines(curve, low, high, free)), strict=True
    ):
        torch.testing.assert_close(default, same, rtol=0, atol=1e-12)


def vars_of(lines: CurveLines) -> tuple[torch.Tensor, ...]:
    return lines.lower_slope, lines.lower_shift, lines.upper_slope, lines.upper_shift


@pytest.mark.parametrize("curve", CURVES)
def test_slope_is_the_derivative(curve):
    points = torch.linspace(-30, 30, 601, dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(evaluate_curve(curve, points).sum(), points)
    torch.testing.assert_close(curve_slope(curve, points.detach()), expected, rtol=0, atol=4e-16)


@pytest.mark.parametrize("curve", CURVES)
def test_lines_are_differentiable_in_the_bounds_and_the_freedom(curve):
    low = double(-3.0, -1.0, 0.5, -2.0, 0.0, 1.0).requires_grad_()
    high = double(-1.0, 2.0, 3.0, 0.1, 0.0, 1.0).requires_grad_()
    free = CurveFreedom(*(torch.full_like(low, 0.3).detach().requires_grad_() for _ in range(2)))
    sum(item.sum() for item in vars_of(curve_lines(curve, low, high, free))).backward()
    for item in (low, high, free.above, free.below):
        assert item.grad is not None
        assert torch.isfinite(item.grad).all()
