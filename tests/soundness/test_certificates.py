"""Certificates of bounds: kept, read back, damaged and tampered with; and the counting argument."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mlverify.errors import InputError, ModelFormatError
from mlverify.verifier.bounds_engine import BoundsEngine
from mlverify.verifier.certificate import BoundCertificate
from mlverify.verifier.cover import is_proved, open_atoms
from mlverify.verifier.freedom import FreeSlopes
from mlverify.verifier.linear_bounds import LinearBounds
from mlverify.verifier.property import Clause, Property
from mlverify.verifier.region import Region
from soundness.random_networks import logits_at, points_of, random_image, random_network, random_region

# of float64 scores of order 100
ROUNDING = 1e-11


@st.composite
def facts(draw: st.DrawFn) -> tuple[int, int, list[frozenset[int]]]:
    atoms = draw(st.integers(1, 6))
    needed = draw(st.integers(1, atoms))
    members = st.frozensets(st.integers(0, atoms - 1), min_size=1, max_size=3)
    return atoms, needed, draw(st.lists(members, max_size=8))


@given(facts())
@settings(max_examples=300, deadline=None)
def test_the_cover_agrees_with_all_subsets(case):
    atoms, needed, refuted = case
    possible = [
        chosen
        for chosen in itertools.combinations(range(atoms), needed)
        if not any(fact <= set(chosen) for fact in refuted)
    ]
    assert is_proved(atoms, needed, refuted) == (not possible)


@given(facts())
@settings(max_examples=100, deadline=None)
def test_refuting_all_sets_of_open_atoms_is_a_proof(case):
    atoms, needed, refuted = case
    sets = itertools.combinations(open_atoms(atoms, refuted), needed)
    assert is_proved(atoms, needed, [*refuted, *map(frozenset, sets)])


def random_certificate(seed: int, folder: Path) -> tuple[LinearBounds, Region, Clause, BoundCertificate]:
    """Random slopes, random combinations of the atoms of a random clause that is nearly or just proved."""
    rng = np.random.default_rng(seed)
    try:
        network = random_network(folder / "random.onnx", rng)
    except ModelFormatError:
        pytest.skip("onnxruntime can't load this network")
    image = random_image(rng, network.input_shape)
    region = random_region(rng, image, largest=0.1)
    linear = LinearBounds(network)
    atoms = int(rng.integers(1, 4))
    weights = rng.normal(size=(atoms, len(network.labels)))
    highest = (logits_at(network, points_of(rng, region, 50)) @ weights.T).max(axis=0)
    clause = Clause(weights, -highest - rng.normal(size=atoms) * 0.3, int(rng.integers(1, atoms + 1)))
    subsets = list(itertools.combinations(range(atoms), clause.needed))
    torch.manual_seed(seed)
    with torch.no_grad():
        bounds = linear.propagate(*linear.box([region]))
        slopes = FreeSlopes.initial(linear, bounds, len(subsets))
        for parameter in slopes.positions():
            parameter.copy_(torch.rand_like(parameter))
        for parameter in slopes.weights():
            parameter.copy_(torch.randn_like(parameter))
    shares = torch.rand(len(subsets), clause.needed, dtype=torch.float64)
    return linear, region, clause, BoundCertificate.of(slopes, subsets, shares)


@pytest.mark.parametrize("seed", range(60))
def test_any_slopes_prove_only_what_is_true_and_survive_being_written(seed, tmp_path):
    linear, region, clause, certificate = random_certificate(seed, tmp_path)
    proof = certificate.check(linear, region, Property((clause,), "test"))
    points = points_of(np.random.default_rng(seed), region, 300)
    seen = float(clause.margin(logits_at(linear.network, points)).max())
    if proof.proved:
        assert seen - ROUNDING <= proof.margin_bound < 0
    path = tmp_path / "certificate.npz"
    np.savez(path, **certificate.arrays())
    with np.load(path) as arrays:
        again = BoundCertificate.from_arrays(dict(arrays)).check(linear, region, Property((clause,), "test"))
    assert again == proof


@pytest.mark.parametrize("seed", range(12))
def test_what_the_engine_proves_its_default_slopes_certify(seed, tmp_path):
    linear, region, clause, _ = random_certificate(seed + 100, tmp_path)
    engine = BoundsEngine(linear.network)
    outcome = engine.crown(region, Property((clause,), "random"))
    singles = [(atom,) for atom in range(clause.atoms)]
    certificate = BoundCertificate.of(None, singles, torch.ones(len(singles), 1))
    assert certificate.check(linear, region, Property((clause,), "test")).proved == outcome.proved


def network_with_pool(seed: int, folder: Path) -> tuple[LinearBounds, Region, Clause, BoundCertificate]:
    """The first random certificate from ``seed`` on whose network has a pool and a ReLU."""
    for candidate in itertools.count(seed):
        try:
            found = random_certificate(candidate, folder)
        except pytest.skip.Exception:
            continue
        if found[3].thresholds and found[3].relu:
            return found
    raise AssertionError


def damages(arrays: dict[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """Every way in which an archive may be broken or tampered with, by name."""
    relu = next(name for name in arrays if name.startswith("relu/"))
    inner = next(name for name in arrays if name.startswith("inner/"))
    threshold = next(name for name in arrays if name.startswith("threshold/"))
    weight = next(name for name in arrays if name.startswith("weight/"))
    without = {name: {key: item for key, item in arrays.items() if key != name} for name in arrays}
    return {
        "no shares": without["shares"],
        "no subsets": without["subsets"],
        "no weights of a pool": without[weight],
        "no thresholds of a pool": without[threshold],
        "slopes beyond one": arrays | {relu: arrays[relu].astype(np.float64) * 9},
        "weights that are not numbers": arrays | {weight: arrays[weight] * np.nan},
        "shares above one": arrays | {"shares": arrays["shares"] + 2},
        "shares that are not numbers": arrays | {"shares": arrays["shares"] * np.nan},
        "an atom that does not exist": arrays | {"subsets": arrays["subsets"] + 50},
        "fewer rows than subsets": arrays | {"subsets": arrays["subsets"][:0]},
        "no rows at all": arrays | {"subsets": arrays["subsets"][:0], "shares": arrays["shares"][:0]},
        "slopes with another axis": arrays | {relu: arrays[relu][None]},
        "inner slopes with another axis": arrays | {inner: arrays[inner][None]},
        "a number instead of slopes": arrays | {inner: np.uint8(3)},
        "thresholds turned": arrays | {threshold: arrays[threshold][..., None]},
        "a value that is no ReLU": arrays | {"relu/1000": arrays[relu]},
        "a value that is no number": arrays | {"relu/x": arrays[relu]},
        "a wider share": arrays | {"subsets": np.hstack([arrays["subsets"], arrays["subsets"]])},
    }


def test_damaged_archives_are_rejected_by_name(tmp_path):
    linear, region, clause, certificate = network_with_pool(300, tmp_path)
    for name, arrays in damages(certificate.arrays()).items():
        with pytest.raises(InputError):
            print(
                name, BoundCertificate.from_arrays(arrays).check(linear, region, Property((clause,), "test"))
            )


@pytest.mark.parametrize("seed", range(20))
def test_tampered_slopes_never_prove_what_is_false(seed, tmp_path):
    linear, region, clause, certificate = random_certificate(seed + 200, tmp_path)
    rng = np.random.default_rng(seed)
    points = points_of(rng, region, 300)
    highest = clause.values(logits_at(linear.network, points)).max(axis=0)
    false = Clause(clause.weights, clause.offsets - highest + 1e-3, 1)
    arrays = dict(certificate.arrays())
    for name, array in arrays.items():
        if array.dtype == np.uint8:
            arrays[name] = rng.integers(0, 256, size=array.shape).astype(np.uint8)
        elif name.startswith("weight/"):
            arrays[name] = rng.normal(size=array.shape).astype(np.float16) * 100
    arrays["shares"] = rng.random(arrays["shares"].shape) * rng.choice([0.0, 1e-300, 1.0])
    assert not BoundCertificate.from_arrays(arrays).check(linear, region, Property((false,), "test")).proved
