"""Decisions, flips and balls: what is asked and what is allowed."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mlverify.attacks.ball import Ball, Norm
from mlverify.attacks.decision import Threshold, TopK
from mlverify.attacks.flips import Aim, Flips, Others
from mlverify.errors import InputError
from scipy.optimize import minimize

SCORES = torch.tensor([[3.0, -1.0, 2.0, 0.5], [0.0, 0.0, -2.0, -1.0]])


def test_threshold_margins_are_scores_above_it():
    assert Threshold(0.5).present(SCORES).tolist() == [[True, False, True, True], [False] * 4]
    assert Threshold.of_probability(0.5).value == 0
    assert Threshold.of_probability(0.9).value == pytest.approx(2.1972246)


def test_top_k_margins_are_against_the_border():
    assert TopK(2).margins(SCORES)[0].tolist() == [2.5, -3.0, 1.5, -1.5]
    assert TopK(1).present(SCORES).tolist() == [[True, False, False, False], [True, True, False, False]]


def test_flips_by_number_and_by_toggling():
    flips = Flips.of(2, 4, hide=[0], show=[3])
    assert flips.wanted.tolist() == [[-1, 0, 0, 1]] * 2
    present = torch.tensor([[True, False, True, False]])
    targets = torch.tensor([[True, True, False, False]])
    assert Flips.toggle(present, targets).wanted.tolist() == [[-1, 1, 0, 0]]
    assert Flips.hide_all(present).wanted.tolist() == [[-1, 0, -1, 0]]
    assert Flips.show_most(present).aim is Aim.MOST


@pytest.mark.parametrize(
    ("others", "aim", "after", "success"),
    [
        (Others.FREE, Aim.ALL, [False, True, True], True),
        (Others.KEEP, Aim.ALL, [False, True, True], False),
        (Others.KEEP, Aim.ALL, [False, True, False], True),
        (Others.FREE, Aim.ALL, [False, False, False], False),
        (Others.FREE, Aim.MOST, [False, False, True], True),
        (Others.FREE, Aim.MOST, [True, False, False], False),
        (Others.KEEP, Aim.MOST, [False, False, True], False),
    ],
)
def test_success_is_what_was_asked(others, aim, after, success):
    flips = Flips(torch.tensor([[-1, 1, 0]]), others, aim)
    before = torch.tensor([[True, False, False]])
    assert flips.success(torch.tensor([after]), before).tolist() == [success]


@given(seed=st.integers(0, 10**6), epsilon=st.floats(0, 1), norm=st.sampled_from(Norm))
def test_projection_is_inside_the_ball_and_keeps_allowed_points(seed, epsilon, norm):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(3, 1, 4, 4, generator=generator)
    ball = Ball(epsilon, norm)
    points = ball.project(images + torch.randn(images.shape, generator=generator), images)
    assert bool(((points >= 0) & (points <= 1)).all())
    assert bool((norm.of(points - images) <= epsilon + 1e-6).all())
    torch.testing.assert_close(ball.project(images, images), images, rtol=0, atol=0)


def test_l2_projection_is_the_nearest_point():
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        image = torch.rand(1, 4, generator=generator, dtype=torch.float64)
        point = image + torch.randn(1, 4, generator=generator, dtype=torch.float64)
        mine = Ball(0.4, Norm.L2).project(point, image)
        x, p = image[0].numpy(), point[0].numpy()
        exact = minimize(
            lambda z, p=p: ((z - p) ** 2).sum(),
            x,
            bounds=[(0, 1)] * 4,
            constraints={"type": "ineq", "fun": lambda z, x=x: 0.16 - ((z - x) ** 2).sum()},
            options={"ftol": 1e-12},
        )
        assert mine[0].tolist() == pytest.approx(exact.x.tolist(), abs=1e-4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Ball(1.5), "above 1"),
        (lambda: Ball(-0.1), "no size"),
        (lambda: Ball(float("nan")), "no size"),
        (lambda: Flips.of(1, 3, hide=[3]), "no label 3"),
        (lambda: Flips.of(1, 3, hide=[1], show=[1]), "hidden and shown"),
        (lambda: Flips.of(1, 3), "no label is asked"),
        (lambda: Flips(torch.tensor([[2]])), "values -1"),
        (lambda: TopK(4).margins(SCORES), "top-4"),
        (lambda: Threshold.of_probability(1.0), "no probability"),
    ],
)
def test_bad_wishes_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()
