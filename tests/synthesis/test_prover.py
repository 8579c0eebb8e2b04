"""Complete engines in turn and at the same time: the same verdicts."""

import numpy as np
import pytest
from mlverify.synthesis.prover import Prover
from mlverify.verifier.budget import Budget
from mlverify.verifier.portfolio import Settings, Solver
from mlverify.verifier.result import Verdict

ONE, TWO = Settings(Solver.HIGHS, 1), Settings(Solver.HIGHS, 2)


@pytest.mark.parametrize("epsilon", [0.005, 0.02, 0.06, 0.2])
def test_one_thread_and_two_decide_alike(scene, epsilon):
    problem = scene.problem(2).at(np.full(scene.count, epsilon))
    answers = [Prover(scene.network, settings).ask_completely(problem, Budget()) for settings in (ONE, TWO)]
    assert answers[0].verdict is answers[1].verdict is not Verdict.UNKNOWN
    for answer in answers:
        assert (answer.witness is not None) == (answer.verdict is Verdict.VIOLATED)
