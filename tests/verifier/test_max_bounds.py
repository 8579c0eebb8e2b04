"""Dual bounds of max programs: against the program itself, finite differences, and CROWN."""

import numpy as np
import pytest
import torch
from mlverify.verifier.bounds_engine import BoundsEngine
from mlverify.verifier.budget import Budget
from mlverify.verifier.interval import ValueBounds
from mlverify.verifier.max_ascent import Ascent, Objective, default_freedom
from mlverify.verifier.max_bounds import MaxBounds
from mlverify.verifier.max_groups import FLOOR, OPEN, GroupFreedom, Phases
from mlverify.verifier.max_program import MaxProgram, max_program
from mlverify.verifier.max_tighten import tighten_program
from mlverify.verifier.network import Network
from mlverify.verifier.onnx_reader import load_network
from mlverify.verifier.property import Clause, Property, ranked_above, top_k
from mlverify.verifier.region import Region
from mlverify.verifier.torch_network import TorchNetwork
from onnx import helper
from onnx_factory import write_graph
from soundness.random_networks import random_image, random_network, random_region

BATCH = 64


def scene(seed, tmp_path) -> tuple[Network, Region, Clause, ValueBounds, MaxProgram]:
    rng = np.random.default_rng(seed)
    network = random_network(tmp_path / f"{seed}.onnx", rng, tiny=seed % 2 == 0)
    region = random_region(rng, random_image(rng, network.input_shape))
    labels = len(network.labels)
    clause = top_k(labels, int(rng.integers(labels)), 1).clauses[0]
    values = BoundsEngine(network).crown(region, Property((clause,), "test")).values
    return network, region, clause, values, max_program(network, values, clause)


def points_in(program: MaxProgram, rng, count) -> torch.Tensor:
    width = len(program.pixels)
    return torch.tensor(rng.uniform(program.box.lower, program.box.upper, (count, width)).T)


def random_freedom(bounds: MaxBounds, batch: int, generator) -> list[GroupFreedom]:
    free = []
    for group in bounds.groups:
        slopes = torch.rand(group.entries, batch, generator=generator, dtype=torch.float64)
        slopes = slopes / group.spread(group.gather(slopes).clamp(min=1.0))
        hinges = torch.rand(group.nodes, batch, generator=generator, dtype=torch.float64)
        multipliers = torch.rand(group.entries, batch, generator=generator, dtype=torch.float64)
        free.append(GroupFreedom(slopes, None if group.single else hinges, multipliers))
    return free


@pytest.mark.parametrize("seed", range(12))
def test_the_program_is_the_network(seed, tmp_path):
    network, _region, clause, values, program = scene(seed, tmp_path)
    bounds = MaxBounds(program)
    points = points_in(program, np.random.default_rng(seed), 20)
    _, nodes = bounds.exact(points)
    atoms = bounds.atoms.forward(points, nodes)
    interval = values[0]
    images = np.stack([program.image(interval, point) for point in points.T.numpy()])
    with torch.no_grad():
        logits = TorchNetwork(network, torch.float64)(torch.tensor(images)).numpy()
    expected = logits @ clause.weights.T + clause.offsets
    np.testing.assert_allclose(atoms.numpy().T, expected, atol=1e-9 * (1 + np.abs(expected).max()))


@pytest.mark.parametrize("seed", range(12))
def test_bounds_hold_with_any_parameters_and_decisions(seed, tmp_path):
    program = scene(seed, tmp_path)[-1]
    bounds = MaxBounds(program)
    rng = np.random.default_rng(seed)
    points = points_in(program, rng, 400)
    entries, nodes = bounds.exact(points)
    atoms = bounds.atoms.forward(points, nodes)
    rows = len(atoms)
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(rows, BATCH, generator=generator, dtype=torch.float64)
    winners = [torch.full((group.nodes, BATCH), OPEN) for group in bounds.groups]
    inside = torch.ones(points.shape[1], BATCH, dtype=torch.bool)
    for column in range(BATCH):
        for group, row, values, reached in zip(bounds.groups, winners, entries, nodes, strict=True):
            for node in range(group.nodes):
                if rng.random() < 0.3:
                    own = np.flatnonzero((group.node == node).numpy())
                    choices = [*own, FLOOR] if group.floored[node] else list(own)
                    winner = int(rng.choice(choices))
                    row[node, column] = winner
                    value = torch.zeros(points.shape[1]) if winner == FLOOR else values[winner]
                    inside[:, column] &= value >= reached[node] - 1e-12
    phases = [Phases.of(group, row) for group, row in zip(bounds.groups, winners, strict=True)]
    found = bounds.sweep(bounds.atoms, weights, phases, random_freedom(bounds, BATCH, generator))
    reached = torch.where(inside, atoms.T @ weights, torch.full_like(atoms.T @ weights, -torch.inf))
    size = 1 + float(atoms.abs().max())
    assert bool((reached.amax(dim=0) <= found.bounds + 1e-9 * size).all())


@pytest.mark.parametrize("seed", range(6))
def test_the_sweep_up_is_the_derivative(seed, tmp_path):
    program = scene(seed, tmp_path)[-1]
    bounds = MaxBounds(program)
    generator = torch.Generator().manual_seed(seed)
    rows = bounds.atoms.constant.shape[0]
    weights = torch.rand(rows, 1, generator=generator, dtype=torch.float64)
    free = random_freedom(bounds, 1, generator)
    phases = []
    for group in bounds.groups:
        first = torch.searchsorted(group.node, torch.arange(group.nodes)).unsqueeze(1)
        some = torch.rand(group.nodes, 1, generator=generator) < 0.3
        phases.append(Phases.of(group, torch.where(some, first, torch.full_like(first, OPEN))))
    for number in range(len(free)):
        for name in ("slopes", "thresholds", "multipliers"):
            if getattr(free[number], name) is None:
                continue
            check_derivative(bounds, weights, phases, free, number, name)


def check_derivative(bounds, weights, phases, free, number, name) -> None:
    """Autograd through the sweep down says the same as the closed forms of the ascent."""
    parameter = getattr(free[number], name).clone().requires_grad_()
    parts = {key: getattr(free[number], key) for key in ("slopes", "thresholds", "multipliers")}
    changed = [*free]
    changed[number] = GroupFreedom(**{**parts, name: parameter})
    found = bounds.sweep(bounds.atoms, weights, phases, changed)
    (expected,) = torch.autograd.grad(
        found.bounds.sum(), parameter, allow_unused=True, materialize_grads=True
    )
    seen: dict[str, torch.Tensor] = {}
    ascent = Ascent(bounds, Objective(bounds.atoms, weights.clone()), phases, [_copy(item) for item in free])
    adams = {
        "slopes": ascent._slopes[number],
        "thresholds": ascent._thresholds[number],
        "multipliers": ascent._multipliers[number],
    }
    adams[name].step = lambda parameter, gradient, count: seen.update(found=gradient)
    ascent.step(-np.inf)
    if name in ("multipliers",) and "found" not in seen:
        return
    torch.testing.assert_close(seen["found"], expected, atol=1e-8, rtol=1e-6)


def _copy(free: GroupFreedom) -> GroupFreedom:
    hinges = None if free.thresholds is None else free.thresholds.clone()
    return GroupFreedom(free.slopes.clone(), hinges, free.multipliers.clone())


@pytest.mark.parametrize("seed", range(8))
def test_default_bounds_are_no_worse_than_crown_and_steps_make_them_better(seed, tmp_path):
    network, region, clause, _values, program = scene(seed, tmp_path)
    crown = BoundsEngine(network).crown(region, Property((clause,), "test")).clauses[0].atom_upper
    bounds = MaxBounds(program)
    count = len(crown)
    weights = torch.eye(count, dtype=torch.float64)
    ascent = Ascent(
        bounds, Objective(bounds.atoms, weights), bounds.undecided(1), default_freedom(bounds, count)
    )
    first = ascent.sweep().bounds.numpy()
    for _ in range(30):
        ascent.step(-np.inf)
    assert (ascent.best.numpy() <= first + 1e-12).all()
    if not any(not group.single for group in bounds.groups):
        assert (first <= crown + 1e-8 * (1 + np.abs(crown).max())).all()


@pytest.mark.parametrize("seed", range(8))
def test_tightened_bounds_contain_every_sample(seed, tmp_path):
    network, region, clause, values, program = scene(seed, tmp_path)
    found = tighten_program(network, values, clause, Budget())
    points = np.random.default_rng(seed).uniform(region.lower, region.upper, (300, *region.shape))
    with torch.no_grad():
        reached = TorchNetwork(network, torch.float64).values(torch.tensor(points))
    for value, old, new in zip(reached, values.values, found.values.values, strict=True):
        size = 1 + np.abs(old.lower).max() + np.abs(old.upper).max()
        assert (value.numpy() >= new.lower - 1e-12 * size).all()
        assert (value.numpy() <= new.upper + 1e-12 * size).all()
        assert (new.lower >= old.lower).all()
        assert (new.upper <= old.upper).all()
    assert found.program.nodes <= program.nodes


def test_weights_of_a_pool_that_round_to_more_than_one_are_scaled_back(tmp_path):
    """Three thirds of float32 exceed one: with huge inputs that pool the lower line was above the maximum."""
    nodes = [
        helper.make_node("Gemm", ["input", "rows", "shifts"], ["flat"], transB=1),
        helper.make_node("Reshape", ["flat", "image"], ["square"]),
        helper.make_node("MaxPool", ["square"], ["pooled"], kernel_shape=[1, 3]),
        helper.make_node("Flatten", ["pooled"], ["highest"]),
        helper.make_node("Concat", ["flat", "highest"], ["both"], axis=1),
        helper.make_node("Gemm", ["both", "difference", "little"], ["gap"], transB=1),
        helper.make_node("Relu", ["gap"], ["open"]),
        helper.make_node("Gemm", ["open", "last", "none"], ["output"], transB=1),
    ]
    numbers = {
        "rows": [[1e6, 0.0], [-1e6, 0.0], [0.0, 1e6]],
        "shifts": [0.0, 1e6, 0.0],
        "difference": [[1.0, 1.0, 1.0, -3.0]],
        "little": [0.01],
        "last": [[1.0], [0.0]],
        "none": [0.0, -1.0],
    }
    constants = {name: np.array(item, dtype=np.float32) for name, item in numbers.items()}
    constants |= {"image": np.array([-1, 1, 1, 3])}
    network = load_network(write_graph(tmp_path / "n.onnx", nodes, constants, (2,), 2))
    region = Region(np.zeros(2), np.ones(2))
    clause = ranked_above(2, 1, 0).clauses[0]
    values = BoundsEngine(network).crown(region, Property((clause,), "test")).values
    found = tighten_program(network, values, clause, Budget(), steps=0).values
    middle = TorchNetwork(network, torch.float64).values(torch.full((1, 2), 0.5, dtype=torch.float64))
    for interval, value in zip(found.values, middle, strict=True):
        assert (value[0].numpy() <= interval.upper).all()
        assert (value[0].numpy() >= interval.lower).all()
