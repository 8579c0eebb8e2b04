"""The independent checker of certificates: float64 with outward rounding, numpy and sparse matrices only.

It shares with the engines what a network, a region and a property are, the operators that were read from the
user's file, the counting argument, and the margin below zero that a proof must have. It computes all bounds
anew; it uses neither torch nor auto_LiRPA nor a solver.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from ..errors import InputError
from .cover import is_proved
from .interval import Interval, ValueBounds
from .margins import proof_margin
from .operators import FloatArray
from .problem import Problem
from .proof_backward import NO_JOINT, Rows, upper_bounds
from .proof_certificate import Certificate, Leaves, Path, question_digest
from .proof_fit import check_fit, expect
from .proof_forward import Inner, propagate
from .proof_maxima import IndexArray
from .proof_parts import added, combination, functions, joint_neurons, total_bound
from .proof_program import SLICE_NUMBERS, Bounds, Program
from .proof_tree import (
    Gap,
    Scenes,
    UncoveredError,
    box_of,
    constraint_count,
    cut_box,
    find_gaps,
    is_impossible,
    read_paths,
)
from .proof_windows import Joint


@dataclass(frozen=True, slots=True)
class Checked:
    """What a certificate shows.

    Attributes:
        proved: whether no clause of the property is violated in the region.
        reason: in words.
        margin_bound: the largest bound of a leaf or sum of parts; when proved, every violation's margin would be
            below it.
        leaves: number of sub-problems.
    """

    proved: bool
    reason: str
    margin_bound: float
    leaves: int


def check_certificate(problem: Problem, certificate: Certificate) -> Checked:
    """Prove a property from a certificate, trusting nothing in it.

    Raises:
        InputError: when the certificate speaks of another problem or does not fit the network.
    """
    if certificate.question != question_digest(problem):
        raise InputError("the certificate speaks of another network, region or property; write it again")
    check_fit(problem, certificate)
    return _Check(problem, certificate).run()


def leaf_bounds(problem: Problem, certificate: Certificate) -> tuple[FloatArray, ...]:
    """Upper bounds of what every sub-problem is about, per table; ``-inf`` where its box is empty.

    Raises:
        InputError: when the certificate does not fit the network.
    """
    check_fit(problem, certificate)
    return _Check(problem, certificate).bounds()


def needed_margin(problem: Problem, certificate: Certificate) -> float:
    """How far below zero the bound of a leaf must be."""
    return _Check(problem, certificate).margin()


def default_values(problem: Problem) -> ValueBounds:
    """Bounds on every value, in its shape, that the checker finds without any help."""
    network, region = problem.network, problem.region
    lower, upper = region.lower.reshape(1, -1).copy(), region.upper.reshape(1, -1).copy()
    bounds = propagate(Program.of(network), lower, upper, Inner(), every=True)
    pairs = enumerate(zip(bounds.lower, bounds.upper, strict=True))
    shaped = ((network.shape_of(value), low, high) for value, (low, high) in pairs)
    return ValueBounds(tuple(Interval(low.reshape(s), high.reshape(s)) for s, low, high in shaped))


@dataclass(frozen=True, slots=True, eq=False)
class _Leaf:
    """Where a leaf stands in the certificate, and what it is; trees of parts are counted after the refutations."""

    table: int
    row: int
    tree: int
    path: Path
    box: Path
    multipliers: FloatArray


class _Check:
    """One certificate on its way through the checker."""

    def __init__(self, problem: Problem, certificate: Certificate) -> None:
        self._property = problem.property
        self._certificate = certificate
        self._program = Program.of(problem.network)
        self._lower = problem.region.lower.reshape(-1)
        self._upper = problem.region.upper.reshape(-1)
        self._tables, self._parts = certificate.tables, certificate.parts
        self._maxima = np.full(len(self._parts), -np.inf)
        self._joint: dict[bytes, Joint] = {}
        self._worst = -np.inf
        self._seen = 0

    def run(self) -> Checked:
        """Cover, bound, count."""
        root = self._root()
        margin = _margin(self._program, root)
        try:
            leaves = [leaf for number in range(len(self._tables)) for leaf in self._read(number)]
            gaps = self._gaps(leaves)
        except UncoveredError as error:
            return self._checked(False, str(error))
        for boxes, bounds in self._boxes([*leaves, *gaps], root):
            for gap in gaps:
                if gap.box in boxes and not is_impossible(self._program, bounds, boxes[gap.box], gap):
                    return self._checked(
                        False, f"a split of value {gap.split.value} has sides without leaves"
                    )
            for some in self._slices([leaf for leaf in leaves if leaf.box in boxes]):
                found = self._bound(some, boxes, (bounds, root))
                largest, self._seen = float(np.max(found)), self._seen + len(some)
                part = self._part_of(some)
                if part is not None:
                    self._maxima[part] = np.maximum(self._maxima[part], largest)
                elif not self._is_below(largest, margin):
                    return self._checked(False, f"a leaf's bound is {largest:.4g}, not below {-margin:.4g}")
        return self._add_up(root, margin) or self._count()

    def _is_below(self, bound: float, margin: float) -> bool:
        """Whether a bound proves something; not where it is no number."""
        self._worst = float(np.fmax(self._worst, bound))
        return bound < -margin

    def _add_up(self, root: Bounds, margin: float) -> Checked | None:
        """What is wrong with a cut, or None."""
        first = 0
        for cut in self._certificate.cuts:
            own = self._maxima[first : first + len(cut.parts)]
            first += len(cut.parts)
            refutation = self._certificate.refutations[cut.refutation]
            clause = self._property.clauses[refutation.clause]
            total = total_bound(self._program, root, clause, refutation.atoms, cut, own)
            if not self._is_below(total, margin):
                return self._checked(False, f"parts add up to {total:.4g}, not below {-margin:.4g}")
        return None

    def bounds(self) -> tuple[FloatArray, ...]:
        """Bounds of all leaves, whether or not they prove anything."""
        found = tuple(np.full(len(table.lengths), np.inf) for table in self._tables)
        leaves = [leaf for number in range(len(found)) for leaf in self._read(number)]
        root = self._root()
        for boxes, bounds in self._boxes(leaves, root):
            for some in self._slices([leaf for leaf in leaves if leaf.box in boxes]):
                found[some[0].table][[leaf.row for leaf in some]] = self._bound(some, boxes, (bounds, root))
        return found

    def _count(self) -> Checked:
        for number, clause in enumerate(self._property.clauses):
            refuted = [
                frozenset(item.atoms) for item in self._certificate.refutations if item.clause == number
            ]
            if not is_proved(clause.atoms, clause.needed, refuted):
                return self._checked(False, f"what is refuted does not exclude clause {number}")
        return self._checked(True, f"{self._seen} leaves")

    def _checked(self, proved: bool, reason: str) -> Checked:
        return Checked(proved, reason, float(self._worst), self._seen)

    def _read(self, number: int) -> list[_Leaf]:
        """The leaves of one table."""
        table = self._tables[number]
        if isinstance(table, Leaves):
            trees = table.refutation.tolist()
        else:
            part = number - len(self._certificate.leaves)
            trees = [len(self._certificate.refutations) + part] * len(table.lengths)
        paths = read_paths(self._program, table)
        counts = [constraint_count(self._program, path) for path in paths]
        expect(sum(counts) == len(table.multipliers), "more or fewer multipliers than splits have")
        multipliers = np.split(table.multipliers.astype(np.float64), np.cumsum(counts))
        rows = zip(trees, paths, multipliers, strict=False)
        return [
            _Leaf(number, row, tree, path, box_of(path), factors)
            for row, (tree, path, factors) in enumerate(rows)
        ]

    def _gaps(self, leaves: Sequence[_Leaf]) -> list[Gap]:
        """What is not covered at sight in the trees of all refutations that are not cut, and of all parts."""
        trees: list[list[Path]] = [[] for _ in (*self._certificate.refutations, *self._parts)]
        for leaf in leaves:
            trees[leaf.tree].append(leaf.path)
        cut = {item.refutation for item in self._certificate.cuts}
        return [
            gap
            for number, paths in enumerate(trees)
            if paths or number not in cut
            for gap in find_gaps(self._program, paths)
        ]

    def margin(self) -> float:
        """How far below zero a leaf's bound must be."""
        return _margin(self._program, self._root())

    def _root(self) -> Bounds:
        """Of the whole region, and of all elements that maxima read: the margin depends on all of them."""
        lower, upper = self._lower[None].copy(), self._upper[None].copy()
        return propagate(self._program, lower, upper, self._certificate.inner, every=True)

    def _propagate(self, cuts: Sequence[Path]) -> Bounds:
        boxes = [cut_box(self._lower, self._upper, item) for item in cuts]
        lower, upper = (np.stack(side) for side in zip(*boxes, strict=True))
        return propagate(self._program, lower, upper, self._certificate.inner)

    def _boxes(
        self, items: Sequence[_Leaf | Gap], root: Bounds
    ) -> Iterator[tuple[Mapping[Path, int], Bounds]]:
        """All boxes with their bounds, as many together as memory allows."""
        found = list(dict.fromkeys(item.box for item in items))
        if found == [()]:
            yield {(): 0}, root
            return
        together = max(1, SLICE_NUMBERS // sum(self._program.sizes))
        for start in range(0, len(found), together):
            some = found[start : start + together]
            yield {box: number for number, box in enumerate(some)}, self._propagate(some)

    def _slices(self, leaves: Sequence[_Leaf]) -> Iterator[Sequence[_Leaf]]:
        """Leaves of one table together, as many as memory allows."""
        together = max(1, SLICE_NUMBERS // self._program.widest)
        tables: list[list[_Leaf]] = [[] for _ in self._tables]
        for leaf in leaves:
            tables[leaf.table].append(leaf)
        for own in tables:
            yield from (own[start : start + together] for start in range(0, len(own), together))

    def _part_of(self, some: Sequence[_Leaf]) -> int | None:
        """The part that leaves of one table are of, None where they are of refutations."""
        part = some[0].table - len(self._certificate.leaves)
        return None if part < 0 else part

    def _bound(
        self, some: Sequence[_Leaf], boxes: Mapping[Path, int], known: tuple[Bounds, Bounds]
    ) -> FloatArray:
        """Upper bounds of what some leaves are about, ``-inf`` where a leaf's box is empty.

        Args:
            some: leaves of one table.
            boxes: by their cuts, rows of the bounds.
            known: bounds in the boxes, and in the whole region.
        """
        bounds, root = known
        table, part = self._tables[some[0].table], self._part_of(some)
        box = np.array([boxes[leaf.box] for leaf in some])
        scenes = Scenes(self._program, [leaf.path for leaf in some])
        if part is None:
            parts, constant, error = self._combinations(some, bounds, box)
            joint = NO_JOINT
        else:
            parts = functions(self._program, self._parts[part], len(some))
            constant, error = np.zeros(len(some)), np.zeros(len(some))
            joint = self._joint_of(part, root)
        constraints, cost = scenes.multiplied([leaf.multipliers for leaf in some], bounds, box)
        error = error + cost + added(parts, constraints, bounds, box)
        chosen = np.array([leaf.row for leaf in some])
        rows = Rows(parts, constant, error, box, table.slopes, chosen, scenes.winners, joint)
        empty = np.asarray((bounds.lower[0] > bounds.upper[0]).any(axis=1))
        return np.where(empty[box], -np.inf, upper_bounds(self._program, bounds, rows))

    def _joint_of(self, part: int, root: Bounds) -> Joint:
        """The joint neurons of a part; parts of different cuts often have the same."""
        chosen = self._parts[part].joint
        key = chosen.tobytes()
        if key not in self._joint:
            self._joint[key] = joint_neurons(self._program, root, chosen)
        return self._joint[key]

    def _combinations(
        self, some: Sequence[_Leaf], bounds: Bounds, box: IndexArray
    ) -> tuple[dict[int, sparse.csr_matrix], FloatArray, FloatArray]:
        """The leaves' convex combinations of atoms: weights of the logits, constants, and rounding."""
        output, table = self._program.output, self._tables[some[0].table]
        assert isinstance(table, Leaves)
        largest = np.maximum(np.abs(bounds.lower[output]), np.abs(bounds.upper[output]))[box]
        weights, constant, error = np.zeros(largest.shape), np.zeros(len(some)), np.zeros(len(some))
        for row, leaf in enumerate(some):
            refutation = self._certificate.refutations[leaf.tree]
            clause, atoms = self._property.clauses[refutation.clause], refutation.atoms
            shares = table.shares[leaf.row, : len(atoms)]
            weights[row], constant[row], error[row] = combination(clause, atoms, shares, largest[row])
        return {output: sparse.csr_matrix(weights)}, constant, error


def _margin(program: Program, root: Bounds) -> float:
    """How far below zero a bound must be: the rule of the engines on the checker's own bounds."""
    values = ValueBounds(
        tuple(map(Interval, (low[0] for low in root.lower), (high[0] for high in root.upper)))
    )
    return proof_margin(values, program.output)
