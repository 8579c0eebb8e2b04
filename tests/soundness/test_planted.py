"""Networks built to be answered wrongly: hidden counterexamples, extreme numbers, ties, odd regions."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlverify.errors import DisagreementError, ModelFormatError, PropertyError
from mlverify.verifier.bounds_engine import BoundsEngine
from mlverify.verifier.budget import Budget
from mlverify.verifier.network import Network
from mlverify.verifier.onnx_reader import load_network
from mlverify.verifier.portfolio import Engine, Settings, Solver, Verifier
from mlverify.verifier.problem import Problem
from mlverify.verifier.property import Clause, Property, threshold, top_k
from mlverify.verifier.region import Layered, Region
from mlverify.verifier.result import Result, Verdict
from numpy.typing import ArrayLike
from onnx import helper
from onnx_factory import write_graph

Layers = list[tuple[ArrayLike, ArrayLike]]
FIRST_WINS = top_k(2, 0, 1)
CHOICES = [
    (frozenset([Engine.BOUNDS]), Solver.HIGHS),
    (frozenset([Engine.FALSIFY]), Solver.HIGHS),
    (frozenset([Engine.BOUNDS, Engine.BAB]), Solver.HIGHS),
    (frozenset([Engine.MILP]), Solver.HIGHS),
    (frozenset([Engine.MILP]), Solver.GUROBI),
    (frozenset(Engine), Solver.AUTO),
]


def dense(folder: Path, layers: Layers, tail: str | None = None) -> Network:
    """Gemm layers with ReLU between them, from their weights."""
    nodes, constants, value = [], {}, "input"
    for number, (weight, bias) in enumerate(layers):
        constants[f"w{number}"] = np.asarray(weight, dtype=np.float32)
        constants[f"b{number}"] = np.asarray(bias, dtype=np.float32)
        names = [value, f"w{number}", f"b{number}"]
        nodes.append(helper.make_node("Gemm", names, [f"s{number}"], name=f"dense{number}", transB=1))
        value = f"s{number}"
        if number < len(layers) - 1:
            nodes.append(helper.make_node("Relu", [value], [f"r{number}"], name=f"relu{number}"))
            value = f"r{number}"
    if tail:
        nodes.append(helper.make_node(tail, [value], ["tail"], name="tail"))
    nodes[-1].output[0] = "output"
    shapes = np.shape(layers[0][0])[1:], np.shape(layers[-1][0])[0]
    return load_network(write_graph(folder / "planted.onnx", nodes, constants, *shapes))


def box(lower: ArrayLike, upper: ArrayLike) -> Region:
    return Region(np.asarray(lower, dtype=np.float64), np.asarray(upper, dtype=np.float64))


def verdicts(network: Network, region: Region, question: Property = FIRST_WINS) -> list[Result]:
    """The answers of every engine alone and of all together."""
    results = []
    for engines, solver in CHOICES:
        verifier = Verifier(network, Settings(solver, 1, engines=engines))
        result = verifier.verify(Problem(network, region, question), Budget.of_seconds(20))
        if result.witness is not None:
            assert region.contains(result.witness.image)
        results.append(result)
    return results


def words(results: list[Result]) -> set[Verdict]:
    return {result.verdict for result in results}


# --- hidden counterexamples -----------------------------------------------------------------------------


@pytest.mark.parametrize("steep", [1.0, 1e3, 1e6])
def test_one_corner_of_many_violates_and_has_no_gradient_elsewhere(tmp_path, steep):
    pixels = 12
    corner = np.where(np.arange(pixels) % 2 == 0, 1.0, -1.0)
    reached = steep * pixels / 2
    layers = [(steep * corner[None], [1.0 - reached]), ([[0.0], [1.0]], [0.5, 0.0])]
    network = dense(tmp_path, layers)
    results = verdicts(network, box(np.zeros(pixels), np.ones(pixels)))
    assert Verdict.HOLDS not in words(results)
    assert results[-1].verdict is Verdict.VIOLATED
    # the corner cut off by a thousandth of a pixel: what is left has no violation, by far for steep bumps
    upper = np.where(corner > 0, 0.999, 1.0)
    left = verdicts(network, box(np.zeros(pixels), upper))
    if steep >= 1e3:
        assert Verdict.VIOLATED not in words(left)


def test_a_narrow_spike_between_two_flat_pieces(tmp_path):
    layers = [(np.ones((3, 1)), [-0.37, -0.374, -0.378]), ([[0, 0, 0], [256, -512, 256]], [1.0, 0.0])]
    network = dense(tmp_path, layers)
    results = verdicts(network, box([0.0], [1.0]))
    assert Verdict.HOLDS not in words(results)
    assert results[-1].verdict is Verdict.VIOLATED
    assert words(verdicts(network, box([0.0], [0.372]))) <= {Verdict.HOLDS, Verdict.UNKNOWN}


def test_a_coefficient_that_solvers_drop_carries_the_violation(tmp_path):
    layers = [([[1e13], [-1e13]], [-5e12, 5e12]), ([[0, 0], [1e-13, 1e-13]], [0.3, 0])]
    results = verdicts(dense(tmp_path, layers), box([0.0], [1.0]))
    assert Verdict.HOLDS not in words(results)
    assert results[-1].verdict is Verdict.VIOLATED


def test_numbers_that_vanish_and_come_back(tmp_path):
    small, large = [[1e-30, 1e-30], [-1e-30, -1e-30]], [[0, 0], [1e30, 1e30]]
    layers = [([[1.0], [-1.0]], [-0.5, 0.5]), (small, [-1e-31, 1e-31]), (large, [0.3, 0])]
    results = verdicts(dense(tmp_path, layers), box([0.0], [1.0]))
    assert Verdict.HOLDS not in words(results)
    assert results[-1].verdict is Verdict.VIOLATED


# --- ties ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "gap"), [(1.0, 0.0), (1.0, 1e-7), (10.0, 5e-7), (1e3, 1e-5), (1e6, 1e-2)])
def test_a_gap_that_float32_rounds_away_is_never_proved(tmp_path, size, gap):
    layers = [(np.eye(2), [0, 0]), (np.full((2, 2), size), [gap, 0])]
    results = verdicts(dense(tmp_path, layers), box([0, 0], [1, 1]))
    assert Verdict.HOLDS not in words(results)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_labels_with_the_same_row_tie_everywhere(tmp_path, k):
    rows = [[1.0, 2.0]] * 4
    results = verdicts(dense(tmp_path, [(rows, [0.0] * 4)]), box([0, 0], [1, 1]), top_k(4, 1, k))
    assert Verdict.HOLDS not in words(results)
    assert results[-1].verdict is Verdict.VIOLATED


def test_a_saturated_softmax_does_not_hide_the_logits(tmp_path):
    layers = [(np.eye(2), [0, 0]), ([[100.0, 0], [0, -100.0]], [300, 100])]
    network = dense(tmp_path, layers, "Softmax")
    assert words(verdicts(network, box([0, 0], [1, 1]))) <= {Verdict.HOLDS, Verdict.UNKNOWN}
    three = [(np.eye(2), [0, 0]), ([[0, 0], [50.0, 0], [0, 50.0]], [400, 100, 110])]
    network = dense(tmp_path, three, "Softmax")
    # both others are exactly 0 in float32; label 2 is second only while label 1 stays below
    assert Verdict.HOLDS not in words(verdicts(network, box([0, 0], [1, 1]), top_k(3, 2, 2)))
    assert Verdict.VIOLATED not in words(verdicts(network, box([0, 0], [0.1, 1]), top_k(3, 2, 2)))


# --- networks that hardly are any ------------------------------------------------------------------------


@pytest.mark.parametrize(("bias", "expected"), [([1, 0], Verdict.HOLDS), ([0, 1], Verdict.VIOLATED)])
def test_an_output_that_ignores_the_image(tmp_path, bias, expected):
    network = dense(tmp_path, [(np.zeros((2, 3)), bias)])
    results = verdicts(network, box([0, 0, 0], [1, 1, 1]))
    assert words(results) <= {expected, Verdict.UNKNOWN}
    assert results[-1].verdict is expected


@pytest.mark.parametrize("shift", [-5.0, 5.0])
def test_all_neurons_off_or_all_on(tmp_path, shift):
    layers = [(np.eye(3), np.full(3, shift)), ([[1, 1, 0.5], [0, 0, 1.0]], [0.25, 0])]
    results = verdicts(dense(tmp_path, layers), box([0, 0, 0], [1, 1, 1]))
    assert words(results) <= {Verdict.HOLDS, Verdict.UNKNOWN}
    assert results[-1].verdict is Verdict.HOLDS


def test_one_label_has_only_thresholds(tmp_path):
    network = dense(tmp_path, [([[1.0, 1.0]], [0.0])])
    region = box([0, 0], [1, 1])
    above = verdicts(network, region, threshold(1, 0, above=True, logit=-0.1))
    assert above[-1].verdict is Verdict.HOLDS
    below = verdicts(network, region, threshold(1, 0, above=False, logit=2.0))
    assert words(below) <= {Verdict.VIOLATED, Verdict.UNKNOWN}
    with pytest.raises(PropertyError, match="k must be"):
        top_k(1, 0, 1)


def test_a_network_that_is_only_a_reshape(tmp_path):
    nodes = [helper.make_node("Flatten", ["input"], ["output"], name="flat")]
    network = load_network(write_graph(tmp_path / "flat.onnx", nodes, {}, [1, 1, 2], 2))
    assert verdicts(network, box([[[0.6, 0.0]]], [[[1.0, 0.5]]]))[-1].verdict is Verdict.HOLDS
    assert verdicts(network, box([[[0.4, 0.0]]], [[[1.0, 0.5]]]))[-1].verdict is Verdict.VIOLATED


def test_a_network_that_is_its_input(tmp_path):
    nodes = [helper.make_node("Identity", ["input"], ["output"], name="same")]
    network = load_network(write_graph(tmp_path / "same.onnx", nodes, {}, [2], 2))
    assert verdicts(network, box([0.6, 0.0], [1.0, 0.5]))[-1].verdict is Verdict.HOLDS
    assert verdicts(network, box([0.4, 0.0], [1.0, 0.5]))[-1].verdict is Verdict.VIOLATED


# --- numbers that are none -------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", ["weight", "bias"])
def test_weights_that_are_not_numbers_are_refused_by_node(tmp_path, number, place):
    weight, bias = np.eye(2), np.zeros(2)
    (weight if place == "weight" else bias).flat[0] = number
    with pytest.raises(ModelFormatError, match=r"dense0.*NaN or infinite"):
        dense(tmp_path, [(weight, bias), ([[1, 1], [1, 2]], [1, 0])])


def test_bounds_that_overflow_prove_nothing_and_break_nothing(tmp_path):
    # off on every probe, on at one corner: nothing at load shows what is behind it
    corner = [[1e38, -1e38, 1e38, -1e38]]
    layers: Layers = [(corner, [-1.9e38]), *[([[1e38]], [0.0])] * 9, ([[0.0], [1.0]], [1.0, 0.0])]
    network = dense(tmp_path, layers)
    region = box(np.zeros(4), np.ones(4))
    outcome = BoundsEngine(network).crown(region, FIRST_WINS)
    assert not outcome.proved
    for engines in (frozenset([Engine.BOUNDS]), frozenset([Engine.MILP])):
        verifier = Verifier(network, Settings(threads=1, engines=engines))
        result = verifier.verify(Problem(network, region, FIRST_WINS), Budget.of_seconds(10))
        assert result.verdict is Verdict.UNKNOWN
        assert result.margin_bound is None
    with pytest.raises(DisagreementError):
        # float32 overflows at the corner, float64 does not: that is said, not decided
        Verifier(network).replay.judge(region, FIRST_WINS, np.array([1.0, 0.0, 1.0, 0.0]))


def test_atoms_must_be_numbers_and_speak_of_the_same_scores():
    with pytest.raises(PropertyError, match="NaN or infinite"):
        Clause(np.ones((1, 2)), np.array([np.inf]), 1)
    with pytest.raises(PropertyError, match="NaN or infinite"):
        threshold(2, 0, above=True, logit=math.nan)
    clauses = (Clause(np.ones((1, 2)), np.zeros(1), 1), Clause(np.ones((1, 3)), np.zeros(1), 1))
    with pytest.raises(PropertyError, match="same number"):
        Property(clauses, "two sizes")


# --- regions ---------------------------------------------------------------------------------------------


FLOATS = st.floats(-4, 4, width=32)


@given(st.lists(FLOATS, min_size=1, max_size=4), st.floats(0, 3, width=64))
@settings(max_examples=300, deadline=None)
def test_regions_never_leave_the_ball_and_always_hold_the_image(pixels, epsilon):
    image = np.array(pixels, dtype=np.float32)
    region = Region.linf(image, epsilon)
    assert region.contains(image)
    exact = image.astype(np.float64)
    # one rounding of float64 at pixels of at most 4
    assert (exact - region.lower <= epsilon + 1e-15).all()
    assert (region.upper - exact <= epsilon + 1e-15).all()
    inside = (exact >= 0) & (exact <= 1)
    assert (region.lower[inside] >= 0).all()
    assert (region.upper[inside] <= 1).all()
    smaller = Region.linf(image, epsilon / 2)
    assert (region.lower <= smaller.lower).all()
    assert (region.upper >= smaller.upper).all()


@given(st.floats(-2, 2), st.floats(0, 1e-6), st.floats(-3, 3) | st.just(math.nan) | st.just(math.inf))
@settings(max_examples=300, deadline=None)
def test_projection_finds_a_float32_number_where_there_is_one(lower, width, point):
    region = box([lower], [lower + width])
    found = region.project(np.array([point]))
    first = np.float32(lower)
    first = first if float(first) >= lower else np.nextafter(first, np.float32(np.inf))
    exists = float(first) <= lower + width
    assert region.contains(found) == (exists and not math.isnan(point))


def test_an_epsilon_below_float32_moves_nothing(tmp_path):
    network = dense(tmp_path, [(np.eye(2), [0.0, 0.0])])
    tied = np.array([0.3, 0.3], dtype=np.float32)
    assert verdicts(network, Region.linf(tied, 1e-12))[-1].verdict is Verdict.VIOLATED
    apart = np.array([0.3001, 0.3], dtype=np.float32)
    assert verdicts(network, Region.linf(apart, 1e-12))[-1].verdict is Verdict.HOLDS


def test_a_violation_between_two_float32_numbers_has_no_witness(tmp_path):
    network = dense(tmp_path, [(np.eye(2), [0.0, 5.0])])
    region = box([0.1, 0.1], [0.1 + 1e-12, 0.1 + 1e-12])
    assert words(verdicts(network, region)) == {Verdict.UNKNOWN}


def test_a_layer_that_has_no_number_is_refused():
    layers = np.array([[0, -1]])
    with pytest.raises(PropertyError, match="negative"):
        Layered(np.zeros((1, 1, 2), dtype=np.float32), layers, np.array([0.1]))
