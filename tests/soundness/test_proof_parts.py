"""Refutations by parts: any functions, trees and windows give sums that exact arithmetic nowhere exceeds."""

import tempfile
from dataclasses import replace
from fractions import Fraction
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlverify.verifier.onnx_reader import load_network
from mlverify.verifier.problem import Problem
from mlverify.verifier.proof_certificate import Certificate, Cut, Part
from mlverify.verifier.proof_checker import check_certificate, leaf_bounds
from mlverify.verifier.proof_forward import propagate
from mlverify.verifier.proof_maxima import Maxima
from mlverify.verifier.proof_parts import rest_bound, total_bound
from mlverify.verifier.proof_record import Recorder, sub_problems
from mlverify.verifier.proof_tree import read_paths
from mlverify.verifier.proof_windows import ABSENT, Excess, Joint, Window, largest
from mlverify.verifier.property import Clause, Property
from mlverify.verifier.region import Region
from onnx_factory import write_graph
from scipy import sparse
from soundness.random_networks import GraphWriter, all_corners, points_of
from soundness.random_proofs import RandomProofs, exact_values, leaf_of
from soundness.test_proof_search import exact_maximum, sampled_maximum
from soundness.test_proofs import pool_problem, random_problem

SEEDS = st.integers(0, 2**32 - 1)


def problem_of(seed: int, folder: Path) -> Problem | None:
    try:
        return pool_problem(seed, folder, 0.0) if seed % 2 else random_problem(seed, folder, 0.1, tiny=True)
    except pytest.skip.Exception:
        return None


def one_atom(problem: Problem, offset: float = 0.0) -> Problem:
    clause = problem.property.clauses[0]
    clause = Clause(clause.weights[:1], clause.offsets[:1] + offset, 1)
    return replace(problem, property=Property((clause,), "one atom"))


def value_of(part: Part, values: list[list[Fraction]]) -> Fraction:
    terms = zip(part.places.tolist(), part.coefficients.tolist(), strict=True)
    return sum((Fraction(number) * values[value][place] for (value, place), number in terms), Fraction(0))


def combination_of(clause: Clause, atoms: tuple[int, ...], cut: Cut, logits: list[Fraction]) -> Fraction:
    """With the weights that the checker takes."""
    total = Fraction(0)
    for share, atom in zip((cut.shares / cut.shares.sum()).tolist(), atoms, strict=True):
        row = zip(clause.weights[atom].tolist(), logits, strict=True)
        own = sum((Fraction(weight) * logit for weight, logit in row), Fraction(float(clause.offsets[atom])))
        total += Fraction(share) * own
    return total


def check_parts(problem: Problem, seed: int, points: int) -> None:
    rng = np.random.default_rng(seed)
    proofs = RandomProofs.of(rng, problem)
    certificate = proofs.cut_certificate(int(rng.integers(0, 3)), int(rng.integers(1, 4)))
    program, region = proofs.program, problem.region
    box = region.lower.reshape(1, -1).copy(), region.upper.reshape(1, -1).copy()
    root = propagate(program, *box, certificate.inner, every=True)
    bounds = leaf_bounds(problem, certificate)
    exact = [exact_values(program, point.reshape(-1)) for point in points_of(rng, region, points)]
    first = 0
    for cut in certificate.cuts:
        refutation = certificate.refutations[cut.refutation]
        clause = problem.property.clauses[refutation.clause]
        own = bounds[first : first + len(cut.parts)]
        first += len(cut.parts)
        asked = program, root, clause, refutation.atoms, cut
        rest, total = rest_bound(*asked), total_bound(*asked, np.array([table.max() for table in own]))
        for values in exact:
            added = Fraction(0)
            for part, table in zip(cut.parts, own, strict=True):
                here = leaf_of(program, read_paths(program, part.tree), values)
                assert here
                added += value_of(part, values)
                assert all(value_of(part, values) <= Fraction(float(table[leaf])) for leaf in here)
            sought = combination_of(clause, refutation.atoms, cut, values[program.output])
            assert sought - added <= Fraction(rest)
            assert sought <= Fraction(total)


def check_seed(seed: int, points: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        problem = problem_of(seed, Path(folder))
        if problem is not None:
            check_parts(problem, seed, points)


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_no_point_exceeds_any_parts_and_what_is_left(seed):
    check_seed(seed, 4)


@pytest.mark.slow
@settings(max_examples=2000, deadline=None)
@given(SEEDS)
def test_no_point_exceeds_many_more_parts(seed):
    check_seed(seed, 8)


def lowest_total(problem: Problem, seed: int, rounds: int) -> float:
    """The least that random cuts of one atom add up to."""
    rng = np.random.default_rng(seed)
    proofs = RandomProofs.of(rng, problem)
    certificates = [proofs.cut_certificate(int(rng.integers(0, 3)), 2) for _ in range(rounds)]
    return min(check_certificate(problem, certificate).margin_bound for certificate in certificates)


@pytest.mark.parametrize("seed", range(10))
def test_no_sum_is_below_the_largest_sample(seed, tmp_path):
    problem = problem_of(seed, tmp_path)
    if problem is not None:
        problem = one_atom(problem)
        sampled = sampled_maximum(problem)
        assert lowest_total(problem, seed, 5) >= sampled - 1e-12 * (1 + abs(sampled))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 200))
def test_no_sum_is_below_the_exact_maximum(seed, tmp_path):
    problem = problem_of(seed, tmp_path)
    if problem is not None:
        problem = one_atom(problem)
        highest = exact_maximum(problem)
        # the linear programs behind the exact maximum are solved to 1e-7 of their numbers
        assert lowest_total(problem, seed, 30) >= highest - 1e-7 * (1 + abs(highest))


def test_slices_of_leaves_are_put_together(tmp_path, monkeypatch):
    problem = one_atom(pool_problem(3, tmp_path, 0.0))
    certificate = RandomProofs.of(np.random.default_rng(2), problem).cut_certificate(2, 2)
    whole = check_certificate(problem, certificate).margin_bound
    for module in ("proof_checker", "proof_windows"):
        monkeypatch.setattr(f"mlverify.verifier.{module}.SLICE_NUMBERS", 1)
    assert check_certificate(problem, certificate).margin_bound == pytest.approx(whole, rel=1e-12)


# --- windows ---------------------------------------------------------------------------------------------


def random_windows(rng: np.random.Generator, inputs: int, below: float) -> Joint:
    windows, count = [], 0
    for _ in range(int(rng.integers(1, 4))):
        neurons = count + np.arange(int(rng.integers(1, 4)))
        count += len(neurons)
        reads = np.sort(rng.permutation(inputs)[: int(rng.integers(0, inputs + 1))])
        weights = rng.normal(size=(len(neurons), len(reads))) * 10.0 ** rng.integers(-3, 6)
        constant = rng.normal(size=len(neurons)) * np.abs(weights).sum(axis=1)
        zero = np.zeros(len(neurons))
        windows.append(Window(neurons, reads, weights, constant, zero, np.full(len(neurons), below)))
    return Joint(count, {1: np.full(count, ABSENT)}, tuple(windows))


def exact_excess(joint: Joint, excess: Excess, linear: np.ndarray, row: int, point: np.ndarray) -> Fraction:
    total = sum((Fraction(a) * Fraction(x) for a, x in zip(linear[row], point, strict=True)), Fraction(0))
    for window in joint.windows:
        for number, neuron in enumerate(window.neurons.tolist()):
            terms = zip(window.weights[number], point[window.inputs], strict=True)
            read = sum(
                (Fraction(w) * Fraction(x) for w, x in terms), Fraction(float(window.constant[number]))
            )
            slope = Fraction(float(excess.slope[row, neuron]))
            above = max(read, Fraction(float(window.below[number])) * read) - slope * read
            total += Fraction(float(excess.factor[row, neuron])) * above
    return total


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_windows_are_at_least_exact_at_all_corners(seed):
    """What they add up to is convex, so that it is largest at a corner."""
    rng = np.random.default_rng(seed)
    inputs, rows = int(rng.integers(1, 6)), 3
    joint = random_windows(rng, inputs, float(rng.choice([0.0, 0.1])))
    factor = rng.random((rows, joint.count)) * 10.0 ** rng.integers(-6, 6)
    excess = Excess(factor * rng.integers(0, 2, size=factor.shape), rng.random(factor.shape))
    linear = rng.normal(size=(rows, inputs)) * rng.integers(0, 2, size=(rows, inputs))
    lower = rng.normal(size=(rows, inputs))
    upper = lower + rng.random((rows, inputs)) * 10.0 ** rng.integers(-6, 2)
    value, error = largest(joint, excess, sparse.csr_matrix(linear), lower, upper)
    for row in range(rows):
        corners = product(*zip(lower[row], upper[row], strict=True))
        exact = max(exact_excess(joint, excess, linear, row, np.array(corner)) for corner in corners)
        assert exact <= Fraction(float(value[row])) + Fraction(float(error[row]))
        if len(joint.windows) == 1 and len(joint.windows[0].inputs) == inputs:
            assert float(exact) == pytest.approx(float(value[row]), abs=2 * float(error[row]))


def first_layer(seed: int, folder: Path) -> Problem:
    """A region of a few pixels that move, and (leaky) ReLUs over all of them after two affine steps."""
    rng = np.random.default_rng(seed)
    writer = GraphWriter(rng, "input", (6,))
    for size in (3, 4):
        writer.add("Gemm", (size,), writer.normal(size, writer.shape[0]), writer.normal(size), transB=1)
    writer.step("relu" if seed % 2 else "leaky")
    writer.scores(2, duplicate=False)
    writer.nodes[-1].output[0] = "output"
    network = load_network(write_graph(folder / "first.onnx", writer.nodes, writer.constants, (6,), 2))
    moving = (rng.random(6) < 0.7) * float(rng.choice([0.1, 1.0]))
    region = Region.per_pixel(rng.random(6).astype(np.float32), moving)
    return Problem(network, region, Property((Clause(np.ones((1, 2)), np.zeros(1), 1),), "any"))


@pytest.mark.parametrize("seed", range(30))
def test_one_window_of_a_whole_layer_is_exact(seed, tmp_path):
    """A function of pixels and ReLUs that is convex, so that it is largest at a corner; and looser in two windows."""
    problem, rng = first_layer(seed, tmp_path), np.random.default_rng(seed)
    proofs = RandomProofs.of(rng, problem)
    (value,) = (number for number, step in enumerate(proofs.program.steps, 1) if isinstance(step, Maxima))
    places = np.array([*((value, neuron) for neuron in range(4)), *((0, pixel) for pixel in range(6))])
    coefficients = np.concatenate([rng.random(4), rng.normal(size=6)])
    bounds = []
    for windows in (np.zeros(4), np.array([0, 1, 0, 1])):
        joint = np.stack([np.full(4, value), np.arange(4), windows], axis=1).astype(np.int64)
        recorder = Recorder()
        part = Part(places, coefficients, joint, sub_problems([()]))
        recorder.add_cut(Cut(recorder.refute(0, (0,)), np.ones(1), (part,)))
        bounds.append(float(leaf_bounds(problem, recorder.certificate(problem))[0][0]))
    corners = all_corners(problem.region)
    assert corners is not None
    exact = max(value_of(part, exact_values(proofs.program, corner.reshape(-1))) for corner in corners)
    assert exact <= Fraction(bounds[0])
    assert float(exact) == pytest.approx(bounds[0], rel=1e-9, abs=1e-9)
    assert exact <= Fraction(bounds[1])


def test_sides_are_chosen_jointly():
    """Two ReLUs of one input that are never both large: lines allow 1, a window of both 1 / 2."""
    weights, constant = np.array([[1.0], [-1.0]]), np.zeros(2)
    together = Window(np.arange(2), np.array([0]), weights, constant, np.zeros(2), np.zeros(2))
    joint = Joint(2, {}, (together,))
    excess = Excess(np.ones((1, 2)), np.zeros((1, 2)))
    nothing = sparse.csr_matrix((1, 1))
    value, error = largest(joint, excess, nothing, np.array([[-0.5]]), np.array([[0.5]]))
    assert value[0] == 0.5
    assert 0 < error[0] < 1e-12


def test_without_parts_the_rest_is_the_root_bound(tmp_path):
    problem = one_atom(pool_problem(3, tmp_path, -100.0))
    recorder = Recorder()
    recorder.add_cut(Cut(recorder.refute(0, (0,)), np.ones(1), ()))
    checked = check_certificate(problem, recorder.certificate(problem))
    assert checked.proved
    assert checked.leaves == 0


def test_a_part_without_a_tree_proves_nothing(tmp_path):
    problem = one_atom(pool_problem(3, tmp_path, -100.0))

    def offered(paths: int) -> Certificate:
        recorder = Recorder()
        nowhere, joint = np.zeros((0, 2), dtype=np.int64), np.zeros((0, 3), dtype=np.int64)
        part = Part(nowhere, np.zeros(0), joint, sub_problems([()] * paths))
        recorder.add_cut(Cut(recorder.refute(0, (0,)), np.ones(1), (part,)))
        return recorder.certificate(problem)

    assert check_certificate(problem, offered(1)).proved
    assert not check_certificate(problem, offered(0)).proved
