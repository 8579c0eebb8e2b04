"""GMLA: flip a consistent set of labels along directions that leave the others alone."""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..errors import InputError
from .apgd import Apgd
from .base import Attack, Attempt, Task
from .box import Slope, repeat_boxes
from .flips import Flips, Others
from .graph import LabelGraph
from .loss_attack import climb
from .losses import flip_cross_entropy, keep_cross_entropy
from .pgd import Pgd


@dataclass(frozen=True, slots=True)
class Gmla(Attack):
    """Semantic-aware attack: the target set grown to a consistent one, gradients projected.

    Two backward passes per step, whatever the number of labels.

    Attributes:
        graph: the label knowledge graph, or None to attack the flips as they are.
        engine: APGD or PGD with its settings.
        aligned_above: cosine between the two gradients above which eq. (11) replaces the projection.

    Reference:
        H. Mahmood and E. Elhamifar, "Semantic-aware multi-label adversarial attacks", 2024,
        algorithm 1 and eqs (8) to (11).
    """

    graph: LabelGraph | None = None
    engine: Apgd | Pgd = field(default_factory=lambda: Apgd(steps=300))
    aligned_above: float = 0.0

    def search(self, task: Task) -> Attempt:
        """Climb the loss of the consistent set; a point counts once nothing else has flipped."""
        grown = replace(task, flips=consistent_flips(self.graph, task.flips, task.present))
        # Until every kept label holds the search goes on; the record judges by the caller's own wish.
        strict = replace(grown, flips=replace(grown.flips, others=Others.KEEP))
        return climb(
            self.engine, _ProjectedField(strict, self.engine.restarts, self.aligned_above), strict, 2
        )


def consistent_flips(graph: LabelGraph | None, flips: Flips, present: Tensor) -> Flips:
    """Add to every image's flips what consistency with the graph asks for.

    Raises:
        InputError: the graph has another number of labels, or asks a label to flip both ways.
    """
    if graph is None:
        return flips
    if len(graph.names) != present.shape[1]:
        raise InputError(
            f"the label graph has {len(graph.names)} labels and the network {present.shape[1]}; "
            "use the graph of this network's labels"
        )
    wanted = flips.wanted.clone()
    for row, (wish, state) in enumerate(zip(wanted.cpu(), present.cpu(), strict=True)):
        targets = torch.nonzero(wish).flatten().tolist()
        state_now = state.numpy()
        asked = [label for label in targets if bool(state_now[label]) != bool(wish[label] > 0)]
        for label in graph.consistent_targets(asked, state_now) - set(asked):
            side = -1 if state_now[label] else 1
            if int(wish[label]) == -side:
                raise InputError(
                    f"the other flips make '{graph.names[label]}' flip too, but it is asked to stay; "
                    "drop one of the two wishes"
                )
            wanted[row, label] = side
    return replace(flips, wanted=wanted)


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


@dataclass(frozen=True, slots=True)
class _ProjectedField:
    task: Task
    copies: int
    aligned_above: float

    def __call__(self, points: Tensor) -> Slope:
        wanted, kept = repeat_boxes(self.task.wanted, self.copies), repeat_boxes(self.task.kept, self.copies)
        with torch.enable_grad():
            inputs = points.detach().requires_grad_(True)
            margins = self.task.margins(inputs)
            if not margins.requires_grad:
                raise InputError("GMLA needs gradients and the network gives none; use MlaDe instead")
            flip, keep = (loss(margins, wanted, kept) for loss in (flip_cross_entropy, keep_cross_entropy))
            (target,) = torch.autograd.grad(flip.sum(), inputs, retain_graph=True)
            (other,) = torch.autograd.grad(keep.sum(), inputs)
        direction = projected_direction(target, other, self.aligned_above)
        return Slope(flip.detach(), direction, self.task.complete(margins.detach()))
