"""When the MILP is asked within a question, and for how long."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from .bounds_engine import BoundsOutcome
from .budget import Budget
from .max_engine import Branching
from .milp import MilpOutcome, MilpVerdict
from .problem import Problem
from .settings import Engine

if TYPE_CHECKING:
    from .portfolio import Verifier

# Programs with at most so many open neurons and pools that branch and bound has not decided in its first turn are the
# MILP's: of 4 such questions on DOUBLE-MNIST networks (60 to 95 nodes) HiGHS decided 3 within 7 s and Gurobi all within
# 5 s, branch and bound none within 20 s.
SMALL_NODES = 120
# Part of the time that such a program may take, and the most where there is no limit.
MILP_SHARE = 0.6
MILP_SECONDS = 60.0
# No published full-image question with more open neurons and pools than this was solved by the MILP in its 15 seconds.
MILP_NODES = 2000


class MilpTurn:
    """The MILP on one question; it is asked once, for it can't go on where it stopped."""

    def __init__(self, verifier: "Verifier", problem: Problem, engines: frozenset[Engine]) -> None:
        """Remember who asks what."""
        self._verifier = verifier
        self._problem = problem
        self._engines = engines
        # programs have no rows for a Sigmoid or Tanh
        self._over = Engine.MILP not in engines or bool(problem.network.curves)

    @property
    def over(self) -> bool:
        """Whether it was asked, or may not be."""
        return self._over

    def follows(self, branchings: Sequence[Branching]) -> bool:
        """Whether branch and bound should leave it some time."""
        return not self._over and _nodes(branchings) <= MILP_NODES

    def beside(self, branchings: Sequence[Branching]) -> bool:
        """Whether it is to run at the same time as branch and bound: HiGHS uses one thread, whatever it gets."""
        threads = self._verifier.settings.threads
        return threads > 1 and Engine.BAB in self._engines and self.follows(branchings)

    def comes_first(self, branchings: Sequence[Branching]) -> bool:
        """Whether it is to be asked before the long turn of branch and bound."""
        alone = self._verifier.settings.threads == 1 and Engine.BAB in self._engines
        return alone and not self._over and _nodes(branchings) <= SMALL_NODES

    def first_budget(self, budget: Budget) -> Budget:
        """What it may use where it comes first."""
        return budget.at_most(min(MILP_SECONDS, MILP_SHARE * budget.remaining))

    def ask(self, known: BoundsOutcome, budget: Budget) -> Iterator[MilpOutcome]:
        """Its word on the open clauses, up to the first that is not proved."""
        self._over = True
        for position, clause in enumerate(known.clauses):
            if not clause.proved:
                outcome = self._verifier.solve_milp(self._problem, known, position, budget)
                yield outcome
                if outcome.verdict is not MilpVerdict.PROVED:
                    return


def _nodes(branchings: Sequence[Branching]) -> int:
    """Open neurons and pools of the largest program; 0 before there is one."""
    return max((branching.nodes for branching in branchings), default=0)
