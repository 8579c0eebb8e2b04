"""Certified gradient ascent: epsilons, slopes and combinations of atoms climb together.

The size of the neighbourhood is raised under a log-barrier on linear upper bounds of the clause's rows, as
in interior-point methods: every point visited is certified by its own bounds. The slopes of the relaxations
and the convex combinations of atoms are parameters of the same ascent, so tighter bounds are found where the
growing neighbourhood needs them. The search runs in float32; its result is certified afresh in float64.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..verifier.bounds_engine import SHARE_OF_OTHERS, normalised_shares
from ..verifier.budget import Budget
from ..verifier.freedom import FreeSlopes
from ..verifier.linear_bounds import Bounds, LinearBounds
from ..verifier.operators import FloatArray
from ..verifier.property import Clause
from ..verifier.relaxation import PoolFreedom

# The float32 ascent keeps this distance (logits) from the boundary, more than its rounding error, so that the
# certificate in float64 rarely has to shrink what it found.
ASCENT_MARGIN = 2e-4
# Weight of the barrier at the start and at the end; it falls geometrically between them.
BARRIER_START = 1.0
BARRIER_END = 0.003
# Adam's step on log-epsilon.
EPSILON_RATE = 0.06
# Share of the steps taken with default slopes, while the epsilons find their proportions.
SLOPES_FROM = 0.12
# After these shares of the steps the row that binds joins the atoms bounded in combination.
WIDEN_AT = (0.2, 0.35, 0.5)
# No more rows than this go backward together.
ROW_LIMIT = 40
# Where the uniform start is sought, pixel units.
SMALLEST_START = 1e-6


@dataclass(frozen=True, slots=True)
class AscentSettings:
    """Effort of the ascent.

    Attributes:
        steps: gradient steps.
    """

    steps: int = 300


@dataclass(slots=True, eq=False)
class AscentPoint:
    """A certified (in float32) point of the ascent.

    Attributes:
        epsilons: (layers,) pixel units.
        size: weighted sum.
        slopes: that certified it, or None for the default ones.
        subsets: rows of atoms that were bounded.
        shares: (rows, widest) convex weights before normalisation, zero-padded.
    """

    epsilons: FloatArray
    size: float
    slopes: FreeSlopes | None
    subsets: tuple[tuple[int, ...], ...]
    shares: Tensor


class Ascent:
    """One ascent on one image."""

    def __init__(
        self,
        linear: LinearBounds,
        image: NDArray[np.float32],
        layers: NDArray[np.int64],
        weights: FloatArray,
        clause: Clause,
        settings: AscentSettings,
    ) -> None:
        """Prepare; nothing is computed yet.

        Args:
            linear: float32 bounds of the network.
            image: (channels, height, width), pixels in [0, 1].
            layers: (height, width) layer numbers.
            weights: (layers,) not negative; layers of weight 0 do not grow.
            clause: what may not hold.
            settings: effort.
        """
        self._linear = linear
        self._image = linear.tensor(image).unsqueeze(0)
        self._layers = torch.as_tensor(layers, device=linear.device)
        self._objective = linear.tensor(weights / weights.max())
        self._weights = weights
        self._clause = clause
        self._settings = settings
        self._slopes: FreeSlopes | None = None
        self._slope_optimiser: torch.optim.Optimizer | None = None
        self._together: list[int] = []
        self._subsets: list[tuple[int, ...]] = []
        self._shares = torch.zeros(0)
        self.best: AscentPoint | None = None
        self.queries = 0

    def run(self, budget: Budget) -> AscentPoint | None:
        """Climb; returns the best certified point, None when not even a tiny neighbourhood is certified."""
        start = self._uniform_start()
        if start is None:
            return None
        log_epsilons = torch.full(self._objective.shape, float(np.log(0.9 * start)), dtype=self._linear.dtype)
        log_epsilons = log_epsilons.to(self._linear.device).requires_grad_()
        optimiser = torch.optim.Adam([log_epsilons], lr=EPSILON_RATE, betas=(0.9, 0.95))
        started = budget.remaining
        good, misses = log_epsilons.detach().clone(), 0
        for step in range(self._settings.steps):
            spent = 0.0 if started == float("inf") else 1.0 - budget.remaining / max(started, 1e-9)
            progress = max(step / self._settings.steps, spent)
            if budget.exhausted or progress >= 1.0:
                break
            self._adapt(progress, good)
            upper = self._rows(log_epsilons.exp() * self._growing())
            if not bool((upper < -ASCENT_MARGIN).all()):
                misses += 1
                self._retreat(log_epsilons, good, misses, optimiser)
                continue
            good, misses = log_epsilons.detach().clone(), 0
            self._climb(log_epsilons, upper, progress, optimiser)
        return self.best

    def _growing(self) -> Tensor:
        return (self._objective > 0).to(self._linear.dtype)

    def _retreat(self, log_epsilons: Tensor, good: Tensor, misses: int, optimiser: torch.optim.Optimizer) -> None:
        """Back to the last certified point, a little inside it; further inside after every miss."""
        with torch.no_grad():
            log_epsilons.copy_(good - 0.02 * 2 ** min(misses, 6))
        for group in optimiser.param_groups:
            group["lr"] *= 0.97

    def _climb(
        self, log_epsilons: Tensor, upper: Tensor, progress: float, optimiser: torch.optim.Optimizer
    ) -> None:
        epsilons = log_epsilons.exp() * self._growing()
        size = (self._objective * epsilons).sum()
        self._record(epsilons.detach())
        barrier = BARRIER_START * (BARRIER_END / BARRIER_START) ** progress
        loss = -size / size.detach() - barrier * torch.log(-upper).sum()
        optimiser.zero_grad()
        if self._slope_optimiser is not None:
            self._slope_optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            log_epsilons.clamp_(max=0.0)
        if self._slope_optimiser is not None and self._slopes is not None:
            self._slope_optimiser.step()
            self._slopes.clamp()
            with torch.no_grad():
                self._shares.clamp_(0.0, 1.0)

    def _record(self, epsilons: Tensor) -> None:
        values = epsilons.cpu().double().numpy()
        size = float(self._weights @ values)
        if self.best is None or size > self.best.size:
            slopes = None if self._slopes is None else self._slopes.detached()
            shares = self._shares.detach().clone()
            self.best = AscentPoint(values, size, slopes, tuple(self._subsets), shares)

    # --- rows -----------------------------------------------------------------------------------------

    def _bounds(self, epsilons: Tensor) -> Bounds:
        moving = epsilons[self._layers]
        inner = None if self._slopes is None else self._slopes.inner
        lower, upper = (self._image - moving).clamp(min=0.0), (self._image + moving).clamp(max=1.0)
        self.queries += 1
        return self._linear.propagate(torch.minimum(lower, self._image), torch.maximum(upper, self._image), inner)

    def _rows(self, epsilons: Tensor) -> Tensor:
        return self._rows_over(self._bounds(epsilons))

    def _rows_over(self, bounds: Bounds) -> Tensor:
        weights, offsets = mixed_rows(self._linear, self._clause, self._subsets, self._shares)
        free = None if self._slopes is None else self._slopes.rows
        return self._linear.upper(self._linear.network.output, weights.unsqueeze(0), bounds, free)[0] + offsets

    def _atoms(self, epsilon: float) -> FloatArray:
        """Upper bounds of all atoms on the uniform neighbourhood, default slopes."""
        with torch.no_grad():
            bounds = self._bounds(epsilon * self._growing())
            rows = self._linear.tensor(self._clause.weights).unsqueeze(0)
            upper = self._linear.upper(self._linear.network.output, rows, bounds)[0]
        return np.asarray(upper.cpu().double().numpy() + self._clause.offsets)

    def _uniform_start(self) -> float | None:
        """The largest uniform epsilon that counting certifies, to 5 %; sets the first rows."""
        def certified(epsilon: float) -> bool:
            atoms = np.sort(self._atoms(epsilon))
            return bool(atoms[self._clause.atoms - self._clause.needed] < -ASCENT_MARGIN)

        low = SMALLEST_START
        if not certified(low):
            return None
        high = low
        while high < 1.0 and certified(min(high * 4, 1.0)):
            high = min(high * 4, 1.0)
        low, high = high, min(high * 4, 1.0)
        while high / low > 1.05:
            middle = float(np.sqrt(low * high))
            low, high = (middle, high) if certified(middle) else (low, middle)
        order = np.argsort(-self._atoms(low))
        self._set_rows([int(atom) for atom in order[: self._clause.needed - 1]])
        return low

    def _set_rows(self, together: Sequence[int]) -> None:
        """Single atoms outside ``together``, and every set of ``needed`` atoms inside it."""
        self._together = list(together)
        alone = [(atom,) for atom in range(self._clause.atoms) if atom not in self._together]
        newest_first = self._together[::-1]
        self._subsets = [*alone, *combinations(newest_first, self._clause.needed)]
        widest = max(len(subset) for subset in self._subsets)
        shares = np.zeros((len(self._subsets), widest))
        for row, subset in enumerate(self._subsets):
            shares[row, : len(subset)] = SHARE_OF_OTHERS
            shares[row, 0] = 1.0
        self._shares = self._linear.tensor(shares)

    # --- slopes and combinations ------------------------------------------------------------------------

    def _adapt(self, progress: float, good: Tensor) -> None:
        """Free the slopes, and later bound in combination the atoms that bind alone."""
        if progress < SLOPES_FROM:
            return
        if self._slopes is None:
            self._free_slopes(good)
            return
        wanted = self._clause.needed - 1 + sum(progress >= mark for mark in WIDEN_AT)
        if self._clause.needed > 1 and len(self._together) < wanted:
            self._widen(good)

    def _free_slopes(self, good: Tensor) -> None:
        with torch.no_grad():
            bounds = self._bounds(good.exp() * self._growing())
        self._slopes = FreeSlopes.initial(self._linear, bounds, len(self._subsets))
        self._restart_slopes()

    def _restart_slopes(self) -> None:
        assert self._slopes is not None
        self._shares.requires_grad_()
        self._slope_optimiser = self._slopes.optimiser()
        self._slope_optimiser.add_param_group({"params": [self._shares], "lr": 0.05})

    def _widen(self, good: Tensor) -> None:
        """The single atom closest to zero joins those bounded in combination; its slopes go with it."""
        alone = [row for row, subset in enumerate(self._subsets) if len(subset) == 1]
        members = len(self._together) + 1
        if len(alone) < 2 or len(alone) - 1 + comb(members, self._clause.needed) > ROW_LIMIT:
            self._together.append(-1)  # full: no further attempt
            return
        with torch.no_grad():
            upper = self._rows(good.exp() * self._growing())
        binding = max(alone, key=lambda row: float(upper[row]))
        before, old_shares = list(self._subsets), self._shares.detach()
        newest = before[binding][0]
        self._set_rows([*self._together, newest])
        parents = [before.index(subset) if subset in before else binding for subset in self._subsets]
        for row, subset in enumerate(self._subsets):
            if subset in before and len(subset) > 1:
                self._shares[row, : len(subset)] = old_shares[before.index(subset), : len(subset)]
        self._slopes = _rows_from(self._slopes, parents)
        self._restart_slopes()


def mixed_rows(
    linear: LinearBounds, clause: Clause, subsets: Sequence[tuple[int, ...]], shares: Tensor
) -> tuple[Tensor, Tensor]:
    """Weights (rows, labels) and offsets (rows,) of convex combinations of atoms.

    Args:
        linear: precision and device.
        clause: the atoms.
        subsets: the atoms of each row.
        shares: (rows, widest) numbers in [0, 1], zero beyond the row's atoms.
    """
    widest = shares.shape[1]
    index = np.array([[*subset, *[subset[0]] * (widest - len(subset))] for subset in subsets])
    used = linear.tensor(np.array([[1.0] * len(subset) + [0.0] * (widest - len(subset)) for subset in subsets]))
    mix = normalised_shares(shares * used)
    weights = (mix.unsqueeze(2) * linear.tensor(clause.weights[index])).sum(dim=1)
    return weights, (mix * linear.tensor(clause.offsets[index])).sum(dim=1)


def _rows_from(slopes: FreeSlopes | None, parents: Sequence[int]) -> FreeSlopes | None:
    """Slopes for new rows, each copied from a row that was there."""
    if slopes is None:
        return None
    index = torch.as_tensor(parents)
    old = slopes.detached()

    def pick(tensor: Tensor) -> Tensor:
        return tensor.index_select(1, index.to(tensor.device)).clone().requires_grad_()

    relu = {number: pick(item) for number, item in old.rows.relu.items()}
    pool = {
        number: PoolFreedom(pick(item.threshold), pick(item.weights)) for number, item in old.rows.pool.items()
    }
    inner = {number: item.clone().requires_grad_() for number, item in old.inner.relu.items()}
    from ..verifier.linear_bounds import Freedom

    return FreeSlopes(Freedom(relu, pool), Freedom(inner))
