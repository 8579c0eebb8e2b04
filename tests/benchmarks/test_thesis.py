import math

import numpy as np
import pytest
from mlverify.benchmarks.thesis import LoopOutcome, expansion_direction, layer_gradient
from mlverify.benchmarks.thesis_loop import Comparison, Ours, ratio, summary_lines, time_to_reach, traced


def test_direction_is_a_unit_vector_away_from_the_gradient():
    direction = expansion_direction(np.ones(4), np.array([0.0, 0.0, 0.0, 5.0]), 0.99)
    assert np.allclose(direction, [3**-0.5, 3**-0.5, 3**-0.5, 0.0])


def test_direction_follows_the_weights_where_the_gradient_says_nothing():
    assert np.allclose(expansion_direction(np.array([3.0, 4.0]), np.zeros(2), 0.99), [0.6, 0.8])
    assert np.allclose(expansion_direction(np.array([3.0, 4.0]), np.array([6.0, 8.0]), 1.0), [0.6, 0.8])


def test_layers_without_weight_do_not_grow():
    direction = expansion_direction(np.array([1.0, 0.0]), np.array([1.0, -9.0]), 0.5)
    assert np.array_equal(direction, [1.0, 0.0])


def test_small_relaxation_turns_toward_the_size():
    gradient = np.array([1.0, 0.0])
    far, near = (expansion_direction(np.ones(2), gradient, value) for value in (0.7, 0.1))
    assert near[0] > far[0]


def test_layer_gradient_is_the_chain_rule():
    rng = np.random.default_rng(0)
    layers = np.array([[0, 1], [1, 2]])
    epsilons, slope = np.array([0.1, 0.2, 0.0]), rng.normal(size=(2, 2, 2))
    position = rng.uniform(-1, 1, size=(2, 2, 2))
    found = layer_gradient(slope, position * epsilons[layers], layers, epsilons)
    terms = slope * position
    expected = [terms[:, 0, 0].sum(), terms[:, 0, 1].sum() + terms[:, 1, 0].sum(), 0.0]
    assert np.allclose(found, expected)


def comparison(fixed: float, ours: float, loop_seconds: float, reach: float) -> Comparison:
    loop = LoopOutcome(np.zeros(1), fixed, loop_seconds, 3)
    return Comparison("noDef", "0_32", loop, loop, Ours(ours, 30.0, 5, [(reach, fixed), (30.0, ours)]))


def test_ratios_of_size_and_time():
    item = comparison(0.5, 2.0, 10.0, 0.5)
    assert item.size_ratios == (4.0, 4.0)
    assert item.time_ratios == (20.0, 20.0)
    lines = summary_lines([item, comparison(1.0, 2.0, 10.0, 1.0)])
    assert "median 3.00 (2.00 to 4.00)" in lines[0]
    assert "median 15.0 (10.0 to 20.0)" in lines[1]


def test_a_size_that_is_never_reached_counts_as_no_speed():
    assert time_to_reach([(1.0, 0.1), (2.0, 0.3)], 0.2) == 2.0
    assert time_to_reach([(1.0, 0.1)], 0.2) == math.inf
    assert ratio(5.0, math.inf) == 0.0


@pytest.mark.parametrize(
    ("above", "below", "expected"), [(1.0, 2.0, 0.5), (0.0, 0.0, 1.0), (1.0, 0.0, math.inf)]
)
def test_ratio(above, below, expected):
    assert ratio(above, below) == expected


def test_trace_counts_from_its_start():
    ticks = iter([10.0, 11.0, 13.0])
    trace, observe = traced(lambda: next(ticks))
    observe("ascent", 0.1, 0.5)
    observe("ascent", 0.2, 0.75)
    assert trace == [(1.0, 0.5), (3.0, 0.75)]
