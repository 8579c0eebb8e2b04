"""Attacks on corners: what they learn breaks the network, and their bound comes near what can be proved."""

from dataclasses import replace

import numpy as np
import pytest
from mlverify.synthesis.bounding import BoundingSettings, approach
from mlverify.synthesis.corner_attack import CornerAttack, CornerSettings
from mlverify.synthesis.frontier import Frontier, FrontierSettings
from mlverify.synthesis.objective import Objective
from mlverify.synthesis.shape import Order, Shape
from mlverify.verifier.budget import Budget


def oracle_of(scene, objective=Objective.WEIGHTED_SUM, shape=None):
    return scene.oracle(
        replace(scene.problem(), objective=objective, shape=shape or Shape.tied(scene.count, 2))
    )


@pytest.mark.parametrize("objective", [Objective.WEIGHTED_SUM, Objective.LOG_VOLUME, Objective.MEAN_WIDTH])
def test_the_bound_falls_and_every_no_good_breaks_the_network(scene, objective):
    oracle = oracle_of(scene, objective)
    attack = CornerAttack(oracle, CornerSettings(corners=8, rounds=6))
    start = attack.region.bound
    ahead = attack.run(-np.inf if objective is Objective.LOG_VOLUME else 0.0, Budget())
    assert attack.region.bound < start
    assert oracle.scope.goal.value(ahead) <= attack.region.bound
    margins = scene.margins(np.stack([item.image for item in oracle.nogoods.items]))
    assert (margins >= 0).all()


@pytest.mark.parametrize("order", [Order.NON_INCREASING, Order.NON_DECREASING])
def test_the_vector_ahead_has_the_shape_and_nothing_speaks_against_it(scene, order):
    shape = Shape.tied(scene.count, 3, order)
    oracle = oracle_of(scene, shape=shape)
    ahead = CornerAttack(oracle, CornerSettings(corners=8, rounds=6)).run(0.0, Budget())
    np.testing.assert_array_equal(shape.inside(ahead), ahead)
    assert oracle.nogoods.forbidding(ahead) is None


def test_attacks_and_proofs_meet(scene):
    oracle = oracle_of(scene)
    oracle.seed(Budget())
    frontier = Frontier(oracle, FrontierSettings(query_seconds=2.0), no_progress_size, np.zeros(scene.count))
    oracle.proven.append(frontier.epsilons)
    approach(oracle, BoundingSettings(approaches=6, few=CornerSettings(8, 6)), frontier, Budget())
    bound = oracle.nogoods.upper_bound(oracle.scope.goal, oracle.scope.shape, 10.0)
    size = oracle.scope.goal.size(frontier.epsilons)
    assert 0.8 * bound.value < size <= bound.value
    assert oracle.prover.ask(scene.problem().at(frontier.epsilons), Budget()).verdict == "holds"


def test_without_time_it_says_what_it_knew(scene):
    oracle = oracle_of(scene)
    ahead = CornerAttack(oracle, CornerSettings()).run(0.0, Budget.of_seconds(0.0))
    np.testing.assert_array_equal(ahead, np.ones(scene.count))


def no_progress_size(share, size):
    del share, size
