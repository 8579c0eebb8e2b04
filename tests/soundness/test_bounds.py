"""Bounds of every value contain what the network computes, for any slopes, in both precisions."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mlverify.errors import ModelFormatError
from mlverify.verifier.bound_types import Bounds, Freedom
from mlverify.verifier.curves import CurveFreedom
from mlverify.verifier.freedom import FreeSlopes
from mlverify.verifier.linear_bounds import LinearBounds
from mlverify.verifier.network import Network
from mlverify.verifier.region import Region
from mlverify.verifier.relaxation import PoolFreedom, pool_lines
from mlverify.verifier.torch_network import TorchNetwork
from soundness.random_networks import all_corners, points_of, random_image, random_network, random_region
from torch import Tensor

# share of a value's size by which a point may lie outside; bounds are widened by 1e-10 and 2e-6
SLACK = {torch.float64: 1e-12, torch.float32: 1e-5}
REGIONS = 3


def network_of(seed: int, folder: Path, *, curved: bool = False) -> tuple[Network, np.random.Generator]:
    rng = np.random.default_rng(seed)
    try:
        return random_network(folder / "random.onnx", rng, curved=curved), rng
    except ModelFormatError as error:
        # onnxruntime merges a Pad into the pool after it and then refuses its own pool
        if "onnxruntime can't load it" in str(error):
            pytest.skip("onnxruntime can't load this network")
        raise


def random_slopes(linear: LinearBounds, bounds: Bounds, rows: int) -> FreeSlopes:
    """Slopes anywhere in their range, for inner values and rows."""
    start = FreeSlopes.initial(linear, bounds, rows, curves=True).detached()
    relu = {number: torch.rand_like(item) for number, item in start.rows.relu.items()}
    pool = {
        number: PoolFreedom(torch.rand_like(item.threshold), 3 * torch.randn_like(item.weights))
        for number, item in start.rows.pool.items()
    }
    curve = {
        number: CurveFreedom(torch.rand_like(item.above), torch.rand_like(item.below))
        for number, item in start.rows.curve.items()
    }
    inner = {number: torch.rand_like(item).round() for number, item in start.inner.relu.items()}
    return FreeSlopes(Freedom(relu, pool, curve), Freedom(inner))


def values_at(network: Network, rng: np.random.Generator, region: Region) -> list[Tensor]:
    points = [points_of(rng, region, 40)]
    corners = all_corners(region, most=8)
    points += [] if corners is None else [corners]
    with torch.no_grad():
        return TorchNetwork(network, torch.float64).values(torch.tensor(np.concatenate(points)))


def check_containment(seed: int, folder: Path, *, curved: bool = False) -> None:
    """Everything that is true of one random network."""
    network, rng = network_of(seed, folder, curved=curved)
    assert bool(network.curves) is curved
    torch.manual_seed(seed)
    image = random_image(rng, network.input_shape)
    regions = [random_region(rng, image) for _ in range(REGIONS)]
    seen = [values_at(network, rng, region) for region in regions]
    weights = torch.tensor(rng.normal(size=(2, len(network.labels))))
    for dtype, slack in SLACK.items():
        linear = LinearBounds(network, dtype)
        box = linear.box(regions)
        with torch.no_grad():
            first = linear.propagate(*box)
            slopes = random_slopes(linear, first, rows=2)
            second = linear.propagate(*box, slopes.inner)
            rows = weights.to(dtype).expand(REGIONS, -1, -1)
            uppers = [
                linear.upper(network.output, rows, bounds, free)
                for bounds in (first, second)
                for free in (None, slopes.rows)
            ]
        for row, values in enumerate(seen):
            for number, value in enumerate(values):
                allowed = slack * (1 + float(value.abs().max()))
                for bounds in (first, second):
                    assert (value >= bounds.lower[number][row].double() - allowed).all(), (dtype, number)
                    assert (value <= bounds.upper[number][row].double() + allowed).all(), (dtype, number)
            scores = values[network.output]
            allowed = slack * (1 + float(scores.abs().max()))
            for upper in uppers:
                assert (scores @ weights.T <= upper[row].double() + allowed).all(), dtype


def check_point(seed: int, folder: Path, *, curved: bool = False) -> None:
    """A box of one point: bounds are the forward value."""
    network, rng = network_of(seed, folder, curved=curved)
    image = random_image(rng, network.input_shape)
    linear = LinearBounds(network)
    with torch.no_grad():
        bounds = linear.propagate(*linear.box([Region.linf(image, 0.0)]))
        values = linear.module.values(torch.tensor(image[None]).double())
    for low, high, value in zip(bounds.lower, bounds.upper, values, strict=True):
        # widened by 1e-10 at every operator, and that carried on by weights of order one
        assert (high - low).max() <= 1e-5 * (1 + value.abs().max())
        assert (low <= value + 1e-12 * value.abs()).all()
        assert (value <= high + 1e-12 * value.abs()).all()


@pytest.mark.parametrize("seed", range(150))
def test_bounds_contain_points_and_corners(seed, tmp_path):
    check_containment(seed, tmp_path)


@pytest.mark.parametrize("seed", range(1000, 1040))
def test_a_box_of_one_point_gives_the_forward_value(seed, tmp_path):
    check_point(seed, tmp_path)


@pytest.mark.parametrize("seed", range(2000, 2050))
def test_bounds_of_curved_networks(seed, tmp_path):
    check_containment(seed, tmp_path, curved=True)
    check_point(seed, tmp_path, curved=True)


@pytest.mark.slow
@pytest.mark.parametrize("curved", [False, True])
@pytest.mark.parametrize("block", range(30))
def test_many_more_bounds(block, curved, tmp_path):
    for seed in range(10_000 + 100 * block, 10_100 + 100 * block):
        try:
            check_containment(seed, tmp_path, curved=curved)
            check_point(seed, tmp_path, curved=curved)
        except pytest.skip.Exception:
            continue


def test_padding_is_never_the_chosen_input_of_a_pool():
    """A window of padding and one constant below zero: zero is not a lower bound of its maximum."""
    constant = torch.tensor([[[-torch.inf, -2.0]]], dtype=torch.float64)
    lines = pool_lines(constant, constant)
    assert torch.equal(lines.lower_slope, torch.tensor([[[0.0, 1.0]]], dtype=torch.float64))
    assert float(lines.upper_shift) == -2.0


def test_a_bound_that_overflowed_is_not_taken_for_padding():
    lower = torch.tensor([[[-torch.inf, 0.0]]], dtype=torch.float64)
    upper = torch.tensor([[[5.0, 1.0]]], dtype=torch.float64)
    lines = pool_lines(lower, upper)
    highest = lines.upper_slope[..., 0] * 5.0 + lines.upper_slope[..., 1] * 0.0 + lines.upper_shift
    assert not (highest < 5.0).any()
