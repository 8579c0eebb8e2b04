"""Sub-problems of branch and bound on a max program: decided winners, and the parameters they start from."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .cover import AtomSet
from .max_bounds import MaxBounds
from .max_groups import OPEN, GroupFreedom, Phases

# Positions in [0, 1] are kept as bytes; what is proved is proved with the rounded ones.
LEVELS = 255
# float16 ends at 65504; any smaller multiplier is as valid.
MOST_MULTIPLIER = 60_000.0
Decision = tuple[int, int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Domain:
    """A sub-problem.

    Attributes:
        bound: upper bound on the objective, its parent's until its own is known.
        order: when it was made; breaks ties, so that runs are deterministic.
        atoms: the set to refute; the objective is a convex combination of them.
        decisions: (group, node, winner) each; a winner is an entry's number in the group, or ``FLOOR``.
        slopes: (all entries,) bytes.
        thresholds: (all nodes,) bytes.
        multipliers: (all entries,) float16; empty where all are zero.
        shares: (all atoms,) float32 weights of the objective before normalisation.
    """

    bound: float
    order: int
    atoms: AtomSet
    decisions: tuple[Decision, ...]
    slopes: NDArray[np.uint8]
    thresholds: NDArray[np.uint8]
    multipliers: NDArray[np.float16]
    shares: NDArray[np.float32]

    @property
    def size(self) -> int:
        """Bytes that it keeps, roughly; children share their parent's arrays."""
        arrays = self.slopes.nbytes + self.thresholds.nbytes + self.multipliers.nbytes + self.shares.nbytes
        return arrays + 100 * len(self.decisions) + 500

    def child(self, order: int, decision: Decision, multipliers: NDArray[np.float16]) -> "Domain":
        """This sub-problem with one more decision and the multipliers (all entries,) that it starts from."""
        # a search makes thousands a second: dataclasses.replace is three times slower
        return Domain(
            self.bound,
            order,
            self.atoms,
            (*self.decisions, decision),
            self.slopes,
            self.thresholds,
            multipliers,
            self.shares,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Where each group's entries and nodes stand in the arrays of a domain."""

    entries: tuple[int, ...]
    nodes: tuple[int, ...]

    @classmethod
    def of(cls, bounds: MaxBounds) -> "Layout":
        """Offsets of the groups, and the totals at the end."""
        entries, nodes = [0], [0]
        for group in bounds.groups:
            entries.append(entries[-1] + group.entries)
            nodes.append(nodes[-1] + group.nodes)
        return cls(tuple(entries), tuple(nodes))

    def entries_of(self, number: int) -> slice:
        """The entries of a group."""
        return slice(self.entries[number], self.entries[number + 1])

    def nodes_of(self, number: int) -> slice:
        """The nodes of a group."""
        return slice(self.nodes[number], self.nodes[number + 1])


def winners_of(bounds: MaxBounds, layout: Layout, domains: Sequence[Domain]) -> Tensor:
    """The decisions of a batch (all nodes, batch): ``OPEN``, ``FLOOR``, or an entry's number in its group."""
    winners = np.full((layout.nodes[-1], len(domains)), OPEN, dtype=np.int64)
    for column, domain in enumerate(domains):
        for group, node, winner in domain.decisions:
            winners[layout.nodes[group] + node, column] = winner
    return torch.as_tensor(winners, device=bounds.device)


def phases_of(bounds: MaxBounds, layout: Layout, winners: Tensor) -> tuple[Phases, ...]:
    """Decisions as masks."""
    return tuple(
        Phases.of(group, winners[layout.nodes_of(number)]) for number, group in enumerate(bounds.groups)
    )


def freedom_of(bounds: MaxBounds, layout: Layout, domains: Sequence[Domain]) -> tuple[GroupFreedom, ...]:
    """The parameters of a batch as tensors of their own."""
    slopes = _positions(bounds, [domain.slopes for domain in domains])
    thresholds = _positions(bounds, [domain.thresholds for domain in domains])
    none = np.zeros(layout.entries[-1], dtype=np.float16)
    rows = [domain.multipliers if domain.multipliers.size else none for domain in domains]
    multipliers = torch.as_tensor(np.stack(rows, axis=1), device=bounds.device).to(bounds.dtype)
    found = []
    for number, group in enumerate(bounds.groups):
        chosen = layout.entries_of(number)
        hinge = None if group.single else thresholds[layout.nodes_of(number)].clone()
        part = slopes[chosen].clone()
        if not group.single:
            # bytes may round up to a sum above 1
            part.div_(group.spread(group.gather(part).clamp(min=1.0)))
        found.append(GroupFreedom(part, hinge, multipliers[chosen].clone()))
    return tuple(found)


def _positions(bounds: MaxBounds, rows: Sequence[NDArray[np.uint8]]) -> Tensor:
    stacked = torch.as_tensor(np.stack(rows, axis=1), device=bounds.device)
    return stacked.to(bounds.dtype) / LEVELS


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """A batch's parameters as a domain keeps them, one row per sub-problem."""

    slopes: NDArray[np.uint8]
    thresholds: NDArray[np.uint8]
    multipliers: NDArray[np.float16]
    shares: NDArray[np.float32]

    @classmethod
    def of(cls, bounds: MaxBounds, free: Sequence[GroupFreedom], shares: Tensor) -> "Kept":
        """Round the parameters of a batch."""
        none = shares[:0]
        thresholds = [
            item.slopes.new_zeros(group.nodes, item.slopes.shape[1])
            if item.thresholds is None
            else item.thresholds
            for group, item in zip(bounds.groups, free, strict=True)
        ]
        return cls(
            _bytes([none, *(item.slopes for item in free)]),
            _bytes([none, *thresholds]),
            np.minimum(_rows([none, *(item.multipliers for item in free)]), MOST_MULTIPLIER).astype(
                np.float16
            ),
            np.ascontiguousarray(shares.T.cpu().numpy().astype(np.float32)),
        )

    def domain(self, row: int, old: Domain, bound: float) -> Domain:
        """``old`` with the parameters of one row."""
        multipliers = self.multipliers[row] if old.decisions else self.multipliers[row, :0]
        return replace(
            old,
            bound=bound,
            slopes=self.slopes[row].copy(),
            thresholds=self.thresholds[row].copy(),
            multipliers=multipliers.copy(),
            shares=self.shares[row].copy(),
        )


def _rows(parts: Sequence[Tensor]) -> NDArray[np.float32]:
    return np.ascontiguousarray(torch.cat(list(parts)).T.cpu().float().numpy())


def _bytes(parts: Sequence[Tensor]) -> NDArray[np.uint8]:
    return np.asarray(np.round(_rows(parts) * LEVELS), dtype=np.uint8)
