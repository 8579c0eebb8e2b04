"""Adam (Kingma and Ba 2015) on a few tensors.

torch.optim's own loads torch's compiler at its first step: two seconds, longer than most questions take.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

_TINY = 1e-8
# How much of the mean and of the mean square every step keeps.
AVERAGES = (0.9, 0.95)


class Adam:
    """Moments of some parameters, which are changed in place."""

    def __init__(
        self, groups: Sequence[tuple[Sequence[Tensor], float]], averages: tuple[float, float] = AVERAGES
    ) -> None:
        """Start from zero moments.

        Args:
            groups: parameters, and the size of their steps.
            averages: how much of the mean and of the mean square every step keeps.
        """
        self.parameters = [parameter for parameters, _ in groups for parameter in parameters]
        self._rates = [rate for parameters, rate in groups for _ in parameters]
        self._averages = averages
        self._means = [torch.zeros_like(item) for item in self.parameters]
        self._squares = [torch.zeros_like(item) for item in self.parameters]
        self._steps = 0

    def slow_down(self, factor: float) -> None:
        """Shorten all later steps."""
        self._rates = [factor * rate for rate in self._rates]

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor]) -> None:
        """One step against the gradients, in the order of the parameters."""
        self._steps += 1
        keep, keep_square = self._averages
        bias, square_bias = 1 - keep**self._steps, 1 - keep_square**self._steps
        moments = zip(self.parameters, gradients, self._means, self._squares, self._rates, strict=True)
        for parameter, gradient, mean, square, rate in moments:
            mean.lerp_(gradient, 1 - keep)
            square.mul_(keep_square).addcmul_(gradient, gradient, value=1 - keep_square)
            scale = (square / square_bias).sqrt_().add_(_TINY)
            parameter.addcdiv_(mean, scale, value=-rate / bias)


def descend(total: Tensor, *optimisers: Adam) -> None:
    """One step of every optimiser down ``total``; parameters that it does not depend on get zero gradients."""
    parameters = [parameter for item in optimisers for parameter in item.parameters]
    gradients = torch.autograd.grad(total, parameters, allow_unused=True, materialize_grads=True)
    first = 0
    for item in optimisers:
        item.step(gradients[first : first + len(item.parameters)])
        first += len(item.parameters)
