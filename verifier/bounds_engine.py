"""The bounds engine: CROWN, then optimised slopes, then combinations of atoms; incomplete and fast."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from .bound_types import Bounds
from .budget import Budget
from .cover import AtomSet, is_proved
from .descent import BRISK, PATIENT, descended
from .interval import Interval, ValueBounds
from .linear_bounds import LinearBounds
from .margins import PROOF_MARGIN, proof_margin
from .network import Network
from .operators import FloatArray
from .property import Clause, Property
from .region import Region

# Start of a convex combination: the atom with the lowest bound has weight 1 before normalisation, the others this.
SHARE_OF_OTHERS = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class ClauseBounds:
    """What bounds say about one clause.

    Attributes:
        atom_upper: (atoms,) upper bounds on the atoms over the region.
        refuted: sets of atoms that do not all reach zero at one point.
        proved: whether that proves the clause.
        margin_bound: upper bound on the clause's margin.
    """

    atom_upper: FloatArray
    refuted: tuple[AtomSet, ...]
    proved: bool
    margin_bound: float

    @property
    def refuted_bound(self) -> float:
        """Upper bound on the smallest atom of every refuted set; minus infinity where there is none."""
        # of atoms alone the bound is known, of larger sets only that it is below zero by the margin
        alone = [float(self.atom_upper[next(iter(fact))]) for fact in self.refuted if len(fact) == 1]
        together = [0.0] * any(len(fact) > 1 for fact in self.refuted)
        return max((min(bound, -PROOF_MARGIN) for bound in alone + together), default=-np.inf)


@dataclass(frozen=True, slots=True, eq=False)
class BoundsOutcome:
    """Bounds over a region and what they prove.

    Attributes:
        clauses: per clause of the property.
        values: bounds on every value, for the engines that come after.
    """

    clauses: tuple[ClauseBounds, ...]
    values: ValueBounds

    @property
    def proved(self) -> bool:
        """Whether no clause can be violated."""
        return all(clause.proved for clause in self.clauses)

    @property
    def margin_bound(self) -> float:
        """Upper bound on the property's margin."""
        return max(clause.margin_bound for clause in self.clauses)


class BoundsEngine:
    """Linear bounds for one network, in float64."""

    def __init__(self, network: Network, device: str = "cpu") -> None:
        """Prepare the network on ``device``."""
        self.linear = LinearBounds(network, torch.float64, device)

    def crown(self, region: Region, question: Property) -> BoundsOutcome:
        """One backward pass with default slopes, all atoms together."""
        with torch.no_grad():
            bounds = self.propagated(region)
            uppers = [self._atom_upper(clause, bounds) for clause in question.clauses]
        return self.judge(question, bounds.numpy(), uppers)

    def propagated(self, region: Region) -> Bounds:
        """Bounds of all values, without gradients."""
        with torch.no_grad():
            return self.linear.propagate(*self.linear.box([region]))

    def descend(
        self, question: Property, known: BoundsOutcome, budget: Budget, *, brisk: bool = False
    ) -> BoundsOutcome:
        """The same with optimised lines for every clause that ``known`` leaves open; inner bounds stay.

        Args:
            question: the property.
            known: bounds over the region.
            budget: checked before every step.
            brisk: few long steps, found in float32, in place of many.
        """
        bounds = self._tensors(known.values)
        pace, search = (BRISK, self._fast) if brisk else (PATIENT, None)
        uppers = [
            said.atom_upper
            if said.proved
            else np.fmin(said.atom_upper, descended(self.linear, clause, bounds, pace, budget, search)[0])
            for clause, said in zip(question.clauses, known.clauses, strict=True)
        ]
        return self.judge(question, known.values, uppers)

    @cached_property
    def _fast(self) -> LinearBounds:
        return LinearBounds(self.linear.network, torch.float32, str(self.linear.device))

    def _tensors(self, values: ValueBounds) -> Bounds:
        """Bounds of one region."""
        pairs = [(item.lower, item.upper) for item in values.values]
        lowers, uppers = zip(*pairs, strict=True)
        tensor = self.linear.tensor
        return Bounds(
            tuple(tensor(item).unsqueeze(0) for item in lowers),
            tuple(tensor(item).unsqueeze(0) for item in uppers),
        )

    def _atom_upper(self, clause: Clause, bounds: Bounds) -> FloatArray:
        rows = self.linear.tensor(clause.weights).unsqueeze(0)
        upper = self.linear.upper(self.linear.network.output, rows, bounds)[0]
        return np.asarray(upper.cpu().numpy() + clause.offsets)

    def judge(self, question: Property, values: ValueBounds, uppers: Sequence[FloatArray]) -> BoundsOutcome:
        """What upper bounds (atoms,) on the atoms of every clause prove by counting."""
        needed_margin = proof_margin(values, self.linear.network.output)
        clauses = []
        for clause, upper in zip(question.clauses, map(_numbers, uppers), strict=True):
            refuted = tuple(frozenset([int(atom)]) for atom in np.flatnonzero(upper < -needed_margin))
            margin = float(np.sort(upper)[clause.atoms - clause.needed])
            clauses.append(
                ClauseBounds(upper, refuted, is_proved(clause.atoms, clause.needed, refuted), margin)
            )
        return BoundsOutcome(tuple(clauses), values)


def _numbers(upper: FloatArray) -> FloatArray:
    """Upper bounds in which what overflowed on the way bounds nothing."""
    return np.where(np.isnan(upper), np.inf, upper)


def mixed_rows(
    linear: LinearBounds, clause: Clause, subsets: Sequence[tuple[int, ...]], shares: Tensor
) -> tuple[Tensor, Tensor]:
    """Weights (rows, labels) and offsets (rows,) of convex combinations of atoms.

    Args:
        linear: precision and device.
        clause: the atoms.
        subsets: the atoms of each row.
        shares: (rows, widest) numbers in [0, 1]; those beyond a row's atoms are ignored.
    """
    widest = shares.shape[1]
    members = np.array([[*subset, *[subset[0]] * (widest - len(subset))] for subset in subsets])
    used = np.array([[1.0] * len(subset) + [0.0] * (widest - len(subset)) for subset in subsets])
    mix = normalised_shares(shares * linear.tensor(used))
    weights = (mix.unsqueeze(2) * linear.tensor(clause.weights[members])).sum(dim=1)
    return weights, (mix * linear.tensor(clause.offsets[members])).sum(dim=1)


def normalised_shares(shares: Tensor) -> Tensor:
    """Rows of convex weights from rows of numbers in [0, 1]."""
    return shares / shares.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(shares.dtype).tiny)


def atom_interval(clause: Clause, outcome: ClauseBounds, scores: Interval) -> Interval:
    """Bounds on the atoms: the engine's upper ones, and lower ones by interval arithmetic on the scores."""
    positive, negative = np.maximum(clause.weights, 0), np.minimum(clause.weights, 0)
    lower = positive @ scores.lower + negative @ scores.upper + clause.offsets
    return Interval(np.minimum(lower, outcome.atom_upper), outcome.atom_upper)
