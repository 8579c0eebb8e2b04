"""Slopes of the scores: every open atom is pushed down, in either precision, and what is no number proves nothing."""

import numpy as np
import pytest
import torch
from mlverify.verifier.bounds_engine import BoundsEngine
from mlverify.verifier.budget import Budget
from mlverify.verifier.descent import BRISK, descended
from mlverify.verifier.linear_bounds import LinearBounds
from mlverify.verifier.onnx_reader import load_network
from mlverify.verifier.property import Clause, Property
from mlverify.verifier.region import Region
from mlverify.verifier.relaxation import relu_lines
from mlverify.verifier.torch_network import TorchNetwork
from onnx_factory import dense_network


@pytest.fixture
def scene(tmp_path):
    network = load_network(dense_network(tmp_path / "n.onnx", (6, 30, 30, 4), seed=2))
    region = Region.linf(np.full(6, 0.5, dtype=np.float32), 0.15)
    weights = np.array([[-1.0, 1, 0, 0], [-1.0, 0, 1, 0], [-1.0, 0, 0, 1]])
    # far above zero, so that every atom stays open
    return network, region, Clause(weights, np.full(3, 100.0), 1)


@pytest.mark.parametrize("single", [False, True])
def test_every_atom_is_pushed_down_and_contains_every_point(scene, single):
    network, region, clause = scene
    linear = LinearBounds(network)
    with torch.no_grad():
        bounds = linear.propagate(*linear.box([region, region]))
        before = linear.upper(network.output, linear.tensor(clause.weights)[None], bounds).numpy() + 100.0
    search = LinearBounds(network, torch.float32) if single else None
    found = descended(linear, clause, bounds, BRISK, Budget(), search)
    assert found.shape == (2, 3)
    assert (found < before).all()
    points = np.random.default_rng(0).uniform(region.lower, region.upper, (1000, 6))
    with torch.no_grad():
        scores = TorchNetwork(network, torch.float64)(torch.as_tensor(points)).numpy()
    highest = (scores @ clause.weights.T + clause.offsets).max(axis=0)
    assert (highest <= found + 1e-9).all()


def test_brisk_steps_leave_the_bounds_of_values_and_what_is_proved(scene):
    network, region, clause = scene
    engine = BoundsEngine(network)
    question = Property((clause, Clause(clause.weights, np.full(3, -1e6), 1)), "one proved, one open")
    first = engine.crown(region, question)
    second = engine.descend(question, first, Budget(), brisk=True)
    assert second.values is first.values
    assert (second.clauses[0].atom_upper < first.clauses[0].atom_upper).all()
    assert second.clauses[1].proved
    assert (second.clauses[1].atom_upper == first.clauses[1].atom_upper).all()


def test_bounds_that_are_no_numbers_give_no_lines():
    nan, one = torch.tensor([float("nan")]), torch.ones(1)
    for low, high in ((nan, one), (-one, nan), (nan, nan), (one, nan), (nan, -one)):
        lines = relu_lines(low, high, 0.0)
        assert not torch.isfinite(lines.upper_slope + lines.upper_shift).any()
