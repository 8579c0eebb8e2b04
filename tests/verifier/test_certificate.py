"""Certificates round-trip, prove what they should, and nothing in them is trusted."""

import numpy as np
import pytest
import torch
from mlverify.errors import InputError
from mlverify.synthesis.ascent import Ascent, AscentSettings
from mlverify.verifier.budget import Budget
from mlverify.verifier.certificate import BoundCertificate
from mlverify.verifier.linear_bounds import LinearBounds
from mlverify.verifier.property import Property
from mlverify.verifier.region import Layered, Region
from scenes import small_scene


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return small_scene(tmp_path_factory.mktemp("scene"))


@pytest.fixture(scope="module")
def point(scene):
    rows = scene.rows(torch.float32)
    return Ascent(rows, AscentSettings(40), lambda share, size: None).run(Budget())


@pytest.fixture
def certificate(point):
    return BoundCertificate.of(point.slopes, point.subsets, point.shares)


def asked(scene) -> Property:
    return Property((scene.clause(),), "test")


def exact(scene):
    return LinearBounds(scene.network, torch.float64)


def region(scene, epsilons):
    return Layered(scene.image, scene.layers.layers, epsilons).region


def test_it_proves_what_the_search_found(scene, point, certificate):
    proof = certificate.check(exact(scene), region(scene, 0.99 * point.epsilons), asked(scene))
    assert proof.proved
    assert proof.margin_bound < 0


def test_default_slopes_need_no_arrays(scene):
    certificate = BoundCertificate.of(None, [(0,), (1,), (2,), (3,)], torch.ones(4, 1))
    assert set(certificate.arrays()) == {"subsets", "shares"}
    assert certificate.check(exact(scene), Region.linf(scene.image, 0.001), asked(scene)).proved
    assert not certificate.check(exact(scene), Region.linf(scene.image, 1.0), asked(scene)).proved


def test_the_arrays_are_all_there_is(scene, point, certificate, tmp_path):
    np.savez_compressed(tmp_path / "c.npz", **certificate.arrays())
    with np.load(tmp_path / "c.npz", allow_pickle=False) as archive:
        read = BoundCertificate.from_arrays(dict(archive))
    assert read.subsets == certificate.subsets
    first, second = certificate.arrays(), read.arrays()
    assert set(first) == set(second)
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name])
    box = region(scene, 0.99 * point.epsilons)
    assert read.check(exact(scene), box, asked(scene)) == certificate.check(exact(scene), box, asked(scene))


def test_the_margin_bounds_the_images_of_the_region(scene, point, certificate):
    proof = certificate.check(exact(scene), region(scene, 0.99 * point.epsilons), asked(scene))
    assert (scene.margins(scene.samples(0.99 * point.epsilons, 200, 0)) <= proof.margin_bound + 1e-5).all()


def test_rows_that_do_not_cover_prove_nothing(scene, point, certificate):
    arrays = certificate.arrays()
    box = region(scene, 0.5 * point.epsilons)
    for kept in range(len(arrays["subsets"])):
        chosen = [row for row in range(len(arrays["subsets"])) if row != kept]
        fewer = {
            name: array[chosen] if name in ("subsets", "shares") or name.split("/")[0] != "inner" else array
            for name, array in arrays.items()
        }
        assert not BoundCertificate.from_arrays(fewer).check(exact(scene), box, asked(scene)).proved


def test_any_slopes_are_sound(scene, certificate):
    """Whatever the numbers are, a region with a counterexample is not proved."""
    generator = np.random.default_rng(0)
    epsilons = np.full(scene.count, 0.2)
    assert (scene.margins(scene.samples(np.full(scene.count, 1.0), 300, 0)) >= 0).any()
    whole = region(scene, np.ones(scene.count))
    for _ in range(20):
        arrays = certificate.arrays()
        for name, array in arrays.items():
            if array.dtype == np.uint8:
                arrays[name] = generator.integers(0, 256, array.shape, dtype=np.uint8)
            elif name.startswith("weight/"):
                arrays[name] = (generator.normal(size=array.shape) * 20).astype(np.float16)
            elif name == "shares":
                arrays[name] = generator.random(array.shape)
        spoiled = BoundCertificate.from_arrays(arrays)
        assert not spoiled.check(exact(scene), whole, asked(scene)).proved
        proof = spoiled.check(exact(scene), region(scene, epsilons), asked(scene))
        worst = scene.margins(scene.samples(epsilons, 50, 1)).max()
        assert not (proof.proved and worst >= 0)


@pytest.mark.parametrize("other", [{"size": 12}, {"pool": False}, {"labels": 3}])
def test_a_certificate_of_another_network(certificate, tmp_path, other):
    """It does not fit, or proves nothing that is not so."""
    scene = small_scene(tmp_path, **other)
    box = Region.linf(scene.image, 1.0)
    try:
        proved = certificate.check(exact(scene), box, asked(scene)).proved
    except InputError:
        proved = False
    assert not proved


def test_single_precision_is_refused(scene, certificate):
    with pytest.raises(ValueError, match="float64"):
        certificate.check(
            LinearBounds(scene.network, torch.float32),
            region(scene, np.zeros(6)),
            asked(scene),
        )


def test_it_says_nothing_of_a_second_clause(scene, certificate):
    both = Property((scene.clause(), scene.clause()), "test")
    with pytest.raises(InputError, match="one clause, this one has 2"):
        certificate.check(exact(scene), region(scene, np.zeros(6)), both)


@pytest.mark.parametrize(
    "change",
    [
        {"subsets": None},
        {"shares": None},
        {"shares": np.full((4, 2), 1.5)},
        {"shares": np.full((4, 2), -0.5)},
        {"shares": np.full((4, 2), np.nan)},
        {"shares": np.ones(4)},
        {"subsets": np.array([1, 2])},
        {"subsets": np.full((4, 2), -1)},
        {"relu/3": np.ones(4)},
        {"relu/three": np.ones(4, np.uint8)},
        {"weight/4": np.full((4, 2), np.inf)},
    ],
)
def test_damage_is_noticed(certificate, change):
    arrays = certificate.arrays()
    for name, array in change.items():
        arrays[name] = array
    with pytest.raises(InputError, match="damaged"):
        BoundCertificate.from_arrays({name: array for name, array in arrays.items() if array is not None})


def test_missing_pool_weights_are_bad_input(scene, point, certificate):
    arrays = {name: array for name, array in certificate.arrays().items() if not name.startswith("weight/")}
    with pytest.raises(InputError, match="does not fit"):
        BoundCertificate.from_arrays(arrays).check(exact(scene), region(scene, point.epsilons), asked(scene))
