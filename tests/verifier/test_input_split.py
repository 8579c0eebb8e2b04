"""Branch and bound on the inputs: proofs, candidates, and how it stops."""

import numpy as np
import pytest
import torch
from mlverify.verifier.bounds_engine import BoundsEngine
from mlverify.verifier.budget import Budget
from mlverify.verifier.input_split import InputSplit, SplitEnd, moving_inputs
from mlverify.verifier.linear_bounds import LinearBounds
from mlverify.verifier.onnx_reader import load_network
from mlverify.verifier.property import top_k
from mlverify.verifier.region import Region
from mlverify.verifier.torch_network import TorchNetwork
from onnx_factory import dense_network


@pytest.fixture
def scene(tmp_path):
    network = load_network(dense_network(tmp_path / "n.onnx", (3, 20, 20, 4), seed=5))
    image = np.full(3, 0.5, dtype=np.float32)
    with torch.no_grad():
        target = int(TorchNetwork(network)(torch.tensor(image)[None])[0].argmax())
    return network, image, top_k(4, target, 1)


def test_counts_what_moves(scene):
    _, image, _ = scene
    assert moving_inputs(Region.linf(image, 0.1)) == 3
    assert moving_inputs(Region.per_pixel(image, np.array([0.1, 0.0, 0.1]))) == 2
    assert moving_inputs(Region.linf(image, 0.0)) == 0


def test_proves_what_samples_do_not_contradict_and_finds_what_breaks(scene):
    network, image, question = scene
    clause = question.clauses[0]
    ends = []
    for eps in (0.01, 0.05, 0.1, 0.2, 0.35, 0.5):
        region = Region.linf(image, eps)
        found = InputSplit(LinearBounds(network), region, question.clauses).run(Budget())
        points = np.random.default_rng(0).uniform(region.lower, region.upper, (4000, 3))
        with torch.no_grad():
            module = TorchNetwork(network, torch.float64)
            reached = clause.margin(module(torch.tensor(points)).numpy()).max()
        ends.append(found.end)
        if found.end is SplitEnd.PROVED:
            assert reached <= found.bound < 0
        else:
            assert found.end is SplitEnd.CANDIDATE
            assert region.contains(found.candidate.astype(np.float32))
    assert SplitEnd.PROVED in ends
    # once it breaks it stays broken
    assert ends == sorted(ends, key=lambda end: end is SplitEnd.CANDIDATE)


def test_goes_on_where_it_stopped(scene):
    network, image, question = scene
    search = InputSplit(BoundsEngine(network).linear, Region.linf(image, 0.05), question.clauses)
    assert search.run(Budget.of_seconds(0)).end is SplitEnd.STOPPED
    assert search.run(Budget()).end is not SplitEnd.STOPPED


def test_float32_is_refused(scene):
    network, image, question = scene
    with pytest.raises(ValueError, match="float64"):
        InputSplit(LinearBounds(network, torch.float32), Region.linf(image, 0.1), question.clauses)


def test_what_was_broken_off_proves_nothing(scene, monkeypatch):
    network, image, question = scene
    search = InputSplit(LinearBounds(network), Region.linf(image, 0.5), question.clauses)

    def broken(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(LinearBounds, "propagate", broken)
        with pytest.raises(KeyboardInterrupt):
            search.run(Budget())
    found = search.run(Budget())
    assert found.end is SplitEnd.BROKEN
    assert found.bound == np.inf
