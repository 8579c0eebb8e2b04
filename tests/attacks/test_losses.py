"""Losses: gradients by finite differences, and zero exactly where the wish is fulfilled."""

import pytest
import torch
from mlverify.attacks import losses

WANTED = torch.tensor([[-1.0, 1.0, 0.0, 0.0, 0.0], [0.0, 0.0, -1.0, 0.0, 0.0]], dtype=torch.float64)
KEPT = torch.tensor([[0.0, 0.0, 1.0, -1.0, -1.0], [1.0, -1.0, 0.0, -1.0, 1.0]], dtype=torch.float64)
ALL = [
    losses.flip_cross_entropy,
    losses.keep_cross_entropy,
    losses.flip_and_keep_cross_entropy,
    losses.target_cross_entropy,
    losses.worst_margin,
    losses.worst_margin_of_all,
    losses.hinge_sum,
    losses.rank_all,
    losses.rank_flipped,
]


def random_margins(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 5, generator=generator, dtype=torch.float64).mul(2).requires_grad_(True)


@pytest.mark.parametrize("loss", ALL, ids=lambda loss: loss.__name__)
@pytest.mark.parametrize("seed", range(3))
def test_gradients_agree_with_finite_differences(loss, seed):
    assert torch.autograd.gradcheck(lambda m: loss(m, WANTED, KEPT), random_margins(seed))


@pytest.mark.parametrize("seed", range(3))
def test_top_k_gradients_agree_with_finite_differences(seed):
    hidden, margins = WANTED < 0, random_margins(seed)
    assert torch.autograd.gradcheck(lambda s: losses.outside_top_k(s, hidden, 2), margins)
    assert torch.autograd.gradcheck(lambda s: losses.outside_top_k_average(s, hidden, 2), margins)
    assert torch.autograd.gradcheck(lambda s: losses.exactly_top_k(s, KEPT > 0), margins)


@pytest.mark.parametrize("loss", [losses.hinge_sum, losses.rank_all, losses.rank_flipped])
def test_penalties_vanish_where_the_wish_is_fulfilled(loss):
    fulfilled = (WANTED + KEPT) * 2
    fulfilled = fulfilled + WANTED  # what is hidden lies below, what is shown above
    assert loss(fulfilled, WANTED, KEPT).tolist() == [0.0, 0.0]
    assert (loss(-fulfilled, WANTED, KEPT) < 0).all()


def test_hand_computed_values():
    margins = torch.tensor([[2.0, -1.0, 3.0, -4.0, 0.5]])
    wanted, kept = WANTED[:1].float(), KEPT[:1].float()
    assert losses.hinge_sum(margins, wanted, kept).item() == pytest.approx(-(2 + 1 + 0.5))
    assert losses.worst_margin(margins, wanted, kept).item() == -2
    assert losses.worst_margin_of_all(-margins, wanted, kept).item() == -4
    assert losses.rank_all(margins, wanted, kept).item() == -(2 - -1)
    # Above that: hidden 2 over the lowest absent label -4, and shown -1 under the highest present 3.
    assert losses.rank_flipped(margins, wanted, kept).item() == -(3 + 6 + 4)


def test_cross_entropies_match_torch():
    margins = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    present = torch.tensor([[True, False, True, False]] * 3)
    targets = torch.tensor([[True, True, False, False]] * 3)
    side = 2.0 * present - 1
    wanted, kept = -side * targets, side * ~targets
    each = torch.nn.functional.binary_cross_entropy_with_logits(margins, present.float(), reduction="none")
    torch.testing.assert_close(losses.flip_cross_entropy(margins, wanted, kept), (each * targets).sum(1))
    torch.testing.assert_close(
        losses.flip_and_keep_cross_entropy(margins, wanted, kept), (each * targets - each * ~targets).sum(1)
    )


def test_top_k_hinges_decide_membership():
    scores = torch.tensor([[5.0, 4.0, 3.0, 2.0, 1.0]])
    lowest, highest = torch.zeros(1, 5, dtype=torch.bool), torch.zeros(1, 5, dtype=torch.bool)
    lowest[0, 2] = True
    highest[0, 1] = True
    assert losses.outside_top_k(scores, lowest, 2).item() == 0
    assert losses.outside_top_k(scores, highest, 2).item() < 0
    assert losses.outside_top_k_average(scores, highest, 2).item() == pytest.approx(-2.0)
    assert losses.exactly_top_k(scores, torch.tensor([[True, True, False, False, False]])).item() == 0
    assert losses.exactly_top_k(scores, torch.tensor([[True, False, True, False, False]])).item() == -2
