"""Certificate files: written and read back, damaged, tampered with, too large."""

import contextlib
import itertools
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mlverify import arrays
from mlverify.errors import InputError
from mlverify.verifier import proof_files
from mlverify.verifier.onnx_reader import load_network
from mlverify.verifier.problem import Problem
from mlverify.verifier.proof_certificate import Decision
from mlverify.verifier.proof_checker import check_certificate
from mlverify.verifier.proof_files import read_certificates, write_certificates
from mlverify.verifier.proof_record import Recorder, leaf_table
from mlverify.verifier.proof_slopes import ReluSlopes, Slopes
from mlverify.verifier.property import Clause, Property
from mlverify.verifier.region import Region
from onnx_factory import conv_network
from soundness.random_proofs import RandomProofs


@pytest.fixture
def problem(tmp_path):
    network = load_network(conv_network(tmp_path / "n.onnx", (1, 6, 6), 3, pool=True))
    region = Region.linf(np.full((1, 6, 6), 0.4, np.float32), 0.1)
    clause = Clause(np.array([[1.0, -1.0, 0.0], [0.0, -1.0, 1.0]]), np.array([-500.0, -500.0]), 1)
    return Problem(network, region, Property((clause,), "far from zero"))


@pytest.fixture
def certificate(problem):
    return RandomProofs.of(np.random.default_rng(4), problem).certificate(3)


@pytest.fixture
def path(tmp_path, certificate):
    write_certificates(tmp_path / "c.npz", [certificate])
    return tmp_path / "c.npz"


def arrays_of(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as archive:
        return dict(archive)


def test_what_is_written_is_read_and_proves(problem, certificate, path):
    (again,) = read_certificates(path)
    assert check_certificate(problem, certificate).proved
    assert check_certificate(problem, again) == check_certificate(problem, certificate)


def test_many_leaves_are_small_files(problem, tmp_path):
    proofs = RandomProofs.of(np.random.default_rng(0), problem)
    certificate = proofs.certificate(6)
    write_certificates(tmp_path / "many.npz", [certificate])
    leaves = sum(len(table.refutation) for table in certificate.leaves)
    assert leaves > 100
    # about a byte per open neuron and leaf
    assert (tmp_path / "many.npz").stat().st_size < 20_000 + 200 * leaves


@pytest.mark.parametrize("keep", [0, 10, 0.3, 0.7, -1])
def test_truncated_files(path, keep):
    whole = path.read_bytes()
    count = int(keep * len(whole)) if isinstance(keep, float) else keep
    path.write_bytes(whole[:count])
    with pytest.raises(InputError, match="can't be read"):
        read_certificates(path)


def test_a_flipped_byte_is_noticed_or_harmless(problem, path):
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for place in rng.integers(len(whole), size=100):
        damaged = bytearray(whole)
        damaged[place] ^= 255
        path.write_bytes(bytes(damaged))
        with contextlib.suppress(InputError):
            (again,) = read_certificates(path)
            check_certificate(problem, again)


def test_other_files(path, tmp_path):
    for name, write in {
        "no file": lambda: path.unlink(),
        "text": lambda: path.write_text("certificate"),
        "an array": lambda: np.save(path.open("wb"), np.zeros(3)),
        "other arrays": lambda: np.savez(path, image=np.zeros(3)),
        "another format": lambda: np.savez(
            path, format=np.array("mlverify/certificate/9"), cases=np.array(0)
        ),
        "pickled": lambda: np.savez(path, format=np.array([{}], dtype=object)),
    }.items():
        write()
        with pytest.raises(InputError) as caught:
            print(name, read_certificates(path))
        assert str(path) in str(caught.value), name
    with pytest.raises(InputError):
        read_certificates(tmp_path)


def test_archives_that_unpack_to_more_than_memory(path, monkeypatch):
    monkeypatch.setattr(proof_files, "MOST_BYTES", 10_000_000)
    np.savez_compressed(path, **{**arrays_of(path), "more": np.zeros(2_000_000)})
    assert path.stat().st_size < 100_000
    with pytest.raises(InputError, match="unpacks to more"):
        read_certificates(path)
    monkeypatch.setattr(arrays, "MOST_ARRAYS", 100)
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(101):
            archive.writestr(f"{number}.npy", b"")
    with pytest.raises(InputError, match="unpacks to more"):
        read_certificates(path)


def test_an_array_that_claims_to_be_larger_than_it_is(path):
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }"
    header += b" " * (117 - len(header)) + b"\n"
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("case0/more.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(InputError, match="can't be read"):
        read_certificates(path)


def changed(path: Path, **arrays: np.ndarray) -> None:
    np.savez(path, **{**arrays_of(path), **arrays})


@pytest.mark.parametrize("index", [[0, 5, -(2**63)], [0, 2**62, -(2**62)], [-1, 0], [1, 0], [2, 2], [0, 9]])
def test_indices_of_neurons_that_are_none(index):
    """Also where their differences overflow."""
    neurons = np.array(index, dtype=np.int64)
    slopes = Slopes(1, {2: ReluSlopes(neurons, np.zeros((1, len(neurons)), dtype=np.uint8))})
    with pytest.raises(InputError, match="out of order or out of range"):
        slopes.check({2: 9}, {})


@pytest.mark.parametrize(
    "change",
    [
        {"case0/leaves0/multipliers": lambda array: -array - 1},
        {"case0/leaves0/multipliers": lambda array: array * np.nan},
        {"case0/leaves0/multipliers": lambda array: array[:-1]},
        {"case0/leaves0/shares": lambda array: -array},
        {"case0/leaves0/shares": lambda array: array * 0},
        {"case0/leaves0/shares": lambda array: array * np.inf},
        {"case0/leaves0/shares": lambda array: array[0, 0]},
        {"case0/leaves0/refutation": lambda array: array + 2},
        {"case0/leaves0/refutation": lambda array: array - 1},
        {"case0/leaves0/lengths": lambda array: array + 1},
        {"case0/leaves0/lengths": lambda array: array[:-1]},
        {"case0/leaves0/lengths": lambda array: array.astype(np.float64)},
        {"case0/leaves0/rows": lambda array: array + 1},
        {"case0/atoms": lambda array: array + 50},
        {"case0/atoms": lambda array: array * 0 - 1},
        {"case0/clauses": lambda array: array + 1},
        {"case0/tables": lambda array: array + 1},
        {"case0/tables": lambda array: array[:2]},
        {"case0/shared0/rows": lambda array: array * 0 + 10**9},
        {"case0/shared0/rows": lambda array: array * 0 - 1},
        {"cases": lambda array: array + 1},
    ],
)
def test_numbers_out_of_range_are_bad_input(problem, path, change):
    ((name, make),) = change.items()
    kept = arrays_of(path)
    if name not in kept:
        kept[name] = np.array(0)
        kept["case0/tables"] = np.array([len([key for key in kept if key.endswith("/shares")]), 1, 0])
    np.savez(path, **{**kept, name: make(kept[name])})
    with pytest.raises(InputError):
        check_certificate(problem, read_certificates(path)[0])


def test_without_any_leaf_nothing_is_proved(problem):
    """All bounds are far below zero, so that only the missing part of the region can matter."""
    problem = replace(
        problem, property=Property((Clause(np.array([[1.0, 0, 0]]), np.array([-500.0]), 1),), "")
    )
    proofs = RandomProofs.of(np.random.default_rng(0), problem)
    low, high = proofs.root.lower[1][0], proofs.root.upper[1][0]
    neuron = int(np.flatnonzero((low < 0) & (high > 0))[0])
    both = [[Decision(value, place, side, cut) for side in (0, 1)] for value, place, cut in
            ((2, neuron, 0.0), (0, 7, 0.41), (0, 20, 0.4))]  # fmt: skip
    paths = list(itertools.product(*both))

    def proved(kept: list[Path]) -> bool:
        recorder = Recorder()
        number = recorder.refute(0, (0,))
        multipliers = [np.ones(sum(item.value > 0 for item in path)) for path in kept]
        shares = [np.ones(1)] * len(kept)
        recorder.add_leaves(leaf_table([number] * len(kept), shares, None, kept, multipliers))
        return check_certificate(problem, recorder.certificate(problem)).proved

    assert proved(paths)
    assert proved([*paths, paths[0]])
    for leaf in paths:
        assert not proved([path for path in paths if path != leaf])
    for side in (0, 1):
        assert not proved([path for path in paths if path[0].side == side])
    assert not proved([])
    # leaves of two trees cover nothing together
    assert not proved([*paths[:4], *(path[1:] for path in paths[4:])])
    assert not proved([path[::-1] if number else path for number, path in enumerate(paths)])


def test_another_problem(problem, certificate, tmp_path):
    other = load_network(conv_network(tmp_path / "o.onnx", (1, 6, 6), 3, pool=True, seed=1))
    clause = problem.property.clauses[0]
    moved = Clause(clause.weights, clause.offsets + 1e-9, 1)
    region = Region(problem.region.lower, problem.region.upper + 1e-9)
    for changed_problem in (
        Problem(other, problem.region, problem.property),
        Problem(problem.network, region, problem.property),
        Problem(problem.network, problem.region, Property((moved,), "")),
        Problem(problem.network, problem.region, Property((Clause(clause.weights, clause.offsets, 2),), "")),
        Problem(problem.network, problem.region, Property((clause, clause), "")),
    ):
        with pytest.raises(InputError, match="another network, region or property"):
            check_certificate(changed_problem, certificate)
