"""Properties: the one form that every engine reads.

A property is violated at scores F when, for one of its clauses, at least m of the clause's linear atoms
``weights @ F + offset >= 0`` hold together. Ties count as violations.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import PropertyError
from .operators import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Clause:
    """At least ``needed`` of these atoms must not hold at once.

    Attributes:
        weights: (atoms, labels) coefficients on the logits.
        offsets: (atoms,) constants.
        needed: how many atoms must hold together for a violation, 1 to atoms.
    """

    weights: FloatArray
    offsets: FloatArray
    needed: int

    def __post_init__(self) -> None:
        """Check the shapes.

        Raises:
            PropertyError: when ``needed`` is outside 1 to the number of atoms, or a number is not finite.
        """
        if not (np.isfinite(self.weights).all() and np.isfinite(self.offsets).all()):
            raise PropertyError("an atom has a coefficient or constant that is NaN or infinite")
        if self.weights.ndim != 2 or self.offsets.shape != (len(self.weights),):
            raise PropertyError("a clause needs one row of weights and one offset per atom")
        if not 1 <= self.needed <= len(self.weights):
            raise PropertyError(f"a clause of {len(self.weights)} atoms can't need {self.needed} of them")

    @property
    def atoms(self) -> int:
        """Number of atoms."""
        return len(self.weights)

    def values(self, scores: NDArray[np.floating]) -> FloatArray:
        """Atom values (batch, atoms) at scores (batch, labels), in float64."""
        return np.asarray(scores.astype(np.float64) @ self.weights.T + self.offsets)

    def margin(self, scores: NDArray[np.floating]) -> FloatArray:
        """The ``needed``-th largest atom value (batch,); >= 0 is a violation.

        For top-k membership this is the objective of the thesis (section 3), the k-th largest over c of
        F_c - F_t; its maximisers are the weakest points.
        """
        ordered = np.sort(self.values(scores), axis=1)
        return np.asarray(ordered[:, self.atoms - self.needed])


@dataclass(frozen=True, slots=True, eq=False)
class Property:
    """A disjunction of clauses, any of which makes a violation.

    Attributes:
        clauses: at least one.
        text: the question in words, for reports.
    """

    clauses: tuple[Clause, ...]
    text: str

    def __post_init__(self) -> None:
        """Check that all clauses speak of the same scores.

        Raises:
            PropertyError: when there is no clause, or the numbers of scores differ.
        """
        if len({clause.weights.shape[1] for clause in self.clauses}) != 1:
            raise PropertyError("a property needs at least one clause, and all of the same number of scores")

    def margin(self, scores: NDArray[np.floating]) -> FloatArray:
        """Largest clause margin (batch,) at scores (batch, labels); >= 0 is a violation."""
        return np.asarray(np.max([clause.margin(scores) for clause in self.clauses], axis=0))

    @property
    def labels(self) -> int:
        """Number of scores that the property reads."""
        return int(self.clauses[0].weights.shape[1])


def top_k(labels: int, target: int, k: int, name: str | None = None) -> Property:
    """Label ``target`` is among the ``k`` highest of ``labels`` scores (thesis, section 2).

    Violated when at least k labels reach the target's score. ``name`` is the target's in words.

    Raises:
        PropertyError: when the target is not a label or k is not between 1 and labels - 1.
    """
    if not 0 <= target < labels:
        raise PropertyError(f"target label {target} does not exist: the network has labels 0 to {labels - 1}")
    if not 1 <= k < labels:
        raise PropertyError(f"k must be between 1 and {labels - 1} for {labels} labels, got {k}")
    others = [label for label in range(labels) if label != target]
    weights = np.zeros((labels - 1, labels))
    weights[np.arange(labels - 1), others] = 1.0
    weights[:, target] = -1.0
    clause = Clause(weights, np.zeros(labels - 1), k)
    return Property((clause,), f"label {name or target} is among the top {k} of {labels} labels")


def threshold(labels: int, target: int, *, above: bool, logit: float, name: str | None = None) -> Property:
    """Label ``target``, called ``name``, keeps its side of ``logit``: strictly above it, or strictly below it.

    Raises:
        PropertyError: when the target is not a label.
    """
    if not 0 <= target < labels:
        raise PropertyError(f"target label {target} does not exist: the network has labels 0 to {labels - 1}")
    sign = -1.0 if above else 1.0
    weights = np.zeros((1, labels))
    weights[0, target] = sign
    side = "above" if above else "below"
    return Property(
        (Clause(weights, np.array([-sign * logit]), 1),),
        f"label {name or target} stays {side} logit {logit:g}",
    )
