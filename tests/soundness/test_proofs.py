"""The independent checker: valid bounds from any numbers, and no false statement is ever accepted."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from mlverify.errors import InputError, ModelFormatError
from mlverify.verifier.linear_bounds import LinearBounds
from mlverify.verifier.onnx_reader import load_network
from mlverify.verifier.problem import Problem
from mlverify.verifier.proof_certificate import Certificate
from mlverify.verifier.proof_checker import check_certificate, leaf_bounds
from mlverify.verifier.proof_files import read_certificates, write_certificates
from mlverify.verifier.proof_maxima import pool_lines, relu_lines
from mlverify.verifier.proof_record import Recorder, leaf_table
from mlverify.verifier.proof_tree import Scenes, constraint_count, read_paths
from mlverify.verifier.property import Clause, Property
from mlverify.verifier.region import Region
from onnx_factory import write_graph
from soundness.random_networks import (
    GraphWriter,
    logits_at,
    points_of,
    random_image,
    random_network,
    random_region,
)
from soundness.random_proofs import RandomProofs, exact_values, leaf_of, question_changed, tampered
from soundness.test_exact import nearly_tied_layers, written


def random_problem(seed: int, folder: Path, slack: float, *, tiny: bool = False) -> Problem:
    """A clause of random atoms whose largest sampled values are ``-slack``."""
    rng = np.random.default_rng(seed)
    try:
        network = random_network(folder / "random.onnx", rng, tiny=tiny)
    except ModelFormatError:
        pytest.skip("onnxruntime can't load this network")
    region = random_region(rng, random_image(rng, network.input_shape), largest=0.1)
    atoms = int(rng.integers(1, 4))
    weights = rng.normal(size=(atoms, len(network.labels)))
    highest = (logits_at(network, points_of(rng, region, 50)) @ weights.T).max(axis=0)
    clause = Clause(weights, -highest - slack, int(rng.integers(1, atoms + 1)))
    return Problem(network, region, Property((clause,), "random atoms"))


def pool_problem(seed: int, folder: Path, offset: float) -> Problem:
    """Convolution, mostly ReLU, max-pool with overlapping or padded windows, dense scores."""
    rng = np.random.default_rng(seed)
    writer = GraphWriter(rng, "input", (1, 3, 3))
    writer.add("Conv", (2, 3, 3), writer.normal(2, 1, 3, 3), writer.normal(2), pads=[1, 1, 1, 1])
    kind = rng.choice(["relu", "relu", "leaky", "none"])
    if kind != "none":
        writer.step(str(kind))
    size = int(rng.integers(2, 4))
    if rng.integers(2):
        writer.add("MaxPool", (2, 4 - size, 4 - size), kernel_shape=[size, size])
    else:
        writer.add("MaxPool", (2, 2, 2), kernel_shape=[2, 2], strides=[2, 2], pads=[0, 0, 1, 1])
    writer.to_vector()
    writer.scores(2, duplicate=False)
    writer.nodes[-1].output[0] = "output"
    write_graph(folder / "pool.onnx", writer.nodes, writer.constants, (1, 3, 3), 2)
    network = load_network(folder / "pool.onnx")
    region = Region.linf(random_image(rng, (1, 3, 3)), float(rng.choice([0.05, 0.2, 0.5])))
    clause = Clause(rng.normal(size=(1, 2)), np.array([offset]), 1)
    return Problem(network, region, Property((clause,), "one atom"))


def check_leaves(problem: Problem, seed: int, points: int) -> None:
    """Exact values at points of the region are inside all bounds, and below the bounds of the leaves."""
    rng = np.random.default_rng(seed)
    proofs = RandomProofs.of(rng, problem)
    program, clause = proofs.program, problem.property.clauses[0]
    certificate = proofs.certificate(int(rng.integers(0, 4)))
    tables = leaf_bounds(problem, certificate)
    paths = [read_paths(program, table) for table in certificate.leaves]
    chosen = points_of(rng, problem.region, points)
    scores = logits_at(problem.network, chosen)
    for point, score in zip(chosen, scores, strict=True):
        values = exact_values(program, point.reshape(-1))
        size = max(float(abs(number)) for value in values for number in value)
        assert [float(x) for x in values[program.output]] == pytest.approx(score, rel=1e-9, abs=1e-12 * size)
        for low, high, value in zip(proofs.root.lower, proofs.root.upper, values, strict=True):
            assert all(
                Fraction(a) <= x <= Fraction(b) for a, b, x in zip(low[0], high[0], value, strict=True)
            )
        for table, found, listed in zip(certificate.leaves, tables, paths, strict=True):
            here = leaf_of(program, listed, values)
            assert here
            for leaf in here:
                check_constraints(rng, proofs, listed[leaf], values)
                atoms = certificate.refutations[table.refutation[leaf]].atoms
                shares = [Fraction(float(share)) for share in table.shares[leaf, : len(atoms)]]
                total = Fraction(0)
                for share, atom in zip(shares, atoms, strict=True):
                    row = zip(clause.weights[atom], values[program.output], strict=True)
                    total += share * sum((Fraction(w) * x for w, x in row), Fraction(clause.offsets[atom]))
                # the checker's shares add up to 1 up to rounding
                assert total / sum(shares) <= Fraction(float(found[leaf])) + abs(total) * Fraction(1, 10**14)


def check_constraints(rng: np.random.Generator, proofs: RandomProofs, path: Path, values) -> None:
    """What the decisions of a path imply is at least 0 at a point that takes them, each for itself."""
    scenes = Scenes(proofs.program, [path])
    count = constraint_count(proofs.program, path)
    for chosen in rng.choice(count, size=min(count, 3), replace=False) if count else ():
        found, _ = scenes.multiplied([np.eye(count)[chosen]], proofs.root, np.zeros(1, dtype=np.int64))
        total = Fraction(0)
        for value, matrix in found.items():
            entries = zip(matrix.indices, matrix.data, strict=True)
            total += sum((Fraction(float(number)) * values[value][at] for at, number in entries), Fraction(0))
        assert total >= 0


@pytest.mark.parametrize("seed", range(60))
def test_any_numbers_give_bounds_that_contain_exact_arithmetic(seed, tmp_path):
    check_leaves(random_problem(seed, tmp_path, 0.1), seed, 8)


@pytest.mark.parametrize("seed", range(40))
def test_any_numbers_for_pools(seed, tmp_path):
    check_leaves(pool_problem(seed, tmp_path, 0.0), seed, 8)


def check_coverage(seed: int, folder: Path) -> bool:
    """Whether a tree without some sides is accepted; then every point of the region must be in a leaf."""
    problem, rng = pool_problem(seed, folder, -1e6), np.random.default_rng(seed)
    proofs = RandomProofs.of(rng, problem)
    certificate = proofs.certificate(2, complete=False)
    if not check_certificate(problem, certificate).proved:
        return False
    paths = read_paths(proofs.program, certificate.leaves[0])
    for point in points_of(rng, problem.region, 20):
        assert leaf_of(proofs.program, paths, exact_values(proofs.program, point.reshape(-1)))
    return True


def test_sides_may_be_missing_only_where_nothing_is(tmp_path):
    accepted = [check_coverage(seed, tmp_path) for seed in range(80)]
    assert 5 < sum(accepted) < 75


@pytest.mark.slow
@pytest.mark.parametrize("block", range(10))
def test_many_more_random_trees(block, tmp_path):
    for seed in range(1000 + 200 * block, 1200 + 200 * block):
        try:
            problem = random_problem(seed, tmp_path, 0.1)
        except pytest.skip.Exception:
            continue
        check_leaves(problem, seed, 10)


@pytest.mark.parametrize("seed", range(30))
def test_large_weights_and_near_ties(seed, tmp_path):
    rng = np.random.default_rng(seed)
    network = written(tmp_path, nearly_tied_layers(rng))
    region = Region.linf(rng.random(3).astype(np.float32), float(rng.choice([0.0, 1e-6, 1e-3, 0.1])))
    clause = Clause(np.array([[-1.0, 1.0]]), np.zeros(1), 1)
    check_leaves(Problem(network, region, Property((clause,), "near ties")), seed, 6)


def default_certificate(problem: Problem):
    recorder = Recorder()
    for number, clause in enumerate(problem.property.clauses):
        singles = [recorder.refute(number, (atom,)) for atom in range(clause.atoms)]
        recorder.add_leaves(leaf_table(singles, [np.ones(1)] * len(singles)))
    return recorder.certificate(problem)


@pytest.mark.parametrize("seed", range(30))
def test_default_bounds_are_those_of_the_engine(seed, tmp_path):
    problem = random_problem(seed, tmp_path, 0.1)
    linear, clause = LinearBounds(problem.network), problem.property.clauses[0]
    bounds = linear.propagate(*linear.box([problem.region]))
    rows = linear.tensor(clause.weights).unsqueeze(0)
    theirs = linear.upper(linear.network.output, rows, bounds)[0].numpy() + clause.offsets
    (ours,) = leaf_bounds(problem, default_certificate(problem))
    if not problem.network.pools:
        assert ours == pytest.approx(theirs, rel=1e-7, abs=1e-7)
    else:
        # a pool over a ReLU is one maximum here, which may pick another default line
        assert np.isfinite(ours).all()


@pytest.mark.parametrize("seed", range(40))
def test_lines_contain_their_maximum(seed):
    rng = np.random.default_rng(seed)
    count, width = 50, int(rng.integers(1, 5))
    scale = 10.0 ** rng.integers(-3, 9)
    low = rng.normal(size=(count, width)) * scale
    high = low + rng.random((count, width)) * scale * rng.choice([0.0, 1e-9, 1.0], size=(count, width))
    padded = (rng.random((count, width)) < 0.2) & (np.arange(width) > 0)
    points = low + rng.random((20, count, width)) * (high - low)
    points = np.concatenate([np.clip(points, low, high), low[None], high[None]])
    low[padded], high[padded], points[:, padded] = -np.inf, -np.inf, 0.0
    floored = bool(rng.integers(2))
    default = rng.integers(2)
    threshold = np.full(count, np.nan) if default else rng.random(count)
    weights = rng.random((count, width))
    weights *= rng.random((count, 1)) / weights.sum(axis=1, keepdims=True)
    lines = pool_lines(low, high, floored, threshold, np.full_like(weights, np.nan) if default else weights)
    for point in points:
        for row in range(count):
            members = [Fraction(x) for x, out in zip(point[row], padded[row], strict=True) if not out]
            exact = max([*members, Fraction(0)] if floored else members)
            above = line_at(lines.upper_slope[row], lines.upper_shift[row], point[row])
            assert line_at(lines.lower_slope[row], lines.lower_shift[row], point[row]) <= exact <= above
    slope = float(rng.choice([0.0, 0.01, 0.3]))
    lines = relu_lines(low[:, 0], high[:, 0], slope, threshold)
    for point in points[:, :, 0]:
        for row, x in enumerate(map(Fraction, point)):
            exact = max(x, Fraction(0)) + Fraction(slope) * min(x, Fraction(0))
            above = line_at(lines.upper_slope[row], lines.upper_shift[row], point[row : row + 1])
            assert (
                line_at(lines.lower_slope[row], lines.lower_shift[row], point[row : row + 1])
                <= exact
                <= above
            )


def line_at(slope, shift, point) -> Fraction:
    return sum((Fraction(a) * Fraction(x) for a, x in zip(slope, point, strict=True)), Fraction(float(shift)))


# --- false statements -----------------------------------------------------------------------------------


def search_for_acceptance(
    seed: int, folder: Path, rounds: int, make: Callable[[RandomProofs, np.random.Generator], Certificate]
) -> int:
    """Offer random and tampered certificates for a statement that a point of the region refutes."""
    true = random_problem(seed, folder, 0.05)
    rng = np.random.default_rng(seed)
    clause = true.property.clauses[0]
    points = points_of(rng, true.region, 50).astype(np.float32)
    points = points[[true.region.contains(point) for point in points]]
    if not len(points):
        pytest.skip("no float32 point in the region")
    # all atoms reach zero together at one point
    at = clause.values(logits_at(true.network, points[:1]))[0]
    false = replace(true, property=Property((replace(clause, offsets=clause.offsets - at),), "false"))
    accepted = 0
    path = folder / "certificate.npz"
    for _ in range(rounds):
        proofs = RandomProofs.of(rng, true)
        certificate = make(proofs, rng)
        write_certificates(path, [certificate])
        with np.load(path) as archive:
            arrays = dict(archive)
        assert not check_certificate(false, question_changed(certificate, false)).proved
        for name in arrays:
            np.savez(path, **tampered(rng, arrays, name))
            try:
                found = read_certificates(path)
                for again in found:
                    accepted += check_certificate(true, question_changed(again, true)).proved
                    assert not check_certificate(false, question_changed(again, false)).proved, name
            except InputError:
                continue
    return accepted


def by_trees(proofs: RandomProofs, rng: np.random.Generator) -> Certificate:
    return proofs.certificate(int(rng.integers(0, 4)), complete=bool(rng.integers(2)))


def by_parts(proofs: RandomProofs, rng: np.random.Generator) -> Certificate:
    return proofs.cut_certificate(
        int(rng.integers(0, 3)), int(rng.integers(0, 4)), complete=bool(rng.integers(2))
    )


@pytest.mark.parametrize("seed", range(8))
def test_no_false_statement_is_accepted(seed, tmp_path):
    search_for_acceptance(seed, tmp_path, 1, by_trees)


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 5])
def test_no_false_statement_is_accepted_by_parts(seed, tmp_path):
    search_for_acceptance(seed, tmp_path, 1, by_parts)


@pytest.mark.slow
@pytest.mark.parametrize(("make", "rounds"), [(by_trees, 10), (by_parts, 3)])
@pytest.mark.parametrize("seed", range(100, 140))
def test_no_false_statement_is_accepted_in_a_longer_search(seed, make, rounds, tmp_path):
    search_for_acceptance(seed, tmp_path, rounds, make)


def test_the_checker_needs_no_torch():
    modules = "import sys, mlverify.verifier.proof_checker, mlverify.verifier.proof_files"
    loaded = "print([name for name in ('torch', 'highspy', 'gurobipy', 'auto_LiRPA') if name in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", f"{modules}; {loaded}"], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"
