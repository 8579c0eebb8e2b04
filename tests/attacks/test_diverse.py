"""Spread starting points: inside the box, and out of a region where gradients are dead."""

import pytest
import torch
from mlverify.attacks.apgd import Apgd
from mlverify.attacks.box import starting_points
from mlverify.attacks.diverse import DiverseApgd, spread_points
from mlverify.errors import InputError


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def masked(points):
    """Two scores; the first one only moves once the second has been raised out of a dead zone."""
    average = points.flatten(1).mean(dim=1)
    gate = torch.relu(average - 0.75)
    return torch.stack([gate * 10 - 1, average], dim=1)


def test_spread_starts_escape_where_the_gradient_is_dead():
    lower, upper = torch.zeros(1, 1, 8, 8), torch.ones(1, 1, 8, 8)
    start = torch.full_like(lower, 0.4)
    plain = Apgd(40).maximize(lambda x: masked(x)[:, 0], lower, upper, start, seeded())
    assert not plain.success.any()
    found = DiverseApgd(Apgd(40, restarts=17)).maximize(
        masked, lambda scores: scores[:, 0], lower, upper, start, seeded()
    )
    assert found.success.all()
    torch.testing.assert_close(masked(found.points)[:, 0], found.values)


def test_spread_points_stay_in_their_boxes():
    generator = seeded(1)
    lower = torch.rand(3, 2, 4, generator=generator)
    upper = lower + torch.rand(3, 2, 4, generator=generator)
    upper[:, 0] = lower[:, 0]
    points = spread_points(lambda x: x.flatten(1)[:, :3], lower, upper, 5, 4, generator).reshape(5, 3, 2, 4)
    assert bool(((points >= lower) & (points <= upper)).all())
    assert torch.equal(points[:, :, 0], lower[:, 0].expand(5, 3, 4))
    with pytest.raises(InputError, match="spreading"):
        spread_points(lambda x: x, lower, upper, 0, 4, generator)


@pytest.mark.parametrize("start", [None, torch.full((2, 3), 0.5)])
def test_one_start_is_plain_apgd(start):
    lower, upper = torch.zeros(2, 3), torch.ones(2, 3)
    found = DiverseApgd(Apgd(10)).maximize(
        lambda x: x, lambda s: s.sum(1) - 3.5, lower, upper, start, seeded()
    )
    assert found.steps == 10
    assert found.values.tolist() == pytest.approx([-0.5, -0.5])


def test_given_points_come_first():
    lower, upper = torch.zeros(2, 3), torch.ones(2, 3)
    given = torch.arange(12.0).reshape(4, 3) / 12
    starts = starting_points(lower, upper, given, 3, seeded())
    assert torch.equal(starts[:4], given)
    assert len(starts) == 6
    for wrong, count in ((given[:3], 3), (given, 1)):
        with pytest.raises(InputError, match="don't fit"):
            starting_points(lower, upper, wrong, count, seeded())
