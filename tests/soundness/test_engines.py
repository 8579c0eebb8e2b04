"""Bounds engine, MILP and portfolio against the exact maximum of the margin (enumeration of linear pieces)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from mlverify.errors import ModelFormatError
from mlverify.verifier.bounds_engine import BoundsEngine, BoundsOutcome, atom_interval
from mlverify.verifier.budget import Budget
from mlverify.verifier.input_split import InputSplit, SplitEnd
from mlverify.verifier.max_engine import BabResult, Branching
from mlverify.verifier.milp import MilpVerdict, solve_clause
from mlverify.verifier.milp_encoding import ProvedByBounds, Refuted, encode
from mlverify.verifier.milp_gurobi import GurobiBackend
from mlverify.verifier.milp_highs import HighsBackend
from mlverify.verifier.milp_model import MilpBackend
from mlverify.verifier.network import Network
from mlverify.verifier.portfolio import Engine, Settings, Solver, Verifier
from mlverify.verifier.problem import Problem
from mlverify.verifier.property import Property, top_k
from mlverify.verifier.region import Region
from mlverify.verifier.result import Result, Verdict
from soundness.brute_force import BruteForce, TooManyError
from soundness.random_networks import (
    logits_at,
    points_of,
    random_image,
    random_network,
    random_property,
    random_region,
)

FREE = Budget()
# float64 bounds, and programs whose rows may be missed by 1e-9 times big-Ms: shares of the logits' size
BOUND_SLACK = 1e-9
PROGRAM_SLACK = 1e-6
# float32 may call a tie what is one only up to this share of the logits' size
FLOAT32_SLACK = 1e-5


@dataclass(frozen=True, slots=True)
class Case:
    """A random question and the exact largest margin of every clause."""

    network: Network
    region: Region
    question: Property
    start: np.ndarray | None
    exact: tuple[float, ...]
    size: float

    @property
    def margin(self) -> float:
        return max(self.exact)


def random_case(seed: int, folder: Path) -> Case:
    rng = np.random.default_rng(seed)
    try:
        network = random_network(folder / "random.onnx", rng, tiny=True)
    except ModelFormatError as error:
        if "onnxruntime can't load it" in str(error):
            pytest.skip("onnxruntime can't load this network")
        raise
    image = random_image(rng, network.input_shape)
    region = random_region(rng, image)
    question = random_property(rng, network, image)
    try:
        exact = tuple(BruteForce(network, region).maximum(clause).value for clause in question.clauses)
    except TooManyError:
        pytest.skip("too many linear pieces to enumerate")
    scores = logits_at(network, points_of(rng, region, 200))
    size = 1 + float(np.abs(scores).max())
    assert float(question.margin(scores).max()) <= max(exact) + PROGRAM_SLACK * size, (
        "the enumeration is wrong"
    )
    start = image if region.contains(image) else None
    return Case(network, region, question, start, exact, size)


def check_bounds_engine(case: Case) -> BoundsOutcome:
    """CROWN and optimised slopes never say less than the exact maximum."""
    engine = BoundsEngine(case.network)
    first = engine.crown(case.region, case.question)
    values, clauses = first.values, []
    for clause, known in zip(case.question.clauses, first.clauses, strict=True):
        found = Branching(case.network, values, clause, known).bound(FREE)
        values, clauses = found.values, [*clauses, found.clause]
    second = BoundsOutcome(tuple(clauses), values)
    for outcome in (first, second):
        for known, exact in zip(outcome.clauses, case.exact, strict=True):
            assert not (known.proved and exact >= 0)
            assert known.margin_bound >= exact - BOUND_SLACK * case.size
        assert not (outcome.proved and outcome.margin_bound >= 0)
    return second


def check_branch_and_bound(case: Case) -> None:
    """From CROWN's bounds alone: refuted sets can't be reached, and a small network is always decided."""
    engine = BoundsEngine(case.network)
    first = engine.crown(case.region, case.question)
    for clause, known, exact in zip(case.question.clauses, first.clauses, case.exact, strict=True):
        branching = Branching(case.network, first.values, clause, known)
        for found in (branching.bound(FREE), branching.advance(Budget.of_seconds(4))):
            check_branching(case, found, exact)


def check_input_split(case: Case) -> None:
    """Halved boxes prove only what holds, and say so of all clauses."""
    search = InputSplit(BoundsEngine(case.network).linear, case.region, case.question.clauses)
    found = search.run(Budget.of_seconds(1))
    if found.end is SplitEnd.PROVED:
        assert case.margin - BOUND_SLACK * case.size <= found.bound < 0
    if found.candidate is not None:
        assert case.region.contains(found.candidate) or case.margin >= 0
        assert case.margin >= -FLOAT32_SLACK * case.size


def check_branching(case: Case, found: BabResult, exact: float) -> None:
    """One answer of branch and bound about one clause."""
    assert not (found.clause.proved and exact >= 0)
    if found.clause.proved:
        assert exact - BOUND_SLACK * case.size <= found.clause.margin_bound < 0
    if found.candidate is not None:
        points = found.candidate.reshape(1, *case.region.shape)
        assert (points >= case.region.lower).all()
        assert (points <= case.region.upper).all()


def check_milp(case: Case, known: BoundsOutcome, backend: MilpBackend) -> None:
    """The program's optimum is the exact maximum, or says only that it is below zero."""
    for position, (clause, exact) in enumerate(zip(case.question.clauses, case.exact, strict=True)):
        values = known.values
        atoms = atom_interval(clause, known.clauses[position], values[case.network.output])
        slack = PROGRAM_SLACK * case.size * 10
        encoding = encode(case.network, values, clause, atoms)
        if isinstance(encoding, ProvedByBounds):
            assert exact <= encoding.bound + slack
            assert encoding.bound < 0
            continue
        answer = backend.solve(encoding.model, FREE, stop_above=np.inf, stop_below=-np.inf, threads=1, seed=0)
        assert encoding.margin_bound(answer.best_bound) >= exact - slack
        if exact > encoding.left_out:
            assert answer.objective == pytest.approx(exact, abs=slack)
        said = known.clauses[position]
        for refuted in (None, Refuted(said.refuted, said.refuted_bound)):
            outcome = solve_clause(case.network, values, clause, backend, FREE, None, atoms, refuted)
            if outcome.verdict is MilpVerdict.PROVED:
                assert exact < 0
                assert exact <= outcome.bound + slack
            else:
                assert exact > -FLOAT32_SLACK * case.size


def check_verdict(case: Case, result: Result, *, complete: bool = True) -> None:
    """Never holds where the margin reaches zero, never violated without a witness inside."""
    if result.verdict is Verdict.HOLDS:
        assert case.margin < 0
        assert result.margin_bound is not None
        assert case.margin - PROGRAM_SLACK * case.size <= result.margin_bound < 0
    if result.verdict is Verdict.VIOLATED:
        assert result.witness is not None
        assert case.region.contains(result.witness.image)
        assert case.margin >= -FLOAT32_SLACK * case.size
    if result.verdict is Verdict.UNKNOWN and complete:
        # nothing here is large: only a tie, or a region without float32 numbers, may stay open
        ties = abs(case.margin) <= 1e-4 * case.size
        assert ties or "no float32 image" in result.reason, result.reason


def ask(case: Case, engines: frozenset[Engine] = frozenset(Engine)) -> Result:
    verifier = Verifier(case.network, Settings(threads=1, engines=engines))
    return verifier.verify(
        Problem(case.network, case.region, case.question, case.start), Budget.of_seconds(30)
    )


@pytest.mark.parametrize("seed", range(40))
def test_every_engine_against_enumeration(seed, tmp_path):
    case = random_case(seed, tmp_path)
    known = check_bounds_engine(case)
    check_branch_and_bound(case)
    gurobi = GurobiBackend()
    backend = gurobi if seed % 5 == 0 and gurobi.is_available() else HighsBackend()
    check_milp(case, known, backend)
    check_verdict(case, ask(case))


@pytest.mark.parametrize("seed", range(700, 760))
def test_branch_and_bound_against_enumeration(seed, tmp_path):
    case = random_case(seed, tmp_path)
    check_branch_and_bound(case)
    check_input_split(case)
    check_verdict(case, ask(case, frozenset([Engine.BOUNDS, Engine.BAB, Engine.FALSIFY])), complete=False)


@pytest.mark.parametrize("seed", range(500, 520))
def test_the_milp_alone_against_enumeration(seed, tmp_path):
    case = random_case(seed, tmp_path)
    check_verdict(case, ask(case, frozenset([Engine.MILP])))


@pytest.mark.parametrize("seed", [50060, 50270, 50409, 50598])
@pytest.mark.parametrize("solver", [Solver.HIGHS, Solver.GUROBI])
def test_what_a_cutoff_prunes_is_not_missing_from_the_bound(seed, solver, tmp_path):
    """HiGHS's own dual bound is below the true optimum on these, once nodes were pruned by the cutoff."""
    rng = np.random.default_rng(seed)
    network = random_network(tmp_path / "random.onnx", rng)
    image = random_image(rng, network.input_shape)
    region = random_region(rng, image)
    question = random_property(rng, network, image)
    seen = float(question.margin(logits_at(network, points_of(rng, region, 400))).max())
    verifier = Verifier(network, Settings(solver, 1, engines=frozenset([Engine.MILP])))
    result = verifier.verify(Problem(network, region, question), Budget.of_seconds(30))
    assert result.verdict is Verdict.HOLDS
    assert result.margin_bound is not None
    assert seen <= result.margin_bound < 0


@pytest.mark.parametrize("seed", [70110, 70206])
@pytest.mark.parametrize("solver", [Solver.HIGHS, Solver.GUROBI])
def test_presolve_does_not_cut_off_the_optimum(seed, solver, tmp_path):
    """Gurobi's did, where a slack of the encoding was near its feasibility tolerance: a wrong proof."""
    rng = np.random.default_rng(seed)
    network = random_network(tmp_path / "random.onnx", rng)
    image = random_image(rng, network.input_shape)
    region = random_region(rng, image)
    question = random_property(rng, network, image)
    seen = float(question.margin(logits_at(network, points_of(rng, region, 400))).max())
    assert seen > 0.5
    verifier = Verifier(network, Settings(solver, 1, engines=frozenset([Engine.MILP])))
    result = verifier.verify(Problem(network, region, question), Budget.of_seconds(30))
    assert result.verdict is Verdict.VIOLATED


def nested(rng: np.random.Generator, image: np.ndarray) -> list[Region]:
    """Regions around an image, each inside the next."""
    pattern = rng.random(image.shape) * (rng.random(image.shape) < 0.7)
    return [Region.per_pixel(image, pattern * scale) for scale in (0.0, 0.01, 0.05, 0.2, 1.0)]


def check_nested(seed: int, folder: Path) -> None:
    """Once violated, always violated as the region grows."""
    rng = np.random.default_rng(seed)
    try:
        network = random_network(folder / "random.onnx", rng)
    except ModelFormatError:
        return
    image = random_image(rng, network.input_shape)
    labels = len(network.labels)
    k = int(rng.integers(1, min(4, labels - 1) + 1))
    target = int(np.argsort(-logits_at(network, image[None])[0])[int(rng.integers(k))])
    verifier = Verifier(network, Settings(threads=1))
    broken = None
    for region in nested(rng, image):
        question = top_k(labels, target, k)
        result = verifier.verify(Problem(network, region, question, image), Budget.of_seconds(10))
        if result.witness is not None:
            assert region.contains(result.witness.image)
            broken = result.witness
        assert not (broken is not None and result.verdict is Verdict.HOLDS)


@pytest.mark.parametrize("seed", range(30))
def test_a_violation_stays_one_as_the_region_grows(seed, tmp_path):
    check_nested(seed, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(20))
def test_many_more_questions(block, tmp_path):
    for seed in range(20_000 + 50 * block, 20_050 + 50 * block):
        check_nested(seed, tmp_path)
        try:
            case = random_case(seed, tmp_path)
        except pytest.skip.Exception:
            continue
        known = check_bounds_engine(case)
        check_branch_and_bound(case)
        check_milp(case, known, HighsBackend())
        check_verdict(case, ask(case))
