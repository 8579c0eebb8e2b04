"""Certificates of linear bounds in the checker's form: what the search proved is not lost to tighter inner bounds."""

import numpy as np
import pytest
from mlverify.verifier.certificate import BoundCertificate
from mlverify.verifier.onnx_reader import load_network
from mlverify.verifier.problem import Problem
from mlverify.verifier.proof_checker import check_certificate, leaf_bounds
from mlverify.verifier.proof_files import FIRST_FORMAT, read_certificates, write_certificates
from mlverify.verifier.proof_of_bounds import proof_of
from mlverify.verifier.property import Clause, Property
from mlverify.verifier.region import Region
from onnx_factory import dense_network


@pytest.fixture
def problem(tmp_path):
    """Default slopes tighten inner bounds of this network so that the bound of the score is 6.04 in place of 5.77."""
    network = load_network(dense_network(tmp_path / "n.onnx", (3, 6, 6, 2), 88))
    region = Region.linf(np.random.default_rng(88).random(3).astype(np.float32), 0.4)
    clause = Clause(np.array([[1.0, -1.0]]), np.array([-5.9]), 1)
    return Problem(network, region, Property((clause,), "between both"))


@pytest.fixture
def certificate():
    generator = np.random.default_rng(88)
    generator.random(3)
    positions = generator.integers(0, 2, (1, 6)).astype(np.uint8)[0] * 255
    return BoundCertificate(((0,),), np.ones((1, 1)), {}, {"2": positions}, {}, {})


def test_inner_bounds_as_they_were_searched_with(problem, certificate):
    proof = proof_of(problem, certificate)
    assert not proof.inner.plain
    checked = check_certificate(problem, proof)
    assert checked.proved
    assert checked.margin_bound == pytest.approx(5.774 - 5.9, abs=1e-3)


def test_default_slopes_where_they_do_not_hurt(problem, certificate):
    clause = Clause(np.array([[1.0, -1.0]]), np.array([-7.0]), 1)
    easy = Problem(problem.network, problem.region, Property((clause,), "easy"))
    assert proof_of(easy, certificate).inner.plain
    assert proof_of(problem, BoundCertificate(((0,),), np.ones((1, 1)), {}, {}, {}, {})).inner.plain


def test_the_file_says_which(problem, certificate, tmp_path):
    proof = proof_of(problem, certificate)
    write_certificates(tmp_path / "c.npz", [proof])
    (again,) = read_certificates(tmp_path / "c.npz")
    assert leaf_bounds(problem, again)[0] == leaf_bounds(problem, proof)[0]
    with np.load(tmp_path / "c.npz") as archive:
        arrays = dict(archive)
    np.savez(tmp_path / "c.npz", **{**arrays, "format": np.array(FIRST_FORMAT)})
    (first,) = read_certificates(tmp_path / "c.npz")
    assert first.inner.plain
    assert not check_certificate(problem, first).proved
