"""Our CROWN against auto_LiRPA's: both contain what is sampled, ours is not the looser one."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mlverify.errors import ModelFormatError, SolverUnavailableError
from mlverify.verifier.linear_bounds import LinearBounds
from mlverify.verifier.lirpa import LirpaBounds, lirpa_status
from mlverify.verifier.network import Network
from mlverify.verifier.onnx_reader import load_network
from mlverify.verifier.region import Region
from onnx_factory import conv_network, dense_network
from onnx_graphs import Graph
from soundness.random_networks import logits_at, points_of, random_image, random_network

# our inner bounds are widened by 1e-10, which weights of order one carry on
ROUNDING = 1e-7

pytestmark = pytest.mark.skipif(not lirpa_status().usable, reason="auto_LiRPA is not usable here")


def compare(network: Network, seed: int, *, tighter: bool) -> None:
    rng = np.random.default_rng(seed)
    image = random_image(rng, network.input_shape)
    region = Region.per_pixel(image, rng.random(image.shape) * rng.choice([0.02, 0.1, 0.4]))
    weights = rng.normal(size=(3, len(network.labels)))
    theirs = LirpaBounds(network).upper(region, weights)
    linear = LinearBounds(network)
    with torch.no_grad():
        bounds = linear.propagate(*linear.box([region]))
        ours = linear.upper(network.output, linear.tensor(weights)[None], bounds)[0].numpy()
    scores = logits_at(network, points_of(rng, region, 100))
    reached = (scores @ weights.T).max(axis=0)
    slack = ROUNDING * (1 + np.abs(scores).max())
    assert (reached <= ours + slack).all()
    assert (reached <= theirs + slack).all()
    if tighter:
        assert (ours <= theirs + slack).all()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("middle", ["Relu", "LeakyRelu"])
def test_convolutions(tmp_path, middle, seed):
    path = conv_network(tmp_path / "net.onnx", middle=middle, seed=seed)
    compare(load_network(path), seed, tighter=middle == "Relu")


@pytest.mark.parametrize("seed", range(6))
def test_dense_layers(tmp_path, seed):
    compare(load_network(dense_network(tmp_path / "net.onnx", (5, 8, 8, 4), seed=seed)), seed, tighter=True)


@pytest.mark.parametrize("seed", range(6))
def test_max_pools(tmp_path, seed):
    """Pools are relaxed differently: neither has to win, both have to be right."""
    compare(load_network(conv_network(tmp_path / "net.onnx", pool=True, seed=seed)), seed, tighter=False)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(300))
def test_random_networks(tmp_path: Path, seed):
    try:
        compare(random_network(tmp_path / "net.onnx", np.random.default_rng(seed)), seed, tighter=False)
    except (SolverUnavailableError, ModelFormatError) as error:
        pytest.skip(str(error)[:80])


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("middle", ["Sigmoid", "Tanh"])
def test_curves(tmp_path, middle, seed):
    compare(load_network(conv_network(tmp_path / "net.onnx", middle=middle, seed=seed)), seed, tighter=False)


@pytest.mark.parametrize("eps", [0.02, 0.1, 0.4])
@pytest.mark.parametrize("middle", ["Sigmoid", "Tanh"])
def test_lines_of_curves_are_tighter_on_average(tmp_path, middle, eps):
    """One lucky tangent can be theirs; over layers and rows ours leave the smaller gap."""
    graph = Graph(10, seed=1)
    value = graph.add(middle, graph.dense("input", 10, 20))
    value = graph.add(middle, graph.dense(value, 20, 20))
    network = graph.read(tmp_path, graph.dense(value, 20, 4))
    rng = np.random.default_rng(2)
    region, weights = Region.linf(rng.random(10).astype(np.float32), eps), rng.normal(size=(6, 4))
    linear = LinearBounds(network)
    with torch.no_grad():
        bounds = linear.propagate(*linear.box([region]))
        ours = linear.upper(network.output, linear.tensor(weights)[None], bounds)[0].numpy()
    assert ours.mean() <= LirpaBounds(network).upper(region, weights).mean() + ROUNDING
