"""Who is asked in which order, and what is not believed."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from mlverify.errors import DisagreementError, SolverUnavailableError
from mlverify.verifier import milp_turn, portfolio, run
from mlverify.verifier.budget import Budget
from mlverify.verifier.falsify import AttackOutcome
from mlverify.verifier.max_engine import BabResult
from mlverify.verifier.milp import MilpOutcome, MilpVerdict
from mlverify.verifier.portfolio import Engine, Settings, Solver, Verifier
from mlverify.verifier.problem import Problem
from mlverify.verifier.property import Property, top_k
from mlverify.verifier.region import Region
from mlverify.verifier.result import MilpSize, Verdict
from scenes import small_scene

HIGHS = Settings(Solver.HIGHS, 1)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return small_scene(tmp_path_factory.mktemp("scene"))


def problem(scene, epsilon, k=2):
    return Problem(scene.network, Region.linf(scene.image, epsilon), scene.problem(k).question, scene.image)


# bounds prove 0.02; at 0.13 they can't, and the quick attack finds nothing; 0.4 breaks at once
EASY, HARD, BROKEN = 0.02, 0.13, 0.4


def nothing_found(self, problem, attack, seed, budget):
    return AttackOutcome(None, problem.start, -1.0, f"scripted search of {attack.steps} steps")


def no_answer(self, problem, known, clause, budget):
    size = MilpSize(1, 1, 1, 1, 0)
    return MilpOutcome(MilpVerdict.UNKNOWN, "scripted program", math.inf, None, math.nan, size, 0.0, 0)


class GivesUp:
    """A branch and bound that never finds anything."""

    nodes = 1

    def __init__(self, network, values, clause, known, settings, device, recording):
        self._found = BabResult(known, values, None, 0, "scripted tree", ())

    def bound(self, budget):
        return self._found

    advance = bound


@pytest.fixture
def helpless(monkeypatch):
    """Neither the attack nor the complete engines find anything."""
    monkeypatch.setattr(portfolio.Falsifier, "search", nothing_found)
    monkeypatch.setattr(Verifier, "solve_milp", no_answer)
    monkeypatch.setattr(run, "Branching", GivesUp)


def test_easy_questions_are_answered_by_the_first_engine(scene):
    result = Verifier(scene.network, HIGHS).verify(problem(scene, EASY))
    assert result.verdict is Verdict.HOLDS
    assert result.engine == "bounds/crown"
    assert [stage.engine for stage in result.stages] == ["bounds/crown"]
    assert result.margin_bound < 0
    assert result.witness is None
    assert result.trusted


def test_engines_are_asked_in_order_of_cost(scene, helpless, monkeypatch):
    monkeypatch.setattr(GivesUp, "nodes", milp_turn.SMALL_NODES + 1)
    result = Verifier(scene.network, HIGHS).verify(problem(scene, BROKEN))
    assert result.verdict is Verdict.UNKNOWN
    assert [(stage.engine, stage.detail) for stage in result.stages if "bounds" not in stage.engine] == [
        ("falsify/apgd-quick", "scripted search of 20 steps"),
        ("bab", "scripted tree"),
        ("falsify/apgd", "scripted search of 100 steps"),
        ("bab", "scripted tree"),
        ("milp", "scripted program"),
    ]
    bounds = [number for number, stage in enumerate(result.stages) if "bounds" in stage.engine]
    assert [(number, result.stages[number].engine) for number in bounds] == [
        (0, "bounds/crown"),
        (2, "bounds/alpha-crown"),
    ]
    assert all(stage.verdict is Verdict.UNKNOWN for stage in result.stages)
    assert (result.reason, result.engine) == ("scripted program", "milp")


def test_small_programs_are_the_milps_after_a_short_search(scene, helpless):
    result = Verifier(scene.network, HIGHS).verify(problem(scene, BROKEN))
    engines = [stage.engine for stage in result.stages if "bounds" not in stage.engine]
    assert engines == ["falsify/apgd-quick", "bab", "milp", "falsify/apgd", "bab"]


class Endless(GivesUp):
    """A branch and bound that goes on until it is told to stop."""

    def advance(self, budget):
        while not budget.exhausted:
            pass
        return self._found


class Proves(GivesUp):
    """A branch and bound that proves everything when it is asked for the second time."""

    asked = 0

    def advance(self, budget):
        self.asked += 1
        clause = replace(self._found.clause, proved=self.asked > 1, margin_bound=-1.0)
        return replace(self._found, clause=clause)


def proved(self, problem, known, clause, budget):
    return MilpOutcome(MilpVerdict.PROVED, "scripted program", -1.0, None, math.nan, None, 0.0, 0)


def until_cancelled(self, problem, known, clause, budget):
    while not budget.exhausted:
        pass
    return no_answer(self, problem, known, clause, budget)


@pytest.mark.parametrize(
    ("search", "program", "engine"), [(Endless, proved, "milp"), (Proves, until_cancelled, "bab")]
)
def test_with_two_threads_the_first_proof_ends_the_other(
    scene, helpless, monkeypatch, search, program, engine
):
    monkeypatch.setattr(run, "SHORT_SECONDS", 0.01)
    monkeypatch.setattr(run, "Branching", search)
    monkeypatch.setattr(Verifier, "solve_milp", program)
    result = Verifier(scene.network, replace(HIGHS, threads=2)).verify(
        problem(scene, BROKEN), Budget.of_seconds(60.0)
    )
    assert (result.verdict, result.engine) == (Verdict.HOLDS, engine)
    assert result.seconds < 50


class Slow(Proves):
    """It proves as well, but only when the MILP beside it has ended."""

    def advance(self, budget):
        while self.asked and not budget.exhausted:
            pass
        return super().advance(budget)


def two_threads(scene, monkeypatch, candidate):
    """Branch and bound proves while the MILP beside it has found a candidate."""

    def found(self, problem, known, clause, budget):
        return MilpOutcome(MilpVerdict.CANDIDATE, "found", 1.0, candidate, 1.0, None, 0.0, 0)

    monkeypatch.setattr(run, "SHORT_SECONDS", 0.01)
    monkeypatch.setattr(run, "Branching", Slow)
    monkeypatch.setattr(Verifier, "solve_milp", found)
    verifier = Verifier(scene.network, replace(HIGHS, threads=2))
    return verifier.verify(problem(scene, BROKEN), Budget.of_seconds(20.0))


def test_a_proof_beside_a_witness_is_an_error(scene, monkeypatch):
    witness = Verifier(scene.network, HIGHS).verify(problem(scene, BROKEN)).witness
    monkeypatch.setattr(portfolio.Falsifier, "search", nothing_found)
    with pytest.raises(DisagreementError, match="branch and bound proved the property and the MILP found"):
        two_threads(scene, monkeypatch, witness.image.astype(np.float64))


def test_a_proof_beside_a_candidate_that_was_none_stands(scene, helpless, monkeypatch):
    found = two_threads(scene, monkeypatch, scene.image.astype(np.float64))
    assert (found.verdict, found.engine) == (Verdict.HOLDS, "bab")


def test_a_proof_beside_a_replay_in_which_onnxruntime_differs_is_an_error(scene, helpless, monkeypatch):
    def differs(self, problem, point, seed, budget):
        raise DisagreementError("onnxruntime and float64 differ")

    monkeypatch.setattr(portfolio.Falsifier, "refine", differs)
    with pytest.raises(DisagreementError, match="onnxruntime and float64 differ"):
        two_threads(scene, monkeypatch, scene.image.astype(np.float64))


def test_with_two_threads_both_get_all_the_time(scene, helpless, monkeypatch):
    monkeypatch.setattr(run, "SHORT_SECONDS", 0.01)
    monkeypatch.setattr(run, "Branching", Endless)
    monkeypatch.setattr(Verifier, "solve_milp", until_cancelled)
    result = Verifier(scene.network, replace(HIGHS, threads=2)).verify(
        problem(scene, BROKEN), Budget.of_seconds(1.0)
    )
    assert (result.verdict, result.reason) == (Verdict.UNKNOWN, "time limit")
    assert [stage.engine for stage in result.stages][-2:] == ["bab", "milp"]


@pytest.mark.parametrize("engine", list(Engine))
def test_only_engines_that_are_wanted_are_asked(scene, helpless, engine):
    settings = replace(HIGHS, engines=frozenset({engine}))
    result = Verifier(scene.network, settings).verify(problem(scene, BROKEN))
    assert result.stages
    assert all(stage.engine.startswith(engine) for stage in result.stages)


def test_no_engine_at_all(scene):
    result = Verifier(scene.network, replace(HIGHS, engines=frozenset())).verify(problem(scene, EASY))
    assert (result.verdict, result.reason, result.engine) == (Verdict.UNKNOWN, "no engine was asked", "none")


def test_witnesses_lie_in_the_region_and_break_the_property(scene):
    asked = problem(scene, BROKEN)
    result = Verifier(scene.network, HIGHS).verify(asked)
    assert result.verdict is Verdict.VIOLATED
    assert asked.region.contains(result.witness.image)
    assert scene.margins(result.witness.image[None])[0] >= 0
    assert result.stages[-1].verdict is Verdict.VIOLATED
    assert not result.margin_bound < 0


def test_the_complete_engine_decides_between(scene):
    holds, violated = 0, 0
    for epsilon in (0.1, HARD, 0.15, 0.17, 0.2, 0.3):
        result = Verifier(scene.network, HIGHS).verify(problem(scene, epsilon))
        assert result.verdict is not Verdict.UNKNOWN
        # once violated, larger regions are too
        assert not (violated and result.verdict is Verdict.HOLDS)
        holds += result.verdict is Verdict.HOLDS
        violated += result.verdict is Verdict.VIOLATED
    assert holds
    assert violated


def test_an_attack_that_lies_is_not_believed(scene, monkeypatch):
    """The network that is attacked claims every image to be a counterexample; the user's file does not."""
    verifier = Verifier(scene.network, replace(HIGHS, engines=frozenset({Engine.FALSIFY})))
    real = type(verifier.falsifier.module).forward
    monkeypatch.setattr(
        verifier.falsifier.module, "forward", lambda inputs: -real(verifier.falsifier.module, inputs)
    )
    result = verifier.verify(problem(scene, EASY))
    assert result.verdict is Verdict.UNKNOWN
    assert result.witness is None
    assert [stage.engine for stage in result.stages] == ["falsify/apgd-quick", "falsify/apgd"]
    assert all("no violation" in stage.detail for stage in result.stages)


@pytest.mark.parametrize("point", ["clean", "outside", "nan"])
def test_a_milp_that_lies_is_not_believed(scene, monkeypatch, point):
    candidate = {
        "clean": scene.image.astype(np.float64),
        "outside": np.full(scene.image.shape, 7.0),
        "nan": np.full(scene.image.shape, np.nan),
    }[point]

    def lie(self, problem, known, clause, budget):
        return MilpOutcome(MilpVerdict.CANDIDATE, "found", 1.0, candidate, 1.0, None, 0.0, 0)

    monkeypatch.setattr(Verifier, "solve_milp", lie)
    # nor does the search that starts at the candidate find anything
    monkeypatch.setattr(portfolio.Falsifier, "search", nothing_found)
    settings = replace(HIGHS, engines=frozenset({Engine.MILP}))
    result = Verifier(scene.network, settings).verify(problem(scene, HARD))
    assert result.verdict is Verdict.UNKNOWN
    assert result.witness is None


def test_an_unproved_milp_answer_is_not_a_proof(scene, helpless):
    settings = replace(HIGHS, engines=frozenset({Engine.MILP}))
    assert Verifier(scene.network, settings).verify(problem(scene, BROKEN)).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize("epsilon", [EASY, BROKEN])
def test_no_time(scene, epsilon):
    result = Verifier(scene.network, HIGHS).verify(problem(scene, epsilon), Budget.of_seconds(0.0))
    assert (result.verdict, result.reason, result.stages) == (Verdict.UNKNOWN, "time limit", ())
    assert result.margin_bound is None


def test_cancelled(scene):
    result = Verifier(scene.network, HIGHS).verify(problem(scene, BROKEN), Budget(cancelled=lambda: True))
    assert (result.verdict, result.reason) == (Verdict.UNKNOWN, "interrupted")


def test_cancelled_between_engines(scene, helpless, monkeypatch):
    asked = []

    def search(self, problem, attack, seed, budget):
        asked.append(attack)
        return nothing_found(self, problem, attack, seed, budget)

    monkeypatch.setattr(portfolio.Falsifier, "search", search)
    verifier = Verifier(scene.network, HIGHS)
    result = verifier.verify(problem(scene, BROKEN), Budget(cancelled=lambda: bool(asked)))
    assert result.reason == "interrupted"
    assert [stage.engine for stage in result.stages] == ["bounds/crown", "falsify/apgd-quick"]
    # what the bounds said is kept
    assert result.margin_bound is not None


class NoLicence:
    name = "gurobi"

    def is_available(self):
        return False

    def solve(self, *arguments, **options):
        raise SolverUnavailableError("Gurobi has no licence for this size")


@pytest.mark.parametrize("solver", [Solver.AUTO, Solver.GUROBI])
def test_without_gurobi_highs_answers_and_it_is_told_once(scene, monkeypatch, solver):
    monkeypatch.setattr(portfolio, "GurobiBackend", NoLicence)
    told = []
    settings = Settings(solver, 1, engines=frozenset({Engine.MILP}))
    verifier = Verifier(scene.network, settings, told.append)
    first, second = (verifier.verify(problem(scene, epsilon)) for epsilon in (HARD, 0.12))
    assert {first.verdict, second.verdict} <= {Verdict.HOLDS, Verdict.VIOLATED}
    assert len(told) == 1
    assert "no licence for this size; HiGHS solves" in told[0]


def test_highs_alone_never_asks_gurobi(scene, monkeypatch):
    monkeypatch.setattr(portfolio, "GurobiBackend", None)
    told = []
    settings = replace(HIGHS, engines=frozenset({Engine.MILP}))
    assert (
        Verifier(scene.network, settings, told.append).verify(problem(scene, HARD)).verdict
        is not Verdict.UNKNOWN
    )
    assert told == []


def test_every_clause_must_be_proved(scene):
    labels = len(scene.network.labels)
    good = top_k(labels, scene.target, 2)
    # some other label is certainly not first
    other = top_k(labels, (scene.target + 1) % labels, 1)
    for clauses in ((*good.clauses, *other.clauses), (*other.clauses, *good.clauses)):
        both = Problem(scene.network, Region.linf(scene.image, EASY), Property(clauses, "both"), scene.image)
        assert Verifier(scene.network, HIGHS).verify(both).verdict is Verdict.VIOLATED
    twice = Property((*good.clauses, *top_k(labels, scene.target, 3).clauses), "both hold")
    asked = Problem(scene.network, Region.linf(scene.image, EASY), twice, scene.image)
    assert Verifier(scene.network, HIGHS).verify(asked).verdict is Verdict.HOLDS


def test_the_same_seed_gives_the_same_witness(scene):
    first, second = (Verifier(scene.network, HIGHS).verify(problem(scene, BROKEN)) for _ in range(2))
    np.testing.assert_array_equal(first.witness.image, second.witness.image)
