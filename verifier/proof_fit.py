"""Does a certificate fit the network and the question? What the proof checker sees to before it computes."""

from collections.abc import Sequence, Set

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .network import Network
from .operators import MaxPool, Relu
from .problem import Problem
from .proof_certificate import Certificate, Cut, Leaves, Part, Refutation, SubProblems
from .proof_maxima import IndexArray
from .proof_program import Program
from .proof_slopes import Slopes

# Each takes as long as the default bounds of all inner values; no search improves them anywhere near as often.
MOST_PASSES = 1000
# Every ReLU more doubles the choices that are tried in a window.
MOST_JOINT = 10


def check_fit(problem: Problem, certificate: Certificate) -> None:
    """See that a certificate names what there is, in numbers that are in range.

    Raises:
        InputError: when it does not.
    """
    network, clauses = problem.network, problem.property.clauses
    for refutation in certificate.refutations:
        expect(0 <= refutation.clause < len(clauses), "a clause that there is not")
        atoms, limit = refutation.atoms, clauses[refutation.clause].atoms
        known = all(0 <= atom < limit for atom in atoms)
        expect(known and 0 < len(atoms) == len(set(atoms)), "atoms that there are not")
    for leaves in certificate.leaves:
        _check_leaves(certificate.refutations, leaves)
    relaxed = Program.of(network).relaxed() if certificate.cuts else set()
    for cut in certificate.cuts:
        _check_cut(certificate.refutations, cut)
        for part in cut.parts:
            _check_part(network, part, relaxed)
    for single in certificate.inner.single:
        _check_targets(network, single.targets)
        expect(single.slopes.rows == len(single.targets), "numbers of rows")
    # each for itself: negative numbers would make up for too many
    passes = [slopes.rows for slopes in certificate.inner.shared]
    expect(min(passes, default=0) >= 0 and sum(passes) <= MOST_PASSES, "passes over inner values")
    for slopes in (
        *certificate.inner.shared,
        *(single.slopes for single in certificate.inner.single),
        *(table.slopes for table in certificate.tables),
    ):
        _check_slopes(network, slopes)


def _check_leaves(refutations: Sequence[Refutation], leaves: Leaves) -> None:
    shares = leaves.shares
    expect(shares.ndim == 2 and _are_weights(shares), "weights of atoms")
    expect(leaves.refutation.shape == (len(shares),) == leaves.lengths.shape, "numbers of leaves")
    known = (leaves.refutation >= 0) & (leaves.refutation < len(refutations))
    expect(bool(known.all()), "a leaf of no refutation")
    used = np.array([len(refutations[number].atoms) for number in leaves.refutation.tolist()], dtype=np.int64)
    expect(bool((used <= shares.shape[1]).all()), "weights of atoms")
    total = np.where(np.arange(shares.shape[1]) < used[:, None], shares, 0).sum(axis=1)
    expect(bool((total > 0).all()), "weights of atoms that are all zero")
    _check_table(leaves)


def _check_table(table: SubProblems) -> None:
    lengths = table.lengths
    expect(lengths.ndim == 1 and bool((lengths >= 0).all()), "lengths of paths")
    expect(table.slopes.rows == len(lengths), "numbers of leaves")
    steps = int(lengths.sum())
    expect(table.steps.shape == (steps, 3) and table.cuts.shape == (steps,), "paths")
    expect(table.multipliers.ndim == 1 and _are_weights(table.multipliers), "multipliers")


def _check_cut(refutations: Sequence[Refutation], cut: Cut) -> None:
    expect(0 <= cut.refutation < len(refutations), "parts of no refutation")
    atoms = refutations[cut.refutation].atoms
    expect(cut.shares.shape == (len(atoms),) and _are_weights(cut.shares), "weights of atoms")
    expect(bool(cut.shares.sum() > 0), "weights of atoms that are all zero")


def _check_part(network: Network, part: Part, relaxed: Set[int]) -> None:
    """See to a part; ``relaxed`` are the values that depend on a maximum."""
    places = part.places
    expect(places.ndim == 2 and places.shape[1] == 2, "places of a part")
    expect(part.coefficients.shape == (len(places),), "coefficients of a part")
    expect(bool(np.isfinite(part.coefficients).all()), "coefficients of a part")
    _check_places(network, places)
    _check_windows(network, part.joint, relaxed)
    _check_table(part.tree)


def _check_places(network: Network, places: IndexArray) -> None:
    """See that pairs of a value and an index are in the network, and each there once."""
    expect(len(np.unique(places, axis=0)) == len(places), "places of a part")
    for value in np.unique(places[:, 0]).tolist():
        expect(0 <= value <= len(network.operators), "places of a part")
        own = places[places[:, 0] == value, 1]
        size = int(np.prod(network.shape_of(value)))
        expect(bool(((own >= 0) & (own < size)).all()), "places of a part")


def _check_windows(network: Network, joint: IndexArray, relaxed: Set[int]) -> None:
    """See that all are ReLUs over affine functions of the input, each of them once, and few to a window."""
    expect(joint.ndim == 2 and joint.shape[1] == 3, "windows of a part")
    for value in np.unique(joint[:, 0]).tolist():
        expect(1 <= value <= len(network.operators), "windows of a part")
        operator = network.operators[value - 1]
        expect(isinstance(operator, Relu) and operator.inputs[0] not in relaxed, "windows of a part")
    _check_places(network, joint[:, :2])
    _, counts = np.unique(joint[:, 2], return_counts=True)
    expect(counts.max(initial=0) <= MOST_JOINT, "windows of a part")


def _are_weights(numbers: NDArray[np.floating]) -> bool:
    return bool((np.isfinite(numbers) & (numbers >= 0)).all())


def _check_targets(network: Network, targets: IndexArray) -> None:
    expect(targets.ndim == 2 and targets.shape[1] == 3, "single bounds")
    for value, element, side in targets.tolist():
        fits = 1 <= value <= len(network.operators) and side in (0, 1)
        expect(fits and 0 <= element < int(np.prod(network.shape_of(value))), "single bounds")


def _check_slopes(network: Network, slopes: Slopes) -> None:
    relus = {
        number: int(np.prod(operator.shape))
        for number, operator in enumerate(network.operators, start=1)
        if isinstance(operator, Relu)
    }
    pools = {
        number: operator.windows.shape
        for number, operator in enumerate(network.operators, start=1)
        if isinstance(operator, MaxPool)
    }
    slopes.check(relus, pools)


def expect(fits: bool, what: str) -> None:
    """Go on where a certificate fits.

    Raises:
        InputError: where it does not.
    """
    if not fits:
        raise InputError(f"the certificate is damaged or of another network ({what}); write it again")
