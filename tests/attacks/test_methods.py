"""Every method: the budget holds, success is recounted, and linear networks give the exact answers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mlverify.attacks.apgd import Apgd
from mlverify.attacks.ball import Ball, Norm
from mlverify.attacks.base import Attack, Attempt
from mlverify.attacks.consistent import Consistent, consistent_flips
from mlverify.attacks.decision import Threshold, TopK
from mlverify.attacks.flips import Flips, Others
from mlverify.attacks.gmla import Gmla, optimal_direction, projected_direction
from mlverify.attacks.graph import LabelGraph
from mlverify.attacks.jma import Jma
from mlverify.attacks.loss_attack import LossAttack
from mlverify.attacks.losses import hinge_sum, worst_margin_of_all
from mlverify.attacks.ml_cw import MlCw
from mlverify.attacks.ml_deepfool import MlDeepFool
from mlverify.attacks.ml_rank import MlRank1, MlRank2
from mlverify.attacks.mla import MlaC, MlaU
from mlverify.attacks.mla_de import MlaDe
from mlverify.attacks.mla_lp import MlaLp
from mlverify.attacks.pgd import Pgd
from mlverify.attacks.tkml_ap import TkmlAp, TopKLoss
from mlverify.errors import InputError
from scipy.optimize import linprog

LINF = [
    MlaU(Apgd(20)),
    MlaC(Apgd(20, restarts=2)),
    LossAttack(Pgd(20)),
    LossAttack(Apgd(30), worst_margin_of_all),
    Gmla(engine=Apgd(20)),
    MlaLp(),
    MlaLp.as_published(),
    MlDeepFool(),
    MlDeepFool(probabilities=False),
    Jma(),
    MlCw(60, 3),
    MlRank1(60, 3),
    MlRank2(60, 3),
    MlaDe(20, 10),
]
L2 = [Jma(), MlCw(60, 3), MlDeepFool(), MlaDe(20, 10)]
TOP_K = [TkmlAp(60), TkmlAp(60, loss=TopKLoss.EXACT)]
GRADIENT = [method for method in LINF if not isinstance(method, MlaDe)]


def name(value: object) -> str:
    return type(value).__name__


def nearest_flip(net, images, others=Others.FREE):
    """Toggle the label closest to its threshold on each image."""
    margins = net(images)
    targets = torch.zeros_like(margins, dtype=torch.bool)
    targets.scatter_(1, margins.abs().argmin(1, keepdim=True), True)
    return Flips.toggle(margins >= 0, targets, others)


@pytest.mark.parametrize("method", LINF, ids=name)
@pytest.mark.parametrize("epsilon", [0.0, 0.02, 0.3])
def test_linf_budget_and_recount(method, epsilon, convnet, images):
    flips = nearest_flip(convnet, images)
    record = method.attack(convnet, images, flips, ball=Ball(epsilon))
    # Exactly, not up to rounding.
    assert float((record.images.double() - images.double()).abs().max()) <= epsilon
    assert bool(((record.images >= 0) & (record.images <= 1)).all())
    after = convnet(record.images) >= 0
    assert torch.equal(record.after, after)
    assert torch.equal(record.success, flips.success(after, convnet(images) >= 0))
    if epsilon == 0:
        assert not record.success.any()


@pytest.mark.parametrize("method", L2 + TOP_K, ids=name)
def test_l2_budget(method, convnet, images):
    decision = TopK(2) if method in TOP_K else Threshold()
    present = decision.present(convnet(images))
    chosen = torch.zeros_like(present).scatter_(1, present.int().argmax(1, keepdim=True), True)
    record = method.attack(
        convnet, images, Flips.toggle(present, chosen), ball=Ball(0.3, Norm.L2), decision=decision
    )
    assert bool((Norm.L2.of(record.images - images) <= 0.3 + 1e-5).all())
    assert bool(((record.images >= 0) & (record.images <= 1)).all())


# The order of labels does not decide a threshold, and DeepFool drags all labels to theirs.
RELIABLE = [method for method in LINF if not isinstance(method, MlDeepFool | MlRank1 | MlRank2)]


@pytest.mark.parametrize("method", RELIABLE, ids=name)
def test_every_method_flips_the_nearest_label_of_a_network(method, convnet, images):
    flips = nearest_flip(convnet, images)
    record = method.attack(convnet, images, flips, ball=Ball(0.5))
    assert int(record.success.sum()) >= 5


@pytest.mark.parametrize("method", [MlRank1(200), MlRank2(200)], ids=name)
def test_ranking_attacks_decide_a_top_k_set(method, convnet, images):
    present = TopK(2).present(convnet(images))
    wanted = torch.zeros_like(present, dtype=torch.int8)
    wanted.scatter_(1, present.int().argmax(1, keepdim=True), -1)
    wanted.scatter_(1, (~present).int().argmax(1, keepdim=True), 1)
    record = method.attack(convnet, images, Flips(wanted, Others.KEEP), ball=Ball(0.8), decision=TopK(2))
    assert int(record.success.sum()) >= 5


@pytest.mark.parametrize("method", TOP_K, ids=lambda method: method.loss.name)
@pytest.mark.parametrize("targeted", [False, True])
def test_top_k_attacks_change_the_top_k(method, targeted, convnet, images):
    present = TopK(2).present(convnet(images))
    wanted = torch.zeros_like(present, dtype=torch.int8)
    wanted.scatter_(1, present.int().argmax(1, keepdim=True), -1)
    if targeted:
        wanted.scatter_(1, (~present).int().argmax(1, keepdim=True), 1)
    record = method.attack(convnet, images, Flips(wanted), ball=Ball(0.6), decision=TopK(2))
    assert int(record.success.sum()) >= 5


def test_lp_finds_the_smallest_perturbation_of_a_linear_network(linear, images):
    images = 0.25 + images / 2
    flips = nearest_flip(linear, images)
    record = MlaLp(overshoot=1e-5, gap=1e-6).attack(linear, images, flips)
    margins, weight = linear(images), linear[1].weight
    label = flips.wanted.abs().int().argmax(1)
    exact = margins.gather(1, label[:, None]).squeeze(1).abs() / weight[label].abs().sum(1)
    assert record.success.all()
    torch.testing.assert_close(Norm.LINF.of(record.images - images), exact, rtol=1e-2, atol=1e-5)


def test_jma_finds_the_smallest_l2_perturbation_of_a_linear_network(linear, images):
    images = 0.25 + images / 2
    flips = nearest_flip(linear, images)
    record = Jma(overshoot=1e-5).attack(linear, images, flips)
    margins, weight = linear(images), linear[1].weight
    label = flips.wanted.abs().int().argmax(1)
    exact = margins.gather(1, label[:, None]).squeeze(1).abs() / weight[label].norm(dim=1)
    assert record.success.all()
    assert record.steps == 1
    torch.testing.assert_close(Norm.L2.of(record.images - images), exact, rtol=1e-2, atol=1e-5)


def test_deepfool_puts_every_label_on_its_threshold(linear):
    image = torch.full((1, 1, 5, 5), 0.5)
    with torch.no_grad():
        linear[1].bias += torch.tensor([0.1, -0.2, 0.05, 0.15])
    flips = nearest_flip(linear, image)
    record = MlDeepFool(iterations=1, probabilities=False, overshoot=1.0).attack(linear, image, flips)
    assert record.gradients == 4
    margins, weight = linear(image)[0].double(), linear[1].weight.double()
    step = weight.T @ torch.linalg.solve(weight @ weight.T, -margins)
    assert step.abs().max() < 0.5
    assert (linear(image + step.reshape(1, 1, 5, 5).float())).abs().max() < 1e-5


def test_keeping_the_others_is_part_of_success(convnet, images):
    flips = nearest_flip(convnet, images, others=Others.KEEP)
    record = MlaLp().attack(convnet, images, flips, ball=Ball(0.5))
    changed = record.before != record.after
    assert torch.equal(
        changed[record.success].sum(1), torch.ones(int(record.success.sum()), dtype=torch.int64)
    )
    assert int(record.success.sum()) >= 5


def test_lp_is_smaller_than_apgd_at_equal_success(convnet, images):
    flips = nearest_flip(convnet, images)
    lp = MlaLp().attack(convnet, images, flips, ball=Ball(0.5))
    apgd = LossAttack().attack(convnet, images, flips, ball=Ball(0.5))
    assert int(lp.success.sum()) >= int(apgd.success.sum())
    assert Norm.LINF.of(lp.images - images).mean() < Norm.LINF.of(apgd.images - images).mean() / 2


def test_projected_direction_is_orthogonal_when_gradients_oppose():
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(5, 3, 4, generator=generator, dtype=torch.float64)
    other = -target + 0.5 * torch.randn(5, 3, 4, generator=generator, dtype=torch.float64)
    direction = projected_direction(target, other)
    inner = (direction * other).flatten(1).sum(1)
    assert inner.abs().max() < 1e-12
    assert torch.equal(direction.flatten(1).abs().amax(1), torch.ones(5, dtype=torch.float64))


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_the_optimal_direction_solves_its_linear_program(seed):
    generator = torch.Generator().manual_seed(seed)
    target = torch.randn(1, 12, generator=generator, dtype=torch.float64)
    other = target + torch.randn(1, 12, generator=generator, dtype=torch.float64)
    step = optimal_direction(target, other, torch.zeros(1))
    exact = linprog(-target[0].numpy(), other.numpy(), [0.0], bounds=[(-1, 1)] * 12)
    assert float((step * other).sum()) <= 1e-9
    # A vertex of the program has one entry strictly inside; with signs only, that entry is given away.
    lost = float((target.abs() * 2).max())
    assert -exact.fun - lost <= float((step * target).sum()) <= -exact.fun + 1e-9


def test_the_optimal_direction_of_harmless_gradients_is_their_sign():
    target = torch.tensor([[3.0, -1.0]])
    assert torch.equal(optimal_direction(target, -target, torch.zeros(1)), target.sign())
    assert torch.equal(optimal_direction(target, target, torch.ones(1)), -target.sign())


def test_a_consistent_attack_flips_what_the_graph_asks_for_and_nothing_else(convnet, images):
    graph = LabelGraph.of_edges(["a", "b", "c", "d"], [(0, 1), (0, 2)])
    present = convnet(images) >= 0
    chosen = graph.consistent(present.numpy()) & present[:, 1].numpy()
    some = images if not chosen.any() else images[torch.from_numpy(chosen)]
    flips = Flips.of(len(some), 4, hide=[1])
    method = Consistent(LossAttack(Apgd(100), hinge_sum), graph)
    record = method.attack(convnet, some, flips, ball=Ball(0.8))
    grown = consistent_flips(graph, flips, record.before)
    exact = Flips(grown.wanted, Others.KEEP).success(record.after, record.before)
    assert exact.any()
    consistent_before = graph.consistent(record.before.numpy())
    assert graph.consistent(record.after.numpy())[exact.numpy() & consistent_before].all()


def test_the_graph_must_fit_the_network_and_the_wish(convnet, images):
    small = LabelGraph.of_edges(["a", "b"], [(0, 1)])
    for method in (Gmla(small), Consistent(LossAttack(), small)):
        with pytest.raises(InputError, match="2 labels and the network 4"):
            method.attack(convnet, images, nearest_flip(convnet, images))
    graph = LabelGraph.of_edges(["a", "b", "c", "d"], [(0, 1)])
    present = torch.tensor([[True, True, False, False]])
    with pytest.raises(InputError, match="asked to stay"):
        consistent_flips(graph, Flips(torch.tensor([[-1, 1, 0, 0]])), present)


def test_aligned_gradients_use_the_combined_sign():
    target = torch.tensor([[[3.0, 1.0, -1.0]]])
    other = torch.tensor([[[3.0, 0.0, 1.0]]])
    expected = (target / target.norm() - other / other.norm()).sign()
    assert torch.equal(projected_direction(target, other), expected)


def test_a_zero_gradient_of_the_others_leaves_the_sign_step():
    target = torch.tensor([[[3.0, -1.0]]])
    assert torch.equal(projected_direction(target, torch.zeros_like(target)), target.sign())


def test_gmla_spends_two_backward_passes_per_step(convnet, images):
    record = Gmla(engine=Apgd(5, exhaust=True)).attack(
        convnet, images, nearest_flip(convnet, images), ball=Ball(0.01)
    )
    assert record.steps == 5
    assert record.gradients == 2 * 5


def test_as_many_as_possible_counts_labels(convnet, images):
    present = convnet(images) >= 0
    record = LossAttack(Apgd(40)).attack(convnet, images, Flips.show_most(present), ball=Ball(0.5))
    gained = record.after.sum(1) - record.before.sum(1)
    assert torch.equal(record.success, gained > 0)
    assert gained.sum() > 0


def test_black_box_needs_no_gradient(convnet, images):
    def opaque(points):
        return torch.from_numpy(convnet(points).detach().numpy().copy())

    record = MlaDe(40, 20).attack(opaque, images, nearest_flip(convnet, images), ball=Ball(0.5))
    assert record.gradients == 0
    assert int(record.success.sum()) >= 5


@pytest.mark.parametrize("method", GRADIENT, ids=name)
def test_gradient_methods_refuse_a_network_without_gradients(method, convnet, images):
    flips = nearest_flip(convnet, images)
    with pytest.raises(InputError, match="gradient"):
        method.attack(lambda points: convnet(points).detach(), images, flips, ball=Ball(0.1))


def test_runs_repeat(convnet, images):
    flips = nearest_flip(convnet, images)
    first, second = (
        LossAttack(Apgd(5, restarts=3)).attack(convnet, images, flips, ball=Ball(0.1)) for _ in "ab"
    )
    assert torch.equal(first.images, second.images)


class Liar(Attack):
    """Claims nothing and returns images far outside the ball."""

    def search(self, task):
        return Attempt(task.images + 10, 1, 1)


def test_the_frame_clips_what_a_method_returns(convnet, images):
    record = Liar().attack(convnet, images, nearest_flip(convnet, images), ball=Ball(0.1))
    torch.testing.assert_close(record.images, (images + 0.1).clamp(0, 1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda images, flips: (images + 1, flips), r"pixels in \[0, 1\]"),
        (lambda images, flips: ((images * 255).to(torch.uint8), flips), r"pixels in \[0, 1\]"),
        (lambda images, flips: (images, Flips.of(6, 5, hide=[4])), "scores of shape"),
        (lambda images, flips: (images[:2], flips), "scores of shape"),
    ],
)
def test_questions_that_do_not_fit_are_refused(change, message, convnet, images):
    bad_images, bad_flips = change(images, nearest_flip(convnet, images))
    with pytest.raises(InputError, match=message):
        LossAttack().attack(convnet, bad_images, bad_flips)


def test_norm_and_decision_must_suit_the_method(convnet, images):
    flips = nearest_flip(convnet, images)
    for method in (LossAttack(), MlaLp(), Gmla()):
        with pytest.raises(InputError, match="L2 budget"):
            method.attack(convnet, images, flips, ball=Ball(1, Norm.L2))
    with pytest.raises(InputError, match="decision top-k"):
        TkmlAp().attack(convnet, images, flips)
    with pytest.raises(InputError, match="as many labels"):
        TkmlAp().attack(convnet, images, Flips.of(6, 4, show=[0, 1, 2]), decision=TopK(2))
