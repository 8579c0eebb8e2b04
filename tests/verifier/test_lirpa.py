"""auto_LiRPA as a second opinion: sound, and of the same opinion where both use the same relaxations."""

from importlib import util

import numpy as np
import pytest
import torch
from mlverify.errors import SolverUnavailableError
from mlverify.verifier.bounds_engine import BoundsEngine
from mlverify.verifier.lirpa import LirpaBounds, lirpa_status
from mlverify.verifier.onnx_reader import load_network
from mlverify.verifier.region import Region
from onnx_factory import dense_network
from scenes import small_scene


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def usable():
    status = lirpa_status()
    if not status.usable:
        pytest.skip(f"auto_LiRPA is {status.message}")


def ours(scene, epsilon):
    region = Region.linf(scene.image, epsilon)
    outcome = BoundsEngine(scene.network).crown(region, scene.problem().question)
    return region, outcome.clauses[0].atom_upper


@pytest.mark.parametrize("epsilon", [0.0, 0.01, 0.1, 0.5])
def test_the_same_numbers_on_a_convolutional_network(usable, tmp_path, epsilon):
    scene = small_scene(tmp_path, pool=False)
    region, expected = ours(scene, epsilon)
    found = LirpaBounds(scene.network).upper(region, scene.clause().weights)
    np.testing.assert_allclose(found, expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("pool", [False, True])
def test_its_bounds_contain_the_images_of_the_region(usable, tmp_path, pool):
    for seed in range(2):
        scene = small_scene(tmp_path, pool=pool, seed=seed)
        bounds = LirpaBounds(scene.network)
        for epsilon in (0.02, 0.3):
            upper = bounds.upper(Region.linf(scene.image, epsilon), scene.clause().weights)
            images = scene.samples(np.full(scene.count, epsilon), 100, seed)
            with torch.no_grad():
                logits = scene.network.module()(torch.tensor(images)).numpy()
            assert (scene.clause().values(logits) <= upper + 1e-4).all()


def test_a_point_gives_the_value(usable, tmp_path):
    network = load_network(dense_network(tmp_path / "n.onnx", (4, 6, 3)))
    point = np.array([0.1, 0.9, 0.4, 0.6], np.float32)
    found = LirpaBounds(network).upper(Region.linf(point, 0.0), np.eye(3))
    with torch.no_grad():
        exact = network.module().double()(torch.tensor(point[None], dtype=torch.float64)).numpy()[0]
    np.testing.assert_allclose(found, exact, atol=1e-6)


def test_the_default_type_is_left_as_it_was(usable, tmp_path):
    before = torch.get_default_dtype()
    scene = small_scene(tmp_path, pool=False)
    LirpaBounds(scene.network).upper(Region.linf(scene.image, 0.1), scene.clause().weights)
    assert torch.get_default_dtype() == before


def missing(name, *rest):
    return None if name == "auto_LiRPA" else util.find_spec(name, *rest)


def test_without_it_the_remedy_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr("mlverify.verifier.lirpa.util.find_spec", lambda name: None)
    status = lirpa_status()
    assert not status.usable
    assert "pip install --no-deps auto_LiRPA" in status.message
    with pytest.raises(SolverUnavailableError, match="not installed"):
        LirpaBounds(small_scene(tmp_path, pool=False).network)


def test_a_broken_installation_is_told_and_not_raised(monkeypatch):
    def broken():
        raise ImportError("no such name")

    monkeypatch.setattr("mlverify.verifier.lirpa.util.find_spec", lambda name: object())
    monkeypatch.setattr("mlverify.verifier.lirpa._bounded_module", broken)
    status = lirpa_status()
    assert not status.usable
    assert "ImportError: no such name" in status.message
