"""The branch-and-bound engine: refute, one by one, the sets of atoms that bounds left open."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

from .bound_types import Bounds
from .bounds_engine import ROW_LIMIT, ClauseBounds
from .branch_and_bound import BabEnd, BabSettings, BranchAndBound
from .budget import Budget
from .cover import AtomSet, is_proved, open_atoms
from .interval import ValueBounds
from .linear_bounds import LinearBounds
from .margins import proof_margin
from .property import Clause


@dataclass(frozen=True, slots=True, eq=False)
class BabResult:
    """What branch and bound says about one clause.

    Attributes:
        clause: bounds and refuted sets, those of before included.
        candidate: an input to be replayed, or None.
        domains: sub-problems bounded.
        reason: in words.
    """

    clause: ClauseBounds
    candidate: NDArray[np.float64] | None
    domains: int
    reason: str


def branch(
    linear: LinearBounds,
    values: ValueBounds,
    clause: Clause,
    known: ClauseBounds,
    budget: Budget,
    settings: BabSettings | None = None,
) -> BabResult:
    """Refute what is still open of a clause.

    Args:
        linear: float64 bounds of the network.
        values: valid bounds on every value over the region.
        clause: what may not hold.
        known: what bounds have shown of it.
        budget: for all sets together.
        settings: of the search.
    """
    sets = _open_sets(clause, known)
    if sets is None:
        return BabResult(known, None, 0, "too many label sets are open")
    search = BranchAndBound(linear, _tensors(linear, values), settings or BabSettings())
    margin = proof_margin(values, linear.network.output)
    refuted, domains = list(known.refuted), 0
    bounds = _bounds_before(known, margin)
    for atoms in sets:
        outcome = search.refute(clause, atoms, margin, budget)
        domains += outcome.domains
        if outcome.end is not BabEnd.REFUTED:
            reason = f"{outcome.end.value} after {domains} sub-problems, margin at most {outcome.bound:.4g}"
            return BabResult(
                _with(clause, known, refuted, known.margin_bound), outcome.candidate, domains, reason
            )
        refuted.append(frozenset(atoms))
        bounds.append(outcome.bound)
    proved = _with(clause, known, refuted, max(bounds, default=known.margin_bound))
    return BabResult(proved, None, domains, f"{domains} sub-problems")


def _open_sets(clause: Clause, known: ClauseBounds) -> list[tuple[int, ...]] | None:
    """Sets of open atoms without a refuted subset, the one with the lowest bound first in each."""
    left = sorted(open_atoms(clause.atoms, known.refuted), key=lambda atom: known.atom_upper[atom])
    if comb(len(left), clause.needed) > ROW_LIMIT:
        return None
    facts = [fact for fact in known.refuted if len(fact) > 1]
    return [
        chosen
        for chosen in combinations(left, clause.needed)
        if not any(fact <= frozenset(chosen) for fact in facts)
    ]


def _bounds_before(known: ClauseBounds, margin: float) -> list[float]:
    """Bounds that refuted sets before: of atoms refuted alone, and no better than ``-margin`` for larger sets."""
    alone = [float(known.atom_upper[next(iter(fact))]) for fact in known.refuted if len(fact) == 1]
    return alone + [-margin] * any(len(fact) > 1 for fact in known.refuted)


def _with(clause: Clause, known: ClauseBounds, refuted: Sequence[AtomSet], margin: float) -> ClauseBounds:
    proved = is_proved(clause.atoms, clause.needed, refuted)
    return ClauseBounds(known.atom_upper, tuple(refuted), proved, margin)


def _tensors(linear: LinearBounds, values: ValueBounds) -> Bounds:
    return Bounds(
        tuple(linear.tensor(item.lower).unsqueeze(0) for item in values.values),
        tuple(linear.tensor(item.upper).unsqueeze(0) for item in values.values),
    )
