"""LP tightening: tighter, never wrong, and deaf to a solver that lies."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mlverify.verifier import lp_tightening
from mlverify.verifier.budget import Budget
from mlverify.verifier.interval import Interval, ValueBounds
from mlverify.verifier.lp_tightening import tighten
from mlverify.verifier.network import Network, Tail
from mlverify.verifier.operators import Linear, Relu
from mlverify.verifier.preprocessing import Preprocessing
from mlverify.verifier.torch_network import TorchNetwork

SCORES = np.arange(2)


def deep(seed):
    """Three hidden layers of six, inputs in [-1, 1]^3, and its interval bounds."""
    rng = np.random.default_rng(seed)
    operators, bounds, width = [], [Interval(-np.ones(3), np.ones(3))], 3
    for outputs in (6, 6, 6, 2):
        weight, bias = rng.normal(size=(outputs, width)), rng.normal(size=outputs)
        operators.append(Linear("linear", (len(operators),), (outputs,), weight, bias))
        low, high = bounds[-1].lower, bounds[-1].upper
        positive, negative = np.maximum(weight, 0), np.minimum(weight, 0)
        lower, upper = positive @ low + negative @ high + bias, positive @ high + negative @ low + bias
        bounds.append(Interval(lower, upper))
        if outputs > 2:
            operators.append(Relu("relu", (len(operators),), (outputs,), 0.0))
            bounds.append(Interval(np.maximum(lower, 0), np.maximum(upper, 0)))
        width = outputs
    network = Network(
        Path("none"), "", (3,), tuple(operators), 7, ("a", "b"), Tail.NONE, Preprocessing(), False, None, ()
    )
    return network, ValueBounds(tuple(bounds))


def sampled(network):
    images = torch.as_tensor(np.random.default_rng(0).uniform(-1, 1, (3000, 3)))
    return [value.numpy() for value in TorchNetwork(network, torch.float64).values(images)]


def assert_contains(bounds, values):
    for interval, value in zip(bounds.values, values, strict=True):
        assert (value >= interval.lower - 1e-9).all()
        assert (value <= interval.upper + 1e-9).all()


@pytest.mark.parametrize("seed", range(5))
def test_bounds_get_tighter_and_still_contain_every_sample(seed):
    network, bounds = deep(seed)
    result = tighten(network, bounds, SCORES, Budget())
    assert_contains(result.bounds, sampled(network))
    assert result.programs > 0
    before, after = bounds[5], result.bounds[5]
    assert (after.upper <= before.upper).all()
    assert (after.lower >= before.lower).all()
    assert (after.upper - after.lower).sum() < (before.upper - before.lower).sum()


@pytest.mark.parametrize("factor", [-1.0, 0.0, 3.0, np.nan])
def test_wrong_multipliers_cost_tightness_and_not_truth(monkeypatch, factor):
    class Liar(lp_tightening.RelaxationSolver):
        def multipliers(self, objective, budget):
            return factor * super().multipliers(objective, budget)

    monkeypatch.setattr(lp_tightening, "RelaxationSolver", Liar)
    network, bounds = deep(1)
    assert_contains(tighten(network, bounds, SCORES, Budget()).bounds, sampled(network))


def test_a_solver_without_duals_leaves_the_bounds(monkeypatch):
    monkeypatch.setattr(lp_tightening.RelaxationSolver, "multipliers", lambda *_: None)
    network, bounds = deep(2)
    after = tighten(network, bounds, SCORES, Budget()).bounds
    assert all(np.array_equal(a.upper, b.upper) for a, b in zip(after.values, bounds.values, strict=True))


def test_an_exhausted_budget_solves_nothing():
    network, bounds = deep(3)
    assert tighten(network, bounds, SCORES, Budget(cancelled=lambda: True)).programs == 0
