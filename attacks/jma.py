"""JMA: the smallest L2 step that satisfies every label's inequality, through its small dual."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls
from torch import Tensor

from .ball import Norm
from .base import Attack, Attempt, Incumbent, Task
from .flips import Others
from .jacobian import margins_and_jacobian

Floats = NDArray[np.float64]

_INFEASIBLE = 1e-10
_SINGULAR = 1e-12


@dataclass(frozen=True, slots=True)
class Jma(Attack):
    """Iterate min |r|_2 subject to side * (m + J r) >= overshoot over the labels asked for.

    In the space of scores this is the target point that is nearest in the Mahalanobis distance which the
    Jacobian induces. The dual has one variable per label and is a non-negative least-squares problem.

    Attributes:
        iterations: linearisations per image.
        overshoot: how far past its threshold each label must go, in score units.

    Reference:
        B. Tondi, W. Guo and M. Barni, "JMA: a general algorithm to craft nearly optimal targeted
        adversarial examples", arXiv 2401.01199; the dual by C. Lawson and R. Hanson, "Solving least
        squares problems", 1974, chapter 23 (least-distance programming).
    """

    iterations: int = 10
    overshoot: float = 1e-2

    def search(self, task: Task) -> Attempt:
        """Step until every image fulfils its wish or the iterations end."""
        best = Incumbent(task, Norm.L2)
        strict = task.flips.others is Others.KEEP
        side = task.wanted + task.kept if strict else task.wanted
        points = task.images
        infeasible = torch.zeros_like(best.complete)
        gradients = 0
        taken = 0
        for taken in range(1, self.iterations + 1):
            if bool(best.complete.all()) or task.stop():
                return Attempt(best.images, taken - 1, gradients, infeasible & ~best.complete)
            margins, jacobian = margins_and_jacobian(task, points)
            gradients += margins.shape[1]
            step, infeasible = self._steps(side, margins, jacobian)
            points = task.ball.project(points + step.reshape(points.shape), task.images)
            with torch.no_grad():
                best.offer(points, task.margins(points))
        return Attempt(best.images, taken, gradients, infeasible & ~best.complete)

    def _steps(self, side: Tensor, margins: Tensor, jacobian: Tensor) -> tuple[Tensor, Tensor]:
        steps = torch.zeros_like(jacobian[:, 0])
        infeasible = torch.zeros_like(side[:, 0], dtype=torch.bool)
        for index in range(len(side)):
            chosen = side[index] != 0
            rows = (side[index][chosen, None] * jacobian[index][chosen]).double().cpu().numpy()
            needs = (self.overshoot - side[index][chosen] * margins[index][chosen]).double().cpu().numpy()
            step, feasible = least_distance(rows, needs)
            steps[index] = torch.from_numpy(step).to(steps)
            infeasible[index] = not feasible
        return steps, infeasible


def least_distance(rows: Floats, needs: Floats) -> tuple[Floats, bool]:
    """The r of smallest Euclidean norm with rows r >= needs.

    Args:
        rows: shape (labels, inputs).
        needs: shape (labels,).

    Returns:
        r, shape (inputs,), and whether the rows can hold together; if not, r is the least-squares
        solution of the rows that are missed.
    """
    if not (needs > 0).any():
        return np.zeros(rows.shape[1]), True
    values, vectors = np.linalg.eigh(rows @ rows.T)
    useful = values > _SINGULAR * max(values.max(), np.finfo(np.float64).tiny)
    # rows = factor @ basis with an orthonormal basis of few directions: the problem in that basis.
    factor = vectors[:, useful] * np.sqrt(values[useful])
    basis = (vectors[:, useful] / np.sqrt(values[useful])).T @ rows
    scale = np.abs(needs).max()
    system = np.vstack([factor.T, needs[None, :] / scale])
    goal = np.zeros(len(system))
    goal[-1] = 1.0
    multipliers, _ = nnls(system, goal)
    residual = system @ multipliers - goal
    if -residual[-1] <= _INFEASIBLE:
        missed = np.maximum(needs, 0.0)
        return np.asarray(np.linalg.lstsq(factor, missed, rcond=None)[0] @ basis), False
    return np.asarray((residual[:-1] / -residual[-1] * scale) @ basis), True
