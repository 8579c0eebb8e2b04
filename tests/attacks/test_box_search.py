"""APGD and PGD over boxes: closed forms on linear objectives, and the box is never left."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mlverify.attacks.apgd import Apgd
from mlverify.attacks.box import BestSoFar, Slope, starting_points
from mlverify.attacks.pgd import Pgd
from mlverify.errors import InputError
from torch import Tensor

SEARCHES = [Apgd(steps=30), Apgd(steps=10, restarts=3), Pgd(steps=30), Pgd(steps=30, decay=1.0)]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("search", SEARCHES, ids=repr)
def test_reaches_the_corner_that_maximises_a_linear_objective(search):
    weights = torch.randn(1, 4, 5, generator=seeded(1))
    width = torch.rand(2, 1, 4, 5, generator=seeded(2))
    lower, upper = torch.zeros_like(width), width
    found = search.maximize(
        lambda x: (x * weights).flatten(1).sum(1) - 100, lower, upper, lower + width / 2, seeded()
    )
    best = (upper * weights.clamp_min(0)).flatten(1).sum(1) - 100
    torch.testing.assert_close(found.values, best, rtol=1e-5, atol=1e-2)
    torch.testing.assert_close(found.points, torch.where(weights > 0, upper, lower), rtol=0, atol=1e-6)


@pytest.mark.parametrize("search", SEARCHES, ids=repr)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_every_evaluated_point_is_inside_the_box(search, seed):
    generator = seeded(seed)
    centre = torch.rand(2, 1, 3, 3, generator=generator)
    width = torch.rand(2, 1, 3, 3, generator=generator) * 0.1
    width[:, :, 0] = 0
    lower, upper = (centre - width).clamp(0, 1), (centre + width).clamp(0, 1)
    net = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(9, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1)
    )

    def objective(x: Tensor) -> Tensor:
        boxes = x.reshape(-1, *lower.shape)
        assert bool(((boxes >= lower) & (boxes <= upper)).all())
        return net(x).squeeze(1) - 10

    found = search.maximize(objective, lower, upper, centre, generator)
    assert bool(((found.points >= lower) & (found.points <= upper)).all())
    assert torch.equal(found.points[:, :, 0], centre[:, :, 0])
    torch.testing.assert_close(objective(found.points), found.values)


def test_stops_at_the_first_success_unless_told_to_exhaust():
    lower, upper = torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2)

    def objective(x: Tensor) -> Tensor:
        return x.flatten(1).sum(1) - 0.5

    early = Apgd(steps=50).maximize(objective, lower, upper, lower, seeded())
    full = Apgd(steps=50, exhaust=True).maximize(objective, lower, upper, lower, seeded())
    assert early.success.all()
    assert early.steps == 1
    assert full.steps == 50
    assert full.values.item() == pytest.approx(3.5)


def test_needs_success_in_every_box_before_it_ends():
    lower = torch.zeros(2, 1)
    upper = torch.tensor([[1.0], [0.2]])
    found = Apgd(steps=8).maximize(lambda x: x[:, 0] - 0.5, lower, upper, lower, seeded())
    assert found.success.tolist() == [True, False]
    assert found.steps == 8


def test_the_deadline_is_asked_before_every_step():
    left = iter([False, False, True])
    lower = torch.zeros(1, 3)
    found = Apgd(steps=50).maximize(
        lambda x: x.sum(1) - 9, lower, lower + 1, lower, seeded(), stop=lambda: next(left)
    )
    assert found.steps == 2


def test_apgd_beats_a_fixed_step_on_a_narrow_peak():
    peak = torch.full((1, 20), 0.437)

    def objective(x: Tensor) -> Tensor:
        return -(x - peak).abs().amax(dim=1) - 1e-9

    lower = torch.zeros(1, 20)
    apgd = Apgd(steps=100).maximize(objective, lower, lower + 1, lower, seeded())
    assert apgd.values.item() > -0.05


def test_a_degenerate_box_gives_the_value_at_its_point():
    point = torch.full((1, 2, 2), 0.3)
    found = Apgd(steps=3).maximize(lambda x: x.flatten(1).sum(1) - 2, point, point, None, seeded())
    assert torch.equal(found.points, point)
    assert found.values.item() == pytest.approx(-0.8)


def test_a_row_that_is_not_a_number_does_not_spoil_the_others():
    lower = torch.zeros(2, 1)

    def objective(x: Tensor) -> Tensor:
        return torch.stack([x[0, 0] * torch.nan, x[1, 0] - 2])

    found = Apgd(steps=5).maximize(objective, lower, lower + 1, lower, seeded())
    assert found.values[1].item() == pytest.approx(-1)
    assert found.values[0].item() == -torch.inf


def test_starts_are_the_image_then_random_points_and_corners():
    lower, upper = torch.full((2, 50), 0.2), torch.full((2, 50), 0.6)
    image = torch.full((2, 50), 0.9)
    starts = starting_points(lower, upper, image, 3, seeded()).reshape(3, 2, 50)
    assert torch.equal(starts[0], upper)
    assert ((starts[1] > 0.2) & (starts[1] < 0.6)).any()
    assert ((starts[2] == 0.2) | (starts[2] == 0.6)).all()


def test_a_success_outranks_a_larger_value():
    points = torch.arange(4.0).reshape(4, 1)
    values = torch.tensor([5.0, -torch.inf, 1.0, -torch.inf])
    success = torch.tensor([False, False, True, True])
    best = BestSoFar.of(points, Slope(values, points, success)).per_box(2, 1)
    assert best.points.flatten().tolist() == [2.0, 3.0]
    assert best.success.all()


@pytest.mark.parametrize("search", [Apgd(), Pgd()], ids=repr)
def test_bad_input_is_refused(search):
    ones = torch.ones(1, 2)
    with pytest.raises(InputError, match="exceeds its upper bound"):
        search.maximize(lambda x: x.sum(1), ones, ones - 1, None, seeded())
    with pytest.raises(InputError, match="shape"):
        search.maximize(lambda x: x.sum(1), ones, ones[0], None, seeded())
    with pytest.raises(InputError, match="no gradient"):
        search.maximize(lambda x: torch.zeros(len(x)), ones, ones, None, seeded())
    with pytest.raises(InputError, match="at least"):
        type(search)(steps=0)
