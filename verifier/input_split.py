"""Branch and bound on the inputs, for regions in which few of them move.

Where a box has a handful of dimensions, halving it tightens every bound of a deep network at once, which
splitting single neurons does not (Wang et al. 2018, ReluVal). All bounds are float64 CROWN, boxes go
through them in batches.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .bound_types import Bounds
from .box_proof import BoxProof
from .budget import Budget
from .cover import is_proved
from .dense_backward import applied
from .descent import BRISK, descended
from .linear_bounds import LinearBounds
from .margins import ROUNDING, proof_margin
from .narrowing import narrowed
from .operators import FloatArray
from .proof_certificate import Decision, Path, Side
from .property import Clause
from .region import Region

# Halving more dimensions than this needs more boxes than any other engine needs splits.
MOST_INPUTS = 12
BATCH = 512
# Fewer boxes at once where a box has so many numbers that a batch would take seconds.
BATCH_NUMBERS = 1_000_000
# Gradient steps on the lines of a box that is still open cost about as much as bounding it. They go on as long as they
# close this share of the boxes (recent ones count most), and are tried again every so many batches.
CLOSING_SHARE = 0.25
FORGETTING = 0.8
RETRY = 8
# Open boxes; each keeps two numbers per moving input and its bound.
MOST_BOXES = 2_000_000


class SplitEnd(StrEnum):
    """How a search over boxes ended."""

    PROVED = "proved"
    CANDIDATE = "candidate"
    STUCK = "a box can't be halved"
    FULL = "too many boxes"
    BROKEN = "an earlier run was broken off"
    STOPPED = "time limit"


@dataclass(frozen=True, slots=True, eq=False)
class SplitOutcome:
    """What a search over boxes found.

    Attributes:
        end: why it ended; only PROVED is a proof, of all clauses.
        bound: upper bound on the property's margin over the region.
        candidate: (*input_shape) an input to be replayed, or None.
        boxes: boxes bounded.
    """

    end: SplitEnd
    bound: float
    candidate: NDArray[np.float64] | None
    boxes: int


def moving_inputs(region: Region) -> int:
    """Number of inputs that are not fixed."""
    return int((region.lower < region.upper).sum())


class InputSplit:
    """Searches over boxes of one region; can be continued with more time."""

    def __init__(
        self,
        linear: LinearBounds,
        region: Region,
        clauses: Sequence[Clause],
        proof: BoxProof | None = None,
    ) -> None:
        """Start from the whole region.

        Args:
            linear: float64 bounds of the network.
            region: of inputs.
            clauses: none of which may hold anywhere.
            proof: of the same question; a box is then closed only when the proof closes it too.
        """
        if linear.dtype is not torch.float64:
            raise ValueError("boxes are bounded in float64")
        narrow = narrowed(linear.network, region)
        self._linear = linear if narrow is None else LinearBounds(narrow, linear.dtype, str(linear.device))
        self._is_narrow = narrow is not None
        self._region = region
        self._clauses = tuple(clauses)
        # what is folded away was as large as this
        self._least_margin = ROUNDING * float(np.abs([region.lower, region.upper]).max())
        self._moving = np.flatnonzero((region.lower < region.upper).reshape(-1))
        self._lower = region.lower.reshape(1, -1)[:, self._moving].astype(np.float64)
        self._upper = region.upper.reshape(1, -1)[:, self._moving].astype(np.float64)
        self._bounds = np.full(1, np.inf)
        self._proof = proof
        # the decisions that lead to every open box; kept for a proof only
        self._paths: list[Path] = [()]
        self._closed = -np.inf
        self._seen = 0
        network = self._linear.network
        numbers = sum(int(np.prod(network.shape_of(value))) for value in range(len(network.operators) + 1))
        self._batch = max(1, min(BATCH, BATCH_NUMBERS // numbers))
        # false while boxes are in hand: an exception there loses them
        self._intact = True
        self._turn = 0
        self._stepped = self._closed_by_steps = 0.0

    def run(self, budget: Budget) -> SplitOutcome:
        """Go on until all boxes are closed, or something ends it."""
        if not self._intact:
            return SplitOutcome(SplitEnd.BROKEN, np.inf, None, self._seen)
        while len(self._bounds):
            if budget.exhausted:
                return self._ended(SplitEnd.STOPPED)
            if len(self._bounds) > MOST_BOXES or (self._proof is not None and self._proof.full):
                return self._ended(SplitEnd.FULL)
            self._intact = False
            lower, upper, before, paths = self._take()
            with torch.no_grad():
                bounds, scores, point = self._bounded(lower, upper, budget)
            self._seen += len(lower)
            bounds = np.minimum(bounds, before)
            bounds = self._confirmed(bounds, paths)
            proved = bounds < 0
            if proved.any():
                self._closed = max(self._closed, float(bounds[proved].max()))
            still = ~proved
            open_paths = [path for path, is_open in zip(paths, still, strict=True) if is_open]
            halved = self._halve(lower[still], upper[still], bounds[still], scores[still], open_paths)
            self._intact = True
            if point is not None:
                return self._ended(SplitEnd.CANDIDATE, point)
            if not halved:
                return self._ended(SplitEnd.STUCK)
        return self._ended(SplitEnd.PROVED)

    def _ended(self, end: SplitEnd, candidate: NDArray[np.float64] | None = None) -> SplitOutcome:
        bound = max([self._closed, *self._bounds.tolist()])
        return SplitOutcome(end, np.inf if candidate is not None else bound, candidate, self._seen)

    def _confirmed(self, bounds: FloatArray, paths: Sequence[Path]) -> FloatArray:
        """The bounds, none of them negative where a proof is wanted and the box is no part of it."""
        if self._proof is None:
            return bounds
        hopeful = np.flatnonzero(bounds < 0)
        closed = self._proof.close([paths[row] for row in hopeful.tolist()])
        found = bounds.copy()
        found[hopeful[~closed]] = 0.0
        return found

    def _take(self) -> tuple[FloatArray, FloatArray, FloatArray, list[Path]]:
        """The boxes with the largest bounds."""
        count = min(self._batch, len(self._bounds))
        order = np.argsort(self._bounds, kind="stable")
        chosen, rest = order[-count:], order[:-count]
        paths = [self._paths[row] for row in chosen.tolist()] if self._proof is not None else [()] * count
        taken = self._lower[chosen], self._upper[chosen], self._bounds[chosen], paths
        self._lower, self._upper, self._bounds = self._lower[rest], self._upper[rest], self._bounds[rest]
        if self._proof is not None:
            self._paths = [self._paths[row] for row in rest.tolist()]
        return taken

    def _halve(
        self,
        lower: FloatArray,
        upper: FloatArray,
        bounds: FloatArray,
        scores: FloatArray,
        paths: Sequence[Path],
    ) -> bool:
        """Put both halves of every box back; false when a box has no inside left."""
        if not len(lower):
            return True
        if not len(self._moving):
            self._bounds = np.concatenate([self._bounds, bounds])
            self._lower, self._upper = lower, upper
            self._paths = [*self._paths, *paths]
            return False
        rows = np.arange(len(lower))
        middle = lower + (upper - lower) / 2
        inside = (middle > lower) & (middle < upper)
        axis = np.where(inside, scores, -1.0).argmax(axis=1)
        left, right = upper.copy(), lower.copy()
        left[rows, axis] = middle[rows, axis]
        right[rows, axis] = middle[rows, axis]
        self._lower = np.concatenate([self._lower, lower, right])
        self._upper = np.concatenate([self._upper, left, upper])
        self._bounds = np.concatenate([self._bounds, bounds, bounds])
        if self._proof is not None:
            cuts = list(zip(self._moving[axis].tolist(), middle[rows, axis].tolist(), strict=True))
            for side in (Side.BELOW, Side.ABOVE):
                self._paths += [
                    (*path, Decision(0, place, int(side), cut))
                    for path, (place, cut) in zip(paths, cuts, strict=True)
                ]
        return bool(inside.any(axis=1).all())

    def _whole(self, part: FloatArray) -> FloatArray:
        """Boxes' corners (boxes, moving) as inputs (boxes, *input_shape)."""
        full = np.broadcast_to(self._region.lower.reshape(1, -1), (len(part), self._region.lower.size)).copy()
        full[:, self._moving] = part
        return full.reshape(len(part), *self._region.shape)

    def _inputs(self, part: FloatArray) -> Tensor:
        """Boxes' corners (boxes, moving) as what the bounded network reads."""
        return self._linear.tensor(part if self._is_narrow else self._whole(part))

    def _bounded(
        self, lower: FloatArray, upper: FloatArray, budget: Budget
    ) -> tuple[FloatArray, FloatArray, NDArray[np.float64] | None]:
        """Margins of boxes (negative where proved), worth of halving each input, and a candidate."""
        low, high = self._inputs(lower), self._inputs(upper)
        bounds = self._linear.propagate(low, high)
        margin = max(self._least_margin, proof_margin(bounds, self._linear.network.output))
        worst = np.full(len(lower), -np.inf)
        scores = np.zeros(lower.shape)
        points = [(low + high) / 2]
        for clause in self._clauses:
            atoms, slopes, reached = self._atoms(clause, bounds)
            points.append(reached)
            proved = _proved(clause, atoms, margin)
            atoms, proved = self._lowered(clause, bounds, atoms, proved, margin, budget)
            value = np.sort(atoms, axis=1)[:, clause.atoms - clause.needed]
            # a bound that does not prove must not look as if it did
            value = np.where(proved, np.minimum(value, -margin), np.maximum(value, 0.0))
            scores += np.where(proved, 0.0, 1.0)[:, None] * slopes * (upper - lower)
            worst = np.maximum(worst, value)
        return worst, scores, self._candidate(torch.cat(points))

    def _atoms(self, clause: Clause, bounds: Bounds) -> tuple[FloatArray, FloatArray, Tensor]:
        """Upper bounds (boxes, atoms), slopes of inputs, and where the bound that decides is largest.

        The slope is the steepest of an atom in each moving input (boxes, moving); the points are inputs of
        the bounded network.
        """
        linear = self._linear
        rows = linear.tensor(clause.weights).unsqueeze(0).expand(bounds.batch, -1, -1)
        slopes, total = linear.to_input(linear.network.output, rows, bounds)
        centre = (bounds.lower[0] + bounds.upper[0]) / 2
        radius = (bounds.upper[0] - bounds.lower[0]) / 2
        flat = slopes.flatten(2)
        upper = total + applied(slopes, centre) + applied(slopes.abs(), radius)
        values = upper.cpu().numpy() + clause.offsets
        decides = np.argsort(values, axis=1)[:, clause.atoms - clause.needed]
        rising = slopes[torch.arange(len(flat)), torch.as_tensor(decides)] > 0
        reached = torch.where(rising, bounds.upper[0], bounds.lower[0])
        steepest = flat.abs().amax(dim=1).cpu().numpy()
        steepest = steepest if self._is_narrow else steepest[:, self._moving]
        return np.where(np.isnan(values), np.inf, values), np.nan_to_num(steepest), reached

    def _lowered(
        self,
        clause: Clause,
        bounds: Bounds,
        atoms: FloatArray,
        proved: NDArray[np.bool_],
        margin: float,
        budget: Budget,
    ) -> tuple[FloatArray, NDArray[np.bool_]]:
        """Atoms' bounds after gradient steps on the boxes that are open, where steps have paid so far."""
        left = np.flatnonzero(~proved)
        self._turn += 1
        pays = self._closed_by_steps >= CLOSING_SHARE * self._stepped
        if not len(left) or not (pays or self._turn % RETRY == 0):
            return atoms, proved
        lowered = descended(self._linear, clause, bounds.select(left), BRISK, budget)
        atoms, proved = atoms.copy(), proved.copy()
        atoms[left] = np.minimum(atoms[left], lowered)
        proved[left] = _proved(clause, atoms[left], margin)
        self._stepped = FORGETTING * self._stepped + len(left)
        self._closed_by_steps = FORGETTING * self._closed_by_steps + int(proved[left].sum())
        return atoms, proved

    def _candidate(self, points: Tensor) -> NDArray[np.float64] | None:
        """Among some inputs one at which a clause holds, or None."""
        scores = self._linear.module(points).cpu().numpy()
        for clause in self._clauses:
            margins = clause.margin(scores)
            best = int(np.nan_to_num(margins, nan=-np.inf).argmax())
            if margins[best] >= 0:
                found = np.asarray(points[best].cpu().numpy(), dtype=np.float64)
                return self._whole(found[None])[0] if self._is_narrow else found
        return None


def _proved(clause: Clause, uppers: FloatArray, margin: float) -> NDArray[np.bool_]:
    """Which rows of bounds (boxes, atoms) leave too few atoms to violate the clause."""
    return np.array([_refuted(clause, row, margin) for row in uppers], dtype=np.bool_)


def _refuted(clause: Clause, upper: FloatArray, margin: float) -> bool:
    refuted = [frozenset([int(atom)]) for atom in np.flatnonzero(upper < -margin)]
    return is_proved(clause.atoms, clause.needed, refuted)
