"""The rows that certify a layered neighbourhood: bounds of atom combinations as a function of the epsilons."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import comb
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..adam import Adam
from ..verifier.bound_types import Bounds
from ..verifier.bounds_engine import SHARE_OF_OTHERS, mixed_rows
from ..verifier.certificate import BoundCertificate
from ..verifier.freedom import FreeSlopes
from ..verifier.linear_bounds import LinearBounds
from ..verifier.operators import FloatArray
from ..verifier.property import Clause
from ..verifier.window_bounds import NUMBER, WindowBounds
from .objective import Goal, Objective
from .shape import Shape

# The float32 search keeps this distance (logits) from the boundary, more than its rounding error, so that the
# certificate in float64 rarely has to shrink what it found.
SEARCH_MARGIN = 2e-4
# No more rows than this go backward together.
ROW_LIMIT = 40
# Inner values that move less than this are left as they are.
FLAT = 1e-4
# A point that a new search behind the windows does not confirm becomes smaller by steps of this share, at most to this.
FACTOR_STEP = 0.01
SMALLEST_FACTOR = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class SearchPoint:
    """A point of the search whose rows are all below zero (in float32).

    Attributes:
        epsilons: (layers,) pixel units.
        size: weighted sum.
        value: of the objective.
        slopes: that certified it, None for the default ones.
        subsets: rows of atoms that were bounded.
        shares: (rows, widest) convex weights before normalisation.
    """

    epsilons: FloatArray
    size: float
    value: float
    slopes: FreeSlopes | None
    subsets: tuple[tuple[int, ...], ...]
    shares: Tensor

    @property
    def certificate(self) -> BoundCertificate:
        """What is kept of the point's slopes."""
        return BoundCertificate.of(self.slopes, self.subsets, self.shares)


@dataclass(frozen=True, slots=True, eq=False)
class WindowShare:
    """How much a search behind windows left of the bounds around the clean values.

    Attributes:
        clean: (1, *shape) the value without a perturbation.
        below: (1, *shape) share of the way down that is left.
        above: (1, *shape) share of the way up.
    """

    clean: Tensor
    below: Tensor
    above: Tensor

    @classmethod
    def between(cls, clean: Bounds, bounds: Bounds, better: Bounds) -> Self:
        """Shares of ``bounds`` that ``better`` has."""
        centre = (clean.lower[NUMBER] + clean.upper[NUMBER]) / 2

        def left(wide: Tensor, narrow: Tensor) -> Tensor:
            way = (wide - centre).abs()
            return torch.where(way > FLAT, (narrow - centre).abs() / way.clamp(min=FLAT), 1.0).clamp(max=1.0)

        below = left(bounds.lower[NUMBER], better.lower[NUMBER].to(centre.dtype))
        return cls(centre, below, left(bounds.upper[NUMBER], better.upper[NUMBER].to(centre.dtype)))

    def of(self, linear: LinearBounds, bounds: Bounds) -> Bounds:
        """The same shares of other bounds."""
        lower = self.clean + self.below * (bounds.lower[NUMBER] - self.clean)
        upper = self.clean + self.above * (bounds.upper[NUMBER] - self.clean)
        return linear.narrowed(bounds, NUMBER, lower, upper)


class CertifiedRows:
    """Differentiable upper bounds that, all negative, prove a clause on a layered neighbourhood.

    Rows are single atoms, except for the atoms in ``together``: of those, every set of ``needed`` has a row
    that bounds a convex combination. All rows below zero prove the clause (see :mod:`mlverify.verifier.cover`).
    """

    def __init__(
        self,
        linear: LinearBounds,
        image: NDArray[np.float32],
        layers: NDArray[np.int64],
        weights: FloatArray,
        clause: Clause,
        objective: Objective = Objective.WEIGHTED_SUM,
        shape: Shape | None = None,
    ) -> None:
        """Prepare; nothing is computed yet.

        Args:
            linear: bounds of the network, float32 for search.
            image: (channels, height, width), pixels in [0, 1].
            layers: (height, width) layer numbers.
            weights: (layers,) not negative; layers of weight 0 do not grow unless the shape makes them.
            clause: what may not hold.
            objective: what is made large.
            shape: which epsilons are allowed, None for all.
        """
        self.linear = linear
        self.clause = clause
        self.goal = Goal(objective, weights)
        self.shape = shape or Shape.free(len(weights))
        # coefficients of generators that add nothing to the size stay at zero
        self.generators = self.shape.generators * self.shape.grows(weights)
        smallest_first = objective is Objective.MAX_MIN
        if smallest_first:
            # the smallest epsilon of all is largest where all that count are the same, and what their shape lifts
            self.generators = self.shape.spanned(weights > 0)[:, None]
        is_plain = self.shape.is_free and not smallest_first
        self._expansion = None if is_plain else linear.tensor(self.generators)
        self.growing = linear.tensor((self.generators.sum(axis=1) > 0).astype(np.float64))
        self._image = linear.tensor(image).unsqueeze(0)
        self._layers = torch.as_tensor(layers, device=linear.device)
        self.slopes: FreeSlopes | None = None
        self.together: list[int] = []
        self.subsets: list[tuple[int, ...]] = []
        self.shares = torch.zeros(0)
        self.best: SearchPoint | None = None
        self.queries = 0
        self.share: WindowShare | None = None
        self._windows: WindowBounds | None = None
        self._sure: LinearBounds | None = None

    def expanded(self, coefficients: Tensor) -> Tensor:
        """Epsilons (layers,) of the shape from coefficients (generators,), at most 1."""
        if self._expansion is None:
            return coefficients
        return (self._expansion @ coefficients).clamp(max=1.0)

    def bounds(self, epsilons: Tensor) -> Bounds:
        """Bounds of all values on the neighbourhood with ``epsilons`` (layers,)."""
        moving = (epsilons * self.growing)[self._layers]
        inner = None if self.slopes is None else self.slopes.inner
        lower, upper = (self._image - moving).clamp(min=0.0), (self._image + moving).clamp(max=1.0)
        self.queries += 1
        # an image that leaves [0, 1] itself would make clipping reverse the box
        found = self.linear.propagate(
            torch.minimum(lower, self._image), torch.maximum(upper, self._image), inner
        )
        return found if self.share is None else self.share.of(self.linear, found)

    def upper(self, epsilons: Tensor) -> Tensor:
        """Upper bounds (rows,) on the neighbourhood with ``epsilons`` (layers,)."""
        bounds = self.bounds(epsilons)
        weights, offsets = mixed_rows(self.linear, self.clause, self.subsets, self.shares)
        free = None if self.slopes is None else self.slopes.rows
        return self.linear.upper(self.linear.network.output, weights.unsqueeze(0), bounds, free)[0] + offsets

    def worst(self, epsilons: FloatArray) -> float:
        """The largest row, without gradients."""
        with torch.no_grad():
            return float(self.upper(self.linear.tensor(epsilons)).max())

    def atoms(self, epsilon: float) -> FloatArray:
        """Upper bounds (atoms,) on the uniform neighbourhood, default slopes."""
        with torch.no_grad():
            bounds = self.bounds(epsilon * torch.ones_like(self.growing))
            rows = self.linear.tensor(self.clause.weights).unsqueeze(0)
            upper = self.linear.upper(self.linear.network.output, rows, bounds)[0]
        return np.asarray(upper.cpu().double().numpy() + self.clause.offsets)

    def record(self, epsilons: Tensor) -> None:
        """Keep a certified point if it is the largest so far."""
        values = (epsilons.detach() * self.growing).cpu().double().numpy()
        value = self.goal.value(values)
        if self.best is None or value > self.best.value:
            slopes = None if self.slopes is None else self.slopes.detached()
            shares = self.shares.detach().clone()
            size = self.goal.size(values)
            self.best = SearchPoint(values, size, value, slopes, tuple(self.subsets), shares)

    def restore(self, point: SearchPoint) -> Self:
        """Continue from a recorded point."""
        self.subsets = list(point.subsets)
        self.shares = point.shares.clone()
        self.slopes = None if point.slopes is None else point.slopes.trainable()
        return self

    def copied(self) -> "CertifiedRows":
        """The same rows with slopes of their own, from the best point on."""
        assert self.best is not None
        rows = CertifiedRows.__new__(CertifiedRows)
        rows.__dict__.update(self.__dict__)
        rows.queries = 0
        return rows.restore(self.best)

    def look_behind(self, windows: WindowBounds, sure: LinearBounds) -> None:
        """From now on :meth:`settle` improves inner bounds by searches behind windows.

        Points are proposals then, not certified ones: at other epsilons than those of the search it may leave more.

        Args:
            windows: of the network.
            sure: bounds in float64.
        """
        self._windows, self._sure = windows, sure
        self.settle()

    def settle(self) -> None:
        """Search behind the windows at the best point, which becomes smaller where that leaves more than before."""
        if self._windows is None or self._sure is None or self.best is None:
            return
        self.restore(self.best)
        self.share = None
        with torch.no_grad():
            bounds = self.bounds(self.linear.tensor(self.best.epsilons))
            better = self._windows.improved(self._sure, bounds.cast(self._sure.dtype))
            clean = self.linear.propagate(self._image, self._image)
        self.share = WindowShare.between(clean, bounds, better)
        factor = 1.0
        while factor > SMALLEST_FACTOR and not self.worst(factor * self.best.epsilons) < -SEARCH_MARGIN:
            factor -= FACTOR_STEP
        self._shrink(factor)

    def _shrink(self, factor: float) -> None:
        point = self.best
        assert point is not None
        if factor < 1.0:
            epsilons = factor * point.epsilons
            size, value = self.goal.size(epsilons), self.goal.value(epsilons)
            self.best = replace(point, epsilons=epsilons, size=size, value=value)

    def restart(self) -> None:
        """Forget slopes and combinations, keep the best point."""
        self.slopes = None
        self.subsets, self.together = [], []

    def set_together(self, together: Sequence[int]) -> None:
        """Choose the atoms that are bounded in combination; the newest, last one leads its rows."""
        self.together = list(together)
        alone = [(atom,) for atom in range(self.clause.atoms) if atom not in self.together]
        self.subsets = [*alone, *combinations(self.together[::-1], self.clause.needed)]
        widest = max(len(subset) for subset in self.subsets)
        shares = np.zeros((len(self.subsets), widest))
        for row, subset in enumerate(self.subsets):
            shares[row, : len(subset)] = SHARE_OF_OTHERS
            shares[row, 0] = 1.0
        self.shares = self.linear.tensor(shares)

    def free_slopes(self, epsilons: Tensor) -> None:
        """Make the slopes free, starting from the default ones at ``epsilons``."""
        with torch.no_grad():
            bounds = self.bounds(epsilons)
        self.slopes = FreeSlopes.initial(self.linear, bounds, len(self.subsets))

    def can_widen(self) -> bool:
        """Whether one more atom may join those bounded in combination."""
        alone = sum(len(subset) == 1 for subset in self.subsets)
        rows = alone - 1 + comb(len(self.together) + 1, self.clause.needed)
        return self.clause.needed > 1 and alone > 1 and rows <= ROW_LIMIT

    def widen(self, epsilons: Tensor) -> None:
        """The single atom closest to zero joins those bounded in combination; its slopes go with it."""
        with torch.no_grad():
            upper = self.upper(epsilons)
        alone = [row for row, subset in enumerate(self.subsets) if len(subset) == 1]
        binding = max(alone, key=lambda row: float(upper[row]))
        before, old = list(self.subsets), self.shares.detach()
        self.set_together([*self.together, before[binding][0]])
        parents = [before.index(subset) if subset in before else binding for subset in self.subsets]
        for row, subset in enumerate(self.subsets):
            if subset in before and len(subset) > 1:
                self.shares[row, : len(subset)] = old[before.index(subset), : len(subset)]
        if self.slopes is not None:
            self.slopes = self.slopes.select(parents).trainable()

    def optimiser(self, speed: float = 1.0) -> Adam | None:
        """Adam over slopes and shares, None while slopes are not free."""
        if self.slopes is None:
            return None
        self.shares.requires_grad_()
        return self.slopes.optimiser(speed, ([self.shares], 0.05 * speed))

    def clamp(self) -> None:
        """Put slopes and shares back where they are valid."""
        if self.slopes is not None:
            self.slopes.clamp()
        with torch.no_grad():
            self.shares.clamp_(0.0, 1.0)
