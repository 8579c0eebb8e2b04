"""The MILP encoding against enumeration of activation patterns, sampling, and the other backend."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mlverify.verifier.affine import affine_step
from mlverify.verifier.budget import Budget
from mlverify.verifier.interval import Interval, ValueBounds
from mlverify.verifier.milp_encoding import Encoding, ProvedByBounds, Refuted, encode
from mlverify.verifier.milp_gurobi import GurobiBackend
from mlverify.verifier.milp_highs import HighsBackend
from mlverify.verifier.network import Network, Tail
from mlverify.verifier.operators import Concat, Conv, Linear, MaxPool, Pad, Relu, Reshape, Sum
from mlverify.verifier.preprocessing import Preprocessing
from mlverify.verifier.property import Clause, top_k
from mlverify.verifier.region import Region
from mlverify.verifier.torch_network import TorchNetwork
from mlverify.verifier.windows import window_indices
from scipy import optimize, sparse

# rows may be missed by 1e-9, times big-Ms and weights of order ten
AGREEMENT = 1e-5
FREE = Budget()


def linear(source, inputs, outputs, rng):
    return Linear(
        "linear", (source,), (outputs,), rng.normal(size=(outputs, inputs)), rng.normal(size=outputs)
    )


def dense(rng):
    return (3,), (linear(0, 3, 5, rng), Relu("relu", (1,), (5,), 0.0), linear(2, 5, 4, rng))


def leaky_residual(rng):
    operators = (
        linear(0, 3, 3, rng),
        Relu("leaky", (1,), (3,), 0.2),
        Sum("sum", (2, 0), (3,), (1.0, -1.0)),
        Relu("relu", (3,), (3,), 0.0),
        linear(4, 3, 4, rng),
    )
    return (3,), operators


def pools(shape, kernel):
    plane = window_indices(shape, kernel, (1, 1), (0, 0, 0, 0))
    size = shape[1] * shape[2]
    stacked = [np.where(plane < 0, -1, plane + channel * size) for channel in range(shape[0])]
    return np.concatenate([windows.reshape(-1, windows.shape[-1]) for windows in stacked])


def pooled(rng, *, with_relu):
    conv = Conv(
        "conv",
        (0,),
        (1, 3, 2),
        rng.normal(size=(1, 1, 2, 2)),
        rng.normal(size=1),
        (1, 1),
        (0,) * 4,
        (1, 1),
        1,
    )
    middle = (Relu("relu", (1,), (1, 3, 2), 0.0),) if with_relu else ()
    last = 1 + len(middle)
    tail = (
        MaxPool("pool", (last,), (1, 2, 1), pools((1, 3, 2), (2, 2))),
        Reshape("flat", (last + 1,), (2,)),
        linear(last + 2, 2, 4, rng),
    )
    return (1, 4, 3), (conv, *middle, *tail)


def branches(rng):
    operators = (
        Pad("pad", (0,), (1, 3, 3), (1, 0, 0, 1), 0.3),
        Conv(
            "conv",
            (1,),
            (2, 2, 2),
            rng.normal(size=(2, 1, 2, 2)),
            rng.normal(size=2),
            (1, 1),
            (0,) * 4,
            (1, 1),
            1,
        ),
        Relu("relu", (2,), (2, 2, 2), 0.0),
        Concat("concat", (3, 0), (3, 2, 2), 0),
        Reshape("flat", (4,), (12,)),
        linear(5, 12, 4, rng),
    )
    return (1, 2, 2), operators


NETWORKS = {
    "dense": dense,
    "leaky residual": leaky_residual,
    "relu and pool": lambda rng: pooled(rng, with_relu=True),
    "pool": lambda rng: pooled(rng, with_relu=False),
    "pad and concat": branches,
}


def network_of(name, seed):
    shape, operators = NETWORKS[name](np.random.default_rng(seed))
    labels = tuple(str(label) for label in range(operators[-1].shape[0]))
    return Network(
        Path("none"),
        "",
        shape,
        operators,
        len(operators),
        labels,
        Tail.NONE,
        Preprocessing(),
        False,
        None,
        (),
    )


def region_of(network, seed, epsilon=0.4, moving=3):
    """A box of random widths around a random image; all but ``moving`` inputs have zero range."""
    rng = np.random.default_rng(seed)
    image = rng.uniform(0.2, 0.8, network.input_shape).astype(np.float32)
    epsilons = np.zeros(image.size)
    epsilons[rng.permutation(image.size)[:moving]] = epsilon * rng.uniform(0.3, 1.0, min(moving, image.size))
    return Region.per_pixel(image, epsilons.reshape(image.shape))


def interval_bounds(network, region):
    found = [Interval(region.lower, region.upper)]
    for operator in network.operators:
        inputs = [found[source] for source in operator.inputs]
        found.append(
            interval_step(operator, inputs, [network.shape_of(source) for source in operator.inputs])
        )
    return ValueBounds(tuple(found))


def interval_step(operator, inputs, shapes):
    match operator:
        case Relu():
            low, high = (
                np.maximum(b, operator.negative_slope * b) for b in (inputs[0].lower, inputs[0].upper)
            )
        case MaxPool():
            padded = (np.append(b.reshape(-1), -np.inf) for b in (inputs[0].lower, inputs[0].upper))
            low, high = (b[operator.windows].max(axis=1).reshape(operator.shape) for b in padded)
        case _:
            step = affine_step(operator, shapes, np.arange(int(np.prod(operator.shape))))
            low, high = step.constant.copy(), step.constant.copy()
            for matrix, source in zip(step.matrices, inputs, strict=True):
                weights, lower, upper = matrix.toarray(), source.lower.reshape(-1), source.upper.reshape(-1)
                low += np.maximum(weights, 0) @ lower + np.minimum(weights, 0) @ upper
                high += np.maximum(weights, 0) @ upper + np.minimum(weights, 0) @ lower
            low, high = low.reshape(operator.shape), high.reshape(operator.shape)
    return Interval(low, high)


def scores(network, images):
    with torch.no_grad():
        return TorchNetwork(network, torch.float64)(torch.as_tensor(images)).numpy()


def enumerate_margin(network, region, clause):
    """The largest margin by one linear program per activation pattern and choice of atoms."""
    size = region.lower.size
    best = -np.inf
    for values, guards in patterns(network, region):
        matrix, constant = values[network.output]
        atoms, offsets = clause.weights @ matrix, clause.weights @ constant + clause.offsets
        for chosen in itertools.combinations(range(clause.atoms), clause.needed):
            rows = [np.append(-atoms[atom], 1.0) for atom in chosen] + [
                np.append(-row, 0.0) for row, _ in guards
            ]
            limits = [offsets[atom] for atom in chosen] + [shift for _, shift in guards]
            box = [*zip(region.lower.reshape(-1), region.upper.reshape(-1), strict=True), (None, None)]
            answer = optimize.linprog(
                np.append(np.zeros(size), -1.0), np.array(rows), np.array(limits), bounds=box
            )
            if answer.status == 0:
                best = max(best, -answer.fun)
    return best


def patterns(network, region):
    """Every combination of phases: dense affine values and guards ``row x + shift >= 0``."""
    size = region.lower.size
    open_ones = [([(np.eye(size), np.zeros(size))], [])]
    lower, upper = region.lower.reshape(-1), region.upper.reshape(-1)
    for operator in network.operators:
        open_ones = [
            ([*values, result], [*guards, *new])
            for values, guards in open_ones
            for result, new in steps(
                operator, [values[source] for source in operator.inputs], network, (lower, upper)
            )
        ]
    return open_ones


def steps(operator, inputs, network, box):
    if isinstance(operator, Relu):
        matrix, constant = inputs[0]
        for on in itertools.product([True, False], repeat=len(constant)):
            signs = np.where(on, 1.0, -1.0)
            guards = [
                (sign * row, sign * shift) for sign, row, shift in zip(signs, matrix, constant, strict=True)
            ]
            if all(np.maximum(row * box[0], row * box[1]).sum() + shift >= 0 for row, shift in guards):
                factor = np.where(on, 1.0, operator.negative_slope)
                yield (factor[:, None] * matrix, factor * constant), guards
    elif isinstance(operator, MaxPool):
        matrix, constant = inputs[0]
        for winners in itertools.product(
            *[[entry for entry in window if entry >= 0] for window in operator.windows]
        ):
            guards = [
                (matrix[winner] - matrix[other], constant[winner] - constant[other])
                for winner, window in zip(winners, operator.windows, strict=True)
                for other in window
                if other not in (winner, -1)
            ]
            yield (matrix[list(winners)], constant[list(winners)]), guards
    else:
        shapes = [network.shape_of(source) for source in operator.inputs]
        step = affine_step(operator, shapes, np.arange(int(np.prod(operator.shape))))
        matrix = sum(part @ value[0] for part, value in zip(step.matrices, inputs, strict=True))
        constant = step.constant + sum(
            part @ value[1] for part, value in zip(step.matrices, inputs, strict=True)
        )
        yield (matrix, constant), []


def all_kept(clause):
    """The clause with atoms lifted far above zero, so that the program keeps all; and by how much."""
    lift = 1000.0
    return Clause(clause.weights, clause.offsets + lift, clause.needed), lift


def optimum(encoding, backend=None):
    backend = backend or HighsBackend()
    answer = backend.solve(encoding.model, FREE, stop_above=math.inf, stop_below=-math.inf, threads=1, seed=0)
    assert answer.status == "optimal"
    return answer


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_optimum_agrees_with_enumeration(name, k):
    network = network_of(name, seed=k)
    region = region_of(network, seed=k + 10)
    clause, lift = all_kept(top_k(4, 0, k).clauses[0])
    encoding = encode(network, interval_bounds(network, region), clause)
    assert isinstance(encoding, Encoding)
    answer = optimum(encoding)
    assert answer.objective - lift == pytest.approx(
        enumerate_margin(network, region, clause) - lift, abs=AGREEMENT
    )
    image = encoding.decode(answer.incumbent)
    assert region.contains(image)
    assert clause.margin(scores(network, image[None]))[0] == pytest.approx(answer.objective, abs=AGREEMENT)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(sorted(NETWORKS)),
    st.integers(0, 10_000),
    st.integers(1, 4),
    st.floats(0.01, 0.6),
    st.integers(0, 12),
)
def test_no_sample_beats_the_program(name, seed, needed, epsilon, moving):
    network = network_of(name, seed)
    region = region_of(network, seed + 1, epsilon, moving)
    rng = np.random.default_rng(seed)
    clause = Clause(rng.normal(size=(5, 4)), rng.normal(size=5), needed)
    images = rng.uniform(region.lower, region.upper, (2000, *region.shape))
    # corners are where pieces of a network are largest
    images[1000:] = np.where(rng.random((1000, *region.shape)) < 0.5, region.lower, region.upper)
    sampled = clause.margin(scores(network, images)).max()
    encoding = encode(network, interval_bounds(network, region), clause)
    if isinstance(encoding, ProvedByBounds):
        assert sampled <= encoding.bound < 0
        return
    answer = optimum(encoding)
    assert sampled <= encoding.margin_bound(answer.best_bound) + AGREEMENT
    image = encoding.decode(answer.incumbent)
    reached = clause.margin(scores(network, image[None]))[0]
    assert reached >= answer.objective - AGREEMENT


@pytest.mark.parametrize("name", NETWORKS)
def test_a_box_that_is_a_point_gives_the_forward_value(name):
    network = network_of(name, seed=5)
    region = region_of(network, seed=6, moving=0)
    clause, _ = all_kept(top_k(4, 1, 2).clauses[0])
    encoding = encode(network, interval_bounds(network, region), clause)
    expected = clause.margin(scores(network, region.lower[None]))[0]
    assert isinstance(encoding, Encoding)
    assert encoding.size.binaries <= clause.atoms
    assert optimum(encoding).objective == pytest.approx(expected, abs=AGREEMENT)
    assert np.array_equal(encoding.decode(np.zeros(encoding.model.columns)), region.lower)


def test_zero_range_pixels_and_unread_neurons_have_no_variable():
    network = network_of("dense", seed=1)
    weights = network.operators[2].weight
    weights[:, 3] = 0.0
    region = region_of(network, seed=1, epsilon=1.0, moving=2)
    clause, _ = all_kept(top_k(4, 0, 1).clauses[0])
    encoding = encode(network, interval_bounds(network, region), clause)
    assert list(encoding.pixels) == list(np.flatnonzero(region.moving))
    assert encoding.size.unstable_relus <= 4


def test_a_relu_that_only_feeds_a_pool_has_no_binary_of_its_own():
    network = network_of("relu and pool", seed=2)
    region = region_of(network, seed=2, epsilon=1.0, moving=12)
    clause, _ = all_kept(top_k(4, 0, 1).clauses[0])
    encoding = encode(network, interval_bounds(network, region), clause)
    assert (encoding.size.unstable_relus, encoding.size.unstable_pools) == (0, 2)


def test_ties_are_not_proved_by_bounds():
    weight = np.array([[1.0], [1.0]])
    operators = (Linear("linear", (0,), (2,), weight, np.zeros(2)),)
    network = Network(
        Path("none"), "", (1,), operators, 1, ("a", "b"), Tail.NONE, Preprocessing(), False, None, ()
    )
    region = Region(np.array([0.0]), np.array([1.0]))
    encoding = encode(network, interval_bounds(network, region), top_k(2, 0, 1).clauses[0])
    assert isinstance(encoding, Encoding)
    assert optimum(encoding).objective == pytest.approx(0.0, abs=AGREEMENT)


def test_fewer_possible_atoms_than_needed_is_a_proof():
    network = network_of("dense", seed=3)
    region = region_of(network, seed=3)
    clause = Clause(np.eye(4), np.array([-1e4, -2e4, -3e4, 0.0]), 2)
    answer = encode(network, interval_bounds(network, region), clause)
    assert isinstance(answer, ProvedByBounds)
    assert -1.1e4 < answer.bound < -0.9e4


def test_atom_bounds_remove_atoms_and_their_bound_stays_in_the_answer():
    network = network_of("dense", seed=4)
    region = region_of(network, seed=4)
    bounds = interval_bounds(network, region)
    middle = (bounds[network.output].lower[1] + bounds[network.output].upper[1]) / 2
    clause = Clause(np.eye(4), np.array([1000.0, -middle, 1000.0, 1000.0]), 2)
    better = Interval(np.full(4, -np.inf), np.array([np.inf, -0.001, np.inf, np.inf]))
    encoding = encode(network, bounds, clause, better)
    assert encoding.left_out == pytest.approx(-0.001, abs=1e-5)
    assert encoding.margin_bound(-5.0) == encoding.left_out


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["dense", "relu and pool"])
def test_refuted_sets_are_not_chosen_and_all_others_are(name, seed):
    """Against enumeration: the largest margin of a pair of atoms that contains no excluded set."""
    network = network_of(name, seed)
    region, rng = region_of(network, seed + 20), np.random.default_rng(seed)
    clause, lift = all_kept(Clause(rng.normal(size=(4, 4)), rng.normal(size=4), 2))
    pairs = [frozenset(pair) for pair in itertools.combinations(range(4), 2)]
    excluded = tuple(pairs[number] for number in rng.permutation(6)[: 1 + seed])
    # a set that is larger than what is needed says nothing here
    encoding = encode(
        network,
        interval_bounds(network, region),
        clause,
        refuted=Refuted((*excluded, frozenset({0, 1, 2})), -0.5),
    )
    margins = []
    for pair in set(pairs) - set(excluded):
        rows = sorted(pair)
        margins.append(
            enumerate_margin(network, region, Clause(clause.weights[rows], clause.offsets[rows], 2))
        )
    answer = optimum(encoding)
    assert answer.objective - lift == pytest.approx(max(margins) - lift, abs=AGREEMENT)
    assert encoding.margin_bound(-3.0) == -0.5
    assert encoding.proves(-3.0)


def test_nothing_is_left_where_every_set_is_refuted():
    network = network_of("dense", seed=4)
    region = region_of(network, seed=4)
    clause, _ = all_kept(Clause(np.eye(4), np.zeros(4), 3))
    refuted = Refuted((frozenset({0, 1}), frozenset({2, 3})), -0.5)
    answer = encode(network, interval_bounds(network, region), clause, refuted=refuted)
    assert isinstance(answer, ProvedByBounds)
    assert answer.bound == -0.5


def test_refuted_sets_by_the_places_of_their_atoms():
    refuted = Refuted((frozenset({1, 5}), frozenset({2}), frozenset({3, 5})), -0.5)
    assert refuted.renumbered([1, 3, 5]).sets == (frozenset({0, 2}), frozenset({1, 2}))


def test_no_binaries_for_atoms_that_are_all_needed():
    network = network_of("dense", seed=4)
    region = region_of(network, seed=4, moving=0)
    clause = Clause(np.eye(4), np.full(4, 1000.0), 4)
    assert encode(network, interval_bounds(network, region), clause).size.binaries == 0


@pytest.mark.parametrize("name", NETWORKS)
def test_backends_agree(name):
    gurobi = GurobiBackend()
    if not gurobi.is_available():
        pytest.skip("gurobipy is not installed")
    network = network_of(name, seed=8)
    region = region_of(network, seed=9)
    clause, _ = all_kept(top_k(4, 2, 2).clauses[0])
    encoding = encode(network, interval_bounds(network, region), clause)
    assert optimum(encoding, gurobi).objective == pytest.approx(optimum(encoding).objective, abs=AGREEMENT)


def test_rows_hold_at_every_forward_pass():
    """The program admits every point of the region: its columns can be filled in from the network."""
    network = network_of("dense", seed=11)
    region = region_of(network, seed=12, epsilon=1.0)
    clause, _ = all_kept(top_k(4, 0, 2).clauses[0])
    encoding = encode(network, interval_bounds(network, region), clause)
    model = encoding.model
    for image in np.random.default_rng(0).uniform(region.lower, region.upper, (5, *region.shape)):
        lower, upper = model.lower.copy(), model.upper.copy()
        lower[encoding.columns] = upper[encoding.columns] = image.reshape(-1)[encoding.pixels]
        result = optimize.milp(
            -model.objective,
            integrality=model.integral,
            bounds=optimize.Bounds(lower, upper),
            constraints=optimize.LinearConstraint(
                sparse.csr_array(model.matrix), model.row_lower, model.row_upper
            ),
        )
        assert result.status == 0
        assert -result.fun == pytest.approx(clause.margin(scores(network, image[None]))[0], abs=AGREEMENT)
