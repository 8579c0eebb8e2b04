"""Branch and bound against the MILP and samples; how it stops and goes on."""

import numpy as np
import pytest
import torch
from mlverify.verifier.bounds_engine import BoundsEngine
from mlverify.verifier.budget import Budget
from mlverify.verifier.max_engine import Branching
from mlverify.verifier.max_search import SearchSettings
from mlverify.verifier.milp import MilpVerdict, solve_clause
from mlverify.verifier.milp_highs import HighsBackend
from mlverify.verifier.onnx_reader import load_network
from mlverify.verifier.property import top_k
from mlverify.verifier.region import Region
from mlverify.verifier.torch_network import TorchNetwork
from onnx_factory import conv_network, dense_network

QUICK = SearchSettings(batch=8, steps=4, root_steps=5)


def problems(tmp_path, count):
    for seed in range(count):
        if seed % 2:
            network = load_network(conv_network(tmp_path / f"{seed}.onnx", seed=seed))
        else:
            network = load_network(dense_network(tmp_path / f"{seed}.onnx", (5, 8, 8, 5), seed=seed))
        generator = np.random.default_rng(seed)
        image = generator.random(network.input_shape).astype(np.float32)
        labels = len(network.labels)
        with torch.no_grad():
            logits = network.module()(torch.tensor(image)[None])[0].numpy()
        k = 1 + seed % min(3, labels - 1)
        target = int(np.argsort(-logits)[0])
        yield network, Region.linf(image, float(generator.uniform(0.02, 0.5))), top_k(labels, target, k)


def branching(network, region, question, settings=QUICK):
    outcome = BoundsEngine(network).crown(region, question)
    return Branching(network, outcome.values, question.clauses[0], outcome.clauses[0], settings)


def test_agrees_with_the_milp_and_never_contradicts_samples(tmp_path):
    decided = 0
    for network, region, question in problems(tmp_path, 40):
        clause = question.clauses[0]
        found = branching(network, region, question).advance(Budget())
        values = BoundsEngine(network).crown(region, question).values
        answer = solve_clause(network, values, clause, HighsBackend(), Budget())
        points = np.random.default_rng(1).uniform(region.lower, region.upper, (300, *region.shape))
        module = TorchNetwork(network, torch.float64)
        with torch.no_grad():
            logits = module(torch.tensor(points)).numpy()
        if found.clause.proved:
            decided += 1
            assert answer.verdict is MilpVerdict.PROVED
            assert clause.margin(logits).max() <= found.clause.margin_bound + 1e-9
        elif found.candidate is not None:
            decided += 1
            assert answer.verdict is MilpVerdict.CANDIDATE
            assert region.lower.min() <= found.candidate.min()
            with torch.no_grad():
                score = module(torch.tensor(found.candidate)[None]).numpy()
            assert clause.margin(score)[0] >= -1e-5
    assert decided >= 38


def hard(tmp_path):
    """A question that needs many splits and holds: a little below the epsilon that breaks the network."""
    network = load_network(dense_network(tmp_path / "hard.onnx", (8, 40, 40, 40, 4), seed=5))
    image = np.full(network.input_shape, 0.5, dtype=np.float32)
    with torch.no_grad():
        target = int(network.module()(torch.tensor(image)[None])[0].argmax())
    return network, Region.linf(image, 0.082), top_k(4, target, 1)


def test_leaves_cover_the_region(tmp_path):
    """Every point of the region satisfies the decisions of some leaf of every refutation."""
    network, region, question = hard(tmp_path)
    found = branching(network, region, question, SearchSettings()).advance(Budget())
    assert found.clause.proved
    assert found.domains > 50
    for refutation in found.refutations:
        paths = [leaf.decisions for leaf in refutation.leaves]
        assert closes(paths)


def closes(paths) -> bool:
    """Whether decision paths are the leaves of a tree that splits on both sides of a ReLU each time."""
    if len(paths) == 1:
        return paths[0] == ()
    group, node, _ = paths[0][0]
    sides: dict[int, list] = {}
    for path in paths:
        if path[0][:2] != (group, node):
            return False
        sides.setdefault(path[0][2], []).append(path[1:])
    return len(sides) == 2 and all(closes(side) for side in sides.values())


def test_goes_on_where_it_stopped(tmp_path):
    network, region, question = hard(tmp_path)
    search = branching(network, region, question)
    stopped = search.advance(Budget.of_seconds(0))
    assert not stopped.clause.proved
    assert stopped.candidate is None
    assert "stopped" in stopped.reason
    assert search.advance(Budget()).clause.proved


def test_respects_the_memory_ceiling(tmp_path):
    network, region, question = hard(tmp_path)
    small = SearchSettings(batch=4, steps=2, root_steps=2, memory=20_000)
    assert branching(network, region, question, small).advance(Budget()).clause.proved
    none = SearchSettings(batch=4, steps=1, root_steps=1, memory=1)
    found = branching(network, region, question, none).advance(Budget())
    assert not found.clause.proved
    assert "memory ceiling" in found.reason


@pytest.mark.parametrize("seed", range(4))
def test_is_deterministic(tmp_path, seed):
    network, region, question = list(problems(tmp_path, seed + 1))[-1]
    runs = [branching(network, region, question).advance(Budget()) for _ in range(2)]
    assert runs[0].reason == runs[1].reason
    assert runs[0].clause.margin_bound == runs[1].clause.margin_bound
