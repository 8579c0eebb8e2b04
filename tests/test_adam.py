"""Adam against torch's own."""

import torch
from mlverify.adam import Adam, descend


def loss(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    return (first**4).sum() + (second - 3.0).abs().sum() + (first.sum() * second[0]).sin()


def test_the_same_steps_as_torch():
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(5, generator=generator, dtype=torch.float64) for _ in range(2)]
    mine = [item.clone().requires_grad_() for item in start]
    theirs = [item.clone().requires_grad_() for item in start]
    adam = Adam([([mine[0]], 0.1), ([mine[1]], 0.02)])
    groups = [{"params": [theirs[0]], "lr": 0.1}, {"params": [theirs[1]], "lr": 0.02}]
    reference = torch.optim.Adam(groups, betas=(0.9, 0.95))
    for _ in range(30):
        descend(loss(*mine), adam)
        reference.zero_grad()
        loss(*theirs).backward()
        reference.step()
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other)


def test_several_optimisers_step_together_and_what_is_unused_stays():
    used, unused = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    slow = Adam([([used], 0.5)])
    slow.slow_down(0.1)
    descend((used**2).sum(), slow, Adam([([unused], 0.5)]))
    torch.testing.assert_close(used.detach(), torch.full((2,), 0.95))
    assert unused.tolist() == [1.0, 1.0]
