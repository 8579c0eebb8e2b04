"""Two pieces of work at a time: each ends the other, and nothing gets lost."""

import threading

import pytest
from mlverify.verifier.beside import Beside
from mlverify.verifier.budget import Budget

# Seconds after which a test that hangs fails.
LONG = 20.0


def until_cancelled(budget):
    limit = budget.at_most(LONG)
    while not limit.exhausted:
        pass
    assert limit.remaining > 0, "nobody ended the work"
    return "cancelled"


def test_leaving_the_block_ends_the_work():
    with Beside(until_cancelled, Budget()) as work:
        pass
    assert work.result() == "cancelled"


def test_the_end_of_the_work_ends_the_block():
    with Beside(lambda budget: 7, Budget()) as work:
        assert until_cancelled(work.until_done(Budget())) == "cancelled"
        assert work.result() == 7


def test_a_budget_that_is_cancelled_ends_both():
    cancelled = threading.Event()
    budget = Budget(cancelled=cancelled.is_set)
    with Beside(until_cancelled, budget) as work:
        cancelled.set()
        assert until_cancelled(work.until_done(budget)) == "cancelled"
        assert work.result() == "cancelled"


def test_failures_reach_the_caller():
    def fail(budget):
        raise ValueError("broken")

    with Beside(fail, Budget()) as work, pytest.raises(ValueError, match="broken"):
        work.result()


def test_an_interrupt_in_the_block_ends_the_work():
    with pytest.raises(KeyboardInterrupt), Beside(until_cancelled, Budget()) as work:
        raise KeyboardInterrupt
    assert work.result() == "cancelled"
