"""Prices of what parts share: linear terms that make each part's root bound its share of the whole one.

Every part has its own copy of a column that several read. A price on the copies, of sum zero, changes nothing where
they agree, and decides how much is lost where they do not (Lagrangian decomposition). Prices that give every copy the
same share of the column's coefficient in the bound of the whole make the parts' bounds add up to exactly that bound.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from .affine import AffineMap
from .linear_bounds import WIDENING
from .max_bounding import Bounding
from .max_bounds import MaxBounds, Sweep
from .max_domains import Domain, Layout, freedom_of
from .max_groups import Blocks
from .max_parts import Part, split_objective
from .max_program import MaxProgram
from .operators import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """A convex combination of atoms in parts: at every input it is at most their atoms' sum and the rest.

    Attributes:
        weights: (all atoms,) of the combination.
        parts: with prices in their atoms.
        roots: of the parts, with the parameters of the whole.
        rest: upper bound on what no part has, widened for the rounding of all sums.
    """

    weights: FloatArray
    parts: tuple[Part, ...]
    roots: tuple[Domain, ...]
    rest: float


def cut_objective(bounding: Bounding, root: Domain) -> Cut:
    """Cut what a sub-problem without decisions bounds into parts whose bounds add up to its own."""
    sure, program = bounding.sure, bounding.program
    mix = bounding.objective(sure, [root]).normalised()
    free = freedom_of(sure, bounding.layout, [root])
    whole = sure.sweep(sure.atoms, mix, sure.undecided(1), free, up=False)
    weights = np.asarray(mix[:, 0].cpu().numpy())
    row = np.asarray(program.atoms.matrix.T @ weights)
    parts = split_objective(program, row)
    roots = tuple(_root(bounding.layout, part, root) for part in parts)
    atoms = _priced(program, row, parts, roots, whole)
    rest = row.copy()
    for part, atom in zip(parts, atoms, strict=True):
        rest[part.columns] -= atom
    constant = float(program.atoms.constant @ weights)
    found = tuple(part.with_atom(atom) for part, atom in zip(parts, atoms, strict=True))
    return Cut(weights, found, roots, _largest(program, rest, constant, found))


def _root(layout: Layout, part: Part, root: Domain) -> Domain:
    slopes, thresholds = [root.slopes[:0]], [root.thresholds[:0]]
    for group, entries, nodes in zip(part.groups, part.entries, part.nodes, strict=True):
        slopes.append(root.slopes[layout.entries_of(group)][entries])
        thresholds.append(root.thresholds[layout.nodes_of(group)][nodes])
    return Domain(
        np.inf,
        0,
        frozenset({0}),
        (),
        np.concatenate(slopes),
        np.concatenate(thresholds),
        np.zeros(0, dtype=np.float16),
        np.ones(1, dtype=np.float32),
    )


def _priced(
    program: MaxProgram, row: FloatArray, parts: Sequence[Part], roots: Sequence[Domain], whole: Sweep
) -> list[FloatArray]:
    """The parts' atoms with prices on what they share, and on the pixels that the objective reads itself."""
    copies = np.zeros(len(row))
    for part in parts:
        copies[part.columns] += 1
    coefficients = torch.cat([whole.pixels, *whole.coefficients])[:, 0].cpu().numpy()
    share = coefficients / np.maximum(copies, 1)
    changed = copies > 1
    changed[: len(program.pixels)] |= row[: len(program.pixels)] != 0
    return [
        _atom(part, root, share[part.columns], changed[part.columns])
        for part, root in zip(parts, roots, strict=True)
    ]


def _atom(part: Part, root: Domain, share: FloatArray, changed: NDArray[np.bool_]) -> FloatArray:
    """The part's atom with prices on changed columns, upper groups first: a price changes what is below it."""
    program = part.program
    bounds = MaxBounds(program)
    phases, free = bounds.undecided(1), freedom_of(bounds, Layout.of(bounds), [root])
    row = np.array(program.atoms.matrix.toarray()[0], dtype=np.float64)
    places = [slice(0, len(program.pixels))]
    places += [slice(group.first, group.first + group.nodes) for group in program.groups]
    for number in range(len(places) - 1, -1, -1):
        atoms = AffineMap(sparse.csr_matrix(row[None]), np.zeros(1))
        blocks = Blocks.of(atoms, program, bounds.dtype, bounds.device)
        sweep = bounds.sweep(blocks, torch.ones(1, 1, dtype=bounds.dtype), phases, free, up=False)
        found = sweep.coefficients[number - 1] if number else sweep.pixels
        place = places[number]
        price = share[place] - found[:, 0].numpy()
        row[place] += np.where(changed[place], price, 0.0)
    return row


def _largest(program: MaxProgram, rest: FloatArray, constant: float, parts: Sequence[Part]) -> float:
    """The largest value of what no part has, with the rounding of all sums."""
    low, high = [program.box.lower], [program.box.upper]
    for group in program.groups:
        reach = np.zeros(group.nodes)
        np.maximum.at(reach, group.node, np.maximum(np.abs(group.bounds.lower), np.abs(group.bounds.upper)))
        low.append(-reach)
        high.append(reach)
    lower, upper = np.concatenate(low), np.concatenate(high)
    size = np.maximum(np.abs(lower), np.abs(upper))
    total = abs(constant) + float(np.abs(rest) @ size)
    for part in parts:
        atom = np.abs(part.program.atoms.matrix)
        total += float((atom @ size[part.columns])[0])
    largest = constant + float(np.maximum(rest * lower, rest * upper).sum())
    return largest + WIDENING[torch.float64] * (1.0 + total)
