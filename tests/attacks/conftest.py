"""Small networks whose attacks have known answers."""

import pytest
import torch
from torch import nn


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(7)


@pytest.fixture
def images(generator):
    return torch.rand(6, 1, 5, 5, generator=generator)


@pytest.fixture
def convnet():
    """A small network with four labels on 1x5x5 images, in eval mode."""
    torch.manual_seed(3)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 4)).eval()
    net.requires_grad_(False)
    # Centred, so that every label is present on some images and ReLUs of both signs occur.
    net[0].bias -= net[0].weight.sum((1, 2, 3)) / 2
    net[3].bias -= net(torch.rand(200, 1, 5, 5, generator=torch.Generator().manual_seed(0))).median(0).values
    return net


@pytest.fixture
def linear():
    """Four labels, affine in a 1x5x5 image."""
    torch.manual_seed(4)
    net = nn.Sequential(nn.Flatten(), nn.Linear(25, 4)).eval()
    net.requires_grad_(False)
    with torch.no_grad():
        net[1].bias -= net[1].weight.sum(1) / 2
    return net
