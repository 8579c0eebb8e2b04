"""GMLA: flip a consistent set of labels along directions that leave the others alone."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum

import torch
from torch import Tensor

from ..errors import InputError
from .apgd import Apgd
from .base import Attack, Attempt, Task
from .box import Slope, repeat_boxes
from .consistent import consistent_flips
from .flips import Others
from .graph import LabelGraph
from .loss_attack import climb
from .losses import flip_cross_entropy, keep_cross_entropy
from .pgd import Pgd

_BISECTIONS = 24
_EVEN = 0.5

_DISTURBED = 0.3
"""Loss of the kept labels from which it is brought down again; a label flips at ln 2 = 0.69."""


class Direction(Enum):
    """How a step treats the labels that are not attacked."""

    PUBLISHED = "published"
    OPTIMAL = "optimal"


@dataclass(frozen=True, slots=True)
class Gmla(Attack):
    """Semantic-aware attack: the target set grown to a consistent one, gradients projected.

    Two backward passes per step, whatever the number of labels.

    Attributes:
        graph: the label knowledge graph, or None to attack the flips as they are.
        engine: APGD or PGD with its settings.
        direction: the paper's closed form, or the exact optimum of its linear program, see
            `optimal_direction`.
        aligned_above: cosine between the two gradients above which eq. (11) replaces the projection;
            for the published direction only.

    Reference:
        H. Mahmood and E. Elhamifar, "Semantic-aware multi-label adversarial attacks", 2024,
        algorithm 1 and eqs (8) to (11).
    """

    graph: LabelGraph | None = None
    engine: Apgd | Pgd = field(default_factory=lambda: Apgd(steps=300))
    direction: Direction = Direction.PUBLISHED
    aligned_above: float = 0.0

    def search(self, task: Task) -> Attempt:
        """Climb the loss of the consistent set; a point counts once nothing else has flipped."""
        grown = replace(task, flips=consistent_flips(self.graph, task.flips, task.present))
        # Until every kept label holds the search goes on; the record judges by the caller's own wish.
        strict = replace(grown, flips=replace(grown.flips, others=Others.KEEP))
        slopes = _ProjectedField(strict, self.engine.restarts, self._direction)
        return climb(self.engine, slopes, strict, gradients_per_step=2)

    def _direction(self, target: Tensor, other: Tensor, disturbance: Tensor) -> Tensor:
        if self.direction is Direction.PUBLISHED:
            return projected_direction(target, other, self.aligned_above)
        return optimal_direction(target, other, _EVEN * (disturbance > _DISTURBED))


def projected_direction(target: Tensor, other: Tensor, aligned_above: float = 0.0) -> Tensor:
    """The step that raises the target loss and, to first order, not the other.

    Args:
        target: gradients of the loss to raise, shape (rows, *input_shape).
        other: gradients of the loss of the labels to leave alone, same shape.
        aligned_above: cosine from which the two count as aligned.

    Returns:
        Shape (rows, *input_shape), largest entry 1 in absolute value. Opposed gradients: the sign of
        `target` projected on the complement of `other`, orthogonal to it (eqs 7 and 10). Aligned ones:
        the sign of the difference of the two normalised gradients (eq. 11).
    """
    tiny = torch.finfo(target.dtype).tiny
    goal, rest = target.flatten(1), other.flatten(1)
    goal_norm, rest_norm = (g.norm(dim=1, keepdim=True).clamp_min(tiny) for g in (goal, rest))
    unit = rest / rest_norm
    nu = goal.sign()
    projected = nu - (nu * unit).sum(dim=1, keepdim=True) * unit
    projected = projected / projected.abs().amax(dim=1, keepdim=True).clamp_min(tiny)
    combined = (goal / goal_norm - unit).sign()
    cosine = (goal * unit).sum(dim=1, keepdim=True) / goal_norm
    return torch.where(cosine > aligned_above, combined, projected).reshape(target.shape)


def optimal_direction(target: Tensor, other: Tensor, least_share: Tensor) -> Tensor:
    """The e with |e|_inf <= 1 that raises the target loss most without raising the other, to first order.

    That is, max target.e subject to other.e <= 0. Eq. (10) of the paper is feasible for this program with
    equality, but not its optimum: by duality e = sign(target - t * other) for the smallest t >= 0 that
    satisfies the constraint. Where plain signs already do, t is 0 and nothing is given away.

    Args:
        target: gradients of the loss to raise, shape (rows, *input_shape).
        other: gradients of the loss of the labels to leave alone, same shape.
        least_share: weight in [0, 1] that `other` gets at least, shape (rows,): above 0 its loss falls,
            which makes up for what the first order did not see; 0.5 is eq. (11).

    Returns:
        Shape (rows, *input_shape), entries -1, 0 or 1.
    """
    goal, rest = _unit(target), _unit(other)
    low = torch.zeros_like(goal[:, :1])
    high = torch.ones_like(low)
    # With t = share / (1 - share) the half-line is a unit interval; at share 1 only `rest` counts.
    harmless = (goal.sign() * rest).sum(dim=1, keepdim=True) <= 0
    for _ in range(_BISECTIONS):
        share = (low + high) / 2
        step = ((1 - share) * goal - share * rest).sign()
        fine = (step * rest).sum(dim=1, keepdim=True) <= 0
        high = torch.where(fine, share, high)
        low = torch.where(fine, low, share)
    share = torch.where(harmless, torch.zeros_like(high), high)
    share = torch.maximum(share, least_share.unsqueeze(1).to(share))
    return ((1 - share) * goal - share * rest).sign().reshape(target.shape)


def _unit(gradient: Tensor) -> Tensor:
    flat = gradient.flatten(1)
    norm: Tensor = flat.norm(dim=1, keepdim=True)
    return flat / norm.clamp_min(torch.finfo(flat.dtype).tiny)


class _ProjectedField:
    def __init__(
        self, task: Task, copies: int, direction: Callable[[Tensor, Tensor, Tensor], Tensor]
    ) -> None:
        self._task = task
        self._goal = task.goal
        self._direction = direction
        self._wanted = repeat_boxes(task.wanted, copies)
        self._kept = repeat_boxes(task.kept, copies)

    def __call__(self, points: Tensor, *, final: bool = False) -> Slope:
        if final:
            with torch.no_grad():
                margins = self._task.margins(points)
                value = flip_cross_entropy(margins, self._wanted, self._kept)
            return Slope(value, points.new_zeros(()), self._goal.reached(margins >= 0))
        with torch.enable_grad():
            inputs = points.detach().requires_grad_(True)
            margins = self._task.margins(inputs)
            if not margins.requires_grad:
                raise InputError("GMLA needs gradients and the network gives none; use MlaDe instead")
            flip, keep = (
                loss(margins, self._wanted, self._kept) for loss in (flip_cross_entropy, keep_cross_entropy)
            )
            (target,) = torch.autograd.grad(flip.sum(), inputs, retain_graph=True)
            (other,) = torch.autograd.grad(keep.sum(), inputs)
        return Slope(
            flip.detach(),
            self._direction(target, other, keep.detach()),
            self._goal.reached(margins >= 0),
        )
