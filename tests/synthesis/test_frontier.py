"""Directions between bounds and attacks, and steps along them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from mlverify.synthesis import frontier as frontier_module
from mlverify.synthesis.ascent import Ascent, AscentSettings
from mlverify.synthesis.between import Between
from mlverify.synthesis.frontier import Frontier, FrontierSettings
from mlverify.synthesis.objective import Objective
from mlverify.synthesis.rows import CertifiedRows
from mlverify.synthesis.shape import Order, Shape
from mlverify.verifier.budget import Budget
from mlverify.verifier.linear_bounds import LinearBounds
from mlverify.verifier.result import Result, Verdict


def ignore(share, size):
    del share, size


def climbed(scene, shape=None, objective=Objective.WEIGHTED_SUM):
    """An oracle, and rows after a short ascent."""
    problem = replace(scene.problem(), shape=shape, objective=objective)
    linear = LinearBounds(scene.network, torch.float32)
    where, clause = problem.neighbourhood, problem.question.clauses[0]
    rows = CertifiedRows(
        linear, where.image, where.layers, problem.weights, clause, objective, problem.allowed
    )
    Ascent(rows, AscentSettings(40), ignore).run(Budget())
    return scene.oracle(problem), rows


@pytest.mark.parametrize("objective", [Objective.WEIGHTED_SUM, Objective.LOG_VOLUME, Objective.MEAN_WIDTH])
def test_nearer_to_attacks_is_larger(scene, objective):
    oracle, rows = climbed(scene, objective=objective)
    vectors = [Between(oracle, rows, share).run(25, Budget()) for share in (0.0, 0.5, 1.0)]
    values = [oracle.scope.goal.value(vector) for vector in vectors]
    assert rows.best.value * (1 - 1e-6) <= values[0] < values[1] < values[2]


def test_at_share_zero_linear_bounds_prove_it(scene):
    oracle, rows = climbed(scene)
    assert (
        oracle.prover.cheap.verify(
            scene.problem().at(0.98 * Between(oracle, rows, 0.0).run(25, Budget()))
        ).verdict
        is Verdict.HOLDS
    )


def test_at_share_one_attacks_break_what_is_little_larger(scene):
    oracle, rows = climbed(scene)
    vector = Between(oracle, rows, 1.0).run(25, Budget())
    beyond = oracle.weakening.climb(np.minimum(1.2 * vector, 1.0), oracle.weakening.corners(16), 40, Budget())
    assert beyond.margins.max() > 0


@pytest.mark.parametrize("order", [Order.NON_INCREASING, Order.NON_DECREASING])
def test_it_keeps_the_shape_and_repeats_itself(scene, order):
    shape = Shape.tied(scene.count, 3, order)
    first, second = (Between(*climbed(scene, shape), 0.5).run(10, Budget()) for _ in range(2))
    np.testing.assert_allclose(shape.inside(first), first, atol=1e-9)
    np.testing.assert_array_equal(first, second)


def test_without_time_there_is_no_direction(scene):
    oracle, rows = climbed(scene)
    assert Between(oracle, rows, 0.5).run(10, Budget.of_seconds(0.0)) is None


def test_rows_stay_as_they_were(scene):
    oracle, rows = climbed(scene)
    best, subsets = rows.best, list(rows.subsets)
    before = rows.restore(best).worst(best.epsilons)
    Between(oracle, rows, 0.5).run(10, Budget())
    assert rows.best is best
    assert rows.subsets == subsets
    assert rows.worst(best.epsilons) == before


class Judge:
    """Stands in for the engines: proves vectors up to a size along one direction, and remembers what it was asked."""

    def __init__(self, oracle, good, most):
        self.oracle, self.good, self.most, self.asked = oracle, good / good.sum(), most, []

    def __call__(self, epsilons, budget, *, completely):
        self.asked.append(epsilons)
        self.oracle.complete += 1
        along = np.allclose(epsilons / epsilons.sum(), self.good)
        verdict = Verdict.HOLDS if along and epsilons.sum() <= self.most else Verdict.UNKNOWN
        return Result(verdict, "", "bab", 0.0)


def followed(scene, monkeypatch, directions, good, most, cutting=None):
    """A frontier that starts small and has these directions."""
    oracle, _ = climbed(scene)
    judge = Judge(oracle, good, most)
    monkeypatch.setattr(type(oracle), "ask", lambda oracle, *asked, **how: judge(*asked, **how))
    monkeypatch.setattr(Frontier, "_directions", lambda frontier, rows, budget: list(directions))
    start = np.full(scene.count, 1e-3)
    found = Frontier(oracle, FrontierSettings(questions=40), ignore, start, cutting)
    found.beyond(None, Budget())
    return found, judge


def test_a_direction_that_fails_hands_over_to_the_next(scene, monkeypatch):
    flat, rising = np.ones(scene.count), np.arange(1.0, scene.count + 1)
    found, judge = followed(scene, monkeypatch, [flat, rising], rising, 0.008)
    size = 1e-3 * scene.count
    assert judge.asked[0].sum() == pytest.approx((1 + frontier_module.FIRST_STRETCH) * size)
    np.testing.assert_allclose(judge.asked[0] / judge.asked[0].sum(), flat / flat.sum())
    assert judge.asked[1].sum() == pytest.approx((1 + frontier_module.FIRST_STRETCH / 2) * size)
    np.testing.assert_allclose(found.epsilons / found.epsilons.sum(), rising / rising.sum())
    assert 0.008 / (1 + 2 * frontier_module.FIRST_STRETCH) < found.epsilons.sum() <= 0.008


def test_a_proposal_that_is_not_proved_is_cut_once(scene, monkeypatch):
    flat = np.ones(scene.count)
    weights = np.linspace(0.8, 0.0, scene.count)
    _, judge = followed(scene, monkeypatch, [flat], np.arange(1.0, scene.count + 1), 1.0, weights)
    np.testing.assert_allclose(judge.asked[1], judge.asked[0] * weights + 1e-3 * (1 - weights))


def test_a_direction_that_can_not_be_worth_as_much_is_left_out(scene, monkeypatch):
    flat, one = np.ones(scene.count), np.eye(scene.count)[0]
    oracle, _ = climbed(scene)
    found = Frontier(oracle, FrontierSettings(), ignore, np.full(scene.count, 0.5))
    assert found._along(one, 0.1) is None
    assert found._along(np.zeros(scene.count), 0.1) is None
    np.testing.assert_allclose(found._along(flat, 0.1), 0.55 * flat)


@pytest.mark.parametrize("order", [Order.NON_INCREASING, Order.NON_DECREASING])
def test_what_is_proved_has_the_shape_to_the_last_digit(scene, order):
    """Sums of a linear program's steps do not, and ``mlverify check`` refuses what has not."""
    shape = Shape(np.arange(scene.count), order)
    oracle = scene.oracle(replace(scene.problem(), shape=shape))
    rounded = np.full(scene.count, 1e-3)
    rounded[::2] = np.nextafter(1e-3, 1.0)
    assert (shape.inside(rounded) != rounded).any()
    found = Frontier(oracle, FrontierSettings(), ignore, np.zeros(scene.count))
    assert found.try_vector(rounded, Budget())
    np.testing.assert_array_equal(shape.inside(found.epsilons), found.epsilons)
    assert oracle.proof_of(found.epsilons).result.verdict is Verdict.HOLDS
