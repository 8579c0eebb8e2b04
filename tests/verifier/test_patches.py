"""Convolutions bounded as local patches: against dense rows, sampled points, and each other's layouts."""

import numpy as np
import pytest
import torch
from mlverify.verifier import patches
from mlverify.verifier.bound_types import Bounds
from mlverify.verifier.bounds_engine import BoundsEngine
from mlverify.verifier.budget import Budget
from mlverify.verifier.interval import Interval, ValueBounds
from mlverify.verifier.linear_bounds import LinearBounds
from mlverify.verifier.network import Network
from mlverify.verifier.onnx_reader import load_network
from mlverify.verifier.patch_ascent import PatchAscent
from mlverify.verifier.proof_record import Recorder
from mlverify.verifier.property import top_k
from mlverify.verifier.region import Region
from mlverify.verifier.torch_network import TorchNetwork
from mlverify.verifier.wanted_bounds import Wanted, wanted_bounds
from onnx import helper
from onnx_factory import write_graph

# Kernels, strides, paddings, dilations and groups of two convolutions after a first one.
CHAINS = {
    "tiles": [(2, 2, 0, 1, 1), (3, 3, 0, 1, 1)],
    "overlapping": [(3, 1, 1, 1, 1), (4, 2, 1, 1, 1)],
    "dilated": [(3, 1, 2, 2, 1), (2, 2, 0, 1, 1)],
    "grouped": [(3, 2, 1, 1, 2), (2, 1, 0, 1, 2)],
    "gaps": [(1, 2, 0, 1, 1), (2, 3, 1, 1, 1)],
    "mostly outside": [(5, 3, 4, 1, 1), (3, 2, 2, 1, 1)],
}


def chain(name: str, tmp_path, *, leaky: bool = False, scaled: bool = False) -> Network:
    """Conv, ReLU, conv, ReLU, conv, ReLU, and three scores."""
    rng = np.random.default_rng(sorted(CHAINS).index(name))
    nodes, constants, value, channels, size = [], {}, "input", 1, 9
    for number, (kernel, stride, padding, dilation, groups) in enumerate([(2, 1, 0, 1, 1), *CHAINS[name]]):
        constants[f"w{number}"] = rng.normal(size=(4, channels // groups, kernel, kernel)).astype(np.float32)
        constants[f"b{number}"] = rng.normal(size=4).astype(np.float32)
        nodes.append(
            helper.make_node(
                "Conv",
                [value, f"w{number}", f"b{number}"],
                [f"c{number}"],
                strides=[stride] * 2,
                pads=[padding] * 4,
                dilations=[dilation] * 2,
                group=groups,
            )
        )
        value, channels = f"c{number}", 4
        size = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
        if scaled:
            constants[f"s{number}"] = rng.normal(size=(4, 1, 1)).astype(np.float32)
            nodes.append(helper.make_node("Mul", [value, f"s{number}"], [f"m{number}"]))
            value = f"m{number}"
        nodes.append(helper.make_node("LeakyRelu", [value], [f"r{number}"], alpha=0.2 if leaky else 0.0))
        value = f"r{number}"
    constants["v"] = rng.normal(size=(4 * size * size, 3)).astype(np.float32)
    nodes.append(helper.make_node("Flatten", [value], ["flat"]))
    nodes.append(helper.make_node("MatMul", ["flat", "v"], ["output"]))
    path = tmp_path / f"{name}.onnx"
    return load_network(write_graph(path, nodes, constants, (1, 9, 9), 3))


def box_of(network: Network, epsilon: float = 0.1) -> Region:
    image = np.random.default_rng(3).random(network.input_shape).astype(np.float32)
    return Region.linf(image, epsilon)


def rows_of(linear: LinearBounds, number: int, bounds: Bounds) -> tuple[torch.Tensor, torch.Tensor]:
    """Both bounds of every element of a value by dense rows."""
    shape = linear.network.shape_of(number)
    size = int(np.prod(shape))
    rows = torch.eye(size, dtype=torch.float64).reshape(1, size, *shape).expand(bounds.batch, -1, -1, -1, -1)
    high = linear.upper(number, rows, bounds)
    low = -linear.upper(number, -rows, bounds)
    return low.reshape(-1, *shape), high.reshape(-1, *shape)


@pytest.mark.parametrize("leaky", [False, True])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("name", CHAINS)
def test_patches_and_dense_rows_agree(name, scaled, leaky, tmp_path):
    network = chain(name, tmp_path, leaky=leaky, scaled=scaled)
    linear = LinearBounds(network)
    regions = [box_of(network), box_of(network, 0.02), box_of(network, 0.0)]
    bounds = linear.propagate(*linear.box(regions))
    convolutions = [number for number in range(1, len(bounds.lower)) if linear.local.plans.applies_to(number)]
    assert len(convolutions) == 3
    for number in convolutions:
        low, high = bounds.lower[number], bounds.upper[number]
        every = Wanted.ALL.of(low, high)
        below = Bounds(bounds.lower[:number], bounds.upper[:number])
        found = linear.local.bound(number, below, low, high, every, None)
        expected = rows_of(linear, number, below)
        for mine, other in zip(found, expected, strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", CHAINS)
def test_single_products_and_whole_matrices_are_the_same(name, tmp_path, monkeypatch):
    network = chain(name, tmp_path)
    found = []
    for advantage in (0, 10_000):
        monkeypatch.setattr(patches, "DENSE_ADVANTAGE", advantage)
        linear = LinearBounds(network)
        found.append(linear.propagate(*linear.box([box_of(network)])))
    for mine, other in zip(found[0].upper, found[1].upper, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-12, atol=1e-12)


def values_of(network: Network, region: Region) -> ValueBounds:
    return BoundsEngine(network).crown(region, top_k(3, 0, 1)).values


def all_of(interval: Interval) -> np.ndarray:
    return np.arange(interval.lower.size)


@pytest.mark.parametrize("leaky", [False, True])
@pytest.mark.parametrize("name", CHAINS)
def test_ascent_is_never_looser_and_contains_every_point(name, leaky, tmp_path):
    network = chain(name, tmp_path, leaky=leaky, scaled=leaky)
    region = box_of(network)
    ascent, values = PatchAscent(network), values_of(network, region)
    rng = np.random.default_rng(5)
    points = rng.uniform(region.lower, region.upper, (200, *network.input_shape))
    corners = np.where(rng.random(points.shape) < 0.5, region.lower, region.upper)
    with torch.no_grad():
        exact = TorchNetwork(network, torch.float64).values(
            torch.as_tensor(np.concatenate([points, corners]))
        )
    gained = 0.0
    for number in [number for number in wanted_bounds(network) if ascent.applies_to(number)]:
        old = values[number]
        better = ascent.tighten(number, values, all_of(old), 12, Budget(), None)
        assert (better.lower >= old.lower).all()
        assert (better.upper <= old.upper).all()
        gained += float((better.lower - old.lower).sum() + (old.upper - better.upper).sum())
        seen = exact[number].numpy()
        assert (seen >= better.lower).all()
        assert (seen <= better.upper).all()
        values = ValueBounds((*values.values[:number], better, *values.values[number + 1 :]))
    assert gained > 0.0


def test_ascent_without_steps_gives_what_crown_gives(tmp_path):
    network = chain("overlapping", tmp_path)
    values = values_of(network, box_of(network))
    ascent = PatchAscent(network)
    number = max(number for number in wanted_bounds(network) if ascent.applies_to(number))
    old = values[number]
    loose = Interval(old.lower - 5.0, old.upper + 5.0)
    wide = ValueBounds((*values.values[:number], loose, *values.values[number + 1 :]))
    found = ascent.tighten(number, wide, all_of(old), 0, Budget(), None)
    assert (found.lower <= old.lower + 1e-6).all()
    is_open = (old.lower < 0) & (old.upper > 0)
    np.testing.assert_allclose(found.lower[is_open], old.lower[is_open], rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(found.upper[is_open], old.upper[is_open], rtol=1e-7, atol=1e-7)


def test_only_what_is_wanted_is_bounded(tmp_path):
    network = chain("tiles", tmp_path)
    values = values_of(network, box_of(network))
    number = max(wanted_bounds(network))
    old, chosen = values[number], np.array([2, 5])
    found = PatchAscent(network).tighten(number, values, chosen, 8, Budget(), Recorder())
    changed = np.flatnonzero((found.lower != old.lower).reshape(-1) | (found.upper != old.upper).reshape(-1))
    assert set(changed) <= set(chosen.tolist())


def test_what_a_pool_reads_is_wanted_beyond_open_signs():
    low, high = torch.tensor([-1.0, 0.5, -2.0]), torch.tensor([1.0, 2.0, -0.5])
    assert Wanted.OPEN.of(low, high).tolist() == [True, False, False]
    assert Wanted.POSITIVE.of(low, high).tolist() == [True, True, False]
    assert Wanted.ALL.of(low, high).tolist() == [True, True, True]
