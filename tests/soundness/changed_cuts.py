"""Certificates by parts with one thing changed."""

from dataclasses import replace

import numpy as np
from mlverify.verifier.proof_certificate import Certificate, Cut, Part, SubProblems
from mlverify.verifier.proof_program import Program
from mlverify.verifier.proof_tree import constraint_count, read_paths


def with_cut(certificate: Certificate, cut: Cut) -> Certificate:
    return replace(certificate, cuts=(cut,))


def largest_tree(cut: Cut) -> int:
    return int(np.argmax([len(part.tree.lengths) for part in cut.parts]))


def with_part(cut: Cut, number: int, part: Part) -> Cut:
    return replace(cut, parts=(*cut.parts[:number], part, *cut.parts[number + 1 :]))


def with_tree(cut: Cut, **changes: np.ndarray) -> Cut:
    number = largest_tree(cut)
    part = cut.parts[number]
    return with_part(cut, number, replace(part, tree=replace(part.tree, **changes)))


def changed_price(cut: Cut) -> Cut:
    part = cut.parts[0]
    coefficients = part.coefficients.copy()
    coefficients[np.abs(coefficients).argmax()] *= 2
    return with_part(cut, 0, replace(part, coefficients=coefficients))


def dropped_price(cut: Cut) -> Cut:
    part = cut.parts[0]
    kept = np.arange(len(part.coefficients)) != np.abs(part.coefficients).argmax()
    return with_part(cut, 0, replace(part, coefficients=part.coefficients[kept], places=part.places[kept]))


def exchanged_functions(cut: Cut) -> Cut:
    first, second = cut.parts[:2]
    parts = (
        replace(first, tree=second.tree, joint=second.joint),
        replace(second, tree=first.tree, joint=first.joint),
    )
    return replace(cut, parts=(*parts, *cut.parts[2:]))


def one_part_twice(cut: Cut) -> Cut:
    number = largest_tree(cut)
    return replace(cut, parts=(*cut.parts, cut.parts[number]))


def without_windows(cut: Cut) -> Cut:
    return replace(cut, parts=tuple(replace(part, joint=part.joint[:0]) for part in cut.parts))


def other_side(cut: Cut) -> Cut:
    steps = cut.parts[largest_tree(cut)].tree.steps.copy()
    steps[0, 2] = steps[
        np.flatnonzero((steps[:, :2] == steps[0, :2]).all(axis=1) & (steps[:, 2] != steps[0, 2]))[0], 2
    ]
    return with_tree(cut, steps=steps)


def another_neuron(cut: Cut) -> Cut:
    steps = cut.parts[largest_tree(cut)].tree.steps.copy()
    steps[0, 1] += 1 if steps[0, 1] == 0 else -1
    return with_tree(cut, steps=steps)


def large_multipliers(cut: Cut) -> Cut:
    tree = cut.parts[largest_tree(cut)].tree
    return with_tree(cut, multipliers=tree.multipliers + np.float32(10))


def without_leaf(program: Program, tree: SubProblems, leaf: int) -> SubProblems:
    paths = read_paths(program, tree)
    counts = np.array([constraint_count(program, path) for path in paths])
    kept = np.arange(len(paths)) != leaf
    steps, constraints = np.repeat(kept, tree.lengths), np.repeat(kept, counts)
    relu = {value: replace(item, positions=item.positions[kept]) for value, item in tree.slopes.relu.items()}
    pool = {
        value: replace(item, thresholds=item.thresholds[kept], weights=item.weights[kept])
        for value, item in tree.slopes.pool.items()
    }
    return SubProblems(
        tree.lengths[kept],
        tree.steps[steps],
        tree.cuts[steps],
        tree.multipliers[constraints],
        replace(tree.slopes, rows=tree.slopes.rows - 1, relu=relu, pool=pool),
    )
