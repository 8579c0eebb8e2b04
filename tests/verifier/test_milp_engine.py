"""The engine believes nothing that it can't use: statuses, bounds and points of a solver that lies."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from mlverify.errors import DisagreementError
from mlverify.verifier.bounds_engine import BoundsEngine
from mlverify.verifier.budget import Budget
from mlverify.verifier.interval import Interval, ValueBounds
from mlverify.verifier.milp import MILP_MARGIN, WITNESS_MARGIN, MilpVerdict, solve_clause
from mlverify.verifier.milp_highs import HighsBackend
from mlverify.verifier.milp_model import MilpAnswer, MilpModel, MilpStatus
from mlverify.verifier.network import Network, Tail
from mlverify.verifier.operators import Linear, Relu
from mlverify.verifier.preprocessing import Preprocessing
from mlverify.verifier.property import Clause, Property
from mlverify.verifier.region import Region
from mlverify.verifier.torch_network import TorchNetwork


@dataclass(frozen=True)
class Liar:
    """A solver that answers what it was told to."""

    status: MilpStatus
    best_bound: float
    point: float | None = None
    objective: float = math.nan
    name: str = "liar"

    def is_available(self):
        return True

    def solve(self, model: MilpModel, budget, *, stop_above, stop_below, threads, seed):
        incumbent = None if self.point is None else np.full(model.columns, self.point)
        return MilpAnswer(self.status, self.best_bound, incumbent, self.objective, 0, 0.0)


def tent():
    """score = relu(x) + relu(-x) on [-1, 1]: 0 to 1, exactly |x|."""
    operators = (
        Linear("split", (0,), (2,), np.array([[1.0], [-1.0]]), np.zeros(2)),
        Relu("relu", (1,), (2,), 0.0),
        Linear("sum", (2,), (1,), np.array([[1.0, 1.0]]), np.zeros(1)),
    )
    network = Network(
        Path("none"), "", (1,), operators, 3, ("a",), Tail.NONE, Preprocessing(), False, None, ()
    )
    ones = np.ones(1)
    values = (
        Interval(-ones, ones),
        Interval(-np.ones(2), np.ones(2)),
        Interval(np.zeros(2), np.ones(2)),
        Interval(np.zeros(1), 2 * ones),
    )
    return network, ValueBounds(values)


def ask(backend, offset, budget=None):
    """Can |x| + offset reach 0 (intervals think up to 2 + offset)?"""
    network, bounds = tent()
    clause = Clause(np.ones((1, 1)), np.array([offset]), 1)
    return solve_clause(network, bounds, clause, backend, budget or Budget())


def test_a_property_that_only_the_program_can_prove():
    outcome = ask(HighsBackend(), -1.5)
    assert outcome.verdict is MilpVerdict.PROVED
    assert -0.5 - MILP_MARGIN <= outcome.bound < 0
    assert outcome.size.binaries == 2


def test_bounds_prove_without_a_program():
    outcome = ask(Liar(MilpStatus.ERROR, math.nan), -2.5)
    assert (outcome.verdict, outcome.size) == (MilpVerdict.PROVED, None)
    assert outcome.bound == pytest.approx(-0.5, abs=1e-5)


def test_a_candidate_has_the_margin_that_it_claims():
    outcome = ask(HighsBackend(), -0.75)
    assert outcome.verdict is MilpVerdict.CANDIDATE
    network, _ = tent()
    score = TorchNetwork(network, torch.float64)(torch.as_tensor(outcome.candidate[None]))
    assert float(score[0, 0]) - 0.75 == pytest.approx(outcome.margin, abs=1e-7)
    assert outcome.margin > WITNESS_MARGIN


def test_a_tie_is_a_candidate_and_never_a_proof():
    outcome = ask(HighsBackend(), -1.0)
    assert outcome.verdict is MilpVerdict.CANDIDATE
    assert outcome.margin == pytest.approx(0.0, abs=MILP_MARGIN)


def test_a_margin_within_the_tolerances_is_never_a_proof():
    assert ask(HighsBackend(), -1.0 - MILP_MARGIN / 2).verdict is not MilpVerdict.PROVED


@pytest.mark.parametrize("status", MilpStatus)
@pytest.mark.parametrize("bound", [math.nan, -math.inf, math.inf, 0.0, -MILP_MARGIN, -100.0])
def test_no_status_proves_without_a_usable_bound(status, bound):
    assert ask(Liar(status, bound), -1.5).verdict is MilpVerdict.UNKNOWN


@pytest.mark.parametrize("status", [MilpStatus.ERROR, MilpStatus.INFEASIBLE])
def test_a_bound_of_a_failed_solve_is_not_used(status):
    outcome = ask(Liar(status, -0.1), -1.5)
    assert (outcome.verdict, outcome.bound) == (MilpVerdict.UNKNOWN, math.inf)


@pytest.mark.parametrize("status", [MilpStatus.TIME_LIMIT, MilpStatus.INTERRUPTED, MilpStatus.STOPPED_BELOW])
def test_a_dual_bound_below_zero_proves_whatever_ended_the_search(status):
    assert ask(Liar(status, -0.1), -1.5).verdict is MilpVerdict.PROVED


def test_a_point_above_the_bound_is_no_proof():
    assert ask(Liar(MilpStatus.OPTIMAL, -0.3, 0.5, -0.1), -1.5).verdict is MilpVerdict.UNKNOWN
    assert ask(Liar(MilpStatus.OPTIMAL, -0.3, 0.5, 0.2), -1.5).verdict is MilpVerdict.CANDIDATE


def test_a_broken_point_is_no_candidate():
    assert ask(Liar(MilpStatus.OPTIMAL, 1.0, math.nan, 0.5), -1.0).verdict is MilpVerdict.UNKNOWN
    assert ask(Liar(MilpStatus.OPTIMAL, 1.0, 0.5, math.nan), -1.0).verdict is MilpVerdict.UNKNOWN


def test_a_point_outside_is_brought_back_into_the_region():
    outcome = ask(Liar(MilpStatus.STOPPED_ABOVE, 9.0, 7.0, 6.0), -1.0)
    assert outcome.candidate[0] == 1.0


def test_an_exhausted_budget_is_unknown():
    assert ask(HighsBackend(), -1.5, Budget(cancelled=lambda: True)).verdict in (
        MilpVerdict.UNKNOWN,
        MilpVerdict.PROVED,
    )


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_bounds_that_are_not_numbers_prove_nothing(number):
    network, bounds = tent()
    broken = ValueBounds((*bounds.values[:1], Interval(np.full(2, number), np.ones(2)), *bounds.values[2:]))
    clause = Clause(np.ones((1, 1)), np.array([-1.5]), 1)
    outcome = solve_clause(network, broken, clause, HighsBackend(), Budget())
    assert (outcome.verdict, outcome.bound) == (MilpVerdict.UNKNOWN, math.inf)


def test_reversed_bounds_are_an_error():
    network, bounds = tent()
    broken = ValueBounds((*bounds.values[:1], Interval(np.ones(2), -np.ones(2)), *bounds.values[2:]))
    with pytest.raises(DisagreementError, match="report"):
        solve_clause(network, broken, Clause(np.ones((1, 1)), np.array([-1.5]), 1), HighsBackend(), Budget())


def large_layers(seed: int, scale: float) -> Network:
    """Three layers, the inner values about ``scale`` and the scores about 1."""
    generator, operators = np.random.default_rng(seed), []
    gains = ((scale, scale), (1.0, scale), (1.0 / scale, 1.0))
    for number, (sizes, (gain, shift)) in enumerate(zip(((4, 6), (6, 6), (6, 2)), gains, strict=True)):
        weight = generator.normal(size=sizes[::-1]) * gain
        bias = generator.normal(size=sizes[1]) * shift
        operators.append(Linear(f"l{number}", (2 * number,), sizes[1:], weight, bias))
        if number < 2:
            operators.append(Relu(f"r{number}", (2 * number + 1,), sizes[1:], 0.0))
    return Network(
        Path("none"), "", (4,), tuple(operators), 5, ("a", "b"), Tail.NONE, Preprocessing(), False, None, ()
    )


@pytest.mark.parametrize(("seed", "scale"), [(14, 1e7), (8, 3e7), (16, 1e8), (0, 1e9)])
def test_numbers_beyond_the_solvers_tolerances_prove_nothing(seed, scale):
    """HiGHS pruned what broke rows by no more than rounding, and proved that a margin of 0.05 is below zero."""
    network, region = large_layers(seed, scale), Region.linf(np.full(4, 0.5, dtype=np.float32), 0.5)
    points = np.random.default_rng(0).random((3000, 4)).round(1)
    scores = TorchNetwork(network, torch.float64)(torch.as_tensor(points)).numpy()
    weights = np.array([[1.0, -1.0]])
    clause = Clause(weights, np.array([0.05 - (scores @ weights[0]).max()]), 1)
    values = BoundsEngine(network).crown(region, Property((clause,), "")).values
    outcome = solve_clause(network, values, clause, HighsBackend(), Budget.of_seconds(20))
    assert outcome.verdict is not MilpVerdict.PROVED
    assert outcome.bound == math.inf
    if outcome.verdict is MilpVerdict.UNKNOWN:
        assert "too much for the solver's tolerances" in outcome.reason
