"""Building certificates from what the engines found; numbers are rounded to what a certificate keeps."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .cover import is_proved
from .operators import FloatArray
from .problem import Problem
from .proof_certificate import Certificate, Cut, Leaves, Path, Refutation, SubProblems, question_digest
from .proof_forward import Inner, Single
from .proof_slopes import LEVELS, IndexArray, PoolSlopes, ReluSlopes, Slopes
from .property import Property


class Recorder:
    """Gathers refutations, leaves and slopes of inner values into a certificate."""

    def __init__(self) -> None:
        """Start without any."""
        self._refutations: list[Refutation] = []
        self._leaves: list[Leaves] = []
        self._cuts: list[Cut] = []
        self._shared: list[Slopes] = []
        self._single: list[Single] = []

    def refute(self, clause: int, atoms: Sequence[int]) -> int:
        """Announce a refutation; its number is what :func:`leaf_table` wants for its leaves."""
        self._refutations.append(Refutation(clause, tuple(int(atom) for atom in atoms)))
        return len(self._refutations) - 1

    def add_leaves(self, leaves: Leaves) -> None:
        """Keep a table of leaves."""
        self._leaves.append(leaves)

    def add_cut(self, cut: Cut) -> None:
        """Keep a refutation by parts."""
        self._cuts.append(cut)

    def share(self, slopes: Slopes) -> None:
        """Keep slopes with which all inner bounds are to be improved, one pass per row."""
        self._shared.append(slopes)

    def improve(self, single: Single) -> None:
        """Keep single inner bounds."""
        self._single.append(single)

    def proves(self, question: Property) -> bool:
        """Whether what was refuted excludes every clause."""
        return all(
            is_proved(
                clause.atoms,
                clause.needed,
                [frozenset(item.atoms) for item in self._refutations if item.clause == number],
            )
            for number, clause in enumerate(question.clauses)
        )

    def certificate(self, problem: Problem) -> Certificate:
        """All of it as a certificate of the problem."""
        inner = Inner(tuple(self._shared), tuple(self._single))
        refutations, leaves = tuple(self._refutations), tuple(self._leaves)
        return Certificate(question_digest(problem), refutations, leaves, inner, tuple(self._cuts))


def leaf_table(
    refutations: Sequence[int],
    shares: Sequence[FloatArray],
    slopes: Slopes | None = None,
    paths: Sequence[Path] | None = None,
    multipliers: Sequence[FloatArray] | None = None,
) -> Leaves:
    """A table of leaves (see :class:`Leaves`).

    Args:
        refutations: the leaf's refutation, by the number that :meth:`Recorder.refute` gave.
        shares: per leaf, weights (atoms of the refutation,) of any scale, at least 0.
        slopes: one row per leaf; None for default relaxations.
        paths: per leaf, the decisions from the root; None for none.
        multipliers: per leaf, one number per constraint of its decisions, at least 0; None for zeros, where
            no path has a decision.
    """
    count = len(refutations)
    widest = max((len(item) for item in shares), default=0)
    table = np.zeros((count, widest))
    for row, item in enumerate(shares):
        table[row, : len(item)] = item
    own = sub_problems(paths or [()] * count, multipliers, slopes)
    numbers = np.array(refutations, dtype=np.int64)
    return Leaves(own.lengths, own.steps, own.cuts, own.multipliers, own.slopes, numbers, table)


def sub_problems(
    paths: Sequence[Path], multipliers: Sequence[FloatArray] | None = None, slopes: Slopes | None = None
) -> SubProblems:
    """A table of sub-problems (see :class:`SubProblems`), with what :func:`leaf_table` says of its arguments."""
    decisions = [decision for path in paths for decision in path]
    steps = np.array([decision[:3] for decision in decisions], dtype=np.int64).reshape(-1, 3)
    cuts = np.array([decision.cut for decision in decisions], dtype=np.float64)
    lengths = np.array([len(path) for path in paths], dtype=np.int64)
    factors = np.concatenate([np.zeros(0), *(multipliers or ())]).astype(np.float32)
    return SubProblems(lengths, steps, cuts, factors, slopes or Slopes(len(paths)))


def pool_slopes(
    outputs: IndexArray,
    thresholds: FloatArray,
    weights: FloatArray,
    kept: type[np.unsignedinteger[Any]] = np.uint8,
) -> PoolSlopes:
    """Parameters of some outputs of a max-pool.

    Args:
        outputs: flat indices, increasing.
        thresholds: (rows, outputs) in [0, 1].
        weights: (rows, outputs, window) at least 0, with sums of at most 1.
        kept: the type that they are rounded to: uint8, uint16 or uint32.
    """
    levels = LEVELS[np.dtype(kept)]
    rounded = np.round(np.clip(thresholds, 0.0, 1.0) * levels).astype(kept)
    return PoolSlopes(outputs, rounded, _rounded_weights(weights, levels).astype(kept))


def _rounded_weights(weights: FloatArray, levels: int) -> FloatArray:
    """Whole numbers whose sum is that of the weights, rounded: the largest remainders are rounded up."""
    scaled = np.clip(weights, 0.0, 1.0) * levels
    whole = np.floor(scaled)
    left = np.minimum(np.round(scaled.sum(axis=-1)), levels) - whole.sum(axis=-1)
    rank = np.argsort(np.argsort(whole - scaled, axis=-1, kind="stable"), axis=-1, kind="stable")
    return np.asarray(whole + (rank < left[..., None]))


def joined(tables: Sequence[Slopes]) -> Slopes:
    """The rows of several tables of the same neurons and outputs as one table."""
    first = tables[0]

    def stacked(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
        return np.concatenate(parts)

    relu: Mapping[int, ReluSlopes] = {
        number: ReluSlopes(item.neurons, stacked([table.relu[number].positions for table in tables]))
        for number, item in first.relu.items()
    }
    pool: Mapping[int, PoolSlopes] = {
        number: PoolSlopes(
            item.outputs,
            stacked([table.pool[number].thresholds for table in tables]),
            stacked([table.pool[number].weights for table in tables]),
        )
        for number, item in first.pool.items()
    }
    return Slopes(sum(table.rows for table in tables), relu, pool)
