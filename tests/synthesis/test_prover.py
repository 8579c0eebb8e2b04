"""Complete engines in turn and at the same time: the same verdicts, and never both a proof and a witness."""

from dataclasses import replace

import numpy as np
import pytest
from mlverify.errors import DisagreementError
from mlverify.synthesis.prover import Prover
from mlverify.verifier.budget import Budget
from mlverify.verifier.portfolio import Engine, Settings, Solver
from mlverify.verifier.result import Verdict

ONE, TWO = Settings(Solver.HIGHS, 1), Settings(Solver.HIGHS, 2)


@pytest.mark.parametrize("epsilon", [0.005, 0.02, 0.06, 0.2])
def test_one_thread_and_two_decide_alike(scene, epsilon):
    problem = scene.problem(2).at(np.full(scene.count, epsilon))
    answers = [Prover(scene.network, settings).ask_completely(problem, Budget()) for settings in (ONE, TWO)]
    assert answers[0].verdict is answers[1].verdict is not Verdict.UNKNOWN
    for answer in answers:
        assert (answer.witness is not None) == (answer.verdict is Verdict.VIOLATED)


def test_a_proof_beside_a_witness_is_an_error(scene):
    violated = scene.problem(2).at(np.full(scene.count, 0.9))
    robust = scene.problem(2).at(np.full(scene.count, 1e-4))
    prover = Prover(scene.network, TWO)
    witness = prover.ask_completely(violated, Budget())
    proof = prover.ask_completely(robust, Budget())
    assert (witness.verdict, proof.verdict) == (Verdict.VIOLATED, Verdict.HOLDS)

    def never(problem, budget):
        while not budget.exhausted:
            pass
        return witness

    prover._engines[Engine.MILP].verify = never
    prover._engines[Engine.BAB].verify = lambda problem, budget: replace(proof, engine="bab")
    with pytest.raises(DisagreementError, match="branch and bound proved"):
        prover.ask_completely(robust, Budget())
