"""What branch and bound in parts records stands up to the checker, and nothing else that is made of it does."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mlverify.errors import InputError
from mlverify.verifier import max_engine
from mlverify.verifier.budget import Budget
from mlverify.verifier.parts_search import PartsSearch
from mlverify.verifier.portfolio import Engine, Settings, Verifier
from mlverify.verifier.problem import Problem
from mlverify.verifier.proof_certificate import Certificate, Refutation
from mlverify.verifier.proof_checker import check_certificate, needed_margin
from mlverify.verifier.proof_files import FIRST_FORMAT, read_certificates, write_certificates
from mlverify.verifier.proof_program import Program
from mlverify.verifier.property import Clause, Property
from mlverify.verifier.region import Region
from mlverify.verifier.result import Result, Verdict
from soundness.changed_cuts import (
    another_neuron,
    changed_price,
    dropped_price,
    exchanged_functions,
    large_multipliers,
    largest_tree,
    one_part_twice,
    other_side,
    with_cut,
    with_part,
    without_leaf,
    without_windows,
)
from soundness.grid_networks import OVERLAP, POOLED, TILES, grid_network, question
from soundness.random_networks import logits_at, points_of
from soundness.random_proofs import question_changed, tampered
from soundness.test_proof_search import sampled_maximum


def asked(problem: Problem, engines: set[Engine]) -> Result:
    settings = Settings(threads=1, certify=True, engines=frozenset(engines))
    return Verifier(problem.network, settings).verify(problem, Budget.of_seconds(20))


def shifted(problem: Problem, by: float) -> Problem:
    (clause,) = problem.property.clauses
    moved = Clause(clause.weights, clause.offsets + by, clause.needed)
    return replace(problem, property=Property((moved,), "shifted"))


def beyond_bounds(
    path: Path,
    layers,
    seed: int,
    share: float,
    *,
    epsilon: float = 0.1,
    pool: bool = False,
    lift: float = 0.0,
) -> Problem:
    """A question that bounds with optimised slopes just miss."""
    network = grid_network(path, layers, seed, pool=pool, lift=lift)
    problem = Problem(network, *question(network, seed, epsilon))
    bound = asked(problem, {Engine.BOUNDS}).margin_bound
    return shifted(problem, -bound + share * (bound - sampled_maximum(problem)))


CASES = [
    (TILES, 2, 0.1, False),
    (TILES, 3, 0.1, False),
    (OVERLAP, 1, 0.1, False),
    (OVERLAP, 2, 0.02, False),
    (OVERLAP, 3, 0.1, False),
    (POOLED, 0, 0.02, True),
    (POOLED, 2, 0.02, True),
    (POOLED, 3, 0.1, True),
]


@pytest.fixture
def in_parts(monkeypatch):
    monkeypatch.setattr(max_engine, "SetSearch", PartsSearch)


@pytest.mark.usefixtures("in_parts")
@pytest.mark.parametrize(("layers", "seed", "share", "pool"), CASES)
def test_what_parts_prove_is_certified(tmp_path, layers, seed, share, pool):
    problem = beyond_bounds(tmp_path / "g.onnx", layers, seed, share, pool=pool)
    result = asked(problem, {Engine.BOUNDS, Engine.BAB})
    assert result.verdict is Verdict.HOLDS
    (certificate,) = result.certificates
    assert certificate.cuts
    assert any(len(part.tree.lengths) > 1 for part in certificate.parts)
    assert pool or any(len(part.joint) for part in certificate.parts)
    checked = check_certificate(problem, certificate)
    assert checked.proved, checked.reason
    assert checked.leaves == certificate.size
    assert checked.margin_bound >= sampled_maximum(problem)
    write_certificates(tmp_path / "c.npz", [certificate])
    assert check_certificate(problem, *read_certificates(tmp_path / "c.npz")) == checked


@pytest.mark.usefixtures("in_parts")
def test_windows_behind_active_relus_are_not_recorded(tmp_path):
    """The search takes ReLUs as they are that read what is linear here, but no function of the input to the checker."""
    problem = beyond_bounds(tmp_path / "g.onnx", TILES, 2, 0.02, lift=20.0)
    result = asked(problem, {Engine.BOUNDS, Engine.BAB})
    assert result.verdict is Verdict.HOLDS
    (certificate,) = result.certificates
    assert certificate.cuts
    assert not any(len(part.joint) for part in certificate.parts)
    assert check_certificate(problem, certificate).proved


def test_both_searches_in_turns_are_certified(tmp_path):
    """With one way of searching: what is decided first is what is kept."""
    for seed, share in ((1, 0.1), (2, 0.1), (3, 0.1)):
        problem = beyond_bounds(tmp_path / "g.onnx", OVERLAP, seed, share)
        result = asked(problem, {Engine.BOUNDS, Engine.BAB})
        assert result.verdict is Verdict.HOLDS
        assert check_certificate(problem, result.certificates[0]).proved


# --- a cut with nothing to spare --------------------------------------------------------------------------


def alone(problem: Problem, certificate: Certificate, number: int) -> tuple[Problem, Certificate]:
    """One cut and the question that it answers."""
    cut = certificate.cuts[number]
    chosen = certificate.refutations[cut.refutation]
    clause, atoms = problem.property.clauses[chosen.clause], list(chosen.atoms)
    few = Clause(clause.weights[atoms], clause.offsets[atoms], len(atoms))
    problem = replace(problem, property=Property((few,), "one set"))
    refutation = Refutation(0, tuple(range(len(atoms))))
    own = Certificate("", (refutation,), (), certificate.inner, (replace(cut, refutation=0),))
    return problem, question_changed(own, problem)


@pytest.fixture(
    scope="module",
    params=[(TILES, 2, False), (OVERLAP, 1, False), (POOLED, 3, True)],
    ids=["own", "shared", "pool"],
)
def tight(request, tmp_path_factory):
    """A proof that ends half of the margin beyond what is needed."""
    layers, seed, pool = request.param
    problem, certificate = proved_in_parts(tmp_path_factory.mktemp("tight"), layers, seed, pool=pool)
    sizes = [sum(len(part.tree.lengths) for part in cut.parts) for cut in certificate.cuts]
    problem, certificate = alone(problem, certificate, int(np.argmax(sizes)))
    bound = check_certificate(problem, certificate).margin_bound
    problem = shifted(problem, -bound - 1.5 * needed_margin(problem, certificate))
    certificate = question_changed(certificate, problem)
    assert check_certificate(problem, certificate).proved
    return problem, certificate


def proved_in_parts(folder: Path, layers, seed: int, *, pool: bool = False) -> tuple[Problem, Certificate]:
    problem = beyond_bounds(folder / "g.onnx", layers, seed, 0.1, pool=pool)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(max_engine, "SetSearch", PartsSearch)
        (certificate,) = asked(problem, {Engine.BOUNDS, Engine.BAB}).certificates
    return problem, certificate


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A proof whose parts share pixels, as it is."""
    return proved_in_parts(tmp_path_factory.mktemp("shared"), OVERLAP, 1)


CHANGES = [
    changed_price,
    dropped_price,
    exchanged_functions,
    one_part_twice,
    other_side,
    another_neuron,
    large_multipliers,
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_cut_proves_nothing(tight, change):
    problem, certificate = tight
    again = with_cut(certificate, change(certificate.cuts[0]))
    assert not check_certificate(problem, again).proved


def test_no_leaf_can_be_left_out(tight):
    problem, certificate = tight
    (cut,) = certificate.cuts
    program, number = Program.of(problem.network), largest_tree(cut)
    part = cut.parts[number]
    for leaf in range(min(10, len(part.tree.lengths))):
        fewer = with_part(cut, number, replace(part, tree=without_leaf(program, part.tree, leaf)))
        assert not check_certificate(problem, with_cut(certificate, fewer)).proved


def test_no_part_can_be_left_out(tight):
    problem, certificate = tight
    (cut,) = certificate.cuts
    for number in range(len(cut.parts)):
        fewer = replace(cut, parts=(*cut.parts[:number], *cut.parts[number + 1 :]))
        if len(cut.parts[number].tree.lengths) > 2:
            assert not check_certificate(problem, with_cut(certificate, fewer)).proved
    assert not check_certificate(problem, with_cut(certificate, replace(cut, parts=()))).proved


def test_another_weight_of_the_atoms(tight):
    problem, certificate = tight
    (cut,) = certificate.cuts
    if len(cut.shares) > 1:
        other = replace(cut, shares=np.eye(len(cut.shares))[cut.shares.argmin()])
        assert not check_certificate(problem, with_cut(certificate, other)).proved
    doubled = replace(cut, shares=2 * cut.shares)
    assert check_certificate(problem, with_cut(certificate, doubled)).proved


def test_the_order_of_parts_is_nothing(tight):
    problem, certificate = tight
    (cut,) = certificate.cuts
    assert check_certificate(problem, with_cut(certificate, replace(cut, parts=cut.parts[::-1]))).proved


def test_windows_are_what_proves_it(tight):
    problem, certificate = tight
    if any(len(part.joint) for part in certificate.parts):
        again = with_cut(certificate, without_windows(certificate.cuts[0]))
        assert not check_certificate(problem, again).proved


def test_another_image_network_or_epsilon(tight, tmp_path):
    problem, certificate = tight
    region = problem.region
    other = grid_network(tmp_path / "o.onnx", TILES, 7)
    for wrong in (
        replace(problem, network=other),
        replace(problem, region=Region(region.lower, region.upper + 1e-12)),
        shifted(problem, 1e-12),
    ):
        with pytest.raises(InputError, match="another network, region or property"):
            check_certificate(wrong, certificate)
    # in another order of pixels the same numbers are no proof
    turned = replace(problem, region=Region(region.lower[:, ::-1], region.upper[:, ::-1]))
    assert not check_certificate(turned, question_changed(certificate, turned)).proved


@pytest.mark.parametrize(
    "change",
    [
        lambda part: replace(part, places=np.repeat(part.places, 2, axis=0)[: len(part.places)]),
        lambda part: replace(part, places=part.places + 10_000),
        lambda part: replace(part, places=part.places - 10_000),
        lambda part: replace(part, places=part.places[:-1]),
        lambda part: replace(part, coefficients=part.coefficients * np.nan),
        lambda part: replace(part, coefficients=part.coefficients + np.inf),
        lambda part: replace(part, joint=part.joint[:, :2]),
        lambda part: replace(part, joint=np.repeat(part.joint, 2, axis=0)),
        lambda part: replace(part, joint=part.joint + np.array([0, 10_000, 0])),
        lambda part: replace(part, joint=part.joint + np.array([1, 0, 0])),
        lambda part: replace(part, joint=part.joint + np.array([2, 0, 0])),
        lambda part: replace(part, joint=np.array([[2, neuron, 0] for neuron in range(11)])),
        lambda part: replace(part, tree=replace(part.tree, lengths=part.tree.lengths - 9)),
        lambda part: replace(part, tree=replace(part.tree, multipliers=-part.tree.multipliers - 1)),
        lambda part: replace(part, tree=replace(part.tree, slopes=replace(part.tree.slopes, rows=99))),
    ],
)
def test_numbers_out_of_range(shared, change):
    problem, certificate = shared
    cut = certificate.cuts[0]
    with pytest.raises(InputError, match="write it again"):
        check_certificate(problem, with_cut(certificate, with_part(cut, 0, change(cut.parts[0]))))


def test_no_file_proves_what_a_point_refutes(tight, tmp_path):
    """A proof is offered, with one array changed at a time, for a statement that is false at some point."""
    problem, certificate = tight
    rng = np.random.default_rng(0)
    points = points_of(rng, problem.region, 50)
    clause = problem.property.clauses[0]
    at = clause.values(logits_at(problem.network, points[:1]))[0]
    false = replace(problem, property=Property((replace(clause, offsets=clause.offsets - at),), "false"))
    path = tmp_path / "c.npz"
    write_certificates(path, [certificate])
    with np.load(path) as archive:
        arrays = dict(archive)
    assert not check_certificate(false, question_changed(certificate, false)).proved
    for name in (name for name in arrays if "/cut" in name and not rng.integers(2)):
        np.savez(path, **tampered(rng, arrays, name))
        try:
            for again in read_certificates(path):
                assert not check_certificate(false, question_changed(again, false)).proved, name
        except InputError:
            continue


def test_files_of_the_first_format(tight, tmp_path):
    problem, certificate = tight
    path = tmp_path / "c.npz"
    write_certificates(path, [certificate])
    with np.load(path) as archive:
        arrays = dict(archive)
    np.savez(path, **{**arrays, "format": np.array(FIRST_FORMAT)})
    (again,) = read_certificates(path)
    assert not again.cuts
    assert not check_certificate(problem, again).proved
    del arrays["case0/cuts"]
    np.savez(path, **arrays)
    with pytest.raises(InputError, match="write it again"):
        read_certificates(path)
