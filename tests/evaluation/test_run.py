"""A network of which everything is known: each label reads its own pixels, so it flips at |logit| / sum |w|."""

from dataclasses import replace

import numpy as np
import pytest
from mlverify.attacks.apgd import Apgd
from mlverify.attacks.decision import Threshold, TopK
from mlverify.errors import DisagreementError, InputError
from mlverify.evaluation import run
from mlverify.evaluation.report import summarise
from mlverify.evaluation.run import EvaluationSettings, Phase, empty_state, evaluate
from mlverify.evaluation.state import EvaluationState, Outcome
from mlverify.evaluation.subject import Subject
from mlverify.models.datasets.dataset import ArrayStore, LabelledImages
from mlverify.models.dscore import DScoreSettings
from mlverify.verifier.budget import Budget
from mlverify.verifier.label_answers import LabelAnswer, LabelsResult, LabelVerdict
from mlverify.verifier.onnx_reader import load_network
from onnx_factory import conv_network, linear_network

LABELS, SIDE, IMAGES = 4, 4, 10
EPSILONS = (0.02, 0.05, 0.1)
SETTINGS = EvaluationSettings(
    epsilons=EPSILONS, sample=IMAGES, attack=Apgd(steps=10, restarts=1), proof_seconds=30
)


@pytest.fixture(scope="module")
def weights():
    """Label c reads the four pixels of row c, shape (labels, pixels)."""
    rng = np.random.default_rng(0)
    found = np.zeros((LABELS, SIDE, SIDE))
    for label in range(LABELS):
        found[label, label] = rng.choice([-1.0, 1.0], SIDE) * rng.uniform(0.5, 2.0, SIDE)
    return found.reshape(LABELS, -1)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(1)
    # far from 0 and 1, where neighbourhoods would be clipped
    images = rng.integers(80, 176, (IMAGES, 1, SIDE, SIDE), dtype=np.uint8)
    marks = rng.integers(0, 2, (IMAGES, LABELS)).astype(np.int8)
    marks[0] = 1
    marks[1, 0] = -1
    return LabelledImages("made up", tuple("abcd"), marks, tuple("qrstuvwxyz"), ArrayStore(images))


@pytest.fixture(scope="module")
def bias(weights, data):
    """Puts logits of the images on both sides of 0."""
    pixels = data.pixels(np.arange(IMAGES), (1, SIDE, SIDE)).reshape(IMAGES, -1)
    return -np.median(pixels @ weights.T, axis=0) + 0.01


@pytest.fixture(scope="module")
def subject(weights, bias, tmp_path_factory):
    path = linear_network(tmp_path_factory.mktemp("net") / "net.onnx", weights, (1, SIDE, SIDE), bias=bias)
    return Subject.of(load_network(path).with_labels(tuple("abcd")), Threshold(0.0))


@pytest.fixture(scope="module")
def state(subject, data):
    found = empty_state(data, SETTINGS)
    evaluate(subject, data, SETTINGS, found, Budget())
    return found


@pytest.fixture(scope="module")
def radii(weights, bias, data):
    """The epsilon at which each label flips, shape (images, labels)."""
    pixels = data.pixels(np.arange(IMAGES), (1, SIDE, SIDE)).reshape(IMAGES, -1)
    return np.abs(pixels @ weights.T + bias) / np.abs(weights).sum(axis=1)


def test_every_label_is_decided_as_it_must_be(state, radii):
    for position, epsilon in enumerate(EPSILONS):
        wanted = np.where(radii > epsilon, Outcome.PROVED, Outcome.BROKEN)
        assert np.array_equal(state.outcomes[position], wanted)
    assert state.complete


def test_the_attack_flips_every_label_that_can_be_wrong(subject, state, data, radii):
    for position, epsilon in enumerate(EPSILONS):
        known = data.marks != -1
        right = (subject.present(state.logits) == (data.marks == 1)) & known
        left = (subject.present(state.attacked[position]) == (data.marks == 1)) & known
        assert np.array_equal(left, right & (radii > epsilon))


def test_the_report_counts(subject, state, data, radii):
    report = summarise(subject, data.marks, EPSILONS, state)
    assert (report.images, report.measured, report.sample, report.done) == (IMAGES,) * 4
    right = subject.present(state.logits) == (data.marks == 1)
    known = data.marks != -1
    assert report.clean.hamming_loss == pytest.approx((~right & known).sum() / known.sum())
    for item in report.robust:
        proved = radii > item.epsilon
        shares = item.certified
        assert shares.proved == pytest.approx(proved.mean())
        assert shares.broken == pytest.approx((~proved).mean())
        assert shares.open == 0.0
        assert shares.right == pytest.approx((proved & right)[known].mean())
        assert shares.sets_proved == pytest.approx(proved.all(axis=1).mean())
        assert shares.sets_right == pytest.approx((proved & (right | ~known)).all(axis=1).mean())
        assert item.attacked.hamming_loss == pytest.approx(1 - shares.right)
        assert item.proved_by_label == pytest.approx(proved.mean(axis=0))
    assert report.d_score is None


def test_a_run_that_is_cut_short_can_go_on(subject, data, state, tmp_path):
    asked = [0]

    def stop():
        # a few images pass, and the cut falls within one
        asked[0] += 1
        return asked[0] > 60

    identity = {"the network": "x"}
    cut = empty_state(data, SETTINGS)
    evaluate(subject, data, SETTINGS, cut, Budget(cancelled=stop))
    assert 0 < cut.done.sum() < IMAGES
    report = summarise(subject, data.marks, EPSILONS, cut)
    assert not report.complete
    assert report.robust[0].attacked.images == cut.done.sum()
    cut.save(tmp_path / "a.npz", identity)
    resumed = EvaluationState.load(tmp_path / "a.npz", identity)
    seen = []
    evaluate(
        subject, data, SETTINGS, resumed, Budget(), lambda phase, done, total: seen.append((phase, done))
    )
    assert seen[0] == (Phase.ROBUST, cut.done.sum() + 1)
    for name in EvaluationState.__slots__:
        assert np.array_equal(getattr(resumed, name), getattr(state, name), equal_nan=True), name


def test_a_proof_that_an_image_contradicts_ends_the_run(subject, data, monkeypatch):
    def liar(verifier, problem, budget):
        answers = [LabelAnswer(label, LabelVerdict.ALWAYS, "lie", "", None, None) for label in range(LABELS)]
        return LabelsResult(tuple(answers), 0.0, (), ())

    monkeypatch.setattr(run, "ask_all_labels", liar)
    with pytest.raises(DisagreementError, match=r"label [abcd] is proved to stay within epsilon"):
        evaluate(subject, data, SETTINGS, empty_state(data, SETTINGS), Budget())


def test_a_proof_at_a_larger_epsilon_than_a_counterexample_ends_the_run(subject, data, monkeypatch):
    honest = run.ask_all_labels

    def liar(verifier, problem, budget):
        if float((problem.region.upper - problem.region.lower).max()) < 0.15:
            return honest(verifier, problem, budget)
        lies = [LabelVerdict.NEVER] * (LABELS - 1) + [LabelVerdict.UNKNOWN]
        answers = [LabelAnswer(label, lie, "lie", "", None, None) for label, lie in enumerate(lies)]
        return LabelsResult(tuple(answers), 0.0, (), ())

    monkeypatch.setattr(run, "ask_all_labels", liar)
    monkeypatch.setattr(
        run,
        "_attack",
        lambda work, images, clean, marks: run._Attacked(np.stack([images] * 3), np.stack([clean] * 3)),
    )
    with pytest.raises(DisagreementError, match=r"within epsilon 0.1"):
        evaluate(subject, data, SETTINGS, empty_state(data, SETTINGS), Budget())


def test_what_the_attack_moves_is_broken_even_without_time_for_proofs(subject, data, radii):
    hasty = replace(SETTINGS, proof_seconds=1e-9)
    state = empty_state(data, hasty)
    evaluate(subject, data, hasty, state, Budget())
    wrong_side = subject.present(state.logits) == (data.marks == 1)
    for position, epsilon in enumerate(EPSILONS):
        found = state.outcomes[position]
        # the attack only moves labels that are right
        assert np.array_equal(found == Outcome.BROKEN, (radii <= epsilon) & wrong_side & (data.marks != -1))
        assert not (found == Outcome.PROVED).any()


def test_nothing_done_has_no_numbers(subject, data):
    nothing = empty_state(data, SETTINGS)
    evaluate(subject, data, SETTINGS, nothing, Budget(cancelled=lambda: True))
    report = summarise(subject, data.marks, EPSILONS, nothing)
    assert (report.clean, report.clean_sample, report.robust, report.complete) == (None, None, (), False)


def test_states_of_other_runs_and_damaged_ones_are_refused(data, tmp_path):
    path = tmp_path / "a.npz"
    with pytest.raises(InputError, match="does not exist; leave --resume out"):
        EvaluationState.load(path, {})
    empty_state(data, SETTINGS).save(path, {"the network": "x", "sample": "3"})
    with pytest.raises(InputError, match=r"another run: sample was 3, now it is 4"):
        EvaluationState.load(path, {"the network": "x", "sample": "4"})
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match="leave --resume out"):
        EvaluationState.load(path, {"the network": "x"})


def test_only_what_is_asked_is_done(subject, data):
    plain = replace(SETTINGS, epsilons=())
    state = empty_state(data, plain)
    evaluate(subject, data, plain, state, Budget())
    report = summarise(subject, data.marks, (), state)
    assert report.complete
    assert (report.sample, report.robust, report.d_score, report.clean_sample) == (0, (), None, None)
    scored = replace(plain, sample=3, d_score=DScoreSettings(grid=2))
    state = empty_state(data, scored)
    evaluate(subject, data, scored, state, Budget())
    summary = summarise(subject, data.marks, (), state).d_score
    assert summary.score == pytest.approx(summary.fitness - summary.robustness)
    assert list(state.sample) == sorted(state.sample)
    assert len(state.sample) == 3


@pytest.mark.parametrize("decision", [TopK(2), Threshold(0.1)])
def test_a_network_with_relus_is_never_both_proved_and_broken(decision, tmp_path):
    network = load_network(conv_network(tmp_path / "net.onnx", (1, 10, 10), 5, pool=True))
    images = np.random.default_rng(0).integers(0, 256, (3, 1, 10, 10), dtype=np.uint8)
    marks = np.array([[1, 0, 0, 1, 0], [0, 1, 1, 0, 0], [1, 0, 1, 0, 0]], np.int8)
    data = LabelledImages("three", tuple("abcde"), marks, ("x", "y", "z"), ArrayStore(images))
    subject = Subject.of(network, decision)
    settings = EvaluationSettings(
        epsilons=(0.002, 0.05, 0.5), sample=3, attack=Apgd(steps=5), proof_seconds=20
    )
    state = empty_state(data, settings)
    evaluate(subject, data, settings, state, Budget())
    proved, broken = state.outcomes == Outcome.PROVED, state.outcomes == Outcome.BROKEN
    assert (np.diff(proved.astype(int), axis=0) <= 0).all()
    assert (np.diff(broken.astype(int), axis=0) >= 0).all()
    assert proved.any()
    assert broken.any()
    report = summarise(subject, marks, settings.epsilons, state)
    matches = [item.attacked.exact_match for item in report.robust]
    assert matches == sorted(matches, reverse=True)
    for item, exact in zip(report.robust, matches, strict=True):
        assert item.certified.sets_right <= exact
