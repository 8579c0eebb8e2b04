import math

from mlverify.verifier.budget import Budget


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_time_runs_out():
    clock = Clock()
    budget = Budget(110.0, clock=clock)
    assert budget.remaining == 10.0
    assert not budget.exhausted
    clock.now = 109.5
    assert budget.remaining == 0.5
    clock.now = 110.0
    assert budget.remaining == 0.0
    assert budget.exhausted
    clock.now = 200.0
    assert budget.remaining == 0.0


def test_a_part_ends_with_its_whole():
    clock = Clock()
    budget = Budget(110.0, clock=clock)
    assert budget.at_most(4.0).remaining == 4.0
    assert budget.at_most(40.0).remaining == 10.0
    assert budget.at_most(math.inf).remaining == 10.0
    part = budget.at_most(4.0)
    clock.now = 105.0
    assert part.exhausted
    assert not budget.exhausted
    assert budget.at_most(4.0).at_most(2.0).remaining == 2.0
    assert budget.at_most(-1.0).exhausted


def test_no_limit():
    budget = Budget()
    assert budget.remaining == math.inf
    assert not budget.exhausted
    assert Budget.of_seconds(None).remaining == math.inf
    assert Budget(clock=Clock()).at_most(3.0).remaining == 3.0


def test_cancelling_reaches_every_part():
    pressed = []
    budget = Budget(cancelled=lambda: bool(pressed), clock=Clock())
    part = budget.at_most(5.0).at_most(1.0)
    assert not part.exhausted
    pressed.append(True)
    assert part.exhausted
    assert budget.exhausted
    assert part.remaining == 1.0


def test_seconds_from_now():
    assert 0 < Budget.of_seconds(1000.0).remaining <= 1000.0
    assert Budget.of_seconds(0.0).exhausted
    assert Budget.of_seconds(1000.0, lambda: True).exhausted
