"""The parts of a network add up to it, and what they prove holds."""

import math

import numpy as np
import pytest
import torch
from mlverify.synthesis.rows import CertifiedRows
from mlverify.verifier import cells_engine
from mlverify.verifier.bounds_engine import BoundsEngine
from mlverify.verifier.budget import Budget
from mlverify.verifier.cells import cells_of
from mlverify.verifier.cells_engine import CellsEngine
from mlverify.verifier.certificate import BoundCertificate
from mlverify.verifier.linear_bounds import LinearBounds
from mlverify.verifier.milp import MilpOutcome, MilpVerdict
from mlverify.verifier.milp_highs import HighsBackend
from mlverify.verifier.property import Property
from mlverify.verifier.torch_network import TorchNetwork


def test_parts_add_up_to_the_scores(scene):
    network, cells = scene.network, cells_of(scene.network)
    assert cells is not None
    images = torch.rand((7, *network.input_shape), dtype=torch.float64)
    total = torch.tensor(network.operators[-1].bias)
    for cell in cells:
        area = cell.patches[0]
        seen = images[:, :, area.top : area.bottom, area.left : area.right]
        total = total + TorchNetwork(cell.network, torch.float64)(seen)
    torch.testing.assert_close(total, TorchNetwork(network, torch.float64)(images), rtol=0, atol=1e-10)


def test_bounds_of_parts_hold_their_values(scene):
    epsilons = np.full(scene.count, 0.2)
    region = scene.problem().region(epsilons)
    question = scene.problem().question
    whole = BoundsEngine(scene.network).crown(region, question).values
    samples = scene.samples(epsilons, 50, 0).astype(np.float64)
    for cell in cells_of(scene.network):
        area, bounds = cell.patches[0], cell.bounds(whole)
        seen = torch.tensor(samples[:, :, area.top : area.bottom, area.left : area.right])
        with torch.no_grad():
            scores = TorchNetwork(cell.network, torch.float64)(seen).numpy()
        last = bounds.values[-1]
        assert (scores >= last.lower - 1e-9).all()
        assert (scores <= last.upper + 1e-9).all()


def certificate_at(scene, epsilons):
    """Default slopes, rows for every atom but the one that binds."""
    problem = scene.problem()
    linear = LinearBounds(scene.network, torch.float32)
    rows = CertifiedRows(
        linear, scene.image, scene.layers.layers, problem.weights, problem.question.clauses[0]
    )
    order = np.argsort(-rows.atoms(float(epsilons.max())))
    rows.set_together([int(order[0])])
    rows.free_slopes(linear.tensor(epsilons))
    return BoundCertificate.of(rows.slopes, rows.subsets, rows.shares)


@pytest.mark.parametrize("epsilon", [0.02, 0.06, 0.1, 0.15, 0.25, 0.4])
def test_parts_never_prove_what_a_sample_breaks(scene, epsilon):
    epsilons = np.full(scene.count, epsilon)
    engine = CellsEngine(scene.network, HighsBackend())
    assert engine.is_available
    found = engine.prove(
        LinearBounds(scene.network),
        scene.problem().at(epsilons),
        certificate_at(scene, epsilons),
        Budget.of_seconds(3.0),
    )
    worst = scene.margins(scene.samples(epsilons, 500, 0), 2).max()
    if found.proved:
        assert worst <= found.margin_bound < 0
    else:
        assert found.margin_bound == np.inf
    if worst >= 0:
        assert not found.proved


def test_parts_prove_more_than_the_slopes_alone(scene):
    """Somewhere between where the slopes end and where samples break it."""
    engine, linear = CellsEngine(scene.network, HighsBackend()), LinearBounds(scene.network)
    for epsilon in np.geomspace(0.02, 0.5, 300):
        epsilons = np.full(scene.count, epsilon)
        certificate, problem = certificate_at(scene, epsilons), scene.problem().at(epsilons)
        if not certificate.check(linear, problem.region, Property((scene.clause(),), "test")).proved:
            assert engine.prove(linear, problem, certificate, Budget.of_seconds(20.0)).proved
            return
    raise AssertionError("the slopes never end")


def test_networks_that_are_no_sum_of_parts(tmp_path):
    from mlverify.verifier.onnx_reader import load_network
    from onnx_factory import linear_network

    path = linear_network(tmp_path / "flat.onnx", np.ones((3, 16)), (1, 4, 4))
    network = load_network(path)
    cells = cells_of(network)
    engine = CellsEngine(network, HighsBackend())
    assert engine.is_available == (cells is not None)


@pytest.mark.parametrize("error", [1.0, math.inf])
def test_what_tolerances_can_hide_is_added_to_every_part(scene, monkeypatch, error):
    """Programs that claim to be far below their aim without proving it, and may be wrong by as much."""

    def unsure(network, bounds, clause, *rest):
        return MilpOutcome(MilpVerdict.UNKNOWN, "time", -0.9, None, math.nan, None, 0.0, 0, error)

    epsilons = np.full(scene.count, 0.25)
    certificate = certificate_at(scene, epsilons)
    monkeypatch.setattr(cells_engine, "solve_clause", unsure)
    engine = CellsEngine(scene.network, HighsBackend())
    problem = scene.problem().at(epsilons)
    assert not engine.prove(LinearBounds(scene.network), problem, certificate, Budget.of_seconds(3.0)).proved
