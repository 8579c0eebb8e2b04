"""What the engines prove stands up to the independent checker."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mlverify.verifier.bounds_engine import BoundsEngine
from mlverify.verifier.budget import Budget
from mlverify.verifier.onnx_reader import load_network
from mlverify.verifier.portfolio import Engine, Settings, Verifier
from mlverify.verifier.problem import Problem
from mlverify.verifier.proof_checker import check_certificate
from mlverify.verifier.proof_record import pool_slopes
from mlverify.verifier.property import Clause, Property, top_k
from mlverify.verifier.region import Region
from mlverify.verifier.result import Result, Verdict
from onnx_factory import dense_network, write_graph
from soundness.random_networks import GraphWriter, logits_at
from soundness.test_proof_search import sampled_maximum
from soundness.test_proofs import pool_problem, random_problem


def two_pools(path: Path, seed: int) -> Path:
    """Convolution, ReLU, pool, convolution, ReLU, pool over what no ReLU precedes, scores."""
    writer = GraphWriter(np.random.default_rng(seed), "input", (1, 8, 8))
    writer.add("Conv", (3, 8, 8), writer.normal(3, 1, 3, 3), writer.normal(3), pads=[1, 1, 1, 1])
    writer.add("Relu", (3, 8, 8))
    writer.add("MaxPool", (3, 4, 4), kernel_shape=[2, 2], strides=[2, 2])
    writer.add("Conv", (4, 4, 4), writer.normal(4, 3, 3, 3), writer.normal(4), pads=[1, 1, 1, 1])
    writer.add("LeakyRelu", (4, 4, 4), alpha=0.1)
    writer.add("MaxPool", (4, 2, 2), kernel_shape=[2, 2], strides=[2, 2])
    writer.to_vector()
    writer.scores(3, duplicate=False)
    writer.nodes[-1].output[0] = "output"
    return write_graph(path, writer.nodes, writer.constants, (1, 8, 8), 3)


def problem_beyond_crown(path: Path, shape: tuple[int, ...], share: float, eps: float) -> Problem:
    """Pairs of atoms that plain CROWN refutes but for ``share`` of the distance to the clean image's values."""
    network = load_network(path)
    image = np.random.default_rng(0).random(shape).astype(np.float32)
    region = Region.linf(image, eps)
    weights = np.array([[1.0, -1.0, 0.0], [0.0, -1.0, 1.0], [1.0, 0.0, -1.0]])
    engine = BoundsEngine(network)
    question = Property((Clause(weights, np.zeros(3), 2),), "pairs of atoms")
    upper = engine.crown(region, question).clauses[0].atom_upper
    centre = engine.crown(Region.linf(image, 0.0), question).clauses[0].atom_upper
    offsets = -(upper - share * (upper - centre))
    return Problem(network, region, Property((Clause(weights, offsets, 2),), "pairs of atoms"))


def certified(problem: Problem) -> Result:
    """What bounds and branch and bound say; when it holds, its certificate proves it."""
    engines = frozenset({Engine.BOUNDS, Engine.BAB})
    settings = Settings(threads=1, certify=True, engines=engines)
    result = Verifier(problem.network, settings).verify(problem, Budget.of_seconds(5))
    assert len(result.certificates) == (result.verdict is Verdict.HOLDS)
    for certificate in result.certificates:
        checked = check_certificate(problem, certificate)
        assert checked.proved, checked.reason
    return result


def test_optimised_slopes_and_trees_are_certified(tmp_path):
    engines: Counter[str] = Counter()
    for seed in range(3):
        for path, shape, eps in (
            (two_pools(tmp_path / "p.onnx", seed), (1, 8, 8), 0.03),
            (dense_network(tmp_path / "d.onnx", (16, 24, 24, 3), seed), (16,), 0.06),
            (dense_network(tmp_path / "i.onnx", (6, 24, 24, 3), seed), (6,), 0.1),
        ):
            for share in (0.02, 0.1, 0.3):
                result = certified(problem_beyond_crown(path, shape, share, eps))
                if result.verdict is Verdict.HOLDS:
                    engines[result.engine] += 1
    assert engines["bounds/alpha-crown"] > 2
    assert engines["bab"] > 2
    assert engines["bab/inputs"] > 2


@pytest.mark.parametrize("seed", range(40))
def test_whatever_is_proved_of_random_networks_is_certified(seed, tmp_path):
    problem = pool_problem(seed, tmp_path, 0.0) if seed % 4 == 0 else random_problem(seed, tmp_path, 0.02)
    if seed % 4 == 0:
        clause = problem.property.clauses[0]
        highest = sampled_maximum(problem)
        offsets = clause.offsets - highest - 0.05 * (1 + abs(highest))
        problem = replace(problem, property=Property((Clause(clause.weights, offsets, 1),), "one atom"))
    certified(problem)


def test_the_portfolio_hands_over_what_bounds_prove(tmp_path):
    network = load_network(dense_network(tmp_path / "n.onnx", (4, 8, 3), 1))
    image = np.full(4, 0.5, np.float32)
    scores = logits_at(network, image[None])[0]
    question = top_k(3, int(scores.argmax()), 1)
    problem = Problem(network, Region.linf(image, 0.001), question)
    result = Verifier(network, Settings(threads=1, certify=True)).verify(problem)
    assert result.verdict is Verdict.HOLDS
    assert check_certificate(problem, result.certificates[0]).proved
    assert not Verifier(network, Settings(threads=1)).verify(problem).certificates
    without = Settings(threads=1, certify=True, engines=frozenset({Engine.MILP}))
    assert Verifier(network, without).verify(problem).verdict is Verdict.UNKNOWN


def test_numbers_are_rounded_into_range():
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.ones(5), size=(7, 11))[..., :4]
    for kept, levels in ((np.uint8, 255), (np.uint16, 65535)):
        table = pool_slopes(np.arange(11), rng.random((7, 11)), weights, kept)
        assert table.weights.dtype == kept
        assert (table.weights.sum(axis=2, dtype=np.int64) <= levels).all()
        assert np.abs(table.weights / levels - weights).max() <= 1.0 / levels
        full = pool_slopes(
            np.arange(11), rng.random((7, 11)), weights / weights.sum(axis=2, keepdims=True), kept
        )
        assert (full.weights.sum(axis=2, dtype=np.int64) == levels).all()
