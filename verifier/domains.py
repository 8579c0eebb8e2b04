"""Sub-problems of branch and bound: sets of split ReLUs, and their bounds as one batch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .bound_types import Bounds
from .linear_bounds import LinearBounds
from .operators import Relu


@dataclass(frozen=True, slots=True)
class Split:
    """The decision that a ReLU's input is at least 0 (active) or at most 0.

    Attributes:
        relu: number of the ReLU's value.
        neuron: flat index.
        active: the side.
    """

    relu: int
    neuron: int
    active: bool


@dataclass(frozen=True, slots=True, order=True)
class Domain:
    """A sub-problem.

    Attributes:
        priority: minus its upper bound, so that the largest bound comes first in a heap.
        order: when it was made; breaks ties, so that runs are deterministic.
        splits: decisions taken.
        multipliers: of the splits' constraints, as found by the parent.
    """

    priority: float
    order: int
    splits: tuple[Split, ...] = ()
    multipliers: tuple[float, ...] = ()


def relus(linear: LinearBounds) -> dict[int, int]:
    """Source value of every ReLU, by the number of its own value."""
    return {
        number: operator.inputs[0]
        for number, operator in enumerate(linear.network.operators, start=1)
        if isinstance(operator, Relu)
    }


def batch_bounds(linear: LinearBounds, root: Bounds, domains: Sequence[Domain]) -> Bounds:
    """Bounds of all values, one row per sub-problem: the root's, with split neurons on their side of 0."""
    count = len(domains)
    lowers, uppers = list(root.lower), list(root.upper)
    sources = relus(linear)
    for number in range(len(lowers)):
        lowers[number] = lowers[number].expand(count, *lowers[number].shape[1:])
        uppers[number] = uppers[number].expand(count, *uppers[number].shape[1:])
    for relu, source in sources.items():
        chosen = [
            (row, split)
            for row, domain in enumerate(domains)
            for split in domain.splits
            if split.relu == relu
        ]
        if not chosen:
            continue
        lowers[source], uppers[source] = _decided(lowers[source], uppers[source], chosen)
        operator = linear.network.operators[relu - 1]
        lowers[relu] = linear.module.step(relu - 1, operator, [lowers[source]], count)
        uppers[relu] = linear.module.step(relu - 1, operator, [uppers[source]], count)
    return Bounds(tuple(lowers), tuple(uppers))


def _decided(lower: Tensor, upper: Tensor, chosen: Sequence[tuple[int, Split]]) -> tuple[Tensor, Tensor]:
    low, high = lower.clone().flatten(1), upper.clone().flatten(1)
    for active, side in ((True, low), (False, high)):
        where = [(row, split.neuron) for row, split in chosen if split.active == active]
        if where:
            rows, neurons = (
                torch.as_tensor(np.array(part), device=lower.device) for part in zip(*where, strict=True)
            )
            side[rows, neurons] = 0.0
    return low.reshape(lower.shape), high.reshape(upper.shape)


def split_signs(
    linear: LinearBounds, domains: Sequence[Domain]
) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
    """Signs (+1 active, -1 inactive, 0 not split) and first multipliers (batch, 1, *shape), by ReLU.

    ReLUs that no sub-problem has split are left out.
    """
    signs: dict[int, Tensor] = {}
    values: dict[int, Tensor] = {}
    for row, domain in enumerate(domains):
        for split, multiplier in zip(domain.splits, domain.multipliers, strict=True):
            if split.relu not in signs:
                shape = (len(domains), 1, *linear.network.shape_of(split.relu))
                signs[split.relu] = torch.zeros(shape, dtype=linear.dtype, device=linear.device)
                values[split.relu] = torch.zeros_like(signs[split.relu])
            signs[split.relu][row].view(-1)[split.neuron] = 1.0 if split.active else -1.0
            values[split.relu][row].view(-1)[split.neuron] = multiplier
    return signs, values


def children(domain: Domain, split: Split, bound: float, order: int) -> tuple[Domain, Domain]:
    """Both sides of a split, with the parent's bound until their own is known."""
    other = Split(split.relu, split.neuron, not split.active)
    multipliers = (*domain.multipliers, 0.0)
    return (
        Domain(-bound, order, (*domain.splits, split), multipliers),
        Domain(-bound, order + 1, (*domain.splits, other), multipliers),
    )
