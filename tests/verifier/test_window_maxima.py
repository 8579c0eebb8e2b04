"""Exact maxima over windows: never below samples, never above the upper lines, exact where windows are apart."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from mlverify.verifier.affine import AffineMap
from mlverify.verifier.interval import Interval
from mlverify.verifier.max_ascent import Ascent, Objective, default_freedom
from mlverify.verifier.max_bounds import MaxBounds
from mlverify.verifier.max_groups import Phases
from mlverify.verifier.max_program import MaxGroup, MaxProgram
from mlverify.verifier.window_maxima import MOST_JOINT
from scipy import sparse

PIXELS = 9
APART = [(0, 1, 2)] * 3 + [(3, 4, 5)] * 2 + [(6, 7)]
OVERLAPPING = [(0, 1, 2, 3)] * 3 + [(2, 3, 4, 5)] * 2 + [(5, 6, 7)] * 2


def ranges(matrix, constant, low, high):
    positive, negative = matrix.clip(min=0), matrix.clip(max=0)
    return Interval(positive @ low + negative @ high + constant, positive @ high + negative @ low + constant)


def program_of(windows, seed, second=0):
    """ReLUs on windows of nine pixels, ``second`` more on them and the pixels, and two atoms."""
    generator = np.random.default_rng(seed)
    low = generator.uniform(0, 0.5, PIXELS)
    high = low + generator.uniform(0.1, 0.5, PIXELS)
    weight = np.zeros((len(windows), PIXELS))
    for row, window in enumerate(windows):
        weight[row, list(window)] = generator.normal(size=len(window))
    constant = -weight @ (low + high) / 2 + generator.normal(size=len(windows)) * 0.05
    count = len(windows)
    first = group_of(weight, constant, ranges(weight, constant, low, high), 1, PIXELS)
    groups, columns = [first], PIXELS + count
    if second:
        upper = np.maximum(first.bounds.upper, 0)
        every_low = np.concatenate([low, np.zeros(count)])
        every_high = np.concatenate([high, upper])
        weight = generator.normal(size=(second, columns))
        constant = -weight @ (every_low + every_high) / 2
        groups.append(group_of(weight, constant, ranges(weight, constant, every_low, every_high), 2, columns))
        columns += second
    atoms = AffineMap(sparse.csr_matrix(generator.normal(size=(2, columns))), generator.normal(size=2))
    return MaxProgram(np.arange(PIXELS), Interval(low, high), tuple(groups), atoms)


def group_of(weight, constant, bounds, value, first):
    count = len(constant)
    numbers = np.arange(count)
    entries = AffineMap(sparse.csr_matrix(weight), constant)
    floored = np.ones(count, dtype=np.bool_)
    return MaxGroup(2 * value, numbers, 2 * value - 1, numbers, 1.0, first, floored, numbers, entries, bounds)


def bound_of(bounds, weights, free, phases=None):
    batch = weights.shape[1]
    return bounds.sweep(bounds.atoms, weights, phases or bounds.undecided(batch), free)


CASES = [(APART, 0), (OVERLAPPING, 0), (APART, 4), (OVERLAPPING, 4)]


@pytest.mark.parametrize(("windows", "second"), CASES)
@pytest.mark.parametrize("seed", range(6))
def test_between_samples_and_lines(windows, second, seed):
    program = program_of(windows, seed, second)
    exact, lines = MaxBounds(program, exact_windows=True), MaxBounds(program)
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(2, 5, generator=generator, dtype=torch.float64)
    free = default_freedom(exact, 5)
    tight, plain = bound_of(exact, weights, free).bounds, bound_of(lines, weights, free).bounds
    assert (tight <= plain + 1e-12).all()
    box = program.box
    corners = torch.tensor(list(product(*zip(box.lower, box.upper, strict=True)))).T
    values = weights.T @ exact.atoms.forward(corners, exact.exact(corners)[1])
    assert (values.max(dim=1).values <= tight + 1e-12).all()


@pytest.mark.parametrize("seed", range(6))
def test_exact_where_windows_are_apart_and_coefficients_positive(seed):
    program = program_of(APART, seed)
    matrix = program.atoms.matrix.toarray()
    matrix[:, PIXELS:] = np.abs(matrix[:, PIXELS:])
    atoms = AffineMap(sparse.csr_matrix(matrix), program.atoms.constant)
    program = MaxProgram(program.pixels, program.box, program.groups, atoms)
    exact = MaxBounds(program, exact_windows=True)
    weights = torch.eye(2, dtype=torch.float64)
    found = bound_of(exact, weights, default_freedom(exact, 2))
    box = program.box
    corners = torch.tensor(list(product(*zip(box.lower, box.upper, strict=True)))).T
    best = exact.atoms.forward(corners, exact.exact(corners)[1]).max(dim=1).values
    torch.testing.assert_close(found.bounds, best)
    reached = exact.atoms.forward(found.point, exact.exact(found.point)[1]).diagonal()
    torch.testing.assert_close(reached, best)


@pytest.mark.parametrize(("windows", "second"), CASES)
def test_the_sweep_up_is_the_derivative(windows, second):
    """Of the bound by the weights of the atoms: the atoms' substituted values."""
    program = program_of(windows, 1, second)
    exact = MaxBounds(program, exact_windows=True)
    weights = torch.tensor([[0.7], [-0.4]], dtype=torch.float64)
    free = default_freedom(exact, 1)
    found = bound_of(exact, weights, free)
    values = exact.atoms.forward(found.point, found.nodes)
    for row in range(2):
        moved = weights.clone()
        moved[row] += 1e-7
        change = (bound_of(exact, moved, free).bounds - found.bounds) / 1e-7
        torch.testing.assert_close(values[row], change, atol=1e-4, rtol=1e-4)


def test_decided_nodes_and_steps_stay_valid():
    program = program_of(OVERLAPPING, 3, 4)
    exact = MaxBounds(program, exact_windows=True)
    winners = torch.full((len(OVERLAPPING), 1), -2)
    winners[0], winners[3] = 0, -1
    phases = (Phases.of(exact.groups[0], winners), exact.undecided(1)[1])
    objective = Objective(exact.atoms, torch.tensor([[1.0], [0.0]], dtype=torch.float64))
    ascent = Ascent(exact, objective, phases, default_freedom(exact, 1))
    for _ in range(20):
        ascent.step(-np.inf)
    box = program.box
    points = torch.tensor(np.random.default_rng(0).uniform(box.lower, box.upper, (4000, PIXELS)).T)
    entries, nodes = exact.exact(points)
    inside = (entries[0][0] >= 0) & (entries[0][3] <= 0)
    assert inside.any()
    assert float(exact.atoms.forward(points, nodes)[0][inside].max()) <= float(ascent.sweep().bounds)


def test_windows_of_many_nodes_try_some_of_them():
    windows = [tuple(range(PIXELS))] * (MOST_JOINT + 3)
    program = program_of(windows, 0)
    exact, lines = MaxBounds(program, exact_windows=True), MaxBounds(program)
    weights = torch.eye(2, dtype=torch.float64)
    free = default_freedom(exact, 2)
    assert (bound_of(exact, weights, free).bounds < bound_of(lines, weights, free).bounds).all()


def test_relus_that_read_no_pixel():
    """Entries may cancel while the bounds, widened for rounding, leave both signs open."""
    program = program_of([*[()] * 4, *APART], 2)
    low, high = program.groups[0].bounds.lower.copy(), program.groups[0].bounds.upper.copy()
    low[:4], high[:4] = -0.2, 0.2
    first = replace(program.groups[0], bounds=Interval(low, high))
    exact = MaxBounds(replace(program, groups=(first,)), exact_windows=True)
    weights = torch.ones(2, 3, dtype=torch.float64)
    found = bound_of(exact, weights, default_freedom(exact, 3))
    values = weights.T @ exact.atoms.forward(found.point, exact.exact(found.point)[1])
    assert (values.diagonal() <= found.bounds + 1e-12).all()
