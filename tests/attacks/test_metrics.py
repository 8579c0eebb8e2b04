"""Metrics against cases computed by hand."""

import math

import numpy as np
import pytest
import torch
from mlverify.attacks.ball import Norm
from mlverify.attacks.base import AttackRecord
from mlverify.attacks.decision import Threshold
from mlverify.attacks.flips import Flips
from mlverify.attacks.graph import LabelGraph
from mlverify.attacks.loss_attack import LossAttack
from mlverify.attacks.metrics import (
    consistent_sets,
    distortion,
    minimal_epsilon,
    replay,
    score,
    structural_similarity,
)
from mlverify.errors import InputError

GRAPH = LabelGraph.of_edges(["vehicle", "car", "bike", "person"], [(0, 1), (0, 2)])


def record(before, after, images=None):
    count = len(before)
    clean = torch.zeros(count, 1, 12, 12) if images is None else images
    return AttackRecord(
        images=clean,
        success=torch.zeros(count, dtype=torch.bool),
        before=torch.tensor(before, dtype=torch.bool),
        after=torch.tensor(after, dtype=torch.bool),
        infeasible=torch.zeros(count, dtype=torch.bool),
        steps=1,
        gradients=1,
        seconds=0.0,
    )


def test_distortion_of_one_pixel():
    clean = torch.zeros(1, 1, 12, 12)
    changed = clean.clone()
    changed[0, 0, 3, 4] = 0.5
    sizes = distortion(clean, changed)
    assert sizes.linf.item() == 0.5
    assert sizes.l2.item() == 0.5
    assert sizes.rmsd.item() == pytest.approx(255 * 0.5 / 12)


def test_inputs_that_are_no_images_have_no_similarity():
    sizes = distortion(torch.zeros(2, 5), torch.full((2, 5), 0.1))
    assert sizes.linf.tolist() == pytest.approx([0.1, 0.1])
    assert sizes.ssim.isnan().all()


def test_rates_by_hand():
    before = [[1, 1, 0, 1], [1, 1, 0, 1], [1, 1, 1, 0], [1, 1, 0, 0]]
    after = [
        [0, 0, 0, 1],  # car and its vehicle gone: consistent
        [1, 0, 0, 0],  # vehicle stays without a child, person lost
        [1, 0, 1, 0],  # bike still carries vehicle
        [1, 1, 0, 0],  # nothing happened
    ]
    flips = Flips(torch.tensor([[0, -1, 0, 0]] * 4))
    rates = score(torch.zeros(4, 1, 12, 12), record(before, after), flips, GRAPH)
    assert rates.naive == 0.75
    assert rates.semantic == 0.5
    # Outside {car, vehicle}: bike, person; outside {car} of the third image: three labels.
    assert rates.collateral == pytest.approx((0 + 1 / 2 + 0) / 3)
    assert rates.ssim == pytest.approx(1.0)


def test_without_graph_or_success_rates_are_not_numbers():
    rates = score(torch.zeros(1, 1, 12, 12), record([[1, 1, 0, 1]], [[1, 1, 0, 1]]), Flips.of(1, 4, hide=[0]))
    assert rates.naive == 0
    assert math.isnan(rates.semantic)
    assert math.isnan(rates.l2)


def test_consistent_sets_leave_out_what_is_as_wanted():
    present = torch.tensor([[True, True, False, False]])
    flips = Flips(torch.tensor([[0, -1, -1, 0]]))
    assert consistent_sets(GRAPH, flips, present).tolist() == [[True, True, False, False]]
    assert consistent_sets(None, flips, present).tolist() == [[False, True, False, False]]


def test_ssim_of_equal_constant_and_noisy_images():
    image = torch.rand(2, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    assert structural_similarity(image, image).tolist() == pytest.approx([1.0, 1.0])
    dark, bright = torch.full((1, 1, 15, 15), 0.2), torch.full((1, 1, 15, 15), 0.6)
    expected = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
    assert structural_similarity(dark, bright).item() == pytest.approx(expected, rel=1e-5)


def test_ssim_of_one_window_by_hand():
    rng = np.random.default_rng(0)
    a, b = rng.random((11, 11)), rng.random((11, 11))
    axis = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    window = np.outer(axis, axis) / axis.sum() ** 2
    mean_a, mean_b = (window * a).sum(), (window * b).sum()
    var_a, var_b = (window * a * a).sum() - mean_a**2, (window * b * b).sum() - mean_b**2
    cov = (window * a * b).sum() - mean_a * mean_b
    expected = (2 * mean_a * mean_b + 1e-4) * (2 * cov + 9e-4)
    expected /= (mean_a**2 + mean_b**2 + 1e-4) * (var_a + var_b + 9e-4)
    first, second = torch.tensor(a)[None, None], torch.tensor(b)[None, None]
    assert structural_similarity(first, second).item() == pytest.approx(expected)
    with pytest.raises(InputError, match="SSIM"):
        structural_similarity(first, second[0])


def test_minimal_epsilon_of_a_linear_network(linear, images):
    images = 0.25 + images[:3] / 2
    margins, weight = linear(images), linear[1].weight
    targets = torch.zeros_like(margins, dtype=torch.bool).scatter_(
        1, margins.abs().argmin(1, keepdim=True), True
    )
    flips = Flips.toggle(margins >= 0, targets)
    found = minimal_epsilon(LossAttack(), linear, images, flips, Threshold(), rounds=14)
    label = targets.int().argmax(1)
    exact = margins[targets].abs() / weight[label].abs().sum(1)
    assert (found >= exact - 1e-6).all()
    torch.testing.assert_close(found, exact, rtol=0.02, atol=2e-4)


def test_minimal_epsilon_is_infinite_where_nothing_helps(images):
    def constant(points):
        return points.flatten(1)[:, :2] * 0 - 1

    found = minimal_epsilon(LossAttack(), constant, images[:1], Flips.of(1, 2, show=[0]), Threshold())
    assert found.tolist() == [math.inf]


def test_replay_asks_the_other_network(convnet, linear, images):
    flips = Flips.of(6, 4, hide=[0])
    result = LossAttack().attack(convnet, images, flips)
    assert torch.equal(replay(convnet, result, flips, Threshold()), result.success)
    assert torch.equal(replay(linear, result, flips, Threshold()), linear(result.images)[:, 0] < 0)
    assert Norm.LINF.of(result.images - images).max() <= 1
