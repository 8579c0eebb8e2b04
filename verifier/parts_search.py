"""Branch and bound on an objective's parts: shows that a set of atoms never reaches zero together.

A convex combination of the atoms is fixed, cut into parts (:mod:`~.max_parts`), and every part is bounded by its own
tree; the sum of the parts' bounds has to fall below zero. What one tree would need is the product of theirs.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from .budget import Budget
from .max_ascent import FIRST
from .max_bounding import Bounding
from .max_domains import Domain
from .max_parts import split_objective
from .max_search import SearchEnd, SearchOutcome, SearchSettings, work_of
from .part_prices import cut_objective
from .part_record import PartsProof
from .part_search import PartSearch

# Gradient steps on the whole before it is cut: the parts keep its weights and prices.
ROOT_STEPS = 100
# Rounds between attempts to put the parts' best points together.
CANDIDATE_ROUNDS = 16
# A part promises nothing where its bounds are closer than the noise of float32.
NOISE = 1e-5


class PartsSearch:
    """The parts of one set of atoms; can be continued."""

    def __init__(self, bounding: Bounding, root: Domain, margin: float, settings: SearchSettings) -> None:
        """Prepare; the first run cuts.

        Args:
            bounding: of the whole program.
            root: the set without decisions.
            margin: how far below zero a bound must be to count.
            settings: of the search.
        """
        self._bounding = bounding
        self._root = root
        self._atoms = sorted(root.atoms)
        self._margin = margin
        self._settings = settings
        self._parts: list[PartSearch] | None = None
        self._rest = np.inf
        self._weights = np.zeros(0)
        self._root_work = self._rounds = 0
        self._offered: NDArray[np.float64] | None = None

    @property
    def seen(self) -> int:
        """Sub-problems bounded so far."""
        return sum(part.seen for part in self._parts or ())

    @property
    def work(self) -> int:
        """Numbers touched so far; see :func:`~.max_search.work_of`."""
        return self._root_work + sum(part.work for part in self._parts or ())

    def run(self, budget: Budget, work: float = np.inf) -> SearchOutcome:
        """Go on until the sum is below zero, or something ends it; see :meth:`~.max_search.Search.run`.

        It is stuck at once where there is one part only: the tree of the whole does the same, and weighs its atoms.
        """
        parts = self._parts if self._parts is not None else self._started(budget)
        while not budget.exhausted and self.work < work:
            end = self._end(parts)
            if end is not None:
                return self._ended(end)
            # the part with the widest bounds may be the hardest: the others would wait for it for ever
            live = [part for part in parts if part.promise >= NOISE]
            max(live, key=lambda part: part.rate).advance(budget)
            self._rounds += 1
            if self._rounds % CANDIDATE_ROUNDS == 0:
                candidate = self._candidate(parts)
                if candidate is not None:
                    return self._ended(SearchEnd.CANDIDATE, candidate)
        return self._ended(SearchEnd.STOPPED)

    def _started(self, budget: Budget) -> list[PartSearch]:
        self._parts = []
        program = self._bounding.program
        reads = abs(program.atoms.matrix[self._atoms]).sum(axis=0)
        if len(split_objective(program, np.asarray(reads)[0])) < 2:
            return self._parts
        batch = self._bounding.bound([self._root], ROOT_STEPS, self._margin, budget, FIRST)
        self._root_work = work_of(1, len(program.pixels) + program.nodes, ROOT_STEPS)
        cut = cut_objective(self._bounding, batch.domains[0])
        parts = [
            PartSearch(part, root, self._settings, str(self._bounding.fast.device))
            for part, root in zip(cut.parts, cut.roots, strict=True)
        ]
        # the rest alone bounds nothing
        self._parts, self._rest, self._weights = parts, cut.rest, cut.weights
        return parts

    def _end(self, parts: list[PartSearch]) -> SearchEnd | None:
        if not all(part.intact for part in parts):
            return SearchEnd.BROKEN
        if self._upper(parts) < -self._margin:
            for part in parts:
                part.confirm()
            if self._upper(parts) < -self._margin:
                return SearchEnd.REFUTED
        if sum(part.memory for part in parts) > self._settings.memory:
            return SearchEnd.FULL
        splits = any(part.promise >= NOISE for part in parts)
        reached = self._rest + sum(part.lower for part in parts)
        return None if splits and reached < -self._margin else SearchEnd.STUCK

    def _upper(self, parts: list[PartSearch]) -> float:
        return self._rest + sum(part.upper for part in parts)

    def _candidate(self, parts: list[PartSearch]) -> NDArray[np.float64] | None:
        """The parts' best points put together, where all atoms reach zero there and it was not offered before."""
        fast = self._bounding.fast
        point = fast.centre.clone()
        for item in parts:
            if item.best is not None:
                pixels = torch.as_tensor(item.part.pixels, device=fast.device)
                point[pixels, 0] = torch.as_tensor(item.best, dtype=fast.dtype, device=fast.device)
        found = self._bounding.candidate(point, self._atoms)
        if found is None or (self._offered is not None and np.array_equal(found, self._offered)):
            return None
        self._offered = found
        return found

    def _ended(self, end: SearchEnd, candidate: NDArray[np.float64] | None = None) -> SearchOutcome:
        bound = np.inf if self._parts is None else self._upper(self._parts)
        proof = None
        if end is SearchEnd.REFUTED:
            proof = PartsProof(self._weights, tuple(part.tree for part in self._parts or ()))
        return SearchOutcome(end, float(bound), candidate, self.seen, (), proof)
