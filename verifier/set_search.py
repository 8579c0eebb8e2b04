"""Both searches of one set of atoms in turns: the whole program's tree, and the trees of its parts.

One tree lets every sub-problem choose its own weights of the atoms and sees all couplings; trees of parts add up where
one tree multiplies. On published questions either may win by orders of magnitude (DOUBLE-MNIST x2, epsilon 0.00436:
no end in 60 s and 1 s; L-infinity defence, epsilon 0.0156: 0.2 s and no end in 3 s), so they share the time.
"""

from dataclasses import replace

from .budget import Budget
from .max_bounding import Bounding
from .max_domains import Domain
from .max_search import Search, SearchEnd, SearchOutcome, SearchSettings
from .parts_search import PartsSearch

# Work of the first turn of the whole, a tenth of a second; every round of turns is longer than the last one by this
# factor. Turns of the parts are so many times longer: where they win they win by more (four synthesis questions took
# 7.8, 15, 5.8 and 7.3 s of processor time with 4 and 5.3, 12.5, 4.7 and 5.3 s with 12).
FIRST_TURN = 3_000_000
LONGER = 2
PARTS_TURN = 12


class SetSearch:
    """Shows that a set of atoms never reaches zero together, or finds where it may; can be continued."""

    def __init__(self, bounding: Bounding, root: Domain, margin: float, settings: SearchSettings) -> None:
        """Start from the set without decisions.

        Args:
            bounding: of the program.
            root: the sub-problem.
            margin: how far below zero a bound must be to count.
            settings: of the searches.
        """
        self._searches: tuple[Search, PartsSearch] = (
            Search(bounding, root, margin, settings),
            PartsSearch(bounding, root, margin, settings),
        )
        self._going: list[Search | PartsSearch] = list(self._searches)
        self._turn, self._next = FIRST_TURN, 0
        self._bound = root.bound
        self._reasons: list[SearchEnd] = []

    @property
    def seen(self) -> int:
        """Sub-problems bounded so far."""
        return sum(search.seen for search in self._searches)

    def run(self, budget: Budget) -> SearchOutcome:
        """Go on until one search answers, all have ended, or the time is over; a stopped one can be run again."""
        while True:
            search = self._going[self._next]
            turn = self._turn if search is self._searches[0] else PARTS_TURN * self._turn
            outcome = search.run(budget, search.work + turn)
            outcome = replace(outcome, domains=self.seen)
            if outcome.end in (SearchEnd.REFUTED, SearchEnd.CANDIDATE):
                return outcome
            self._bound = min(self._bound, outcome.bound)
            outcome = replace(outcome, bound=self._bound)
            if budget.exhausted:
                return outcome
            if outcome.end is SearchEnd.STOPPED:
                self._next += 1
            elif len(self._going) > 1:
                self._going.remove(search)
                self._reasons.append(outcome.end)
            else:
                # a memory ceiling can be raised; "nothing left" is the last thing to say
                ends = [*self._reasons, outcome.end]
                return replace(outcome, end=max(ends, key=lambda end: end is SearchEnd.FULL))
            if self._next == len(self._going):
                self._next, self._turn = 0, self._turn * LONGER
