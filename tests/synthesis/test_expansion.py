"""The loop around the complete engines, with an oracle that answers by script."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest
from mlverify.errors import DisagreementError
from mlverify.synthesis.cutting import Cutting, fixed_weights
from mlverify.synthesis.expansion import Expansion, ExpansionSettings
from mlverify.verifier.budget import Budget
from mlverify.verifier.region import Layered
from mlverify.verifier.result import Result, Stage, Verdict

LAYERS = np.array([[0, 1, 2, 3]])
STAGES = (
    Stage("bounds/crown", Verdict.UNKNOWN, 0.0, ""),
    Stage("falsify/apgd-quick", Verdict.UNKNOWN, 0.0, ""),
    Stage("milp", Verdict.UNKNOWN, 0.0, ""),
    Stage("bounds/alpha-crown", Verdict.UNKNOWN, 0.0, ""),
)


@dataclass
class Oracle:
    """Answers from a list (then always ``last``) or by a rule; remembers what it was asked."""

    script: list = field(default_factory=list)
    last: Verdict = Verdict.UNKNOWN
    rule: object = None
    asked: list = field(default_factory=list)
    budgets: list = field(default_factory=list)

    def verify(self, problem, budget):
        self.asked.append(problem.copy())
        self.budgets.append(budget.remaining)
        if self.rule is not None:
            verdict = Verdict.HOLDS if self.rule(problem) else Verdict.VIOLATED
        else:
            verdict = self.script.pop(0) if self.script else self.last
        return Result(verdict, "", "script", 0.0, stages=STAGES)


def expansion(oracle, *, weights=None, settings=None):
    """Problems are the epsilons themselves."""
    sized = np.ones(4) if weights is None else weights
    where = Layered(np.zeros((1, 1, 4), np.float32), LAYERS, np.zeros(4))
    return Expansion(
        oracle, lambda epsilons: epsilons, sized, where, Cutting.FIXED, settings or ExpansionSettings()
    )


def run(oracle, start, budget=None, **options):
    loop = expansion(oracle, **options)
    loop.run(np.array(start, dtype=float), budget or Budget(), lambda share, size: None)
    return loop


START = [0.2, 0.2, 0.2, 0.2]


def test_a_robust_candidate_becomes_the_vector():
    oracle = Oracle([Verdict.HOLDS])
    loop = run(oracle, START)
    np.testing.assert_allclose(oracle.asked[0], np.array(START) * 1.1)
    np.testing.assert_array_equal(loop.epsilons, oracle.asked[0])
    assert loop.size == pytest.approx(0.88)


@pytest.mark.parametrize("refusal", [Verdict.UNKNOWN, Verdict.VIOLATED])
def test_nothing_else_is_accepted(refusal):
    loop = run(Oracle(last=refusal), START)
    np.testing.assert_array_equal(loop.epsilons, START)


def test_a_refused_candidate_is_cut_as_the_weights_say():
    oracle = Oracle([Verdict.VIOLATED, Verdict.HOLDS])
    loop = run(oracle, START)
    weights = fixed_weights(4)
    expected = np.array(START) * 1.1 * weights + np.array(START) * (1 - weights)
    np.testing.assert_allclose(oracle.asked[1], expected)
    np.testing.assert_array_equal(loop.epsilons, oracle.asked[1])
    assert loop.epsilons[3] == 0.2


def test_several_cuts_follow_one_another():
    oracle = Oracle([Verdict.VIOLATED, Verdict.VIOLATED, Verdict.HOLDS])
    run(oracle, START, settings=ExpansionSettings(cuts=2))
    np.testing.assert_allclose(
        oracle.asked[2] - START, (oracle.asked[0] - START) * fixed_weights(4) ** 2, atol=1e-15
    )


def test_steps_are_halved_until_the_smallest_and_grow_after_success():
    oracle = Oracle()
    run(oracle, START, settings=ExpansionSettings(step=0.1, smallest_step=0.02, cuts=0))
    np.testing.assert_allclose([item[0] / 0.2 - 1 for item in oracle.asked], [0.1, 0.05, 0.025])
    oracle = Oracle([Verdict.HOLDS])
    run(oracle, START, settings=ExpansionSettings(step=0.1, smallest_step=0.08, cuts=0))
    np.testing.assert_allclose(oracle.asked[1], oracle.asked[0] * 1.15)


def test_the_oracle_is_never_asked_about_less_than_is_known():
    oracle = Oracle([Verdict.VIOLATED, Verdict.HOLDS, Verdict.VIOLATED])
    loop = run(oracle, START)
    assert all(item.sum() > 0.8 for item in oracle.asked)
    assert all((item >= START).all() for item in oracle.asked)
    assert loop.size >= 0.8


def test_the_limit_of_a_robust_set_is_reached_from_inside():
    limit = np.array([0.5, 0.3, 0.25, 0.22])
    loop = run(Oracle(rule=lambda epsilons: bool((epsilons <= limit).all())), START)
    assert (loop.epsilons <= limit).all()
    assert loop.size > 0.8


def test_everything_robust_ends_at_the_caps():
    oracle = Oracle(rule=lambda epsilons: True)
    loop = run(oracle, START)
    np.testing.assert_array_equal(loop.epsilons, np.ones(4))
    assert all((item <= 1).all() for item in oracle.asked)


def test_caps_leave_nothing_to_ask():
    oracle = Oracle()
    run(oracle, np.ones(4))
    assert oracle.asked == []


def test_layers_at_zero_start_to_grow_and_those_without_weight_do_not():
    oracle = Oracle(rule=lambda epsilons: bool((epsilons <= 0.3).all()))
    loop = run(oracle, [0.2, 0.0, 0.0, 0.2], weights=np.array([1.0, 1.0, 0.0, 1.0]))
    assert loop.epsilons[1] > 0
    assert loop.epsilons[2] == 0
    loop = run(Oracle(rule=lambda epsilons: bool((epsilons <= 0.3).all())), np.zeros(4))
    assert (loop.epsilons > 0).all()


def test_budgets():
    spent = Oracle()
    run(spent, START, Budget.of_seconds(0.0))
    assert spent.asked == []
    oracle = Oracle()
    run(oracle, START, settings=ExpansionSettings(query_seconds=2.5))
    assert max(oracle.budgets) <= 2.5
    stopping = Oracle(rule=lambda epsilons: True)
    run(stopping, START, Budget(cancelled=lambda: len(stopping.asked) >= 3))
    assert len(stopping.asked) == 3


def test_queries_are_counted_by_engine():
    loop = run(Oracle(), START, settings=ExpansionSettings(step=0.1, smallest_step=0.1, cuts=1))
    assert (loop.attack, loop.bounds, loop.milp) == (2, 4, 2)


def test_progress_says_the_size():
    told = []
    loop = expansion(Oracle([Verdict.HOLDS]))
    loop.run(np.array(START), Budget(), lambda share, size: told.append((share, size)))
    assert [size for _, size in told] == pytest.approx([0.88] * len(told))
    assert all(0 <= share <= 1 for share, _ in told)


def test_sensitivity_weights_come_from_the_network(scene):
    problem = scene.problem()
    module = scene.network.module()
    oracle = SimpleNamespace(falsifier=SimpleNamespace(module=module), asked=[])

    def verify(asked, budget):
        oracle.asked.append(asked.region)
        return Result(Verdict.VIOLATED if len(oracle.asked) == 1 else Verdict.HOLDS, "", "script", 0.0)

    oracle.verify = verify
    loop = Expansion(
        oracle, problem.at, problem.weights, problem.neighbourhood, Cutting.SENSITIVITY,
        ExpansionSettings(step=0.1, smallest_step=0.1),
    )  # fmt: skip
    start = np.full(scene.count, 0.1)
    loop.run(start, Budget(cancelled=lambda: len(oracle.asked) >= 2), lambda share, size: None)
    kept = (loop.epsilons - start) / (0.1 * start)
    # the most sensitive layer gave up all of its growth, the others part of it
    assert kept.min() == pytest.approx(0, abs=1e-9)
    assert kept.max() > 0.1
    assert (kept <= (scene.count - 1) / scene.count + 1e-9).all()


def test_a_question_that_can_not_be_judged_ends_nothing():
    class Unstable(Oracle):
        told = ""

        def verify(self, problem, budget):
            if len(self.asked) == 1:
                self.asked.append(problem.copy())
                raise DisagreementError("float32 and float64 differ")
            return super().verify(problem, budget)

        def tell(self, subject, message):
            self.told = message

    oracle = Unstable(script=[Verdict.HOLDS])
    loop = run(oracle, START)
    assert oracle.told == "float32 and float64 differ"
    assert loop.size > sum(START)
    assert len(oracle.asked) > 2
