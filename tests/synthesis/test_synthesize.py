"""From a clean image to certified epsilons, with small settings."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from mlverify.attacks.apgd import Apgd
from mlverify.errors import PropertyError
from mlverify.synthesis.ascent import AscentSettings
from mlverify.synthesis.bounding import BoundingSettings
from mlverify.synthesis.corner_attack import CornerSettings
from mlverify.synthesis.cutting import Cutting
from mlverify.synthesis.expansion import ExpansionSettings
from mlverify.synthesis.frontier import FrontierSettings
from mlverify.synthesis.layers import ObjectLayers
from mlverify.synthesis.maximality import ClosingSettings
from mlverify.synthesis.polish import PolishSettings
from mlverify.synthesis.problem import SynthesisSettings
from mlverify.synthesis.prover import Prover
from mlverify.synthesis.result import LayerStatus
from mlverify.synthesis.rows import CertifiedRows
from mlverify.synthesis.synthesize import synthesize
from mlverify.verifier.budget import Budget
from mlverify.verifier.certificate import BoundCertificate, Proof
from mlverify.verifier.decision import ranking
from mlverify.verifier.image import load_image
from mlverify.verifier.linear_bounds import LinearBounds
from mlverify.verifier.onnx_reader import load_network
from mlverify.verifier.portfolio import Engine, Settings, Solver, Verifier
from mlverify.verifier.property import Property
from mlverify.verifier.result import Verdict
from onnx_factory import linear_network
from scenes import Scene, small_scene

ZOO = Path(__file__).parents[2] / "models" / "zoo"
BOUNDS_ONLY = Settings(Solver.HIGHS, 1, engines=frozenset({Engine.BOUNDS, Engine.FALSIFY}))
NO_EXPANSION = ExpansionSettings(step=0.1, smallest_step=1.0)
SMALL = SynthesisSettings(
    Settings(Solver.HIGHS, 1),
    AscentSettings(40),
    PolishSettings(rounds=3),
    expansion=ExpansionSettings(step=0.1, smallest_step=0.05),
    frontier=FrontierSettings(questions=4, query_seconds=2.0, rounds=2),
    closing=ClosingSettings(questions=1, query_seconds=1.0),
    bounding=BoundingSettings(rounds=1, program_seconds=0.5, approaches=1, few=CornerSettings(4, 2)),
)
QUICK = replace(SMALL, verify=BOUNDS_ONLY, expansion=ExpansionSettings(step=0.1, smallest_step=0.1))


def certified(scene, found, k=2):
    """Whether exactly these epsilons are proved again, by the certificate or else by all engines."""
    problem = scene.problem(k).at(found.epsilons)
    if found.proof.engine == "bounds/certificate":
        linear = LinearBounds(scene.network, torch.float64)
        return found.certificate.check(linear, problem.region, Property((scene.clause(k),), "test")).proved
    prover = Prover(scene.network, SMALL.verify)
    return prover.ask(problem, Budget(), found.certificate).verdict is Verdict.HOLDS


def check_answer(scene, found, k=2, weights=None):
    """Everything that is promised of a synthesis."""
    sized = np.ones(scene.count) if weights is None else weights
    assert found.proof.verdict is Verdict.HOLDS
    assert found.proof.margin_bound < 0
    assert found.epsilons.dtype == np.float64
    assert ((found.epsilons >= 0) & (found.epsilons <= 1)).all()
    assert found.size == sized @ found.epsilons
    assert [item.layer for item in found.maximality] == list(range(scene.count))
    for item, epsilon in zip(found.maximality, found.epsilons, strict=True):
        assert (item.status is LayerStatus.CAP) == (epsilon == 1)
    assert certified(scene, found, k)
    assert (scene.margins(scene.samples(found.epsilons, 200, 0), k) < 0).all()
    problem = scene.problem(k).at(found.epsilons)
    verifier = Verifier(scene.network, SMALL.verify)
    assert verifier.falsifier.search(problem, Apgd(steps=40, restarts=3), 1, Budget()).witness is None


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("name", ["scene", "plain_scene"])
def test_what_comes_back_is_certified(name, k, request):
    scene = request.getfixturevalue(name)
    found = synthesize(scene.problem(k), SMALL)
    check_answer(scene, found, k)
    assert found.size > 0
    assert found.stopped == "done"
    assert found.queries.bounds > 0


def test_the_complete_engines_only_add(scene):
    bounds = synthesize(scene.problem(), QUICK)
    assert bounds.proof.engine.startswith("bounds/")
    assert bounds.queries.complete == 0
    complete = synthesize(scene.problem(), SMALL)
    assert complete.size > bounds.size
    assert complete.queries.complete > 0


def test_the_certificate_belongs_to_the_epsilons(scene):
    found = synthesize(scene.problem(), replace(QUICK, expansion=NO_EXPANSION))
    assert found.proof.engine == "bounds/certificate"
    assert found.certificate is not None
    check_answer(scene, found)
    linear = LinearBounds(scene.network, torch.float64)
    larger = scene.problem().at(np.minimum(5 * found.epsilons, 1.0))
    assert not found.certificate.check(linear, larger.region, Property((scene.clause(),), "test")).proved


def test_the_loop_of_the_thesis_alone(scene):
    alone = replace(
        SMALL, ascent=AscentSettings(0), expansion=ExpansionSettings(step=1.0, smallest_step=0.2, floor=0.05)
    )
    found = synthesize(scene.problem(), alone)
    assert found.size > 0
    assert found.certificate is None
    check_answer(scene, found)
    sensitive = synthesize(scene.problem(), replace(alone, cutting=Cutting.SENSITIVITY))
    check_answer(scene, sensitive)


def test_a_target_that_is_not_seen(scene):
    last = ranking(_logits(scene))[-1]
    with pytest.raises(PropertyError, match="nothing to protect"):
        synthesize(replace(scene, target=last).problem(), SMALL)


def _logits(scene):
    verifier = Verifier(scene.network)
    return verifier.replay.logits(scene.image[None])[0]


def two_equal(folder, gap):
    """Score 0 leads score 1 by ``gap`` on every image, and score 2 is far below."""
    base = small_scene(folder)
    weight = np.tile(np.random.default_rng(0).normal(size=(1, 100)), (3, 1))
    path = linear_network(folder / "tie.onnx", weight, (1, 10, 10), bias=np.array([gap, 0.0, -50.0]))
    return Scene(load_network(path), base.image, base.layers, 0)


def test_a_tie_on_the_clean_image_is_nothing_to_protect(tmp_path):
    with pytest.raises(PropertyError, match="nothing to protect"):
        synthesize(two_equal(tmp_path, 0.0).problem(k=1), SMALL)


def test_a_margin_within_rounding_of_a_tie(tmp_path):
    with pytest.raises(PropertyError, match="within rounding of a tie"):
        synthesize(two_equal(tmp_path, 1e-6).problem(k=1), QUICK)


def test_a_target_that_nothing_hides_reaches_every_cap(tmp_path):
    scene = two_equal(tmp_path, 0.0)
    found = synthesize(scene.problem(k=2), SMALL)
    np.testing.assert_array_equal(found.epsilons, np.ones(scene.count))
    assert {item.status for item in found.maximality} == {LayerStatus.CAP}
    assert found.stopped == "done"


@pytest.mark.parametrize(
    ("target", "k", "weights", "message"),
    [
        (9, 2, None, "does not exist"),
        (0, 0, None, "k must be"),
        (0, 5, None, "k must be"),
        (0, 2, np.ones(3), "3 weights for 6 layers"),
        (0, 2, np.zeros(6), "all weights are zero"),
        (0, 2, np.array([1, 1, 1, 1, 1, -1.0]), "not negative"),
        (0, 2, np.full(6, np.nan), "finite"),
    ],
)
def test_problems_that_make_no_sense(scene, target, k, weights, message):
    with pytest.raises(PropertyError, match=message):
        replace(scene, target=target).problem(k, weights)


@pytest.mark.parametrize("asked", [0, 1, 2, 5, 20, 60, 100, 130, 160, 200])
def test_interrupted_anywhere_it_returns_something_certified(scene, asked):
    answers = iter([False] * asked)
    found = synthesize(scene.problem(), SMALL, Budget(cancelled=lambda: next(answers, True)))
    check_answer(scene, found)
    assert found.stopped in ("interrupted", "done")
    if asked < 40:
        assert found.stopped == "interrupted"


def test_without_any_time_it_still_returns_something_certified(scene):
    found = synthesize(scene.problem(), SMALL, Budget.of_seconds(0.0))
    check_answer(scene, found)
    assert found.stopped == "time limit"


def test_without_any_time_there_is_one_ascent_only(scene, monkeypatch):
    """One behind the windows and one round of polishing follow the first look."""
    settled, settle = [], CertifiedRows.settle
    monkeypatch.setattr(CertifiedRows, "settle", lambda rows: (settled.append(rows), settle(rows)))
    synthesize(scene.problem(), SMALL, Budget.of_seconds(0.0))
    assert len(settled) <= 2


def test_an_interruption_does_not_lose_what_the_complete_engines_found(scene):
    sizes = []

    def watch(name, share, size):
        sizes.append((name, size))

    def pressed():
        found = [size for name, size in sizes if name == "beyond"]
        return bool(found) and found[-1] > found[0]

    settings = replace(SMALL, frontier=FrontierSettings(query_seconds=10.0))
    found = synthesize(scene.problem(), settings, Budget(cancelled=pressed), progress=watch)
    assert found.stopped == "interrupted"
    assert found.size == pytest.approx(sizes[-1][1])
    assert found.size > next(size for name, size in sizes if name == "beyond")
    check_answer(scene, found)


def test_progress_never_promises_more_than_is_returned(scene):
    told = []
    found = synthesize(
        scene.problem(), SMALL, progress=lambda name, share, size: told.append((name, share, size))
    )
    assert list(dict.fromkeys(name for name, _, _ in told)) == [
        "ascent",
        "polish",
        "beyond",
        "closing",
        "bound",
    ]
    assert all(0 <= share <= 1 for _, share, _ in told)
    assert max(size for _, _, size in told) <= found.size * (1 + 1e-3)


def test_the_same_seed_gives_the_same_answer(scene):
    # without limits on single questions, whose answers would depend on the machine
    settings = replace(
        SMALL,
        frontier=FrontierSettings(questions=1, query_seconds=60.0, rounds=2),
        closing=ClosingSettings(questions=0),
    )
    first, second = (synthesize(scene.problem(), settings) for _ in range(2))
    np.testing.assert_array_equal(first.epsilons, second.epsilons)
    assert first.queries == second.queries


def test_weights_say_what_grows(scene):
    far, near = np.array([0.0, 0, 0, 1, 1, 1]), np.array([1.0, 1, 1, 0, 0, 0])
    outer = synthesize(scene.problem(weights=far), SMALL)
    inner = synthesize(scene.problem(weights=near), SMALL)
    assert (outer.epsilons[:3] == 0).all()
    assert (inner.epsilons[3:] == 0).all()
    assert [item.reason for item in inner.maximality][3:] == ["weight 0, not grown"] * 3
    check_answer(scene, outer, weights=far)
    check_answer(scene, inner, weights=near)
    both = synthesize(scene.problem(), SMALL)
    assert outer.size >= both.epsilons[3:].sum() * 0.95
    assert inner.size >= both.epsilons[:3].sum() * 0.95


def test_the_scale_of_weights_does_not_matter(scene):
    small, large = (synthesize(scene.problem(weights=scale * np.ones(6)), QUICK) for scale in (1.0, 1024.0))
    np.testing.assert_allclose(small.epsilons, large.epsilons, rtol=1e-3)
    assert large.size == pytest.approx(1024 * small.size, rel=1e-3)


@pytest.mark.parametrize("shift", [-0.3, 0.3])
def test_images_partly_outside_the_pixel_range(scene, shift):
    image = (scene.image + np.float32(shift)).astype(np.float32)
    target = ranking(_logits(replace(scene, image=image)))[0]
    moved = replace(scene, image=image, target=target)
    found = synthesize(moved.problem(), SMALL)
    assert found.size > 0
    check_answer(moved, found)
    region = moved.problem().at(found.epsilons).region
    reach = found.epsilons[moved.layers.layers]
    assert region.contains(image)
    assert (np.abs(region.upper - image) <= reach + 1e-12).all()
    assert (np.abs(region.lower - image) <= reach + 1e-12).all()


def test_a_certificate_that_rounding_spoils_is_shrunk(scene, monkeypatch):
    real, asked = BoundCertificate.check, []

    def check(self, linear, region, clause, windows=None):
        asked.append(float((region.upper - region.lower).sum()))
        return Proof(False, 1.0) if len(asked) <= 3 else real(self, linear, region, clause, windows)

    monkeypatch.setattr(BoundCertificate, "check", check)
    found = synthesize(scene.problem(), replace(QUICK, expansion=NO_EXPANSION))
    assert asked[:4] == sorted(asked[:4], reverse=True)
    assert found.size > 0
    monkeypatch.undo()
    assert certified(scene, found)


def test_a_shipped_network():
    network = load_network(ZOO / "dmnist_cnn_linf.onnx")
    image = load_image(ZOO / "sample_0.png", network.input_shape)
    mask = np.zeros(image.shape[1:], dtype=bool)
    mask[30:40, 30:36] = True
    scene = Scene(network, image, ObjectLayers.around(mask), 0)
    settings = replace(
        SMALL,
        verify=BOUNDS_ONLY,
        ascent=AscentSettings(20),
        expansion=NO_EXPANSION,
    )
    found = synthesize(scene.problem(), settings)
    assert found.size > 0
    check_answer(scene, found)


def test_a_search_that_time_ended_says_so(scene):
    """Although each phase leaves some time to the next one."""
    found = synthesize(scene.problem(), replace(SMALL, ascent=AscentSettings(10**6)), Budget.of_seconds(0.3))
    assert found.stopped == "time limit"
    check_answer(scene, found)


def test_a_certificate_with_slack_is_stretched(scene, monkeypatch):
    kept = synthesize(scene.problem(), replace(QUICK, expansion=NO_EXPANSION))
    monkeypatch.setattr("mlverify.synthesis.certifying.STRETCHES", 0)
    bare = synthesize(scene.problem(), replace(QUICK, expansion=NO_EXPANSION))
    assert kept.size >= bare.size
    assert certified(scene, kept)


def test_time_that_is_left_goes_to_further_ascents(scene):
    """More time never makes the search's best point smaller."""
    one = synthesize(scene.problem(), replace(QUICK, expansion=NO_EXPANSION))
    many = synthesize(scene.problem(), replace(QUICK, expansion=NO_EXPANSION), Budget.of_seconds(60))
    assert many.queries.bounds > one.queries.bounds
    assert many.size >= 0.999 * one.size
    assert certified(scene, many)
