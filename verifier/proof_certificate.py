"""Certificates of ``holds``: the splits and the parameters that make a proof, small enough to be kept.

Nothing in a certificate is trusted. Any slopes, multipliers and weights in their range give valid bounds; the
checker computes those bounds itself, and sees that the leaves cover the region.
"""

import hashlib
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .operators import FloatArray
from .problem import Problem
from .proof_forward import Inner
from .proof_slopes import IndexArray, Slopes


class Side(IntEnum):
    """The two sides of a decision about a ReLU or an input; of a max-pool, the side is the winner."""

    INACTIVE = 0
    BELOW = 0
    ACTIVE = 1
    ABOVE = 1


class Decision(NamedTuple):
    """One step of a path from the root of a tree to a leaf (see :class:`SubProblems`)."""

    value: int
    place: int
    side: int
    cut: float


Path = tuple[Decision, ...]


@dataclass(frozen=True, slots=True)
class Refutation:
    """The claim that some atoms of a clause do not all reach zero at one point of the region.

    Attributes:
        clause: number of the clause in the property.
        atoms: numbers of the atoms in the clause.
    """

    clause: int
    atoms: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class SubProblems:
    """A table of sub-problems, each with what one linear bound needs; as many as there are lengths.

    A sub-problem's path lists the decisions from the root. A decision is a row of ``steps``: the number of the
    value that is decided (of the ReLU or max-pool, 0 for the input), a flat index (of the neuron, the pool's
    output or the input), and the side: 1 where a ReLU's input is at least 0, 0 where it is at most 0; the
    flat index of a pool's winner (in the value that the pool reads; in the ReLU's input where the pool
    directly reads a ReLU of slope 0, and then -1 where zero wins); 0 where an input is at most its cut, 1
    where it is at least its cut.

    Every decision has constraints: ``x >= 0`` or ``-x >= 0`` of a ReLU's input x; of a pool, one per position
    k of its window: ``winner - x_k >= 0``, where k is the winner itself and zero competes ``winner >= 0``,
    where zero wins ``-x_k >= 0``, and ``0 >= 0`` elsewhere; none of an input, whose box is cut.

    Attributes:
        lengths: (sub-problems,) number of decisions.
        steps: (decisions of all sub-problems, 3), whole numbers.
        cuts: (decisions of all sub-problems,) of inputs, else 0.
        multipliers: (constraints of all sub-problems,) float32, at least 0, in the order of sub-problems,
            decisions, and positions of windows.
        slopes: one row per sub-problem.
    """

    lengths: IndexArray
    steps: IndexArray
    cuts: FloatArray
    multipliers: NDArray[np.float32]
    slopes: Slopes


@dataclass(frozen=True, slots=True, eq=False)
class Leaves(SubProblems):
    """Sub-problems that are refuted by their bounds.

    Attributes:
        refutation: (leaves,) which refutation a leaf belongs to.
        shares: (leaves, most atoms) weights of the refutation's atoms, at least 0, of any scale.
    """

    refutation: IndexArray
    shares: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A linear function of the network's values, and sub-problems that bound how large it becomes.

    Attributes:
        places: (terms, 2) number of a value and flat index, each pair once.
        coefficients: (terms,).
        joint: (neurons, 3) ReLUs over affine functions of the input that are taken as they are, not by their
            upper lines: the ReLU's value, its flat index, and the number of its window. All ReLUs of a window
            are on one of their two sides, and every choice of sides is tried.
        tree: its sub-problems, which cover the region.
    """

    places: IndexArray
    coefficients: FloatArray
    joint: IndexArray
    tree: SubProblems


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """A refutation by parts: what a convex combination of its atoms exceeds their sum by is bounded as it is.

    Attributes:
        refutation: its number.
        shares: (atoms,) weights of the refutation's atoms, at least 0, of any scale.
        parts: their largest bounds and that of the rest add up to a number below zero.
    """

    refutation: int
    shares: FloatArray
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Certificate:
    """A proof that no clause of one problem's property is violated in its region.

    Attributes:
        question: digest of the problem, see :func:`question_digest`.
        refutations: what is shown, each by the leaves or the cut that name it.
        leaves: of refutations, in tables whose slopes are of different neurons.
        inner: how bounds of inner values are improved.
        cuts: of other refutations.
    """

    question: str
    refutations: tuple[Refutation, ...]
    leaves: tuple[Leaves, ...]
    inner: Inner
    cuts: tuple[Cut, ...] = ()

    @property
    def parts(self) -> tuple[Part, ...]:
        """Of all cuts, in their order."""
        return tuple(part for cut in self.cuts for part in cut.parts)

    @property
    def tables(self) -> tuple[SubProblems, ...]:
        """All sub-problems: the leaves of refutations, then the trees of parts."""
        return (*self.leaves, *(part.tree for part in self.parts))

    @property
    def size(self) -> int:
        """Number of sub-problems."""
        return sum(len(table.lengths) for table in self.tables)


def question_digest(problem: Problem) -> str:
    """SHA-256 of all that a problem is: the network's file, preprocessing, region and clauses."""
    digest = hashlib.sha256()
    digest.update(problem.network.sha256.encode())
    digest.update(repr(problem.network.preprocessing).encode())
    for bound in (problem.region.lower, problem.region.upper):
        _add(digest, bound)
    for clause in problem.property.clauses:
        digest.update(f"clause {clause.needed}".encode())
        _add(digest, clause.weights)
        _add(digest, clause.offsets)
    return digest.hexdigest()


def _add(digest: Any, array: FloatArray) -> None:
    digest.update(str(array.shape).encode())
    digest.update(np.ascontiguousarray(array, dtype=np.float64).tobytes())
