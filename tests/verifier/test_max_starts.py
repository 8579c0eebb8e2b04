"""A decided node starts from its parent's bound: new multipliers stand for what its relaxation had."""

from dataclasses import replace

import numpy as np
import pytest
from mlverify.verifier.bounds_engine import BoundsEngine
from mlverify.verifier.budget import Budget
from mlverify.verifier.max_bounding import Bounding
from mlverify.verifier.max_branching import children
from mlverify.verifier.max_engine import Branching
from mlverify.verifier.max_search import SearchSettings
from mlverify.verifier.onnx_reader import load_network
from mlverify.verifier.property import top_k
from mlverify.verifier.region import Region
from onnx_factory import conv_network, dense_network

# Multipliers are kept as float16, and sums are float32: both to some thousandths of the terms.
ROUNDED = 5e-3


def bounding_of(network, epsilon) -> Bounding | None:
    image = np.full(network.input_shape, 0.5, dtype=np.float32)
    region, question = Region.linf(image, epsilon), top_k(len(network.labels), 0, 1)
    outcome = BoundsEngine(network).crown(region, question)
    engine = Branching(
        network, outcome.values, question.clauses[0], outcome.clauses[0], SearchSettings(root_steps=5)
    )
    engine.bound(Budget())
    return None if engine._state is None else engine._state.bounding


def at_once(bounding, domain):
    """The bound with the parameters that a sub-problem starts from."""
    return float(bounding.bound([replace(domain, bound=np.inf)], 0, np.inf, Budget()).sweep.bounds[0])


def most_negative(batch, row):
    """The open node with the smallest coefficient below zero: its lower relaxation counts most."""
    scores = [
        (part * phases.open)[:, row].tolist()
        for part, phases in zip(batch.sweep.coefficients, batch.phases, strict=True)
    ]
    value, group, number = min((min(own), group, int(np.argmin(own))) for group, own in enumerate(scores))
    return (group, number) if value < 0 else None


@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_children_start_at_most_at_their_parents_bound(tmp_path, seed, pool):
    if pool:
        network = load_network(conv_network(tmp_path / "net.onnx", (1, 10, 10), 4, pool=True, seed=seed))
    else:
        network = load_network(dense_network(tmp_path / "net.onnx", (6, 16, 16, 4), seed=seed))
    bounding = bounding_of(network, 0.2)
    assert bounding is not None
    atoms = list(range(bounding.program.atoms.constant.size))
    open_, tried, sharper = list(bounding.roots([atoms])), 0, 0
    for _ in range(3):
        batch = bounding.bound(open_, 6, np.inf, Budget())
        open_ = []
        for row, domain in enumerate(batch.domains):
            node = most_negative(batch, row)
            if node is None:
                continue
            parent = at_once(bounding, domain)
            for child in children(bounding, batch, row, domain, node, 1):
                start = at_once(bounding, child)
                without = replace(child, multipliers=domain.multipliers)
                assert start <= parent + ROUNDED * (1 + abs(parent))
                sharper += start < at_once(bounding, without) - ROUNDED
                tried += 1
                open_.append(child)
        open_ = open_[:6]
    assert tried > 6
    assert sharper > 0


def test_steps_never_end_above_their_start(tmp_path):
    network = load_network(conv_network(tmp_path / "net.onnx", (1, 10, 10), 4, pool=True, seed=1))
    bounding = bounding_of(network, 0.2)
    atoms = list(range(bounding.program.atoms.constant.size))
    (root,) = bounding.bound(bounding.roots([atoms]), 10, np.inf, Budget()).domains
    for steps in (1, 2, 5, 20):
        found = bounding.bound([replace(root, bound=np.inf)], steps, np.inf, Budget())
        assert float(found.sweep.bounds[0]) <= at_once(bounding, root) + 1e-4
