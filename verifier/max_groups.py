"""Tensors of a max program's groups: their entries, the decisions of sub-problems, and the lines that replace nodes."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from scipy import sparse
from torch import Tensor

from .affine import AffineMap
from .max_program import MaxGroup, MaxProgram
from .operators import FloatArray

# Matrices with a larger share of nonzeros than this are multiplied as dense ones.
DENSE_SHARE = 0.15
# Phase of a node whose winner is not decided, and of one that zero wins; otherwise the number of the entry.
OPEN, FLOOR = -2, -1


class Rows:
    """A constant matrix, applied to the batch from both sides."""

    def __init__(self, matrix: sparse.csr_matrix, dtype: torch.dtype, device: torch.device) -> None:
        """Keep ``matrix`` (rows, columns) and its transpose as dense or sparse tensors."""
        if matrix.nnz > DENSE_SHARE * matrix.shape[0] * matrix.shape[1]:
            self._forward = _dense(matrix, dtype, device)
            self._back = self._forward.T.contiguous()
        else:
            self._forward = _sparse(matrix, dtype, device)
            self._back = _sparse(matrix.T.tocsr(), dtype, device)

    def forward(self, columns: Tensor) -> Tensor:
        """(columns, batch) to (rows, batch)."""
        return self._forward @ columns

    def back(self, rows: Tensor) -> Tensor:
        """(rows, batch) to (columns, batch)."""
        return self._back @ rows


def _dense(matrix: sparse.csr_matrix, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.as_tensor(matrix.toarray(), dtype=dtype, device=device)


def _sparse(matrix: sparse.csr_matrix, dtype: torch.dtype, device: torch.device) -> Tensor:
    matrix = matrix.copy()
    matrix.sum_duplicates()
    index = (torch.as_tensor(matrix.indptr).long(), torch.as_tensor(matrix.indices).long())
    with warnings.catch_warnings():
        # torch calls its sparse rows a beta; products of them are all that is used here
        warnings.simplefilter("ignore", UserWarning)
        return torch.sparse_csr_tensor(
            *index, torch.as_tensor(matrix.data, dtype=dtype), matrix.shape, device=device
        )


@dataclass(frozen=True, slots=True, eq=False)
class Blocks:
    """An affine map over all columns, cut into pixels and groups.

    Attributes:
        pixels: columns of the pixels.
        groups: columns of the groups it reads, by group.
        constant: (rows, 1).
    """

    pixels: Rows
    groups: tuple[tuple[int, Rows], ...]
    constant: Tensor

    @classmethod
    def of(
        cls, expressions: AffineMap, program: MaxProgram, dtype: torch.dtype, device: torch.device
    ) -> "Blocks":
        """Cut ``expressions`` at the columns of ``program``."""
        matrix = expressions.matrix
        blocks = []
        for number, group in enumerate(program.groups):
            part = matrix[:, group.first : group.first + group.nodes]
            if part.nnz:
                blocks.append((number, Rows(part, dtype, device)))
        pixels = Rows(matrix[:, : len(program.pixels)], dtype, device)
        constant = torch.as_tensor(expressions.constant, dtype=dtype, device=device).unsqueeze(1)
        return cls(pixels, tuple(blocks), constant)

    def forward(self, pixels: Tensor, nodes: Sequence[Tensor]) -> Tensor:
        """The rows' values (rows, batch)."""
        total = self.pixels.forward(pixels) + self.constant
        for number, rows in self.groups:
            total = total + rows.forward(nodes[number])
        return total


@dataclass(frozen=True, slots=True, eq=False)
class GroupLines:
    """A group's entries and the relaxations of its nodes when they are open.

    Attributes:
        blocks: the entries.
        node: (entries,) the node of each.
        single: whether every node is ``max(0, entry)``.
        floored: (nodes, 1) 1 where zero competes.
        lower: (entries, 1) bounds of the entries.
        upper: likewise.
        floor: (nodes, 1) what a node is never below.
        ceiling: (nodes, 1) what it is never above.
    """

    blocks: Blocks
    node: Tensor
    single: bool
    floored: Tensor
    lower: Tensor
    upper: Tensor
    floor: Tensor
    ceiling: Tensor

    @classmethod
    def of(
        cls, group: MaxGroup, program: MaxProgram, dtype: torch.dtype, device: torch.device
    ) -> "GroupLines":
        """Tensors of a group."""
        node = torch.as_tensor(group.node, device=device)
        floored = torch.as_tensor(group.floored, dtype=dtype, device=device).unsqueeze(1)
        lower = column(group.bounds.lower, dtype, device)
        upper = column(group.bounds.upper, dtype, device)
        lowest = torch.where(floored > 0, torch.zeros_like(floored), torch.full_like(floored, -torch.inf))
        index = node.unsqueeze(1)
        floor = lowest.scatter_reduce(0, index, lower, "amax")
        ceiling = floor.scatter_reduce(0, index, upper, "amax")
        single = len(group.node) == group.nodes and bool(group.floored.all())
        blocks = Blocks.of(group.entries, program, dtype, device)
        return cls(blocks, node, single, floored, lower, upper, floor, ceiling)

    @property
    def nodes(self) -> int:
        """Number of nodes."""
        return len(self.floor)

    @property
    def entries(self) -> int:
        """Number of entries."""
        return len(self.node)

    def spread(self, nodes: Tensor) -> Tensor:
        """(nodes, batch) to (entries, batch)."""
        return nodes if self.single else nodes.index_select(0, self.node)

    def gather(self, entries: Tensor) -> Tensor:
        """Sum over the entries of each node."""
        if self.single:
            return entries
        return entries.new_zeros(self.nodes, entries.shape[1]).index_add_(0, self.node, entries)

    def largest(self, entries: Tensor) -> Tensor:
        """The nodes (nodes, batch) of entries (entries, batch)."""
        if self.single:
            return entries.clamp(min=0)
        lowest = torch.where(self.floored > 0, 0.0, -torch.inf).to(entries.dtype)
        index = self.node.unsqueeze(1).expand_as(entries)
        return lowest.expand(-1, entries.shape[1]).clone().scatter_reduce(0, index, entries, "amax")


def column(array: FloatArray, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(size, 1) tensor."""
    return torch.as_tensor(array, dtype=dtype, device=device).unsqueeze(1)


@dataclass(frozen=True, slots=True, eq=False)
class Phases:
    """Decisions of a batch for one group; floats 0 or 1.

    Attributes:
        open: (nodes, batch) undecided.
        open_entries: (entries, batch) the same per entry.
        won: (entries, batch) the decided winner.
        lost: (entries, batch) other entries of decided nodes.
    """

    open: Tensor
    open_entries: Tensor
    won: Tensor
    lost: Tensor

    @classmethod
    def of(cls, lines: GroupLines, winners: Tensor) -> "Phases":
        """Masks from winners (nodes, batch): ``OPEN``, ``FLOOR`` or an entry's number."""
        dtype = lines.lower.dtype
        undecided = winners == OPEN
        spread = lines.spread(winners)
        own = torch.arange(lines.entries, device=winners.device).unsqueeze(1)
        won = spread == own
        lost = (spread != OPEN) & ~won
        return cls(undecided.to(dtype), (spread == OPEN).to(dtype), won.to(dtype), lost.to(dtype))


@dataclass(frozen=True, slots=True, eq=False)
class GroupFreedom:
    """Free parameters of one group; all in range give valid bounds.

    Attributes:
        slopes: (entries, batch) in [0, 1], at most 1 in sum over a node: the lower bound of an open node is
            this combination of its entries, the rest of it on the constant floor.
        thresholds: (nodes, batch) in [0, 1]: where the upper bound of a pool is hinged between floor and
            ceiling; None where every node is ``max(0, entry)``, whose best hinge is 0.
        multipliers: (entries, batch) at least 0, read for decided nodes: of "the winner is at least this
            entry" for those that lost, of "the winner is at least zero" for the winner of a floored node.
    """

    slopes: Tensor
    thresholds: Tensor | None
    multipliers: Tensor

    def columns(self, index: Tensor) -> "GroupFreedom":
        """Copies of some sub-problems' parameters."""
        thresholds = None if self.thresholds is None else self.thresholds.index_select(1, index)
        return GroupFreedom(
            self.slopes.index_select(1, index), thresholds, self.multipliers.index_select(1, index)
        )


@dataclass(frozen=True, slots=True, eq=False)
class Lines:
    """The affine functions that take a group's nodes' places in a batch.

    Attributes:
        group: its entries.
        phases: decisions.
        free: parameters.
        upper_slope: (entries, batch or 1) of open nodes.
        upper_shift: (nodes, batch or 1) of open nodes.
        lower_shift: (nodes, batch) of open nodes.
    """

    group: GroupLines
    phases: Phases
    free: GroupFreedom
    upper_slope: Tensor
    upper_shift: Tensor
    lower_shift: Tensor | None

    @classmethod
    def of(cls, group: GroupLines, phases: Phases, free: GroupFreedom) -> "Lines":
        """The lines for some parameters."""
        slope, shift = upper_lines(group, free.thresholds)
        lower_shift = None
        if not group.single:
            lower_shift = (1.0 - group.gather(free.slopes)) * group.floor
        return cls(group, phases, free, slope, shift, lower_shift)

    def without_shifts(self, nodes: Tensor) -> "Lines":
        """The lines with no shift above where ``nodes`` (nodes, 1) is 1."""
        return replace(self, upper_shift=self.upper_shift * (1.0 - nodes))

    def with_shifts(self, shifts: Tensor) -> "Lines":
        """The lines with ``shifts`` (nodes, batch) added above."""
        return replace(self, upper_shift=self.upper_shift + shifts)

    def down(self, coefficients: Tensor) -> tuple[Tensor, Tensor]:
        """Coefficients (nodes, batch) on nodes become ones on entries, and constants (batch,)."""
        group, phases = self.group, self.phases
        positive, negative = coefficients.clamp(min=0), coefficients.clamp(max=0)
        constant = (positive * phases.open * self.upper_shift).sum(dim=0)
        if self.lower_shift is not None:
            constant = constant + (negative * phases.open * self.lower_shift).sum(dim=0)
        relaxed = group.spread(positive) * self.upper_slope + group.spread(negative) * self.free.slopes
        entries = relaxed * phases.open_entries + group.spread(coefficients) * phases.won
        return entries + self._decisions(), constant

    def _decisions(self) -> Tensor:
        """The constraints' terms: ``multiplier * (winner - loser)``, zero taking part where floored."""
        phases, multipliers = self.phases, self.free.multipliers
        lost = phases.lost * multipliers
        if self.group.single:
            return phases.won * multipliers - lost
        own = phases.won * multipliers * self.group.spread(self.group.floored.expand_as(phases.open))
        return phases.won * self.group.spread(self.group.gather(lost)) + own - lost

    def up(self, coefficients: Tensor, entries: Tensor) -> Tensor:
        """The substituted values of the nodes at the entries' values."""
        group, phases = self.group, self.phases
        above = group.gather(self.upper_slope * entries) + self.upper_shift
        below = group.gather(self.free.slopes * entries)
        if self.lower_shift is not None:
            below = below + self.lower_shift
        relaxed = torch.where(coefficients > 0, above, below)
        return torch.where(phases.open > 0, relaxed, group.gather(phases.won * entries))


def upper_lines(group: GroupLines, thresholds: Tensor | None) -> tuple[Tensor, Tensor]:
    """Slopes (entries, batch) and shifts (nodes, batch) of upper bounds: see :func:`~.relaxation.pool_lines`."""
    low, high = group.lower, group.upper
    width = (high - low).clamp(min=torch.finfo(low.dtype).tiny)
    if thresholds is None:
        slope = (high / width).clamp(0.0, 1.0)
        return slope, -slope * low.clamp(max=0)
    hinge = group.floor + thresholds * (group.ceiling - group.floor)
    spread = group.spread(hinge)
    above = (high - spread).clamp(min=0)
    slope = (above / width).clamp(max=1.0)
    return slope, hinge + group.gather(above - slope * high)
