"""Branch and bound against the MILP, sampling, and pencil and paper."""

import numpy as np
import pytest
import torch
from mlverify.verifier.bab_engine import branch
from mlverify.verifier.bound_types import Freedom
from mlverify.verifier.bounds_engine import BoundsEngine
from mlverify.verifier.branch_and_bound import BabEnd, BabSettings, BranchAndBound
from mlverify.verifier.budget import Budget
from mlverify.verifier.domains import Domain, Split, batch_bounds
from mlverify.verifier.milp import MilpVerdict, solve_clause
from mlverify.verifier.milp_highs import HighsBackend
from mlverify.verifier.onnx_reader import load_network
from mlverify.verifier.property import top_k
from mlverify.verifier.region import Region
from onnx_factory import conv_network, dense_network

QUICK = BabSettings(batch=8, steps=4, root_steps=5)


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


def test_agrees_with_the_milp_and_never_contradicts_samples(tmp_path):
    decided = 0
    for network, region, question in problems(tmp_path, 40):
        engine = BoundsEngine(network)
        outcome = engine.crown(region, question)
        clause = question.clauses[0]
        found = branch(engine.linear, outcome.values, clause, outcome.clauses[0], Budget(), QUICK)
        answer = solve_clause(network, outcome.values, clause, HighsBackend(), Budget())
        points = np.random.default_rng(1).uniform(region.lower, region.upper, (300, *region.shape))
        with torch.no_grad():
            logits = engine.linear.module(torch.tensor(points)).numpy()
        if found.clause.proved:
            decided += 1
            assert answer.verdict is MilpVerdict.PROVED
            assert clause.margin(logits).max() <= found.clause.margin_bound + 1e-9
        elif found.candidate is not None:
            decided += 1
            assert answer.verdict is MilpVerdict.CANDIDATE
            assert region.lower.min() <= found.candidate.min()
            with torch.no_grad():
                score = engine.linear.module(torch.tensor(found.candidate)[None]).numpy()
            assert clause.margin(score)[0] >= 0
    assert decided >= 35


def test_bounds_of_split_domains_contain_the_inputs_on_their_side(tmp_path):
    network = load_network(dense_network(tmp_path / "n.onnx", (4, 7, 6, 3), seed=3))
    engine = BoundsEngine(network).linear
    region = Region.linf(np.full(4, 0.5, dtype=np.float32), 0.4)
    root = engine.propagate(*engine.box([region]))
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(2, 1, 3, generator=generator, dtype=torch.float64)
    points = torch.rand(4000, 4, generator=generator, dtype=torch.float64) * 0.8 + 0.1
    values = engine.module.values(points)
    for neuron in range(7):
        if not bool((root.lower[1][0, neuron] < 0) & (root.upper[1][0, neuron] > 0)):
            continue
        domains = [Domain(0.0, 0, (Split(2, neuron, side),), (0.0,)) for side in (True, False)]
        bounds = batch_bounds(engine, root, domains)
        multipliers = torch.zeros(2, 1, 7, dtype=torch.float64)
        multipliers[:, 0, neuron] = torch.tensor([0.7, -0.7])
        free = Freedom(splits={2: multipliers})
        upper = engine.upper(network.output, rows, bounds, free)[:, 0]
        reached = values[network.output] @ rows[:, 0].T
        before = values[1][:, neuron]
        for row, on_side in enumerate((before >= 0, before <= 0)):
            if bool(on_side.any()):
                assert float(reached[on_side, row].max()) <= float(upper[row]) + 1e-9


def test_gives_up_with_a_reason(tmp_path):
    network, region, question = next(iter(problems(tmp_path, 1)))
    wide = Region.linf(region.lower.astype(np.float32), 1.0)
    engine = BoundsEngine(network)
    root = engine.linear.propagate(*engine.linear.box([wide]))
    stopped = BranchAndBound(engine.linear, root, QUICK).refute(
        question.clauses[0], (0,), 1e-6, Budget.of_seconds(0)
    )
    assert stopped.end is BabEnd.STOPPED
    assert stopped.candidate is None


@pytest.mark.parametrize("seed", range(4))
def test_is_deterministic(tmp_path, seed):
    network, region, question = list(problems(tmp_path, seed + 1))[-1]
    engine = BoundsEngine(network)
    outcome = engine.crown(region, question)
    runs = [
        branch(engine.linear, outcome.values, question.clauses[0], outcome.clauses[0], Budget(), QUICK)
        for _ in range(2)
    ]
    assert runs[0].reason == runs[1].reason
    assert runs[0].clause.margin_bound == runs[1].clause.margin_bound
