"""Branch and bound on ReLU splits with optimised slopes and split multipliers (beta-CROWN, Wang et al. 2021).

One run refutes one set of atoms: it shows that no input of the region brings all of them to zero, by
bounding a convex combination of them on sub-problems that together cover the region. Sub-problems go through
the bounds in batches; inner bounds are the root's, sharpened by the splits.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .bound_types import Bounds, Freedom
from .bounds_engine import SHARE_OF_OTHERS
from .budget import Budget
from .domains import Domain, Split, batch_bounds, children, relus, split_signs
from .freedom import POOL_SHARPNESS
from .linear_bounds import LinearBounds
from .operators import FloatArray, MaxPool
from .property import Clause
from .relaxation import PoolFreedom, initial_pool_freedom

SLOPE_RATE = 0.1
MULTIPLIER_RATE = 0.1
SHARE_RATE = 0.05
# The rate falls by this factor per step, so that few steps settle.
DECAY = 0.95


@dataclass(frozen=True, slots=True)
class BabSettings:
    """Effort of the search.

    Attributes:
        batch: sub-problems bounded together.
        steps: gradient steps on slopes and multipliers per batch.
        root_steps: the same at the root.
        candidates: splits that are tried by a quick bound before one is taken.
        most_domains: ceiling on open sub-problems (memory); the search gives up beyond it.
    """

    batch: int = 32
    steps: int = 12
    root_steps: int = 60
    candidates: int = 6
    most_domains: int = 100_000


class BabEnd(StrEnum):
    """How a run ended."""

    REFUTED = "refuted"
    CANDIDATE = "candidate"
    STUCK = "no ReLU left to split"
    FULL = "too many sub-problems"
    STOPPED = "time limit"


@dataclass(frozen=True, slots=True, eq=False)
class BabOutcome:
    """What a run found.

    Attributes:
        end: why it ended; only REFUTED is a proof.
        bound: upper bound on the smallest atom of the set over the region.
        candidate: an input that may bring all atoms to zero, to be replayed; or None.
        domains: sub-problems bounded.
    """

    end: BabEnd
    bound: float
    candidate: NDArray[np.float64] | None
    domains: int


class BranchAndBound:
    """Runs on one region of one network."""

    def __init__(self, linear: LinearBounds, root: Bounds, settings: BabSettings) -> None:
        """Use float64 ``linear`` bounds; ``root`` holds bounds of every value over the region (batch 1)."""
        self._linear = linear
        self._root = root
        self._settings = settings
        self._relus = relus(linear)

    def refute(self, clause: Clause, atoms: Sequence[int], margin: float, budget: Budget) -> BabOutcome:
        """Show that no input of the region brings all ``atoms`` of ``clause`` above ``-margin`` together.

        Args:
            clause: the atoms.
            atoms: the set to refute.
            margin: how far below zero a bound must be to count.
            budget: checked between batches.
        """
        search = _Search(self._linear, self._root, self._relus, clause, tuple(atoms), self._settings)
        heap = [Domain(-np.inf, 0)]
        closed, made, seen, steps = -np.inf, 1, 0, self._settings.root_steps
        while heap:
            if budget.exhausted:
                return BabOutcome(BabEnd.STOPPED, max(closed, -heap[0].priority), None, seen)
            if len(heap) > self._settings.most_domains:
                return BabOutcome(BabEnd.FULL, max(closed, -heap[0].priority), None, seen)
            batch = [heapq.heappop(heap) for _ in range(min(self._settings.batch, len(heap)))]
            step = search.bound(batch, steps, margin)
            seen, steps = seen + len(batch), self._settings.steps
            if step.candidate is not None:
                return BabOutcome(BabEnd.CANDIDATE, np.inf, step.candidate, seen)
            for domain, bound, split in zip(step.domains, step.bounds, step.splits, strict=True):
                if bound < -margin:
                    closed = max(closed, bound)
                elif split is None:
                    return BabOutcome(
                        BabEnd.STUCK, max(bound, closed, -heap[0].priority if heap else bound), None, seen
                    )
                else:
                    for child in children(domain, split, bound, made):
                        heapq.heappush(heap, child)
                    made += 2
        return BabOutcome(BabEnd.REFUTED, float(closed), None, seen)


@dataclass(frozen=True, slots=True, eq=False)
class _Step:
    """A bounded batch: domains with new multipliers, their bounds, and where to split the open ones."""

    domains: tuple[Domain, ...]
    bounds: tuple[float, ...]
    splits: tuple[Split | None, ...]
    candidate: NDArray[np.float64] | None


class _Search:
    """Bounds batches of sub-problems for one set of atoms."""

    def __init__(
        self,
        linear: LinearBounds,
        root: Bounds,
        sources: dict[int, int],
        clause: Clause,
        atoms: tuple[int, ...],
        settings: BabSettings,
    ) -> None:
        self._linear = linear
        self._root = root
        self._sources = sources
        self._clause = clause
        self._atoms = atoms
        self._settings = settings
        self._weights = linear.tensor(clause.weights[list(atoms)])
        self._offsets = linear.tensor(clause.offsets[list(atoms)])
        self._slopes: dict[int, Tensor] = {}
        self._pools: dict[int, PoolFreedom] = {}
        shares = np.full((1, len(atoms)), SHARE_OF_OTHERS)
        shares[0, 0] = 1.0
        self._shares = linear.tensor(shares)
        self._start()

    def _start(self) -> None:
        """Slopes and pool parameters of the root, from which every batch starts."""
        for number, operator in enumerate(self._linear.network.operators, start=1):
            source = operator.inputs[0] if operator.inputs else 0
            low, high = self._root.lower[source], self._root.upper[source]
            if number in self._sources:
                self._slopes[number] = (high > -low).to(low.dtype).unsqueeze(1)
            elif isinstance(operator, MaxPool):
                windows = self._linear.module.gather_windows
                free = initial_pool_freedom(
                    windows(number - 1, low), windows(number - 1, high), POOL_SHARPNESS
                )
                self._pools[number] = PoolFreedom(free.threshold.unsqueeze(1), free.weights.unsqueeze(1))

    def bound(self, domains: Sequence[Domain], steps: int, margin: float) -> _Step:
        """Bound a batch, look for candidates, and choose splits."""
        bounds = batch_bounds(self._linear, self._root, domains)
        batch = _Batch(self, domains, bounds)
        for _ in range(steps):
            if batch.step(margin):
                break
        if steps > self._settings.steps:
            self._keep(batch)
        upper, inputs, seen = batch.evaluate()
        candidate = self._candidate(inputs)
        values = np.minimum(batch.best, upper)
        kept = batch.with_multipliers()
        splits = self._choose(kept, batch, seen, values, margin)
        return _Step(kept, tuple(map(float, values)), splits, candidate)

    def _keep(self, batch: "_Batch") -> None:
        """The root's slopes become the start of all other batches."""
        self._slopes = {number: item.detach()[:1].clone() for number, item in batch.slopes.items()}
        self._pools = {
            number: PoolFreedom(item.threshold.detach()[:1].clone(), item.weights.detach()[:1].clone())
            for number, item in batch.pools.items()
        }
        self._shares = batch.shares.detach()[:1].clone()

    def _candidate(self, inputs: Tensor) -> NDArray[np.float64] | None:
        """An input among the relaxation's maximisers at which all atoms reach zero, if there is one."""
        with torch.no_grad():
            atoms = self._linear.module(inputs) @ self._weights.T + self._offsets
        values, row = atoms.amin(dim=1).max(dim=0)
        return inputs[row].cpu().numpy() if float(values) >= 0 else None

    def _choose(
        self,
        domains: Sequence[Domain],
        batch: "_Batch",
        seen: dict[int, Tensor],
        values: FloatArray,
        margin: float,
    ) -> tuple[Split | None, ...]:
        """Where to split the open sub-problems: the best of few candidates, by the bounds of both children."""
        ranked, index = self._ranked(batch.bounds, seen)
        if ranked is None:
            return tuple(None for _ in domains)
        count = min(self._settings.candidates, ranked.shape[1])
        scores, positions = ranked.topk(count, dim=1)
        options: list[list[Split]] = []
        for row, value in enumerate(values):
            usable = [] if value < -margin else positions[row][scores[row] > 0].tolist()
            options.append([_split_at(index, position) for position in usable])
        return self._filtered(domains, batch, options)

    def _ranked(self, bounds: Bounds, seen: dict[int, Tensor]) -> tuple[Tensor | None, list[tuple[int, int]]]:
        """Scores (batch, all ReLUs) of how much a ReLU's relaxation costs (Bunel et al. 2020, BaBSR)."""
        scores: list[Tensor] = []
        index: list[tuple[int, int]] = []
        for relu, source in self._sources.items():
            if relu not in seen:
                continue
            low, high = bounds.lower[source].flatten(1), bounds.upper[source].flatten(1)
            rows = seen[relu][:, 0].flatten(1)
            unstable = (low < 0) & (high > 0)
            width = torch.where(unstable, high - low, torch.ones_like(high))
            triangle = -low * high / width
            cost = rows.clamp(min=0) * triangle + (-rows).clamp(min=0) * torch.minimum(high, -low)
            scores.append(torch.where(unstable, cost + torch.finfo(cost.dtype).tiny, torch.zeros_like(cost)))
            index.append((relu, low.shape[1]))
        return (torch.cat(scores, dim=1) if scores else None), index

    def _filtered(
        self, domains: Sequence[Domain], batch: "_Batch", options: Sequence[Sequence[Split]]
    ) -> tuple[Split | None, ...]:
        """The candidate whose children have the lowest bounds together (filtered smart branching)."""
        trials = [(row, split) for row, splits in enumerate(options) if len(splits) > 1 for split in splits]
        gains: dict[tuple[int, Split], float] = {}
        if trials:
            both = [children(domains[row], split, 0.0, 0) for row, split in trials]
            parents = [row for row, _ in trials for _ in range(2)]
            upper = batch.quick([child for pair in both for child in pair], parents)
            for number, trial in enumerate(trials):
                gains[trial] = float(upper[2 * number] + upper[2 * number + 1])
        return tuple(
            min(splits, key=lambda split: gains.get((row, split), 0.0)) if splits else None
            for row, splits in enumerate(options)
        )


def _split_at(index: Sequence[tuple[int, int]], position: int) -> Split:
    for relu, size in index:
        if position < size:
            return Split(relu, position, True)
        position -= size
    raise IndexError("no such neuron")


class _Batch:
    """Free parameters of one batch of sub-problems."""

    def __init__(self, search: "_Search", domains: Sequence[Domain], bounds: Bounds) -> None:
        self._search = search
        self._domains = tuple(domains)
        self.bounds = bounds
        count = len(domains)
        linear = search._linear
        self.slopes = {number: _repeat(item, count) for number, item in search._slopes.items()}
        self.pools = {
            number: PoolFreedom(_repeat(item.threshold, count), _repeat(item.weights, count))
            for number, item in search._pools.items()
        }
        self._signs, first = split_signs(linear, domains)
        self._multipliers = {number: item.requires_grad_() for number, item in first.items()}
        self.shares = _repeat(search._shares, count)
        self.best = np.full(count, np.inf)
        self._optimiser = self._make_optimiser()

    def _make_optimiser(self) -> torch.optim.Optimizer:
        slopes = [*self.slopes.values(), *(item.threshold for item in self.pools.values())]
        groups = [{"params": slopes, "lr": SLOPE_RATE}, {"params": [self.shares], "lr": SHARE_RATE}]
        if self.pools:
            groups.append({"params": [item.weights for item in self.pools.values()], "lr": 5 * SLOPE_RATE})
        if self._multipliers:
            groups.append({"params": list(self._multipliers.values()), "lr": MULTIPLIER_RATE})
        return torch.optim.Adam(groups, betas=(0.9, 0.95))

    def _freedom(self) -> Freedom:
        splits = {number: self._signs[number] * item for number, item in self._multipliers.items()}
        return Freedom(self.slopes, self.pools, splits)

    def _rows(self) -> tuple[Tensor, Tensor]:
        mix = self.shares / self.shares.sum(dim=1, keepdim=True).clamp(min=1e-12)
        return (mix @ self._search._weights).unsqueeze(1), mix @ self._search._offsets

    def step(self, margin: float) -> bool:
        """One gradient step; true when every sub-problem is below ``-margin``."""
        linear = self._search._linear
        rows, offsets = self._rows()
        upper = linear.upper(linear.network.output, rows, self.bounds, self._freedom())[:, 0] + offsets
        self.best = np.minimum(self.best, upper.detach().cpu().numpy())
        if bool((self.best < -margin).all()):
            return True
        self._optimiser.zero_grad()
        torch.autograd.backward([(upper + 2 * margin).clamp(min=0).sum()])
        self._optimiser.step()
        for group in self._optimiser.param_groups:
            group["lr"] *= DECAY
        with torch.no_grad():
            for item in (
                *self.slopes.values(),
                *(pool.threshold for pool in self.pools.values()),
                self.shares,
            ):
                item.clamp_(0.0, 1.0)
            for item in self._multipliers.values():
                item.clamp_(min=0.0)
        return False

    def evaluate(self) -> tuple[FloatArray, Tensor, dict[int, Tensor]]:
        """Bounds, the inputs that maximise them, and the coefficients on every value."""
        linear = self._search._linear
        seen: dict[int, Tensor] = {}
        with torch.no_grad():
            rows, offsets = self._rows()
            coefficients, total = linear.to_input(
                linear.network.output, rows, self.bounds, self._freedom(), seen
            )
            low, high = self.bounds.lower[0], self.bounds.upper[0]
            inputs = torch.where(coefficients[:, 0] > 0, high, low)
            reached = (coefficients[:, 0] * inputs).flatten(1).sum(dim=1)
        return np.asarray((total[:, 0] + reached + offsets).cpu().numpy()), inputs, seen

    def quick(self, domains: Sequence[Domain], parents: Sequence[int]) -> FloatArray:
        """Bounds of ``domains`` with the slopes and shares of the rows ``parents``, without optimisation."""
        linear = self._search._linear
        bounds = batch_bounds(linear, self._search._root, domains)
        with torch.no_grad():
            slopes = {number: item[list(parents)] for number, item in self.slopes.items()}
            pools = {
                number: PoolFreedom(item.threshold[list(parents)], item.weights[list(parents)])
                for number, item in self.pools.items()
            }
            signs, multipliers = split_signs(linear, domains)
            splits = {number: signs[number] * item for number, item in multipliers.items()}
            rows, offsets = self._rows()
            upper = linear.upper(
                linear.network.output, rows[list(parents)], bounds, Freedom(slopes, pools, splits)
            )
        return np.asarray((upper[:, 0] + offsets[list(parents)]).cpu().numpy())

    def with_multipliers(self) -> tuple[Domain, ...]:
        """The domains with their optimised multipliers, for their children."""
        found = {number: item.detach().cpu().flatten(1) for number, item in self._multipliers.items()}
        return tuple(
            Domain(
                domain.priority,
                domain.order,
                domain.splits,
                tuple(float(found[split.relu][row, split.neuron]) for split in domain.splits),
            )
            for row, domain in enumerate(self._domains)
        )


def _repeat(item: Tensor, count: int) -> Tensor:
    return item.detach().expand(count, *item.shape[1:]).clone().requires_grad_()
