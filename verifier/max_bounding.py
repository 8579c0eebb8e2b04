"""Bounds of batches of sub-problems: searched in float32, confirmed in float64 with what would be kept."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .affine import IndexArray
from .bounds_engine import SHARE_OF_OTHERS
from .budget import Budget
from .linear_bounds import WIDENING
from .max_ascent import NEXT, Ascent, Objective, Rates, Settling, default_freedom
from .max_bounds import MaxBounds, Sweep
from .max_domains import MOST_MULTIPLIER, Domain, Kept, Layout, freedom_of, phases_of, winners_of
from .max_groups import FLOOR, GroupFreedom, Phases
from .max_program import MaxGroup, MaxProgram
from .max_starts import start_multipliers
from .operators import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Bounded:
    """A bounded batch.

    Attributes:
        domains: with the parameters and bounds they reached.
        winners: (all nodes, batch) their decisions.
        phases: the same as masks, per group.
        free: their parameters, per group.
        weights: (all atoms, batch) of their objectives.
        sweep: the last one.
    """

    domains: tuple[Domain, ...]
    winners: Tensor
    phases: tuple[Phases, ...]
    free: tuple[GroupFreedom, ...]
    weights: Tensor
    sweep: Sweep


class Bounding:
    """Bounds sub-problems of one program; an objective is a convex combination of a set of its atoms."""

    def __init__(self, program: MaxProgram, device: str = "cpu", *, exact_windows: bool = False) -> None:
        """Put the program on the device, in both precisions; see :class:`~.max_bounds.MaxBounds`."""
        self.program = program
        self.fast = MaxBounds(program, torch.float32, device, exact_windows=exact_windows)
        self.sure = MaxBounds(program, torch.float64, device, exact_windows=exact_windows)
        self.layout = Layout.of(self.fast)
        self._winners = [_winners(group) for group in program.groups]

    @property
    def has_pools(self) -> bool:
        """Whether some node has several entries."""
        return not all(group.single for group in self.fast.groups)

    def winners(self, group: int, node: int) -> tuple[int, ...]:
        """Every possible winner of a node."""
        return self._winners[group][node]

    def roots(self, sets: Sequence[Sequence[int]]) -> tuple[Domain, ...]:
        """One undecided sub-problem per set of atoms, with nearly all weight on the first of each."""
        kept = Kept.of(self.fast, default_freedom(self.fast, len(sets)), self._first_shares(sets))
        empty = np.zeros(0, dtype=np.float16)
        return tuple(
            Domain(
                np.inf,
                0,
                frozenset(atoms),
                (),
                kept.slopes[row],
                kept.thresholds[row],
                empty,
                kept.shares[row],
            )
            for row, atoms in enumerate(sets)
        )

    def _first_shares(self, sets: Sequence[Sequence[int]]) -> Tensor:
        shares = torch.zeros(self.program.atoms.constant.size, len(sets), device=self.fast.device)
        for column, atoms in enumerate(sets):
            shares[list(atoms), column] = SHARE_OF_OTHERS
            shares[atoms[0], column] = 1.0
        return shares

    def bound(
        self,
        domains: Sequence[Domain],
        steps: int,
        margin: float,
        budget: Budget,
        rates: Rates = NEXT,
        settling: Settling = Settling.LAST,
    ) -> Bounded:
        """Optimise the parameters of a batch until all bounds are below ``-margin`` or the steps are spent."""
        winners = winners_of(self.fast, self.layout, domains)
        phases = phases_of(self.fast, self.layout, winners)
        objective = self.objective(self.fast, domains)
        free = freedom_of(self.fast, self.layout, domains)
        ascent = Ascent(self.fast, objective, phases, free, rates, settling=settling)
        for _ in range(steps):
            if budget.exhausted or ascent.step(-2 * margin):
                break
        sweep = ascent.settled()
        bounds = torch.minimum(ascent.best, sweep.bounds).cpu().double().numpy()
        kept = Kept.of(self.fast, ascent.free, ascent.objective.weights)
        found = tuple(
            kept.domain(row, domain, min(domain.bound, float(bounds[row])))
            for row, domain in enumerate(domains)
        )
        return Bounded(found, winners, phases, ascent.free, objective.normalised(), sweep)

    def confirmed(self, domains: Sequence[Domain], below: float) -> tuple[Domain, ...]:
        """The sub-problems, those whose bound seems to be under ``below`` with the float64 one: no other counts."""
        hopeful = [row for row, domain in enumerate(domains) if domain.bound < below]
        found = list(domains)
        if hopeful:
            bounds = self._plain(self.sure, [domains[row] for row in hopeful])
            bounds = bounds + WIDENING[torch.float64] * (1.0 + np.abs(bounds))
            for row, bound in zip(hopeful, np.where(np.isnan(bounds), np.inf, bounds), strict=True):
                found[row] = replace(domains[row], bound=float(bound))
        return tuple(found)

    def quick(
        self, batch: Bounded, parents: IndexArray, nodes: IndexArray, winners: IndexArray
    ) -> FloatArray:
        """Bounds of sub-problems with one more decision each, without optimisation or windows: for choices only.

        Args:
            batch: the parents.
            parents: (trials,) their columns.
            nodes: (trials,) the decided node, counted over all groups.
            winners: (trials,) its winner.
        """
        columns = torch.as_tensor(parents, device=self.fast.device)
        decided = batch.winners.index_select(1, columns)
        places = (
            torch.as_tensor(nodes, device=self.fast.device),
            torch.arange(len(parents), device=self.fast.device),
        )
        decided[places] = torch.as_tensor(winners, device=self.fast.device)
        free = [item.columns(columns) for item in batch.free]
        self._start(batch, free, columns, *places, winners)
        phases = phases_of(self.fast, self.layout, decided)
        weights = batch.weights.index_select(1, columns)
        sweep = self.fast.sweep(self.fast.atoms, weights, phases, free, up=False, exact_windows=False)
        return np.asarray(sweep.bounds.cpu().numpy(), dtype=np.float64)

    def started(
        self, batch: Bounded, row: int, domain: Domain, node: tuple[int, int], winners: Sequence[int]
    ) -> NDArray[np.float16]:
        """Multipliers (winners, all entries) with which a sub-problem starts where one more node is decided.

        Args:
            batch: after optimisation.
            row: the sub-problem's column.
            domain: the sub-problem.
            node: group and number.
            winners: of the node.
        """
        group, number = node
        columns = torch.full((len(winners),), row, device=self.fast.device)
        found = start_multipliers(
            self.fast.groups[group],
            batch.free[group].slopes.index_select(1, columns),
            batch.sweep.coefficients[group].index_select(1, columns),
            torch.full_like(columns, number),
            torch.as_tensor(winners, device=self.fast.device),
        )
        multipliers = np.zeros((len(winners), self.layout.entries[-1]), dtype=np.float16)
        if domain.multipliers.size:
            multipliers[:] = domain.multipliers
        start = np.minimum(found.T.cpu().numpy(), MOST_MULTIPLIER)
        multipliers[:, self.layout.entries_of(group)] += start.astype(np.float16)
        return multipliers

    def _start(
        self,
        batch: Bounded,
        free: Sequence[GroupFreedom],
        columns: Tensor,
        nodes: Tensor,
        trials: Tensor,
        winners: IndexArray,
    ) -> None:
        """Add to ``free`` the multipliers with which trials of one more decision start."""
        chosen = torch.as_tensor(winners, device=self.fast.device)
        for number, group in enumerate(self.fast.groups):
            own = self.layout.nodes_of(number)
            here = trials[(nodes >= own.start) & (nodes < own.stop)]
            if len(here):
                coefficients = batch.sweep.coefficients[number].index_select(1, columns[here])
                slopes, node = free[number].slopes[:, here], nodes[here] - own.start
                start = start_multipliers(group, slopes, coefficients, node, chosen[here])
                free[number].multipliers[:, here] += start

    def _plain(self, bounds: MaxBounds, domains: Sequence[Domain]) -> FloatArray:
        phases = phases_of(bounds, self.layout, winners_of(bounds, self.layout, domains))
        weights = self.objective(bounds, domains).normalised()
        free = freedom_of(bounds, self.layout, domains)
        found = bounds.sweep(bounds.atoms, weights, phases, free, up=False).bounds
        return np.asarray(found.cpu().numpy(), dtype=np.float64)

    def objective(self, bounds: MaxBounds, domains: Sequence[Domain]) -> Objective:
        """What is bounded in these sub-problems, for sweeps of ``bounds``."""
        shares = np.stack([domain.shares for domain in domains], axis=1)
        weights = torch.as_tensor(shares, dtype=bounds.dtype, device=bounds.device)
        members = np.zeros(shares.shape, dtype=np.bool_)
        for column, domain in enumerate(domains):
            members[list(domain.atoms), column] = True
        return Objective(
            bounds.atoms, weights, torch.as_tensor(members, device=bounds.device).to(bounds.dtype)
        )

    def candidate(self, points: Tensor, atoms: Sequence[int]) -> NDArray[np.float64] | None:
        """Among ``points`` (pixels, batch) one at which all ``atoms`` reach zero, or None."""
        _, nodes = self.fast.exact(points)
        values = self.fast.atoms.forward(points, nodes)[list(atoms)]
        least, column = values.amin(dim=0).max(dim=0)
        return points[:, column].cpu().double().numpy() if float(least) >= 0 else None


def _winners(group: MaxGroup) -> tuple[tuple[int, ...], ...]:
    found: list[tuple[int, ...]] = [(FLOOR,) if floored else () for floored in group.floored]
    for entry, node in enumerate(group.node.tolist()):
        found[node] = (entry, *found[node])
    return tuple(found)
