"""Any attack made semantic-aware: it is given the consistent target set and must hold all other labels."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import InputError
from .base import Attack, Attempt, Task
from .flips import Flips, Others
from .graph import LabelGraph


@dataclass(frozen=True, slots=True)
class Consistent(Attack):
    """Hand another method the flips that a label graph asks for besides, and keep the rest.

    The first half of GMLA on its own. With a loss that saturates (`hinge_sum`) instead of the
    cross-entropy, no projection of gradients is needed: a label past its threshold stops pulling.

    Attributes:
        inner: the method.
        graph: the label knowledge graph.

    Reference:
        H. Mahmood and E. Elhamifar, "Semantic-aware multi-label adversarial attacks", 2024, section 4.2
        for the target set; the combination with other methods is ours.
    """

    inner: Attack
    graph: LabelGraph

    def search(self, task: Task) -> Attempt:
        """Search with the inner method on the grown wish.

        Raises:
            InputError: the graph does not fit the network, or the flips contradict it.
        """
        grown = consistent_flips(self.graph, task.flips, task.present)
        return self.inner.search(replace(task, flips=replace(grown, others=Others.KEEP)))


def consistent_flips(graph: LabelGraph | None, flips: Flips, present: Tensor) -> Flips:
    """Add to every image's flips what consistency with the graph asks for.

    Args:
        graph: the label knowledge graph; None adds nothing.
        flips: one row per image.
        present: the predicted label sets, shape (images, labels), bool.

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
    rows = [_grow(graph, wish, state) for wish, state in zip(flips.wanted.cpu(), present.cpu(), strict=True)]
    return replace(flips, wanted=torch.stack(rows).to(flips.wanted))


def _grow(graph: LabelGraph, wish: Tensor, state: Tensor) -> Tensor:
    """The wish for one image with what the graph adds, shape (labels,)."""
    asked = torch.nonzero((wish != 0) & (state != (wish > 0))).flatten().tolist()
    grown = wish.clone()
    for label in graph.consistent_targets(asked, state.numpy()) - set(asked):
        side = -1 if state[label] else 1
        if int(wish[label]) == -side:
            raise InputError(
                f"the other flips make '{graph.names[label]}' flip too, but it is asked to stay; "
                "drop one of the two wishes"
            )
        grown[label] = side
    return grown
