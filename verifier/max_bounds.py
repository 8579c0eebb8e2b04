"""Dual bounds of a max program, batched over sub-problems: one sweep down for the bound, one up for its slopes.

The bound of a linear function is found by substituting, last node first, the relaxation of every node by
affine functions of its entries (CROWN, Zhang et al. 2018), plus the decisions of a sub-problem times their
multipliers (beta-CROWN, Wang et al. 2021). What is left is linear in the pixels, where the box gives the
largest value. The sweep up evaluates the substituted functions at that point, which is the derivative of
the bound by everything it was made of. Tensors carry the sub-problems on their last axis.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .affine import IndexArray
from .max_groups import OPEN, Blocks, GroupFreedom, GroupLines, Lines, Phases, column, upper_lines
from .max_program import MaxProgram
from .window_maxima import WindowMaxima


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
        low, high = column(program.box.lower, dtype, place), column(program.box.upper, dtype, place)
        self.centre, self.radius = (low + high) / 2, (high - low) / 2
        self._windows: WindowMaxima | None = None
        if exact_windows and program.groups and WindowMaxima.apply_to(program.groups[0], program):
            slope, _ = upper_lines(self.groups[0], None)
            self._windows = WindowMaxima(program.groups[0], program, slope, dtype, place)

    @property
    def windows(self) -> tuple[IndexArray, ...]:
        """Nodes of the first group that exact maxima take jointly, by window."""
        return () if self._windows is None else self._windows.nodes

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
        exact_windows: bool = True,
    ) -> Sweep:
        """Upper bounds of ``weights.T @ blocks`` for every sub-problem.

        Args:
            blocks: linear functions that read the first ``len(phases)`` groups at most.
            weights: (rows of blocks, batch).
            phases: decisions, per group.
            free: parameters, per group.
            up: also sweep up.
            exact_windows: whether to use them where the bounds were made with them.
        """
        batch = weights.shape[1]
        coefficients = [weights.new_zeros(lines.nodes, batch) for lines in self.groups[: len(phases)]]
        total = (blocks.constant * weights).sum(dim=0)
        pixels = blocks.pixels.back(weights)
        for number, rows in blocks.groups:
            coefficients[number] += rows.back(weights)
        lines_of = [
            Lines.of(lines, phase, item)
            for lines, phase, item in zip(self.groups, phases, free, strict=False)
        ]
        windows = self._windows if exact_windows and phases else None
        if windows is not None:
            lines_of[0] = lines_of[0].without_shifts(windows.joint)
        for number in range(len(phases) - 1, -1, -1):
            group = self.groups[number]
            on_entries, constant = lines_of[number].down(coefficients[number])
            total = total + constant + (group.blocks.constant * on_entries).sum(dim=0)
            pixels = pixels + group.blocks.pixels.back(on_entries)
            for earlier, rows in group.blocks.groups:
                coefficients[earlier] += rows.back(on_entries)
        total = total + (self.centre.T @ pixels).squeeze(0)
        if windows is None:
            bounds = total + (self.radius.T @ pixels.abs()).squeeze(0)
            point = torch.addcmul(self.centre, torch.sign(pixels), self.radius)
        else:
            found = windows(pixels, coefficients[0].clamp(min=0) * phases[0].open * windows.joint)
            bounds, point = total + found.total, self.centre + found.sides * self.radius
            lines_of[0] = lines_of[0].with_shifts(found.shifts)
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
