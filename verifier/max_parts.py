"""Cutting an objective into parts that share little: the nodes that it reads, grouped by the pixels they depend on.

Where the windows of a network's layers do not overlap, its output is a sum of functions of separate blocks of pixels,
and its maximum is the sum of theirs; elsewhere blocks share some columns, of which every part then has a copy. A part
is a program of its own, so that branch and bound on the parts adds up trees instead of multiplying them.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from .affine import AffineMap, IndexArray
from .interval import Interval
from .max_program import MaxGroup, MaxProgram
from .operators import FloatArray

# Nodes whose pixels coincide by more than this share of them all belong together; neighbours of a grid whose windows
# overlap by half of their width stay apart.
SAME_PIXELS = 0.5
# So does what lies within another's pixels but for this share.
WITHIN = 0.9
# Nonzeros of "depends on" (80 MB); the photo network at its hardest published question has 1.5 million.
MOST_REACH = 10_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Some of the nodes that an objective reads, with everything below them.

    Attributes:
        program: of these columns alone; its one atom is what the part adds to the objective.
        columns: (columns,) their numbers in the whole program, ascending.
        groups: numbers of its groups in the whole program.
        entries: per group, (entries,) their numbers in the whole group.
        nodes: per group, (nodes,) likewise.
    """

    program: MaxProgram
    columns: IndexArray
    groups: tuple[int, ...]
    entries: tuple[IndexArray, ...]
    nodes: tuple[IndexArray, ...]

    @property
    def pixels(self) -> IndexArray:
        """Columns of its pixels in the whole program."""
        return self.columns[: len(self.program.pixels)]

    def with_atom(self, row: FloatArray) -> "Part":
        """The part with another atom (columns,)."""
        atoms = AffineMap(sparse.csr_matrix(row[None]), np.zeros(1))
        return replace(self, program=replace(self.program, atoms=atoms))


def split_objective(program: MaxProgram, row: FloatArray) -> tuple[Part, ...]:
    """Cut an objective into parts.

    Args:
        program: the whole program.
        row: (columns,) of the objective; its pixels are left to the caller.

    Returns:
        Parts whose atoms add up to ``row`` on the nodes; none where nodes depend on too much to be told apart.
    """
    pixels = len(program.pixels)
    tops = np.flatnonzero(row[pixels:]) + pixels
    reach = _reach(program)
    if reach is None:
        return ()
    labels = _labels(program, tops, reach[tops])
    return tuple(_part(program, row, tops[labels == label]) for label in range(labels.max(initial=-1) + 1))


def _reach(program: MaxProgram) -> sparse.csr_matrix | None:
    """(columns, pixels) 1 where a column depends on a pixel; None where that is most of everything."""
    reach = sparse.identity(len(program.pixels), dtype=np.float32, format="csr")
    for group in program.groups:
        count = len(group.node)
        member = sparse.csr_matrix(
            (np.ones(count, dtype=np.float32), (group.node, np.arange(count))), shape=(group.nodes, count)
        )
        reads = _pattern(sparse.csr_matrix(group.entries.matrix[:, : reach.shape[0]]))
        reach = sparse.vstack([reach, _pattern(member @ reads @ reach)], format="csr")
        if reach.nnz > MOST_REACH:
            return None
    return reach


def _pattern(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    return sparse.csr_matrix((matrix != 0).astype(np.float32))


def _labels(program: MaxProgram, tops: IndexArray, reach: sparse.csr_matrix) -> IndexArray:
    """A part for every node; nodes of lower groups join the part that has most of their pixels."""
    labels = np.full(len(tops), -1)
    size = np.asarray(reach.sum(axis=1)).ravel()
    level = np.searchsorted([group.first for group in program.groups], tops, side="right")
    for own in np.unique(level)[::-1]:
        mine = np.flatnonzero(level == own)
        count = labels.max(initial=-1) + 1
        if count:
            overlap = (reach[mine] @ _covered(labels, reach, count).T).toarray()
            joins = overlap.max(axis=1) > SAME_PIXELS * size[mine]
            labels[mine[joins]] = overlap.argmax(axis=1)[joins]
            mine = mine[~joins]
        labels[mine] = count + _alike(reach[mine], size[mine])
    return labels


def _covered(labels: NDArray[np.int64], reach: sparse.csr_matrix, count: int) -> sparse.csr_matrix:
    """(parts, pixels) 1 where a part depends on a pixel."""
    known = np.flatnonzero(labels >= 0)
    member = sparse.csr_matrix((np.ones(len(known)), (labels[known], known)), shape=(count, len(labels)))
    return _pattern(member @ reach)


def _alike(reach: sparse.csr_matrix, size: FloatArray) -> IndexArray:
    """Numbers of the groups of rows that are chained by coinciding pixels."""
    common = (reach @ reach.T).tocoo()
    joint = size[common.row] + size[common.col] - common.data
    least = np.minimum(size[common.row], size[common.col])
    near = (common.data > SAME_PIXELS * joint) | (common.data > WITHIN * least)
    graph = sparse.csr_matrix(
        (common.data[near], (common.row[near], common.col[near])), shape=(len(size), len(size))
    )
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def _part(program: MaxProgram, row: FloatArray, tops: IndexArray) -> Part:
    needed = np.zeros(len(row), dtype=np.bool_)
    needed[tops] = True
    for group in reversed(program.groups):
        entries = needed[group.first : group.first + group.nodes][group.node]
        needed[group.entries.matrix[np.flatnonzero(entries)].indices] = True
    columns = np.flatnonzero(needed)
    pixels = columns[: np.searchsorted(columns, len(program.pixels))]
    groups, numbers, chosen, nodes = [], [], [], []
    for number, group in enumerate(program.groups):
        own = np.flatnonzero(needed[group.first : group.first + group.nodes])
        if len(own):
            theirs = np.flatnonzero(needed[group.first + group.node])
            groups.append(_restricted(group, own, theirs, columns))
            numbers.append(number)
            chosen.append(theirs)
            nodes.append(own)
    box = Interval(program.box.lower[pixels], program.box.upper[pixels])
    values = np.zeros(len(row))
    values[tops] = row[tops]
    atoms = AffineMap(sparse.csr_matrix(values[columns][None]), np.zeros(1))
    restricted = MaxProgram(program.pixels[pixels], box, tuple(groups), atoms)
    return Part(restricted, columns, tuple(numbers), tuple(chosen), tuple(nodes))


def _restricted(group: MaxGroup, nodes: IndexArray, entries: IndexArray, columns: IndexArray) -> MaxGroup:
    before = columns[: np.searchsorted(columns, group.first)]
    matrix = sparse.csr_matrix(group.entries.matrix[entries])[:, before]
    return MaxGroup(
        group.value,
        group.outputs[nodes],
        group.source,
        group.contestants[entries],
        group.scale,
        len(before),
        group.floored[nodes],
        np.searchsorted(nodes, group.node[entries]),
        AffineMap(sparse.csr_matrix(matrix), group.entries.constant[entries]),
        Interval(group.bounds.lower[entries], group.bounds.upper[entries]),
    )
