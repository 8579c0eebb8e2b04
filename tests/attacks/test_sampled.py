"""APGD from the best of many points: inside the box, on its faces, several boxes at once."""

import pytest
import torch
from mlverify.attacks.apgd import Apgd
from mlverify.attacks.sampled import SampledApgd
from mlverify.errors import InputError


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def hidden_on_an_edge(points):
    """At most 0.001, within 0.001 of (0, 0.7, 1); far from there a plateau whose gradient leads away."""
    offset = (points - torch.tensor([0.0, 0.7, 1.0])).abs().sum(dim=1)
    return torch.where(offset < 0.05, 0.001 - offset, -1 - 0.1 * (1 - points[:, 0]))


def test_a_violation_on_an_edge_is_found_where_gradients_lead_away():
    lower, upper = torch.zeros(1, 3), torch.ones(1, 3)
    plain = Apgd(steps=100, restarts=200).maximize(hidden_on_an_edge, lower, upper, None, gen())
    assert not plain.success.any()
    found = SampledApgd().maximize(hidden_on_an_edge, lower, upper, gen())
    assert found.success.all()
    assert torch.equal(found.points, found.points.clamp(0, 1))


def test_every_box_is_searched_for_itself():
    lower = torch.tensor([[0.0, 0.0], [2.0, 2.0], [-1.0, 5.0]])
    upper = torch.tensor([[1.0, 1.0], [3.0, 2.0], [-0.5, 6.0]])
    search = SampledApgd(points=500, engine=Apgd(steps=20, restarts=10, exhaust=True))
    found = search.maximize(lambda points: points.sum(dim=1) - 100, lower, upper, gen())
    torch.testing.assert_close(found.points, upper)


def test_runs_repeat_and_nothing_that_is_no_number_is_chosen():
    lower, upper = torch.zeros(1, 2), torch.ones(1, 2)

    def broken(points):
        return torch.where(points[:, 0] > 0.5, torch.nan, points[:, 0] - 1)

    search = SampledApgd(points=400, engine=Apgd(steps=5, restarts=10))
    first, second = (search.maximize(broken, lower, upper, gen(3)) for _ in range(2))
    assert torch.equal(first.points, second.points)
    assert first.values[0] >= -0.6


def test_more_starts_than_points_are_refused():
    with pytest.raises(InputError, match="evaluate more"):
        SampledApgd(points=5)
