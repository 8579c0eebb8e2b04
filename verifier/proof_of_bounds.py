"""Certificates of linear bounds, as synthesis keeps them, in the form that the independent checker proves."""

from dataclasses import replace

import numpy as np

from ..errors import InputError
from .certificate import Arrays, BoundCertificate
from .interval import Interval, ValueBounds
from .network import Network
from .operators import FloatArray, MaxPool, Relu
from .problem import Problem
from .proof_certificate import Certificate
from .proof_checker import check_certificate
from .proof_forward import Inner, propagate
from .proof_program import Program
from .proof_record import Recorder, leaf_table, pool_slopes
from .proof_slopes import PoolSlopes, ReluSlopes, Slopes
from .windows import OUTSIDE

# Few rows are kept, so that rounding them need not cost anything.
KEPT = np.uint32


def proof_of(problem: Problem, certificate: BoundCertificate) -> Certificate:
    """The same slopes as a certificate of the problem's one clause, without a split.

    Default slopes mostly tighten the inner bounds beyond those of the search, and now and then the lines that hang on
    them prove less; what proves nothing with them is kept without them.

    Raises:
        InputError: when it does not fit the problem.
    """
    shared = _checked(problem, certificate)
    tighter = _recorded(problem, certificate, Inner((shared,)))
    if not certificate.inner or check_certificate(problem, tighter).proved:
        return tighter
    searched = _recorded(problem, certificate, Inner((shared,), plain=False))
    return searched if check_certificate(problem, searched).proved else tighter


def _checked(problem: Problem, certificate: BoundCertificate) -> Slopes:
    """See that a certificate fits the problem; its slopes for inner bounds."""
    (clause,) = problem.property.clauses
    if not certificate.subsets:
        raise InputError("the certificate refutes nothing; write it again")
    if any(not 0 <= atom < clause.atoms for subset in certificate.subsets for atom in subset):
        raise InputError("the certificate names atoms that the question does not have; write it again")
    try:
        certificate.check_shapes(problem.network)
    except (LookupError, ValueError) as error:
        raise InputError(f"the certificate does not fit the network ({error}); write it again") from None
    return Slopes(1, _relu_slopes(certificate.inner, 1)) if certificate.inner else Slopes(0)


def _recorded(problem: Problem, certificate: BoundCertificate, inner: Inner) -> Certificate:
    rows = len(certificate.subsets)
    values = _values(problem, inner)
    pool = {
        int(number): _pool_slopes(problem, values, certificate, number) for number in certificate.thresholds
    }
    recorder = Recorder()
    numbers = [recorder.refute(0, subset) for subset in certificate.subsets]
    shares = [row[: len(subset)] for row, subset in zip(certificate.shares, certificate.subsets, strict=True)]
    slopes = Slopes(rows, _relu_slopes(certificate.relu, rows), pool)
    recorder.add_leaves(leaf_table(numbers, shares, slopes))
    return replace(recorder.certificate(problem), inner=inner)


def _values(problem: Problem, inner: Inner) -> ValueBounds:
    region = problem.region
    box = region.lower.reshape(1, -1), region.upper.reshape(1, -1)
    bounds = propagate(Program.of(problem.network), *box, inner)
    pairs = zip(bounds.lower, bounds.upper, strict=True)
    return ValueBounds(tuple(Interval(low[0], high[0]) for low, high in pairs))


def _relu_slopes(arrays: Arrays, rows: int) -> dict[int, ReluSlopes]:
    flat = {int(number): array.reshape(rows, -1) for number, array in arrays.items()}
    return {number: ReluSlopes(np.arange(array.shape[1]), array) for number, array in flat.items()}


def _pool_slopes(
    problem: Problem, values: ValueBounds, certificate: BoundCertificate, number: str
) -> PoolSlopes:
    before = problem.network.operators[int(number) - 1].inputs[0]
    relu = certificate.relu.get(str(before))
    weights = []
    for row, logits in enumerate(certificate.weights[number].astype(np.float64)):
        positions = None if relu is None else relu[row].reshape(-1) / 255.0
        weights.append(_line_weights(problem.network, values, int(number), logits, positions))
    thresholds = certificate.thresholds[number]
    outputs = np.arange(thresholds.shape[1])
    return pool_slopes(outputs, thresholds / 255.0, np.stack(weights), KEPT)


def _line_weights(
    network: Network, values: ValueBounds, number: int, logits: FloatArray, positions: FloatArray | None
) -> FloatArray:
    """Convex weights (outputs, window) of the lower lines of a max-pool, as the checker wants them.

    A pool that directly reads a ReLU is one maximum for the checker, over the ReLU's inputs; a weight of the
    ReLU's output times the ReLU's lower slope is then one of its input.

    Args:
        network: the network.
        values: bounds of all values.
        number: of the pool's value.
        logits: (outputs, window + 1) of the weights, the last one of the largest lower bound.
        positions: (size,) lower slopes of the ReLU that the pool reads, None for the default ones.
    """
    operator = network.operators[number - 1]
    assert isinstance(operator, MaxPool)
    real = operator.windows != OUTSIDE
    masked = np.where(np.pad(real, [(0, 0), (0, 1)], constant_values=True), logits, -np.inf)
    weights = np.exp(masked - masked.max(axis=1, keepdims=True))
    weights = (weights / weights.sum(axis=1, keepdims=True))[:, :-1]
    before = operator.inputs[0]
    producer = network.operators[before - 1] if before else None
    if isinstance(producer, Relu) and producer.negative_slope == 0:
        bounds = values[producer.inputs[0]]
        lower, upper = bounds.lower.reshape(-1), bounds.upper.reshape(-1)
        free = (upper > -lower).astype(np.float64) if positions is None else positions
        slope = np.where(lower >= 0, 1.0, np.where(upper <= 0, 0.0, free))
        weights = weights * np.where(real, slope[operator.windows], 0.0)
    return np.asarray(weights)
