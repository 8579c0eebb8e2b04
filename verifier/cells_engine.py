"""The cells engine: rows of linear bounds whose loosest parts are replaced by exact ones.

A row of a certificate bounds a combination of atoms, which is a sum over the network's cells (see :mod:`.cells`).
Where a row is not below zero, the parts that lose most are bounded by a MILP of their own instead, each only as far
as it is needed; the other parts stay together under the row's linear bound. The result is the sum of both, so what
linear bounds know of pixels that several parts share is given up only where a program is worth it.
"""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..attacks.apgd import Apgd
from .bounds_engine import mixed_rows
from .budget import Budget
from .cells import Cell, cells_of
from .certificate import BoundCertificate
from .cover import is_proved
from .freedom import FreeSlopes
from .interval import ValueBounds
from .linear_bounds import LinearBounds
from .margins import proof_margin
from .milp import MilpSettings, MilpVerdict, solve_clause
from .milp_model import MilpBackend
from .network import Network
from .operators import FloatArray, Linear
from .problem import Problem
from .property import Clause
from .region import Region
from .torch_network import TorchNetwork
from .window_bounds import WindowBounds

# Parts whose bound is this close to a value that they reach have nothing to give (logits).
CLOSED = 1e-3
# A part is asked for this much more of its gap than its share of what is missing, so that few programs are enough.
AIM = 2.0
# The search for what a part reaches; it only steers, so it may be short.
REACH = Apgd(steps=30, restarts=4, exhaust=True)


@dataclass(frozen=True, slots=True)
class CellsSettings:
    """Effort.

    Attributes:
        threads: programs that are solved at a time.
        seed: of solver and searches.
        program_seconds: longest time for one program.
    """

    threads: int = 1
    seed: int = 0
    program_seconds: float = 6.0


@dataclass(frozen=True, slots=True)
class CellsOutcome:
    """What the engine found.

    Attributes:
        proved: whether the clause can't be violated.
        margin_bound: the largest row, an upper bound on the clause's margin when proved.
        reason: in words.
        programs: MILPs solved.
    """

    proved: bool
    margin_bound: float
    reason: str
    programs: int


class CellsEngine:
    """Proves clauses of one network from certificates of linear bounds that do not quite suffice."""

    def __init__(
        self,
        network: Network,
        backend: MilpBackend,
        settings: CellsSettings | None = None,
        windows: WindowBounds | None = None,
    ) -> None:
        """Cut the network; ``is_available`` says whether that was possible."""
        self.network = network
        self.windows = windows
        self.backend = backend
        self.settings = settings or CellsSettings()
        self.cells = cells_of(network) or ()
        self.modules = [TorchNetwork(cell.network) for cell in self.cells]

    @property
    def is_available(self) -> bool:
        """Whether the network's scores are a sum of local parts."""
        return bool(self.cells)

    def prove(
        self, linear: LinearBounds, problem: Problem, certificate: BoundCertificate, budget: Budget
    ) -> CellsOutcome:
        """Try to show that the problem's only clause can't be violated.

        Args:
            linear: float64 bounds of this engine's network.
            problem: on this network, with one clause.
            certificate: slopes and combinations of atoms, whatever they prove.
            budget: checked between programs.

        Raises:
            InputError: when the certificate does not fit the network or the clause.
        """
        if not self.cells or len(problem.property.clauses) != 1:
            return CellsOutcome(False, math.inf, "the scores are not a sum of local parts", 0)
        clause = problem.property.clauses[0]
        work = _Work(self, linear, problem.region, clause, certificate, budget)
        refuted, bounds, reason = [], [-work.margin], "linear bounds suffice"
        for number in np.argsort(work.rows):
            row = _Row(work, int(number), float(work.rows[number]))
            bound = row.lowered()
            if not bound < -work.margin:
                reason = (
                    f"a combination of atoms is bounded by {bound:.3g} only, after {work.programs} programs"
                )
                break
            refuted.append(frozenset(certificate.subsets[number]))
            bounds.append(bound)
        proved = is_proved(clause.atoms, clause.needed, refuted)
        if proved:
            reason = f"{work.programs} programs on {len(self.cells)} parts"
        return CellsOutcome(proved, max(bounds) if proved else math.inf, reason, work.programs)


class _Work:
    """What all rows share."""

    def __init__(
        self,
        engine: CellsEngine,
        linear: LinearBounds,
        region: Region,
        clause: Clause,
        certificate: BoundCertificate,
        budget: Budget,
    ) -> None:
        self.engine, self.linear, self.budget = engine, linear, budget
        self.slopes = certificate.slopes(linear, clause)
        with torch.no_grad():
            self.bounds = linear.propagate(*linear.box([region]), self.slopes.inner)
            if engine.windows is not None:
                self.bounds = engine.windows.improved(linear, self.bounds, budget)
            weights, offsets = mixed_rows(
                linear, clause, certificate.subsets, linear.tensor(certificate.shares)
            )
        self.weights = np.asarray(weights.cpu().numpy())
        self.values = self.bounds.numpy()
        last = engine.network.operators[-1]
        assert isinstance(last, Linear)
        self.constants = self.weights @ last.bias + np.asarray(offsets.cpu().numpy())
        self.spatial = len(engine.cells[0].patches) - 1
        shape = engine.network.shape_of(self.spatial)
        self.coefficients = (self.weights @ last.weight).reshape(-1, *shape)
        output = engine.network.output
        self.margin = proof_margin(self.values, output) * (1 + len(engine.cells))
        self.programs = 0
        with torch.no_grad():
            maps = linear.tensor(self.coefficients).unsqueeze(0)
            upper = linear.upper(self.spatial, maps, self.bounds, self.slopes.rows)[0]
        self.rows = np.asarray(upper.cpu().numpy()) + self.constants
        self.boxes = [cell.region(region) for cell in engine.cells]


class _Row:
    """One combination of atoms."""

    def __init__(self, work: _Work, number: int, upper: float) -> None:
        self._work = work
        self._number = number
        self._upper = upper
        self._exact: dict[int, float] = {}

    def lowered(self) -> float:
        """The row's bound, below zero if programs can bring it there."""
        work = self._work
        if self._upper < -work.margin:
            return self._upper
        cells = range(len(work.engine.cells))
        alone = self._linear([[cell] for cell in cells])
        gaps = {
            cell: max(0.0, float(alone[cell]) - self._reached(cell, float(alone[cell]))) for cell in cells
        }
        order = sorted((cell for cell in cells if gaps[cell] > CLOSED), key=lambda cell: -gaps[cell])
        threads = work.engine.settings.threads
        while self._upper >= -work.margin and order and not work.budget.exhausted:
            missing = self._upper + 2 * work.margin
            if missing > sum(gaps[cell] for cell in order):
                break
            chosen, order = order[:threads], order[threads:]
            share = min(1.0, AIM * missing / (sum(gaps[cell] for cell in chosen + order)))
            if len(order) == 0:
                share = 1.0
            aims = [float(alone[cell]) - share * gaps[cell] for cell in chosen]
            with ThreadPoolExecutor(len(chosen)) as pool:
                found = list(pool.map(self._program, chosen, aims))
            work.programs += len(chosen)
            self._keep(chosen, found, alone)
        return self._upper

    def _keep(self, chosen: Sequence[int], found: Sequence[float], alone: FloatArray) -> None:
        """Replace those parts that got better, as long as the whole row does."""
        for cell, value in zip(chosen, found, strict=True):
            if value >= float(alone[cell]):
                continue
            trial = self._exact | {cell: value}
            rest = [item for item in range(len(self._work.engine.cells)) if item not in trial]
            constant = float(self._work.constants[self._number])
            upper = constant + sum(trial.values()) + float(self._linear([rest])[0])
            if upper < self._upper:
                self._upper, self._exact = upper, trial

    def _linear(self, groups: Sequence[Sequence[int]]) -> FloatArray:
        """Linear upper bounds (groups,) of the sums of some parts, with the row's slopes."""
        work = self._work
        maps = np.zeros((len(groups), *work.coefficients.shape[1:]))
        for position, group in enumerate(groups):
            for cell in group:
                patch = work.engine.cells[cell].patches[work.spatial]
                area = np.s_[:, patch.top : patch.bottom, patch.left : patch.right]
                maps[position][area] = work.coefficients[self._number][area]
        slopes: FreeSlopes = work.slopes.select([self._number] * len(groups))
        with torch.no_grad():
            rows: Tensor = work.linear.tensor(maps).unsqueeze(0)
            return np.asarray(
                work.linear.upper(work.spatial, rows, work.bounds, slopes.rows)[0].cpu().numpy()
            )

    def _reached(self, cell: int, upper: float) -> float:
        """A value that the part takes somewhere in its box."""
        work = self._work
        module, box = work.engine.modules[cell], work.boxes[cell]
        weights = torch.tensor(work.weights[self._number], dtype=torch.float32)
        low, high = (torch.tensor(item, dtype=torch.float32).unsqueeze(0) for item in (box.lower, box.upper))
        generator = torch.Generator().manual_seed(work.engine.settings.seed)
        found = REACH.maximize(
            lambda points: module(points) @ weights - (upper + 1.0), low, high, None, generator
        )
        return min(upper, float(found.values[0]) + upper + 1.0)

    def _program(self, cell: int, aim: float) -> float:
        """The aim where the program proves it, else its dual bound and what tolerances can hide in it."""
        work, settings = self._work, self._work.engine.settings
        part: Cell = work.engine.cells[cell]
        values: ValueBounds = part.bounds(work.values)
        outcome = solve_clause(
            part.network,
            values,
            Clause(work.weights[self._number][None], np.array([-aim]), 1),
            work.engine.backend,
            work.budget.at_most(settings.program_seconds),
            MilpSettings(1, settings.seed),
        )
        return aim if outcome.verdict is MilpVerdict.PROVED else outcome.bound + aim + outcome.error
