"""Certificates of halved boxes: the checker agrees, and sees what was tampered with."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from mlverify.errors import InputError
from mlverify.verifier.bounds_engine import BoundsEngine
from mlverify.verifier.box_proof import BoxProof
from mlverify.verifier.budget import Budget
from mlverify.verifier.input_split import InputSplit, SplitEnd
from mlverify.verifier.onnx_reader import load_network
from mlverify.verifier.portfolio import Settings, Solver, Verifier
from mlverify.verifier.problem import Problem
from mlverify.verifier.proof_certificate import Side
from mlverify.verifier.proof_checker import check_certificate
from mlverify.verifier.property import top_k
from mlverify.verifier.region import Region
from mlverify.verifier.result import Verdict
from mlverify.verifier.torch_network import TorchNetwork
from onnx_factory import dense_network


def scene(folder, k, eps, seed=5):
    network = load_network(dense_network(folder / "n.onnx", (3, 20, 20, 4), seed=seed))
    image = np.full(3, 0.5, dtype=np.float32)
    with torch.no_grad():
        ranked = TorchNetwork(network)(torch.tensor(image)[None])[0].argsort(descending=True)
    return Problem(network, Region.linf(image, eps), top_k(4, int(ranked[0]), k), image)


def proof_of(problem):
    proof = BoxProof(problem)
    linear = BoundsEngine(problem.network).linear
    found = InputSplit(linear, problem.region, problem.property.clauses, proof).run(Budget.of_seconds(60))
    assert found.end is SplitEnd.PROVED
    recorder = proof.recorder()
    assert recorder is not None
    assert recorder.proves(problem.property)
    return recorder.certificate(problem)


@pytest.fixture(scope="module")
def proved(tmp_path_factory):
    problem = scene(tmp_path_factory.mktemp("boxes"), 1, 0.45)
    return problem, proof_of(problem)


def test_the_checker_proves_what_the_search_proved(proved):
    problem, certificate = proved
    checked = check_certificate(problem, certificate)
    assert checked.proved, checked.reason
    assert checked.leaves > 3


def test_sets_of_labels_that_change_from_box_to_box(tmp_path):
    for seed, eps in ((8, 0.4), (10, 0.35), (13, 0.4)):
        problem = scene(tmp_path, 2, eps, seed)
        certificate = proof_of(problem)
        assert max(len(item.atoms) for item in certificate.refutations) == 2
        assert check_certificate(problem, certificate).proved


def test_the_portfolio_hands_the_certificate_over(proved):
    problem, _ = proved
    result = Verifier(problem.network, Settings(Solver.HIGHS, 1, certify=True)).verify(problem)
    assert (result.verdict, result.engine) == (Verdict.HOLDS, "bab/inputs")
    (certificate,) = result.certificates
    assert check_certificate(problem, certificate).proved


def longest(table):
    """The row of a leaf with the longest path, and where its last decision stands."""
    row = int(table.lengths.argmax())
    return row, int(table.lengths[: row + 1].sum()) - 1


def tampered(certificate, change):
    """Every tree of boxes changed."""
    return replace(
        certificate, leaves=tuple(change(table) if len(table.cuts) else table for table in certificate.leaves)
    )


def without_a_box(table):
    row, _ = longest(table)
    kept = np.arange(len(table.lengths)) != row
    steps = np.repeat(kept, table.lengths)
    return replace(
        table,
        refutation=table.refutation[kept],
        shares=table.shares[kept],
        lengths=table.lengths[kept],
        steps=table.steps[steps],
        cuts=table.cuts[steps],
        slopes=replace(table.slopes, rows=int(kept.sum())),
    )


def with_a_shifted_boundary(table):
    _, step = longest(table)
    cuts, sign = table.cuts.copy(), -1.0 if table.steps[step, 2] == Side.BELOW else 1.0
    cuts[step] += sign * 1e-9
    return replace(table, cuts=cuts)


def with_the_other_side(table):
    _, step = longest(table)
    steps = table.steps.copy()
    steps[step, 2] = 1 - steps[step, 2]
    return replace(table, steps=steps)


def with_a_larger_box(table):
    """The last halving of one leaf is left out, so that the leaf claims more than was bounded."""
    row, step = longest(table)
    lengths, kept = table.lengths.copy(), np.arange(len(table.cuts)) != step
    lengths[row] -= 1
    return replace(table, lengths=lengths, steps=table.steps[kept], cuts=table.cuts[kept])


@pytest.mark.parametrize("change", [without_a_box, with_a_shifted_boundary, with_the_other_side])
def test_boxes_that_do_not_cover_the_region_are_noticed(proved, change):
    problem, certificate = proved
    checked = check_certificate(problem, tampered(certificate, change))
    assert not checked.proved


def test_a_box_is_bounded_as_large_as_it_claims_to_be(proved):
    problem, certificate = proved
    assert not check_certificate(problem, tampered(certificate, with_a_larger_box)).proved


def test_a_boundary_that_is_shifted_on_both_sides_still_covers(proved):
    problem, certificate = proved

    def move(table):
        return replace(table, cuts=np.where(table.cuts == table.cuts[0], table.cuts + 1e-6, table.cuts))

    assert check_certificate(problem, tampered(certificate, move)).proved


def test_another_region_is_noticed(proved):
    problem, certificate = proved
    other = replace(problem, region=Region.linf(problem.start, 0.1001))
    with pytest.raises(InputError, match="another network, region or property"):
        check_certificate(other, certificate)
