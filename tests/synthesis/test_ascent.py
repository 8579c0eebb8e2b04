import numpy as np
import pytest
import torch
from mlverify.synthesis.ascent import Ascent, AscentSettings
from mlverify.synthesis.polish import PolishSettings, polish
from mlverify.synthesis.rows import SEARCH_MARGIN
from mlverify.verifier.budget import Budget
from mlverify.verifier.certificate import BoundCertificate
from mlverify.verifier.linear_bounds import LinearBounds
from mlverify.verifier.onnx_reader import load_network
from mlverify.verifier.property import Property
from mlverify.verifier.region import Layered
from onnx_factory import linear_network
from scenes import Scene, small_scene

SPENT = Budget.of_seconds(0.0)


def ignore(share, size):
    del share, size


def climbed(scene, k=2, weights=None, steps=40, budget=None):
    rows = scene.rows(torch.float32, k, weights)
    point = Ascent(rows, AscentSettings(steps), ignore).run(budget or Budget())
    return rows, point


def proof(scene, point, k=2, shrink=1.0):
    """Of the point, by its certificate in float64."""
    region = Layered(scene.image, scene.layers.layers, shrink * point.epsilons).region
    certificate = BoundCertificate.of(point.slopes, point.subsets, point.shares)
    return certificate.check(
        LinearBounds(scene.network, torch.float64), region, Property((scene.clause(k),), "test")
    )


@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_best_point_is_proved_again_in_double_precision(scene, plain_scene, k):
    for where in (scene, plain_scene):
        _, point = climbed(where, k)
        # what the search keeps away from the boundary leaves room for rounding the slopes to bytes
        assert proof(where, point, k, shrink=0.99).proved
        assert ((point.epsilons > 0) & (point.epsilons <= 1)).all()
        assert point.size == pytest.approx(point.epsilons.sum())


def test_it_climbs_well_above_the_uniform_start(scene):
    _, start = climbed(scene, steps=0)
    _, point = climbed(scene)
    assert np.ptp(start.epsilons) == 0
    assert point.size > 1.5 * start.size


def test_the_uniform_start_is_nearly_the_largest(scene):
    rows, start = climbed(scene, steps=0)
    needed = rows.clause.atoms - rows.clause.needed
    epsilon = float(start.epsilons[0])
    assert np.sort(rows.atoms(epsilon))[needed] < -SEARCH_MARGIN
    assert np.sort(rows.atoms(1.06 * epsilon))[needed] >= -SEARCH_MARGIN


def test_without_time_the_start_remains(scene):
    _, point = climbed(scene, budget=SPENT)
    assert point is not None
    assert proof(scene, point, shrink=0.99).proved


def test_cancelling_at_any_step_leaves_a_certified_point(scene):
    for asked in (0, 1, 3, 10, 25, 60):
        answers = iter([False] * asked)
        budget = Budget(cancelled=lambda answers=answers: next(answers, True))
        _, point = climbed(scene, budget=budget)
        assert proof(scene, point, shrink=0.99).proved


def test_layers_without_weight_stay_at_zero(scene):
    weights = np.array([1.0, 0, 1, 0, 1, 0])
    _, point = climbed(scene, weights=weights)
    assert (point.epsilons[weights == 0] == 0).all()
    assert (point.epsilons[weights > 0] > 0).all()


def test_weights_move_the_outcome_their_way(scene):
    outcomes = []
    for layer in (1, 3):
        weights = np.ones(scene.count)
        weights[layer] = 20.0
        outcomes.append(climbed(scene, weights=weights, steps=80)[1].epsilons)
    assert outcomes[0][1] > outcomes[1][1]
    assert outcomes[1][3] > outcomes[0][3]


def blind_to(folder, layer_from):
    """A linear network that reads the layers before ``layer_from`` only."""
    base = small_scene(folder)
    generator = np.random.default_rng(5)
    weight = generator.normal(size=(3, 100)) * 0.1
    weight[:, base.layers.layers.reshape(-1) >= layer_from] = 0
    network = load_network(
        linear_network(folder / "blind.onnx", weight, (1, 10, 10), bias=np.array([1.0, 0, -1]))
    )
    return Scene(network, base.image, base.layers, 0)


def test_layers_that_the_network_can_not_see_reach_the_cap(tmp_path):
    where = blind_to(tmp_path, 3)
    _, point = climbed(where, k=1, steps=150)
    assert (point.epsilons <= 1).all()
    np.testing.assert_array_equal(point.epsilons[3:], 1.0)


def test_a_network_without_any_margin_is_not_certified(tmp_path):
    base = small_scene(tmp_path)
    weight = np.zeros((3, 100))
    network = load_network(linear_network(tmp_path / "tie.onnx", weight, (1, 10, 10)))
    rows, point = climbed(Scene(network, base.image, base.layers, 0), k=1)
    assert point is None
    assert rows.best is None
    assert polish(rows, PolishSettings(), Budget(), ignore) is None


def test_the_same_seedless_search_twice_is_the_same(scene):
    first, second = (climbed(scene)[1] for _ in range(2))
    np.testing.assert_array_equal(first.epsilons, second.epsilons)


def test_progress_is_told_and_never_falls(scene):
    told = []
    rows = scene.rows(torch.float32)
    Ascent(rows, AscentSettings(30), lambda share, size: told.append((share, size))).run(Budget())
    shares, sizes = zip(*told, strict=True)
    assert list(shares) == sorted(shares)
    assert list(sizes) == sorted(sizes)
    assert 0 <= shares[0] <= shares[-1] <= 1


# --- polishing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 2, 3])
def test_polishing_never_loses(scene, plain_scene, k):
    for where in (scene, plain_scene):
        rows, point = climbed(where, k)
        polished = polish(rows, PolishSettings(rounds=6), Budget(), ignore)
        assert polished.size >= point.size
        assert ((polished.epsilons >= 0) & (polished.epsilons <= 1)).all()
        assert proof(where, polished, k, shrink=0.99).proved


def test_polishing_gains_after_a_short_ascent(scene):
    rows, point = climbed(scene, steps=25)
    assert polish(rows, PolishSettings(rounds=10), Budget(), ignore).size > 1.02 * point.size


def test_polishing_without_time_changes_nothing(scene):
    rows, point = climbed(scene)
    assert polish(rows, PolishSettings(), SPENT, ignore) is point


def test_default_slopes_are_not_polished(scene):
    rows, point = climbed(scene, steps=0)
    assert point.slopes is None
    assert polish(rows, PolishSettings(), Budget(), ignore) is point


def test_polishing_keeps_layers_without_weight_at_zero(scene):
    weights = np.array([1.0, 0, 1, 0, 1, 0])
    rows, _ = climbed(scene, weights=weights)
    polished = polish(rows, PolishSettings(rounds=5), Budget(), ignore)
    assert (polished.epsilons[weights == 0] == 0).all()


def test_polishing_ends_when_steps_on_the_slopes_spoil_them(scene, monkeypatch):
    rows, point = climbed(scene)
    real = type(rows).clamp

    def spoil(self):
        real(self)
        for parameter in self.slopes.weights():
            parameter.data.fill_(float("nan"))

    monkeypatch.setattr(type(rows), "clamp", spoil)
    polished = polish(rows, PolishSettings(rounds=5), Budget(), ignore)
    assert polished.size >= point.size
    assert np.isfinite(polished.epsilons).all()
    assert proof(scene, polished, shrink=0.99).proved
