"""Refutations by parts as certificates: what stands where in the network."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .affine import IndexArray
from .max_domains import Domain, Layout
from .max_parts import Part
from .max_program import MaxProgram
from .max_record import tree_of
from .network import Network
from .operators import FloatArray, Relu
from .proof_certificate import Cut
from .proof_certificate import Part as ProvedPart
from .proof_program import Program


@dataclass(frozen=True, slots=True, eq=False)
class PartTree:
    """A part and the leaves of its tree.

    Attributes:
        part: with its objective.
        layout: of the leaves' arrays.
        windows: nodes of the first group that exact maxima take jointly.
        leaves: sub-problems that cover the region.
    """

    part: Part
    layout: Layout
    windows: tuple[IndexArray, ...]
    leaves: tuple[Domain, ...]


@dataclass(frozen=True, slots=True, eq=False)
class PartsProof:
    """Trees of parts that refute a set of atoms.

    Attributes:
        weights: (all atoms,) of the combination that was cut.
        trees: whose largest bounds, with that of the rest, add up to a number below zero.
    """

    weights: FloatArray
    trees: tuple[PartTree, ...]


def cut_of(network: Network, refutation: int, atoms: Sequence[int], proof: PartsProof) -> Cut:
    """A refutation by parts in the form that the independent checker proves.

    Args:
        network: the network.
        refutation: its number in the recorder.
        atoms: of the refutation, in its order.
        proof: that no point brings them to zero together.
    """
    return Cut(refutation, proof.weights[list(atoms)], tuple(_part(network, tree) for tree in proof.trees))


def _part(network: Network, tree: PartTree) -> ProvedPart:
    program = tree.part.program
    places, coefficients = _objective(network, program)
    return ProvedPart(
        places,
        coefficients,
        _joint(network, program, tree.windows),
        tree_of(network, program.groups, tree.layout, tree.leaves),
    )


def _objective(network: Network, program: MaxProgram) -> tuple[IndexArray, FloatArray]:
    """The one atom of a program as a function of the network's values: places (terms, 2) and coefficients."""
    row = program.atoms.matrix.toarray()[0]
    count = len(program.pixels)
    numbers: dict[int, FloatArray] = {0: np.zeros(_size(network, 0))}
    numbers[0][program.pixels] = row[:count]
    for group in program.groups:
        own = row[group.first : group.first + group.nodes]
        found = numbers.setdefault(group.value, np.zeros(_size(network, group.value)))
        found[group.outputs] += own
        operator = network.operators[group.value - 1]
        if isinstance(operator, Relu) and operator.negative_slope:
            # a node is what the leaky ReLU is above its slope below zero times what it reads
            below = numbers.setdefault(group.source, np.zeros(_size(network, group.source)))
            below[group.contestants] -= operator.negative_slope * own
    places, coefficients = [np.zeros((0, 2), dtype=np.int64)], [np.zeros(0)]
    for value, array in sorted(numbers.items()):
        index = np.flatnonzero(array)
        places.append(np.stack([np.full(len(index), value), index], axis=1))
        coefficients.append(array[index])
    return np.concatenate(places), np.concatenate(coefficients)


def _joint(network: Network, program: MaxProgram, windows: Sequence[IndexArray]) -> IndexArray:
    """ReLUs (neurons, 3) that are taken as they are."""
    rows = [np.zeros((0, 3), dtype=np.int64)]
    for number, nodes in enumerate(windows):
        group = program.groups[0]
        outputs = group.outputs[nodes]
        rows.append(
            np.stack([np.full(len(nodes), group.value), outputs, np.full(len(nodes), number)], axis=1)
        )
    return np.concatenate(rows)


def has_provable_windows(network: Network, program: MaxProgram) -> bool:
    """Whether the independent checker can take ReLUs over a program's first windows as they are, too.

    What looks like a ReLU but is a pool keeps its lines there; so does one that reads other ReLUs or pools, which the
    search knows to be stable: the checker takes only functions of the input as they are.
    """
    if not program.groups:
        return False
    group = program.groups[0]
    is_relu = isinstance(network.operators[group.value - 1], Relu)
    return is_relu and group.source not in Program.of(network).relaxed()


def _size(network: Network, value: int) -> int:
    return int(np.prod(network.shape_of(value), dtype=np.int64))
