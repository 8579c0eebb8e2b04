"""The upper bound: ask the no-goods for the best vector they leave, break it, learn, and ask again."""

from dataclasses import dataclass, field

import numpy as np

from ..verifier.budget import Budget
from ..verifier.operators import FloatArray
from .corner_attack import CornerAttack, CornerSettings
from .frontier import Frontier
from .nogoods import UpperBound
from .oracle import Oracle
from .weakest import SURE

# The best vector is a supremum that its own no-goods still forbid; this much below it (pixel units) they do not.
BELOW = 1e-6
# Gradient steps of the first try to break it, and of the second.
STEPS = (25, 100)
# Seconds of the first attack on corners; a later one gets what the steps before it took.
FIRST_TURN = 5.0
# A gap below this share is as good as none.
SMALL_GAP = 0.005


@dataclass(frozen=True, slots=True)
class BoundingSettings:
    """Effort.

    Attributes:
        rounds: programs over the no-goods in one go.
        program_seconds: for one of them.
        approaches: how often, with few bands, attacks on corners and steps toward the best one take turns.
        few: effort with few bands.
    """

    rounds: int = 12
    program_seconds: float = 2.0
    approaches: int = 20
    few: CornerSettings = field(default_factory=CornerSettings)


def tighten_bound(
    oracle: Oracle, settings: BoundingSettings, budget: Budget
) -> tuple[UpperBound, FloatArray | None]:
    """Bound the objective over all robust vectors.

    Returns:
        The bound, and a vector that nothing is known against and that nearly reaches it; None when the rounds or
        the time ended before one was found.
    """
    goal, shape = oracle.scope.goal, oracle.scope.shape
    largest = np.ones(len(goal.weights))
    bound = UpperBound(goal.value(largest), largest)
    if settings.rounds > 0 and not oracle.seeded:
        oracle.seed(budget)
    for _ in range(settings.rounds):
        seconds = min(settings.program_seconds, budget.remaining)
        found = oracle.nogoods.upper_bound(goal, shape, seconds)
        if found.value <= bound.value:
            bound = found
        if found.epsilons is None or budget.exhausted:
            break
        below = shape.inside(np.maximum(found.epsilons - BELOW, 0.0))
        if oracle.nogoods.forbidding(below) is None and not _broken(oracle, below, budget):
            return bound, below
        if oracle.nogoods.forbidding(below) is None:
            break  # broken in float32, and no witness stood the replay
    return bound, None


def _broken(oracle: Oracle, epsilons: FloatArray, budget: Budget) -> bool:
    return any(oracle.attack(epsilons, budget, steps).margins.max() > SURE for steps in STEPS)


def approach(oracle: Oracle, settings: BoundingSettings, frontier: Frontier, budget: Budget) -> None:
    """With few bands: bring the no-goods' bound and the best proved vector near each other, in turns of equal time."""
    goal, attack = oracle.scope.goal, CornerAttack(oracle, settings.few)
    turn, before = FIRST_TURN, None
    for _ in range(settings.approaches):
        proved = goal.value(frontier.epsilons)
        ahead = attack.run(proved, budget.at_most(turn))
        if attack.region.bound - proved <= SMALL_GAP * abs(attack.region.bound) or budget.exhausted:
            return
        if not oracle.prover.is_complete or (before is not None and np.array_equal(ahead, before)):
            return
        started = budget.clock()
        frontier.toward(ahead, budget)
        turn, before = max(FIRST_TURN, budget.clock() - started), ahead
