"""Proofs by halved boxes in the form that the independent checker proves."""

from collections.abc import Sequence
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

from .cover import AtomSet, is_proved, open_atoms
from .operators import FloatArray
from .problem import Problem
from .proof_alone import refute_alone
from .proof_certificate import Path
from .proof_checker import leaf_bounds, needed_margin
from .proof_record import Recorder, leaf_table

# Leaves that are bounded at a time.
TOGETHER = 4000
# A certificate with more leaves than this takes the checker minutes and hundreds of MB.
MOST_LEAVES = 500_000


class BoxProof:
    """Collects boxes that the checker's own bounds close, so that what it gathers is a proof to the checker too."""

    def __init__(self, problem: Problem) -> None:
        """Start without boxes; together they have to cover the region before there is a certificate."""
        self._problem = problem
        self._margin = needed_margin(problem, Recorder().certificate(problem))
        self._boxes: list[tuple[Path, tuple[AtomSet, ...]]] = []

    def close(self, paths: Sequence[Path]) -> NDArray[np.bool_]:
        """Whether the checker refutes every clause in each of some boxes; those boxes are kept."""
        clauses = self._problem.property.clauses
        together = max(1, TOGETHER // sum(clause.atoms for clause in clauses))
        closed = []
        for start in range(0, len(paths), together):
            part = paths[start : start + together]
            for path, row in zip(part, self._bounds(part) < -self._margin, strict=True):
                parts = np.split(row, np.cumsum([clause.atoms for clause in clauses])[:-1])
                refuted = tuple(frozenset(np.flatnonzero(own).tolist()) for own in parts)
                proved = [
                    is_proved(clause.atoms, clause.needed, [frozenset([atom]) for atom in own])
                    for clause, own in zip(clauses, refuted, strict=True)
                ]
                closed.append(all(proved))
                if closed[-1]:
                    self._boxes.append((path, refuted))
        return np.array(closed, dtype=np.bool_)

    def _bounds(self, paths: Sequence[Path]) -> FloatArray:
        """Upper bounds (boxes, atoms of all clauses) by the checker's default relaxations."""
        trial = Recorder()
        numbers = [
            trial.refute(number, (atom,))
            for number, clause in enumerate(self._problem.property.clauses)
            for atom in range(clause.atoms)
        ]
        count = len(paths) * len(numbers)
        repeated = [path for path in paths for _ in numbers]
        trial.add_leaves(leaf_table(numbers * len(paths), [np.ones(1)] * count, paths=repeated))
        (found,) = leaf_bounds(self._problem, trial.certificate(self._problem))
        return found.reshape(len(paths), len(numbers))

    @property
    def full(self) -> bool:
        """Whether the boxes would make more leaves than a certificate may have."""
        return len(self._boxes) * len(self._problem.property.clauses) > MOST_LEAVES

    def recorder(self) -> Recorder | None:
        """The proof that the kept boxes make where they cover the region; None where it has too many leaves.

        Atoms that are refuted in the whole region need no boxes, those that are refuted in every box are
        refuted one by one; of the rest every set of as many as are needed has a tree of all boxes, in each of
        which some atom of the set is.
        """
        recorder = Recorder()
        margin, uppers = self._margin, refute_alone(self._problem, recorder).uppers
        leaves = 0
        for number, clause in enumerate(self._problem.property.clauses):
            alone = [frozenset([atom]) for atom in np.flatnonzero(uppers[number] < -margin).tolist()]
            if is_proved(clause.atoms, clause.needed, alone):
                continue
            per_box = [refuted[number] for _, refuted in self._boxes]
            everywhere = frozenset.intersection(*per_box)
            left = open_atoms(clause.atoms, [*alone, *(frozenset([atom]) for atom in everywhere)])
            singles = [atom for atom in open_atoms(clause.atoms, alone) if atom in everywhere]
            leaves += len(per_box) * (len(singles) + comb(len(left), clause.needed))
            if leaves > MOST_LEAVES:
                return None
            for chosen in [*((atom,) for atom in singles), *combinations(left, clause.needed)]:
                self._refute(recorder, number, chosen, per_box)
        return recorder

    def _refute(
        self, recorder: Recorder, clause: int, atoms: tuple[int, ...], per_box: Sequence[AtomSet]
    ) -> None:
        refutation = recorder.refute(clause, atoms)
        shares = [np.array([float(atom in refuted) for atom in atoms]) for refuted in per_box]
        paths = [path for path, _ in self._boxes]
        recorder.add_leaves(leaf_table([refutation] * len(paths), shares, paths=paths))
