"""Dual bounds of a max program, batched over sub-problems: one sweep down for the bound, one up for its slopes.

The bound of a linear function is found by substituting, last node first, the relaxation of every node by
affine functions of its entries (CROWN, Zhang et al. 2018), plus the decisions of a sub-problem times their
multipliers (beta-CROWN, Wang et al. 2021). What is left is linear in the pixels, where the box gives the
largest value. The sweep up evaluates the substituted functions at that point, which is the derivative of
the bound by everything it was made of. Tensors carry the sub-problems on their last axis.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from scipy import sparse
from torch import Tensor

from .affine import AffineMap
from .max_program import MaxGroup, MaxProgram
from .operators import FloatArray
from .window_maxima import WindowMaxima

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
        lower = _column(group.bounds.lower, dtype, device)
        upper = _column(group.bounds.upper, dtype, device)
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


def _column(array: FloatArray, dtype: torch.dtype, device: torch.device) -> Tensor:
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
class Sweep:
    """Bounds of a batch and, per group, what the gradients need.

    Attributes:
        bounds: (batch,) upper bounds of the objective.
        pixels: (pixels, batch) the last linear function.
        point: (pixels, batch) where it is largest.
        coefficients: per group (nodes, batch) on its nodes.
        entries: per group (entries, batch) the entries' substituted values at the point; empty without up.
        nodes: per group (nodes, batch) likewise.
    """

    bounds: Tensor
    pixels: Tensor
    point: Tensor
    coefficients: tuple[Tensor, ...]
    entries: tuple[Tensor, ...]
    nodes: tuple[Tensor, ...]


class MaxBounds:
    """Sweeps over one program, in one precision, on one device."""

    def __init__(
        self,
        program: MaxProgram,
        dtype: torch.dtype = torch.float64,
        device: str = "cpu",
        *,
        exact_windows: bool = False,
    ) -> None:
        """Put the program's matrices on the device.

        Args:
            program: the program.
            dtype: of all tensors.
            device: torch device.
            exact_windows: whether the first group's upper lines give way to exact maxima over its windows.
        """
        place = torch.device(device)
        self.program = program
        self.dtype = dtype
        self.device = place
        self.groups = tuple(GroupLines.of(group, program, dtype, place) for group in program.groups)
        self.atoms = Blocks.of(program.atoms, program, dtype, place)
        low, high = _column(program.box.lower, dtype, place), _column(program.box.upper, dtype, place)
        self.centre, self.radius = (low + high) / 2, (high - low) / 2
        self._windows: WindowMaxima | None = None
        if exact_windows and program.groups and WindowMaxima.apply_to(program.groups[0], program):
            slope, _ = upper_lines(self.groups[0], None)
            self._windows = WindowMaxima(program.groups[0], program, slope, dtype, place)

    def undecided(self, batch: int) -> tuple[Phases, ...]:
        """The phases of ``batch`` sub-problems without decisions."""
        return tuple(
            Phases.of(lines, torch.full((lines.nodes, batch), OPEN, device=self.device))
            for lines in self.groups
        )

    def sweep(
        self,
        blocks: Blocks,
        weights: Tensor,
        phases: Sequence[Phases],
        free: Sequence[GroupFreedom],
        *,
        up: bool = True,
    ) -> Sweep:
        """Upper bounds of ``weights.T @ blocks`` for every sub-problem.

        Args:
            blocks: linear functions that read the first ``len(phases)`` groups at most.
            weights: (rows of blocks, batch).
            phases: decisions, per group.
            free: parameters, per group.
            up: also sweep up.
        """
        batch = weights.shape[1]
        coefficients = [weights.new_zeros(lines.nodes, batch) for lines in self.groups[: len(phases)]]
        total = (blocks.constant * weights).sum(dim=0)
        pixels = blocks.pixels.back(weights)
        for number, rows in blocks.groups:
            coefficients[number] += rows.back(weights)
        lines_of = [
            _Lines.of(lines, phase, item)
            for lines, phase, item in zip(self.groups, phases, free, strict=False)
        ]
        for number in range(len(phases) - 1, -1, -1):
            group, lines = self.groups[number], lines_of[number]
            if number == 0 and self._windows is not None:
                lines = replace(lines, upper_shift=lines.upper_shift * (1.0 - self._windows.joint))
            on_entries, constant = lines.down(coefficients[number])
            total = total + constant + (group.blocks.constant * on_entries).sum(dim=0)
            pixels = pixels + group.blocks.pixels.back(on_entries)
            for earlier, rows in group.blocks.groups:
                coefficients[earlier] += rows.back(on_entries)
        total = total + (self.centre.T @ pixels).squeeze(0)
        if self._windows is None or not phases:
            bounds = total + (self.radius.T @ pixels.abs()).squeeze(0)
            point = torch.addcmul(self.centre, torch.sign(pixels), self.radius)
        else:
            found = self._windows(pixels, coefficients[0].clamp(min=0) * phases[0].open * self._windows.joint)
            bounds, point = total + found.total, self.centre + found.sides * self.radius
            shift = torch.where(self._windows.joint > 0, found.shifts, lines_of[0].upper_shift)
            lines_of[0] = replace(lines_of[0], upper_shift=shift)
        entries: list[Tensor] = []
        nodes: list[Tensor] = []
        if up:
            for group, lines, row in zip(self.groups, lines_of, coefficients, strict=False):
                entries.append(group.blocks.forward(point, nodes))
                nodes.append(lines.up(row, entries[-1]))
        return Sweep(bounds, pixels, point, tuple(coefficients), tuple(entries), tuple(nodes))

    def exact(self, point: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """The program itself at pixels (pixels, batch): entries and nodes of every group."""
        entries: list[Tensor] = []
        nodes: list[Tensor] = []
        for group in self.groups:
            entries.append(group.blocks.forward(point, nodes))
            nodes.append(group.largest(entries[-1]))
        return tuple(entries), tuple(nodes)


@dataclass(frozen=True, slots=True, eq=False)
class _Lines:
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
    def of(cls, group: GroupLines, phases: Phases, free: GroupFreedom) -> "_Lines":
        """The lines for some parameters."""
        slope, shift = upper_lines(group, free.thresholds)
        lower_shift = None
        if not group.single:
            lower_shift = (1.0 - group.gather(free.slopes)) * group.floor
        return cls(group, phases, free, slope, shift, lower_shift)

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
