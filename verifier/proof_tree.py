"""Trees of sub-problems for the proof checker: do the leaves cover the region, and what holds in each."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from .operators import FloatArray
from .proof_certificate import Decision, Path, Side, SubProblems
from .proof_maxima import PADDING, UNDECIDED, ZERO_WINS, IndexArray, Maxima
from .proof_program import Bounds, Program
from .proof_rounding import slack


class UncoveredError(Exception):
    """The leaves of a tree do not cover the region, or are no tree."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A node without leaves on some sides, which must be impossible there.

    Attributes:
        path: decisions before the node.
        split: what is decided at the node, on any side.
        sides: those that have leaves.
    """

    path: Path
    split: Decision
    sides: frozenset[int]

    @property
    def box(self) -> Path:
        """The decisions about inputs."""
        return box_of(self.path)


def read_paths(program: Program, table: SubProblems) -> list[Path]:
    """The paths of sub-problems.

    Raises:
        UncoveredError: when a decision makes no sense for the network.
    """
    cuts = table.cuts.tolist()
    steps = table.steps.tolist()
    decisions = [
        Decision(value, place, side, cut) for (value, place, side), cut in zip(steps, cuts, strict=True)
    ]
    for decision in set(decisions):
        if not _is_possible(program, decision):
            raise UncoveredError(f"a decision about value {decision.value} that there is not")
    ends = np.cumsum(table.lengths).tolist()
    return [tuple(decisions[start:end]) for start, end in zip([0, *ends], ends, strict=False)]


def _is_possible(program: Program, decision: Decision) -> bool:
    value, place, side, cut = decision
    if value == 0:
        return 0 <= place < program.sizes[0] and side in set(Side) and bool(np.isfinite(cut))
    if not 1 <= value <= len(program.steps) or cut != 0:
        return False
    step = program.steps[value - 1]
    return isinstance(step, Maxima) and 0 <= place < len(step.windows) and side in _sides(step, place)


def _sides(step: Maxima, place: int) -> set[int]:
    """All sides of a decision about one maximum."""
    if step.relu:
        return {Side.INACTIVE, Side.ACTIVE}
    members = {int(member) for member in step.windows[place] if member != PADDING}
    return members | {ZERO_WINS} if step.floored else members


def find_gaps(program: Program, paths: Sequence[Path]) -> list[Gap]:
    """Walk the tree that the paths of one refutation make; what is not covered at sight is returned.

    Raises:
        UncoveredError: where there is no tree, or half of an input's range is missing.
    """
    if not paths:
        raise UncoveredError("a refutation without leaves")
    gaps: list[Gap] = []
    nodes: list[tuple[Sequence[Path], int]] = [(paths, 0)]
    while nodes:
        group, depth = nodes.pop()
        if any(len(path) == depth for path in group):
            continue  # this leaf alone covers the node
        split = group[0][depth]
        children: dict[int, list[Path]] = {}
        for path in group:
            decision = path[depth]
            if decision._replace(side=split.side) != split:
                raise UncoveredError("leaves that do not make a tree")
            children.setdefault(decision.side, []).append(path)
        step = program.steps[split.value - 1] if split.value else None
        sides = _sides(step, split.place) if isinstance(step, Maxima) else {Side.BELOW, Side.ABOVE}
        if sides != set(children):
            if step is None:
                raise UncoveredError("half of an input's range without leaves")
            gaps.append(Gap(group[0][:depth], split, frozenset(children)))
        nodes += [(child, depth + 1) for child in children.values()]
    return gaps


def box_of(path: Iterable[Decision]) -> Path:
    """The decisions about inputs, which make the box of a sub-problem."""
    return tuple(decision for decision in path if decision.value == 0)


def constraint_count(program: Program, path: Path) -> int:
    """Number of constraints that the decisions of a path have (see :class:`SubProblems`)."""
    steps = (program.steps[decision.value - 1] for decision in path if decision.value)
    return sum(step.windows.shape[1] for step in steps if isinstance(step, Maxima))


def cut_box(lower: FloatArray, upper: FloatArray, cuts: Path) -> tuple[FloatArray, FloatArray]:
    """The part (inputs,) of a box that some decisions leave."""
    lower, upper = lower.copy(), upper.copy()
    for _, place, side, cut in cuts:
        if side == Side.BELOW:
            upper[place] = min(upper[place], cut)
        else:
            lower[place] = max(lower[place], cut)
    return lower, upper


class Scenes:
    """Sub-problems side by side: their winners, and the constraints that those imply.

    Attributes:
        winners: decided maxima by value number, (sub-problems, outputs): the position in the window,
            ``ZERO_WINS`` or ``UNDECIDED``.
    """

    def __init__(self, program: Program, paths: Sequence[Path]) -> None:
        """Read the decisions of ``paths``."""
        self._program = program
        self._scenes = len(paths)
        self.winners: dict[int, IndexArray] = {}
        # one entry per coefficient: sub-problem, number of the constraint in it, value, element, sign
        self._coefficients: list[tuple[int, int, int, int, float]] = []
        for scene, path in enumerate(paths):
            first = 0
            for decision in path:
                if decision.value:
                    first += self._decide(scene, first, decision)

    def _decide(self, scene: int, first: int, decision: Decision) -> int:
        """Take one decision, whose constraints are numbered from ``first``; returns how many there are."""
        value, place, side, _ = decision
        step = self._program.steps[value - 1]
        assert isinstance(step, Maxima)
        window = step.windows[place]
        winner = side
        if step.relu:
            winner = int(window[0]) if side == Side.ACTIVE else ZERO_WINS
        if value not in self.winners:
            self.winners[value] = np.full((self._scenes, len(step.windows)), UNDECIDED)
        position = ZERO_WINS if winner == ZERO_WINS else int(np.flatnonzero(window == winner)[0])
        self.winners[value][scene, place] = position
        for number, element in enumerate(window.tolist(), start=first):
            if element == PADDING:
                continue
            signs = {winner: 1.0} if winner != ZERO_WINS else {}
            if element != winner:
                signs[element] = -1.0
            elif not step.floored:
                continue
            self._coefficients += [(scene, number, step.source, item, sign) for item, sign in signs.items()]
        return len(window)

    def multiplied(
        self, multipliers: Sequence[FloatArray], bounds: Bounds, box: IndexArray
    ) -> tuple[dict[int, sparse.csr_matrix], FloatArray]:
        """The constraints times their multipliers: functions that are at least 0 in each sub-problem.

        Args:
            multipliers: per sub-problem, one per constraint.
            bounds: of all values.
            box: (sub-problems,) which row of the bounds holds.

        Returns:
            Coefficients by value, and what the rounding of their sums can cost (sub-problems,).
        """
        entries: dict[int, list[tuple[float, int, int]]] = {}
        for scene, number, source, element, sign in self._coefficients:
            factor = float(multipliers[scene][number])
            if factor:
                entries.setdefault(source, []).append((sign * factor, scene, element))
        found, cost = {}, np.zeros(self._scenes)
        for source, listed in entries.items():
            numbers, rows, columns = (np.array(item) for item in zip(*listed, strict=True))
            sizes = np.abs(numbers) * bounds.largest(source, box[rows], columns)
            cost += np.bincount(rows, weights=sizes, minlength=self._scenes)
            shape = (self._scenes, self._program.sizes[source])
            found[source] = sparse.csr_matrix((numbers, (rows, columns)), shape=shape)
        return found, slack(cost, len(self._coefficients))


def is_impossible(program: Program, bounds: Bounds, box: int, gap: Gap) -> bool:
    """Whether bounds alone show that the sides without leaves add nothing.

    An element that is nowhere above some followed one need not be followed: where it is the maximum, so is
    the followed one. Likewise zero, where a followed element is nowhere below it.
    """
    step = program.steps[gap.split.value - 1]
    assert isinstance(step, Maxima)
    low, high = bounds.lower[step.source][box], bounds.upper[step.source][box]
    if step.relu:
        element = int(step.windows[gap.split.place, 0])
        return bool(high[element] <= 0 if Side.ACTIVE not in gap.sides else low[element] >= 0)
    least = max(0.0 if side == ZERO_WINS else float(low[side]) for side in gap.sides)
    left = _sides(step, gap.split.place) - gap.sides
    return all(least >= 0.0 if side == ZERO_WINS else high[side] <= least for side in left)
