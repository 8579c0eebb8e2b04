"""The falsifier: where counterexamples hide, and which clause is searched first."""

import numpy as np
import pytest
from mlverify.attacks.apgd import Apgd
from mlverify.verifier import falsify
from mlverify.verifier.budget import Budget
from mlverify.verifier.falsify import QUICK, THOROUGH, Falsifier
from mlverify.verifier.onnx_reader import load_network
from mlverify.verifier.problem import Problem
from mlverify.verifier.property import Clause, Property
from mlverify.verifier.region import Region
from mlverify.verifier.replay import Replay
from mlverify.verifier.torch_network import TorchNetwork
from onnx_factory import linear_network


@pytest.fixture
def network(tmp_path):
    """Each score is an input."""
    return load_network(linear_network(tmp_path / "net.onnx", np.eye(3), (3,)))


def falsifier(network):
    return Falsifier(TorchNetwork(network), Replay(network))


def at_least(*levels):
    """One clause for each level: a score that reaches it violates."""
    rows = np.eye(3)
    clauses = tuple(Clause(rows[i : i + 1], np.array([-level]), 1) for i, level in enumerate(levels))
    return Property(clauses, "scores stay low")


def test_the_nearest_clause_is_searched_first(network, monkeypatch):
    seen = []
    search = Falsifier._search_clauses

    def watched(self, problem, clauses, attack, seed, budget):
        if attack is THOROUGH:
            seen.append(-clauses[0].offsets[0])
        return search(self, problem, clauses, attack, seed, budget)

    monkeypatch.setattr(Falsifier, "_search_clauses", watched)
    region = Region(np.zeros(3), np.ones(3))
    outcome = falsifier(network).search(
        Problem(network, region, at_least(1.5, 1.2, 1.9)), THOROUGH, 0, Budget.of_seconds(20)
    )
    assert outcome.witness is None
    assert outcome.margin == pytest.approx(-0.2)
    assert seen == [1.2, 1.5, 1.9]


def test_a_witness_of_any_clause_ends_the_search(network):
    region = Region(np.zeros(3), np.ones(3))
    problem = Problem(network, region, at_least(1.5, 0.9, 1.9))
    for attack in (QUICK, THOROUGH):
        outcome = falsifier(network).search(problem, attack, 0, Budget.of_seconds(20))
        assert outcome.witness is not None
        assert outcome.witness.image[1] >= np.float32(0.9)


def test_only_networks_of_few_inputs_are_sampled(network, monkeypatch):
    def refused(*_):
        raise AssertionError("sampled")

    monkeypatch.setattr(falsify.SampledApgd, "maximize", refused)
    problem = Problem(network, Region(np.zeros(3), np.ones(3)), at_least(1.5, 1.5, 1.5))
    falsifier(network).search(problem, QUICK, 0, Budget.of_seconds(20))
    monkeypatch.setattr(falsify, "FEW_INPUTS", 2)
    falsifier(network).search(problem, Apgd(5, 2), 0, Budget.of_seconds(20))
    monkeypatch.setattr(falsify, "FEW_INPUTS", 3)
    with pytest.raises(AssertionError, match="sampled"):
        falsifier(network).search(problem, Apgd(5, 2), 0, Budget.of_seconds(20))
