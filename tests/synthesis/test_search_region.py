"""Boxes of vectors that are left: as the MILP says, and never short of a vector that the no-goods allow."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlverify.synthesis.nogoods import NoGood, NoGoods, _Program
from mlverify.synthesis.objective import Goal, Objective
from mlverify.synthesis.search_region import SearchRegion
from mlverify.synthesis.shape import Order, Shape
from mlverify.verifier.budget import Budget

IMAGE = np.zeros((1, 2, 2), np.float32)
SHAPES = [
    Shape.free(4),
    Shape(np.arange(4), Order.NON_INCREASING),
    Shape(np.arange(4), Order.NON_DECREASING),
    Shape.tied(4, 2),
]
WEIGHTS = np.array([1.0, 2.0, 0.5, 1.5])


def deviations(count, seed, layers=4):
    rng = np.random.default_rng(seed)
    found = rng.random((count, layers)) ** 2
    # witnesses that leave layers alone, and some that reach the whole range
    found[rng.random(found.shape) < 0.2] = 0.0
    found[rng.random(found.shape) < 0.1] = 1.0
    return found[found.any(axis=1)]


def region_of(goal, shape, rows):
    region = SearchRegion(goal, shape)
    region.give(rows)
    return region


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("objective", [Objective.WEIGHTED_SUM, Objective.MEAN_WIDTH, Objective.MAX_MIN])
def test_it_agrees_with_the_milp(objective, shape, seed):
    goal, rows = Goal(objective, WEIGHTS), deviations(12, seed)
    region = region_of(goal, shape, rows)
    region.leading(1, Budget())
    assert region.bound == pytest.approx(_Program(rows, goal, shape).solve(20.0).value, abs=1e-3)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(SHAPES), st.sampled_from(list(Objective)))
def test_no_vector_that_is_left_is_worth_more(seed, shape, objective):
    goal, rows = Goal(objective, WEIGHTS), deviations(15, seed)
    region = region_of(goal, shape, rows)
    region.leading(3, Budget())
    rng = np.random.default_rng(seed)
    below = np.nextafter(rows[rng.integers(0, len(rows), (200, 4)), np.arange(4)], -1.0).clip(0.0, 1.0)
    for vector in np.concatenate([rng.random((200, 4)), below]):
        epsilons = shape.inside(vector)
        if not (rows <= epsilons).all(axis=1).any():
            assert goal.value(epsilons) <= region.bound


def test_the_best_corner_is_allowed_and_reaches_the_bound():
    goal, rows = Goal(Objective.WEIGHTED_SUM, WEIGHTS), deviations(30, 1)
    region = region_of(goal, Shape.free(4), rows)
    corners = region.epsilons(region.leading(5, Budget()))
    assert not (rows[:, None] <= corners[None]).all(axis=2).any()
    assert goal.value(corners[0]) == pytest.approx(region.bound, rel=1e-9)


def test_the_no_goods_that_it_used_are_enough():
    goal, rows = Goal(Objective.WEIGHTED_SUM, WEIGHTS), deviations(60, 2)
    region = region_of(goal, Shape.free(4), rows)
    region.leading(1, Budget())
    again = region_of(goal, Shape.free(4), rows[region.used])
    again.leading(1, Budget())
    assert len(region.used) < len(rows)
    assert again.bound == region.bound


def test_without_time_the_bound_is_loose_and_still_one():
    goal, rows = Goal(Objective.WEIGHTED_SUM, WEIGHTS), deviations(30, 3)
    loose, tight = (region_of(goal, Shape.free(4), rows) for _ in range(2))
    loose.leading(1, Budget.of_seconds(0.0))
    tight.leading(1, Budget())
    assert loose.bound == pytest.approx(WEIGHTS.sum())
    assert tight.bound < loose.bound


def test_bands_without_weight_stay_at_zero():
    goal = Goal(Objective.WEIGHTED_SUM, np.array([0.0, 1.0]))
    region = region_of(goal, Shape.free(2), np.array([[0.1, 0.5], [0.0, 0.7]]))
    corner = region.epsilons(region.leading(1, Budget()))[0]
    # the first witness needs the band that nobody wants
    np.testing.assert_allclose(corner, [0.0, 0.7])


def test_a_witness_that_is_the_clean_image_leaves_nothing():
    region = region_of(Goal(Objective.WEIGHTED_SUM, np.ones(2)), Shape.free(2), np.zeros((1, 2)))
    assert len(region.leading(1, Budget())) == 0
    assert region.bound == -np.inf


def test_the_bound_says_what_it_rests_on():
    nogoods, goal = NoGoods(), Goal(Objective.WEIGHTED_SUM, np.ones(4))
    for row in deviations(40, 4):
        nogoods.add(NoGood(row, IMAGE))
    bound = nogoods.upper_bound(goal, Shape.free(4), 10.0)
    fewer = NoGoods()
    for item in bound.grounds:
        fewer.add(item)
    assert len(bound.grounds) < len(nogoods.items)
    assert fewer.upper_bound(goal, Shape.free(4), 10.0).value == bound.value
