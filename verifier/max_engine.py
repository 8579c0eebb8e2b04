"""The branch-and-bound engine: refute, one by one, the sets of atoms that bounds left open."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

from .bounds_engine import ClauseBounds
from .budget import Budget
from .cover import AtomSet, is_proved, open_atoms
from .interval import ValueBounds
from .margins import proof_margin
from .max_ascent import FIRST
from .max_bounding import Bounding
from .max_domains import Domain
from .max_record import leaves_of
from .max_search import SearchEnd, SearchSettings
from .max_tighten import tighten_program
from .network import Network
from .part_record import PartsProof, cut_of, has_provable_windows
from .proof_record import Recorder
from .property import Clause
from .set_search import SetSearch

# Sets of atoms that are searched one by one; the MILP needs no enumeration.
MOST_SETS = 1000
# A recorded bound has to be further below zero by this factor, so that the checker, which rounds outward and whose
# margin comes from its own bounds, finds it proved too.
RECORDED_MARGIN = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class Refutation:
    """A proof that no point brings a set of atoms to zero together.

    Attributes:
        atoms: the set.
        leaves: sub-problems that cover the region, each with a negative bound; none where the trees of parts add up
            to the proof.
    """

    atoms: AtomSet
    leaves: tuple[Domain, ...]


@dataclass(frozen=True, slots=True, eq=False)
class BabResult:
    """What branch and bound says about one clause.

    Attributes:
        clause: bounds and refuted sets, those of before included.
        values: bounds on every value, tightened.
        candidate: an input to be replayed, or None.
        domains: sub-problems bounded.
        reason: in words.
        refutations: proofs of the sets that were refuted here.
    """

    clause: ClauseBounds
    values: ValueBounds
    candidate: NDArray[np.float64] | None
    domains: int
    reason: str
    refutations: tuple[Refutation, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _State:
    """What is prepared once.

    Attributes:
        bounding: of the program.
        searches: those that are still open.
        obstacle: why there is nothing to search, in words.
    """

    bounding: Bounding | None
    searches: list[tuple[AtomSet, SetSearch]]
    obstacle: str


@dataclass(frozen=True, slots=True)
class Recording:
    """Where proofs go.

    Attributes:
        recorder: gathers them.
        clause: number of the clause in the property.
    """

    recorder: Recorder
    clause: int


class Branching:
    """Refutes what is still open of a clause; can be continued with more time."""

    def __init__(
        self,
        network: Network,
        values: ValueBounds,
        clause: Clause,
        known: ClauseBounds,
        settings: SearchSettings | None = None,
        device: str = "cpu",
        recording: Recording | None = None,
    ) -> None:
        """Remember the question.

        Args:
            network: the network.
            values: valid bounds on every value; ``values[0]`` is the region.
            clause: what may not hold.
            known: what bounds have shown of it.
            settings: of the search.
            device: torch device.
            recording: receives the proofs.
        """
        self._network = network
        self._values = values
        self._clause = clause
        self._known = known
        self._settings = settings or SearchSettings()
        if recording is not None:
            self._settings = replace(self._settings, windows=partial(has_provable_windows, network))
        self._device = device
        self._recording = recording
        self._state: _State | None = None
        self._upper = known.atom_upper.copy()
        self._refutations: list[Refutation] = []
        self._bounds: list[float] = []
        self._domains = 0

    @property
    def nodes(self) -> int:
        """Open neurons and pools that the clause depends on; 0 before they are known."""
        if self._state is None or self._state.bounding is None:
            return 0
        return self._state.bounding.program.nodes

    def bound(self, budget: Budget) -> BabResult:
        """Only what bounds without splits show."""
        self._prepared(budget)
        return self._result(f"margin at most {self._margin_bound():.4g}")

    def advance(self, budget: Budget) -> BabResult:
        """Go on until the clause is proved, a candidate is found, or the time is over."""
        state = self._prepared(budget)
        if state.obstacle or state.bounding is None:
            return self._result(state.obstacle)
        while state.searches:
            atoms, search = state.searches[0]
            before = search.seen
            outcome = search.run(budget)
            self._domains += outcome.domains - before
            if outcome.end is not SearchEnd.REFUTED:
                margin = "" if outcome.end is SearchEnd.CANDIDATE else f", margin at most {outcome.bound:.4g}"
                return self._result(
                    f"{outcome.end.value} after {self._domains} sub-problems{margin}", outcome.candidate
                )
            state.searches.pop(0)
            self._keep(state.bounding, atoms, outcome.leaves, outcome.bound, outcome.parts)
        return self._result(f"{self._domains} sub-problems")

    def _prepared(self, budget: Budget) -> "_State":
        """Tighten, then atoms alone, then the sets of those that are left; what stays open is searched."""
        if self._state is not None:
            return self._state
        if not all(np.isfinite([item.lower, item.upper]).all() for item in self._values.values):
            return _State(None, [], "the bounds of the network's values overflow float64")
        recorder = None if self._recording is None else self._recording.recorder
        tightened = tighten_program(
            self._network,
            self._values,
            self._clause,
            budget,
            self._device,
            recorder,
            self._settings.tighten_steps,
        )
        self._values = tightened.values
        margin = proof_margin(tightened.values, self._network.output)
        if self._recording is not None:
            margin *= RECORDED_MARGIN
        bounding = Bounding(tightened.program, self._device)
        roots = self._refute_roots(bounding, [(atom,) for atom in self._left()], margin, budget)
        sets = self._open_sets()
        if self._clause.needed > 1:
            roots = self._refute_roots(bounding, sets or [], margin, budget)
        searches = [(root.atoms, SetSearch(bounding, root, margin, self._settings)) for root in roots]
        self._state = _State(bounding, searches, "too many label sets are open" if sets is None else "")
        return self._state

    def _left(self) -> list[int]:
        """Atoms not refuted alone, the lowest bound first."""
        left = open_atoms(self._clause.atoms, self._refuted())
        return sorted(left, key=lambda atom: (self._upper[atom], atom))

    def _refuted(self) -> list[AtomSet]:
        return [*self._known.refuted, *(item.atoms for item in self._refutations)]

    def _open_sets(self) -> list[tuple[int, ...]] | None:
        """Sets of open atoms without a refuted subset."""
        left = self._left()
        if comb(len(left), self._clause.needed) > MOST_SETS:
            return None
        facts = [fact for fact in self._refuted() if len(fact) > 1]
        sets = combinations(left, self._clause.needed)
        return [chosen for chosen in sets if not any(fact <= frozenset(chosen) for fact in facts)]

    def _refute_roots(
        self, bounding: Bounding, sets: Sequence[tuple[int, ...]], margin: float, budget: Budget
    ) -> list[Domain]:
        """Bound some sets without splits; returns those that stay open, the lowest bound first."""
        if not sets:
            return []
        still = []
        for start in range(0, len(sets), self._settings.batch):
            roots = bounding.roots(sets[start : start + self._settings.batch])
            batch = bounding.bound(roots, self._settings.root_steps, margin, budget, FIRST)
            self._domains += len(roots)
            for domain in bounding.confirmed(batch.domains, np.inf):
                if len(domain.atoms) == 1:
                    atom = next(iter(domain.atoms))
                    self._upper[atom] = min(self._upper[atom], domain.bound)
                if domain.bound < -margin:
                    self._keep(bounding, domain.atoms, (domain,), domain.bound)
                else:
                    still.append(domain)
        return sorted(still, key=lambda domain: domain.bound)

    def _keep(
        self,
        bounding: Bounding,
        atoms: AtomSet,
        leaves: tuple[Domain, ...],
        bound: float,
        parts: PartsProof | None = None,
    ) -> None:
        if self._recording is not None:
            recorder = self._recording.recorder
            number = recorder.refute(self._recording.clause, sorted(atoms))
            if parts is not None:
                recorder.add_cut(cut_of(self._network, number, sorted(atoms), parts))
            else:
                groups = bounding.program.groups
                recorder.add_leaves(leaves_of(self._network, groups, bounding.layout, number, leaves))
        self._refutations.append(Refutation(atoms, leaves))
        self._bounds.append(bound)
        if len(atoms) == 1:
            atom = next(iter(atoms))
            self._upper[atom] = min(self._upper[atom], bound)

    def _result(self, reason: str, candidate: NDArray[np.float64] | None = None) -> BabResult:
        refuted = tuple(self._refuted())
        proved = is_proved(self._clause.atoms, self._clause.needed, refuted)
        margin = max([self._known.refuted_bound, *self._bounds]) if proved else self._margin_bound()
        if candidate is not None and self._state is not None and self._state.bounding is not None:
            candidate = self._state.bounding.program.image(self._values[0], candidate)
        return BabResult(
            ClauseBounds(self._upper, refuted, proved, margin),
            self._values,
            candidate,
            self._domains,
            reason,
            tuple(self._refutations),
        )

    def _margin_bound(self) -> float:
        """What the bounds on single atoms say about the clause's margin."""
        return float(np.sort(self._upper)[self._clause.atoms - self._clause.needed])
