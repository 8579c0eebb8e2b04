"""Bounds from searches behind windows: against points, fixed pixels and the linear bounds they start from."""

import numpy as np
import pytest
import torch
from mlverify.verifier.budget import Budget
from mlverify.verifier.linear_bounds import LinearBounds
from mlverify.verifier.network import Network
from mlverify.verifier.onnx_reader import load_network
from mlverify.verifier.region import Region
from mlverify.verifier.window_bounds import NUMBER, WindowBounds, WindowEffort
from mlverify.verifier.window_search import WindowProblems, WindowSearch
from onnx_factory import conv_network
from onnx_graphs import Graph

# Kernel, strides and padding (top, left, bottom, right) of the first convolution and of the second.
GEOMETRIES = [
    (((3, 3), (2, 2), (1, 1, 1, 1)), ((3, 3), (2, 2), (1, 1, 1, 1))),
    (((3, 2), (1, 2), (0, 1, 2, 0)), ((2, 3), (2, 1), (1, 0, 0, 2))),
    (((4, 4), (4, 4), (1, 1, 1, 1)), ((3, 3), (1, 1), (0, 0, 0, 0))),
    (((2, 2), (1, 1), (2, 2, 2, 2)), ((2, 2), (3, 3), (0, 1, 1, 0))),
]


def two_convolutions(geometry, folder) -> Network:
    graph, value, channels, size = Graph(2, 13, 12, seed=4), "input", 2, [13, 12]
    for maps, (kernel, strides, pads) in zip((4, 3), geometry, strict=True):
        weights = graph.random(maps, channels, *kernel)
        value = graph.add("Conv", value, weights, graph.random(maps), strides=strides, pads=pads)
        value, channels = graph.add("Relu", value), maps
        size = [
            (size[axis] + pads[axis] + pads[axis + 2] - kernel[axis]) // strides[axis] + 1 for axis in (0, 1)
        ]
    return load_network(graph.write(folder, graph.dense(value, channels * size[0] * size[1])))


def around(network: Network, width: float, seed: int = 0) -> Region:
    """A box whose pixels move by different amounts, some not at all."""
    rng = np.random.default_rng(seed)
    image = rng.random(network.input_shape)
    moves = width * rng.random(network.input_shape) * (rng.random(network.input_shape) < 0.8)
    return Region(np.clip(image - moves, 0, 1), np.clip(image + moves, 0, 1))


def second(network: Network, linear: LinearBounds, points: np.ndarray) -> np.ndarray:
    values = torch.as_tensor(points)
    for position, operator in enumerate(network.operators[:NUMBER]):
        values = linear.module.step(position, operator, [values], len(values))
    return values.numpy()


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("nodes", [0, 300, 20000])
def test_no_point_leaves_the_bounds_however_long_the_search(geometry, nodes, tmp_path):
    network = two_convolutions(geometry, tmp_path)
    linear, region = LinearBounds(network), around(network, 0.4)
    before = linear.propagate(*linear.box([region]))
    found = WindowBounds(network, WindowEffort(nodes=nodes)).improved(linear, before)
    rng = np.random.default_rng(1)
    inside = rng.random((400, *network.input_shape))
    inside[200:] = np.round(inside[200:])
    values = second(network, linear, region.lower + inside * (region.upper - region.lower))
    assert (values >= found.lower[NUMBER][0].numpy() - 1e-9).all()
    assert (values <= found.upper[NUMBER][0].numpy() + 1e-9).all()
    for number in range(len(before.lower)):
        assert (found.lower[number] >= before.lower[number]).all()
        assert (found.upper[number] <= before.upper[number]).all()


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_where_pixels_hardly_move_the_bounds_are_the_values(geometry, tmp_path):
    network = two_convolutions(geometry, tmp_path)
    linear, region = LinearBounds(network), around(network, 1e-7)
    wide = around(network, 0.3)
    windows = WindowBounds(network)
    # inner bounds of a larger box make every neuron wanted
    bounds = linear.propagate(*linear.box([wide]))
    fixed = linear.propagate(*linear.box([region]))
    mixed = type(bounds)((fixed.lower[0], *bounds.lower[1:]), (fixed.upper[0], *bounds.upper[1:]))
    found = windows.improved(linear, mixed)
    value = second(network, linear, region.lower[None])[0]
    chosen = (mixed.upper[NUMBER] > 0)[0].numpy()
    assert chosen.any()
    np.testing.assert_allclose(found.lower[NUMBER][0].numpy()[chosen], value[chosen], atol=1e-4)
    np.testing.assert_allclose(found.upper[NUMBER][0].numpy()[chosen], value[chosen], atol=1e-4)


def test_bounds_come_near_what_is_reached(tmp_path):
    network = two_convolutions(GEOMETRIES[0], tmp_path)
    linear, region = LinearBounds(network), around(network, 0.4)
    before = linear.propagate(*linear.box([region]))
    found = WindowBounds(network).improved(linear, before)
    old = (before.upper[NUMBER] - before.lower[NUMBER]).sum()
    new = (found.upper[NUMBER] - found.lower[NUMBER]).sum()
    assert new < 0.97 * old


def problems(seed: int, units: int = 7, inputs: int = 5, count: int = 30) -> WindowProblems:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    lower = normal(4, inputs)
    upper = lower + 2 * torch.rand(4, inputs, generator=generator, dtype=torch.float64)
    box = torch.randint(4, (count,), generator=generator)
    return WindowProblems(normal(units, inputs), normal(units), normal(count, units), box, lower, upper)


@pytest.mark.parametrize("seed", range(6))
def test_the_search_ends_at_what_points_reach(seed):
    of = problems(seed)
    search = WindowSearch(of)
    first = search.bounds
    search.run(torch.full((30,), 1e-3, dtype=torch.float64), 200_000, Budget())
    generator = torch.Generator().manual_seed(seed)
    share = torch.rand(4000, of.lower.shape[1], generator=generator, dtype=torch.float64)
    share[2000:] = share[2000:].round()
    points = of.lower[:, None] + share * (of.upper - of.lower)[:, None]
    units = torch.relu(points @ of.matrix.T + of.shift)
    values = (units[of.box] * of.weights[:, None]).sum(-1).amax(1)
    assert (values <= search.bounds).all()
    assert (search.reached <= search.bounds).all()
    assert (search.bounds <= first).all()
    # what decided sub-problems reach inside the box is not searched for exactly
    reached = torch.maximum(values, search.reached)
    assert (search.bounds - reached).sum() < 0.4 * (first - reached).sum()


def test_a_network_that_begins_otherwise_keeps_its_bounds(tmp_path):
    network = load_network(conv_network(tmp_path / "one.onnx", pool=True))
    linear = LinearBounds(network)
    bounds = linear.propagate(*linear.box([around(network, 0.2)]))
    windows = WindowBounds(network)
    assert not windows.is_available
    assert windows.improved(linear, bounds) is bounds


def test_an_exhausted_budget_still_gives_bounds(tmp_path):
    network = two_convolutions(GEOMETRIES[0], tmp_path)
    linear = LinearBounds(network)
    bounds = linear.propagate(*linear.box([around(network, 0.4)]))
    found = WindowBounds(network).improved(linear, bounds, Budget.of_seconds(0.0))
    assert (found.lower[NUMBER] <= found.upper[NUMBER]).all()
