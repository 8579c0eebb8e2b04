"""A clause over a region as a mixed-integer linear program.

The program maximises s, the margin of the clause (the ``needed``-th largest atom), over the region. Only
what the clause depends on and the bounds leave open becomes variables and rows; see milp_reduction.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from ..errors import DisagreementError
from .affine import AffineMap, IndexArray
from .cover import AtomSet, is_proved
from .interval import Interval, ValueBounds
from .margins import milp_margin, proof_margin
from .milp_layers import MilpEncoder, Range
from .milp_model import MilpModel
from .milp_program import ProgramBuilder
from .milp_reduction import PoolPlan, Reduction, ReluPlan, reduce_network
from .network import Network
from .operators import FloatArray
from .property import Clause
from .reduced_values import ReducedValues
from .result import MilpSize


@dataclass(frozen=True, slots=True)
class ProvedByBounds:
    """The bounds alone keep all but fewer than ``needed`` atoms below zero: there is nothing to solve.

    Attributes:
        bound: negative upper bound on the margin.
    """

    bound: float


@dataclass(frozen=True, slots=True)
class Refuted:
    """What is proved of sets of atoms.

    Attributes:
        sets: none of them reaches zero together.
        bound: negative upper bound on the smallest atom of each.
    """

    sets: tuple[AtomSet, ...]
    bound: float

    def renumbered(self, atoms: Iterable[int]) -> "Refuted":
        """Those sets all of whose atoms are among ``atoms``, by their places there."""
        place = {int(atom): position for position, atom in enumerate(atoms)}
        inside = [item for item in self.sets if item <= place.keys()]
        return Refuted(tuple(frozenset(place[atom] for atom in item) for item in inside), self.bound)


@dataclass(frozen=True, slots=True, eq=False)
class Encoding:
    """A program and how to read its points and bounds.

    Attributes:
        model: maximise the margin.
        size: for reports.
        pixels: (moving,) flat input indices that are variables.
        columns: (moving,) their columns.
        region: the box of inputs.
        margin: column of s.
        left_out: upper bound on every atom that was left out (negative), minus infinity for none.
        proof_margin: how far below zero a bound on the program has to be before it proves anything.
        seen: margin of some point of the region, which no right bound is below.
        excluded: negative upper bound on the margins of sets that may not be chosen, minus infinity for none.
    """

    model: MilpModel
    size: MilpSize
    pixels: IndexArray
    columns: IndexArray
    region: Interval
    margin: int
    left_out: float
    proof_margin: float
    seen: float = -np.inf
    excluded: float = -np.inf

    @property
    def lowest(self) -> float:
        """Lower bound on the margin of every point of the region, as the program sees it."""
        return float(self.model.lower[self.margin])

    def decode(self, point: FloatArray) -> FloatArray:
        """The image (input_shape, float64) of a point (columns,) of the program, inside the region.

        Inputs that the margin does not depend on stay at their lower bound.
        """
        image = self.region.lower.copy()
        image.reshape(-1)[self.pixels] = point[self.columns]
        return np.clip(image, self.region.lower, self.region.upper)

    def margin_bound(self, best_bound: float) -> float:
        """Upper bound on the clause's margin that follows from an upper bound on the program.

        Where the margin exceeds the ``needed``-th largest of the encoded atoms, one that was left out
        reaches it, or a set that was excluded.
        """
        return max(best_bound, self.left_out, self.excluded)

    def proves(self, best_bound: float) -> bool:
        """Whether an upper bound on the program shows that the margin is below zero; what is excluded is proved."""
        return max(best_bound, self.left_out) < -self.proof_margin


def encode(
    network: Network,
    bounds: ValueBounds,
    clause: Clause,
    atom_bounds: Interval | None = None,
    refuted: Refuted | None = None,
) -> Encoding | ProvedByBounds:
    """Encode the margin of a clause over a region.

    Args:
        network: the network.
        bounds: valid bounds on every value over the region; ``bounds[0]`` is the region.
        clause: what may not hold.
        atom_bounds: better bounds (atoms,) on the atoms than those that follow from the scores.
        refuted: sets of atoms that are proved not to reach zero together; the program does not choose all of one
            (the sum of their binaries is at most their number less one).

    Returns:
        A program, or word that none is needed.

    Raises:
        DisagreementError: for a bound that is NaN, which no comparison here would notice.
    """
    atoms = _Atoms.of(clause, bounds[network.output], atom_bounds)
    tie = proof_margin(bounds, network.output)
    kept = atoms.possible(-tie)
    if kept.atoms < clause.needed:
        return ProvedByBounds(atoms.margin_bound())
    outputs = np.unique(np.nonzero(kept.weights)[1])
    reduction = reduce_network(network, bounds, outputs)
    program = ProgramBuilder()
    values = ReducedValues(MilpEncoder(program), network, bounds, reduction, network.output)
    scores = values.combined(network.output, sparse.csr_matrix(kept.weights))
    expressions = AffineMap(scores.matrix, scores.constant + kept.offsets)
    kept, expressions = kept.sharpened(expressions, program, -tie)
    if kept.atoms < clause.needed:
        return ProvedByBounds(max(kept.left_out, kept.margin_bound()))
    facts = () if refuted is None else kept.refuted(refuted)
    excluded = -np.inf if refuted is None or not facts else refuted.bound
    if is_proved(kept.atoms, clause.needed, facts):
        return ProvedByBounds(max(kept.left_out, excluded))
    margin = _cardinality(program, kept, expressions, facts)
    pixels = np.flatnonzero(reduction.needed[0])
    model = program.maximising(margin)
    needed = max(tie, milp_margin(model.largest))
    return Encoding(
        model,
        _size(model, reduction),
        pixels,
        np.arange(len(pixels)),
        bounds[0],
        margin,
        kept.left_out,
        needed,
        excluded=excluded,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Atoms:
    """The atoms that can still reach zero, with outward bounds."""

    numbers: IndexArray
    weights: FloatArray
    offsets: FloatArray
    reach: Range
    needed: int
    left_out: float

    @classmethod
    def of(cls, clause: Clause, scores: Interval, better: Interval | None) -> "_Atoms":
        positive, negative = np.maximum(clause.weights, 0), np.minimum(clause.weights, 0)
        lower = positive @ scores.lower + negative @ scores.upper + clause.offsets
        upper = positive @ scores.upper + negative @ scores.lower + clause.offsets
        if better is not None and np.isnan([better.lower, better.upper]).any():
            raise DisagreementError("bounds of the atoms are NaN; please report this network")
        known = Interval(lower, upper) if better is None else Interval(lower, upper).intersect(better)
        reach = Range.of(known.lower, known.upper)
        return cls(np.arange(clause.atoms), clause.weights, clause.offsets, reach, clause.needed, -np.inf)

    @property
    def atoms(self) -> int:
        return len(self.weights)

    def possible(self, threshold: float) -> "_Atoms":
        """Only the atoms that can reach ``threshold``, which is zero but for rounding."""
        kept = self.reach.upper >= threshold
        left_out = max([self.left_out, *self.reach.upper[~kept].tolist()])
        reach = Range(self.reach.lower[kept], self.reach.upper[kept])
        return _Atoms(
            self.numbers[kept], self.weights[kept], self.offsets[kept], reach, self.needed, left_out
        )

    def refuted(self, refuted: Refuted) -> tuple[AtomSet, ...]:
        """Those sets all of whose atoms are here, by their places; none that is larger than what is needed."""
        return tuple(item for item in refuted.renumbered(self.numbers).sets if len(item) <= self.needed)

    def margin_bound(self) -> float:
        """Upper bound on the ``needed``-th largest, minus infinity when there are fewer."""
        return _largest(self.reach.upper, self.needed)

    def sharpened(
        self, expressions: AffineMap, program: ProgramBuilder, threshold: float
    ) -> tuple["_Atoms", AffineMap]:
        """Bounds from the expressions over the variables; atoms that can't reach ``threshold`` leave."""
        known = Range.of(*expressions.range(*program.box()))
        reach = Range(np.maximum(self.reach.lower, known.lower), np.minimum(self.reach.upper, known.upper))
        better = replace(self, reach=reach)
        return better.possible(threshold), expressions.rows(np.flatnonzero(reach.upper >= threshold))


def _largest(values: FloatArray, rank: int) -> float:
    return float(np.sort(values)[len(values) - rank]) if len(values) >= rank else -np.inf


def _cardinality(
    program: ProgramBuilder, atoms: _Atoms, expressions: AffineMap, refuted: Sequence[AtomSet]
) -> int:
    """Add s, at most the ``needed``-th largest atom; returns its column.

    With a binary b per atom, at least ``needed`` of them 1: ``s <= atom + M (1 - b)``. An atom that is
    not chosen may be as low as its lower bound while s is as high as its upper bound, so M is their
    difference: valid for every s, not only for s = 0. Where all atoms are needed, no binary is. Not all atoms
    of a refuted set (given by their places) are chosen.
    """
    top = atoms.margin_bound()
    # the largest atoms of a point can be a refuted set, and then s is the margin of another
    lowest = float(atoms.reach.lower.min()) if refuted else _largest(atoms.reach.lower, atoms.needed)
    margin = program.continuous(np.array([lowest]), np.array([top]))
    everywhere = np.repeat(margin, atoms.atoms)
    if atoms.atoms == atoms.needed:
        below = program.at(everywhere) - expressions.widened(program.columns).matrix
        program.at_most(below, expressions.constant)
        return int(margin[0])
    holds = program.binary(atoms.atoms)
    gap = np.maximum(top - atoms.reach.lower, 0.0)
    below = program.at(everywhere) - expressions.widened(program.columns).matrix
    program.at_most(below + program.at(holds, gap), expressions.constant + gap)
    chosen = program.grouped(np.zeros(atoms.atoms, dtype=np.int64), holds, 1.0, 1)
    program.at_least(chosen, np.array([float(atoms.needed)]))
    for item in refuted:
        row = program.grouped(np.zeros(len(item), dtype=np.int64), holds[sorted(item)], 1.0, 1)
        program.at_most(row, np.array([len(item) - 1.0]))
    return int(margin[0])


def _size(model: MilpModel, reduction: Reduction) -> MilpSize:
    relus = sum(len(plan.unstable) for plan in reduction.plans if isinstance(plan, ReluPlan))
    pools = sum(len(plan.open) for plan in reduction.plans if isinstance(plan, PoolPlan))
    return MilpSize(model.rows, model.columns, model.binaries, relus, pools)
