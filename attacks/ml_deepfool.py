"""ML-DeepFool: put every label exactly on its threshold, by least squares on the linearised network."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .ball import Norm
from .base import Attack, Attempt, Incumbent, Task
from .jacobian import margins_and_jacobian


@dataclass(frozen=True, slots=True)
class MlDeepFool(Attack):
    """Iterate the least-norm solution of f(x) + J r = t over all labels.

    The inequality "at least t" is replaced by an equation, so labels that need not move are dragged to
    their threshold as well; the perturbations are large for that reason.

    Attributes:
        iterations: linear solves per image.
        probabilities: whether f is the sigmoid of the margins, as published, or the margins themselves.
        overshoot: factor on each step, above 1 to cross the threshold.

    Reference:
        N. Zhou et al., "Generating multi-label adversarial examples by linear programming", IJCNN 2020,
        eqs (4) and (5); Q. Song et al., "Multi-label adversarial perturbations", ICDM 2018.
    """

    iterations: int = 20
    probabilities: bool = True
    overshoot: float = 1.02

    def search(self, task: Task) -> Attempt:
        """Step until every image fulfils its wish or the iterations end."""
        best = Incumbent(task, Norm.L2)
        points = task.images
        gradients = 0
        taken = 0
        for taken in range(1, self.iterations + 1):
            if bool(best.complete.all()) or task.stop():
                return Attempt(best.images, taken - 1, gradients)
            margins, jacobian = margins_and_jacobian(task, points)
            gradients += margins.shape[1]
            step = least_norm_step(*self._linear(margins, jacobian))
            points = task.ball.project(points + self.overshoot * step.reshape(points.shape), task.images)
            with torch.no_grad():
                best.offer(points, task.margins(points))
        return Attempt(best.images, taken, gradients)

    def _linear(self, margins: Tensor, jacobian: Tensor) -> tuple[Tensor, Tensor]:
        """Jacobian and what is missing to the threshold, in the space chosen."""
        if not self.probabilities:
            return jacobian, -margins
        probability = torch.sigmoid(margins)
        return (probability * (1 - probability)).unsqueeze(2) * jacobian, 0.5 - probability


def least_norm_step(jacobian: Tensor, missing: Tensor) -> Tensor:
    """The smallest r with J r = missing, by the pseudo-inverse.

    Args:
        jacobian: shape (images, labels, inputs).
        missing: shape (images, labels).

    Returns:
        Shape (images, inputs); least squares when the labels depend on one another.
    """
    rows = jacobian.double()
    gram = rows @ rows.transpose(1, 2)
    weights = torch.linalg.pinv(gram, hermitian=True) @ missing.double().unsqueeze(2)
    step: Tensor = (rows.transpose(1, 2) @ weights).squeeze(2).to(missing)
    return step
