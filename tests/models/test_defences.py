import pytest
import torch
from mlverify.models.defences import NoDefence, PgdDefence, RectangleDefence, TrainingStep
from mlverify.models.losses import binary_cross_entropy
from torch import nn


@pytest.fixture
def step():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(144, 3))
    return TrainingStep(network, binary_cross_entropy, 0.5, torch.Generator().manual_seed(0))


@pytest.fixture
def images():
    return torch.rand(64, 1, 12, 12, generator=torch.Generator().manual_seed(1)) * 0.9 + 0.05


def targets() -> torch.Tensor:
    return torch.tensor([[1.0, 0.0, 1.0]]).repeat(64, 1)


def test_no_defence_changes_nothing(images, step):
    assert NoDefence().apply(images, targets(), step) is images


def test_rectangles_are_black_connected_and_bounded(images, step):
    defended = RectangleDefence(5).apply(images, targets(), step)
    changed = defended != images
    for mask in changed[:, 0]:
        rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
        height, width = int(rows.max() - rows.min()) + 1, int(columns.max() - columns.min()) + 1
        assert 1 <= height <= 5
        assert 1 <= width <= 5
        assert int(mask.sum()) == height * width
    assert (defended[changed] == 0).all()


def test_a_rectangle_larger_than_the_image_still_fits(images, step):
    covered = RectangleDefence(100).apply(images, targets(), step) == 0
    assert covered.any()
    assert not covered.all()


def test_pgd_stays_in_its_ball_and_raises_the_loss(images, step):
    defence = PgdDefence(epsilon=0.2, steps=3, relative_step=0.75, ramp=0.0)
    attacked = defence.apply(images, targets(), step)
    assert (attacked - images).abs().max() <= 0.2 + 1e-6
    assert attacked.min() >= 0
    assert attacked.max() <= 1
    assert not attacked.requires_grad
    clean = binary_cross_entropy(step.network(images), targets())
    assert binary_cross_entropy(step.network(attacked), targets()) > clean


def test_the_radius_grows_during_the_ramp():
    defence = PgdDefence(epsilon=0.1, steps=1, relative_step=1.0, ramp=0.5)
    assert [defence.radius(progress) for progress in (0.0, 0.25, 0.5, 0.9)] == [0.0, 0.05, 0.1, 0.1]


def test_pgd_leaves_no_gradient_in_the_network(images, step):
    PgdDefence(0.1, 2, 0.75, 0.0).apply(images, targets(), step)
    assert all(parameter.grad is None for parameter in step.network.parameters())
