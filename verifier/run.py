"""One question on its way through the engines, in order of cost."""

import math
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from .account import Account
from .beside import Beside, proof_against_witness
from .bounds_engine import BoundsOutcome
from .box_proof import BoxProof
from .budget import Budget
from .falsify import QUICK, THOROUGH, AttackOutcome
from .input_split import MOST_INPUTS, InputSplit, SplitEnd, moving_inputs
from .margins import proof_margin
from .max_engine import Branching, Recording
from .milp import MilpOutcome, MilpVerdict
from .milp_turn import MilpTurn
from .operators import SShaped
from .problem import Problem
from .proof_alone import refute_alone
from .proof_checker import default_values
from .proof_record import Recorder
from .result import Result, Verdict, Witness
from .settings import Engine

if TYPE_CHECKING:
    from .portfolio import Verifier

# Branch and bound decides most questions within this time, less than a thorough attack takes.
SHORT_SECONDS = 2.0
# Part of the time that branch and bound may take where the MILP comes after it.
BAB_SHARE = 0.6
# The same for halving inputs, where few move.
SPLIT_SHARE = 0.5
# Candidates of one search that may fail their replay before the next engine is asked.
MOST_CANDIDATES = 8


class Run:
    """One question on its way through the engines."""

    def __init__(self, verifier: "Verifier", problem: Problem, budget: Budget) -> None:
        self._verifier = verifier
        self._problem = problem
        self._budget = budget
        self._account = Account(verifier, problem, budget)
        self._branchings: list[Branching] = []
        self._boxes: InputSplit | None = None
        self._box_proof: BoxProof | None = None
        self._engines = verifier.settings.engines
        self._recorder = Recorder() if verifier.settings.certify else None
        if verifier.settings.certify:
            # a MILP's proof is the solver's word
            self._engines -= {Engine.MILP}
        self._curves = verifier.network.curves
        self._milp = MilpTurn(verifier, problem, self._engines)

    def decide(self) -> Result:
        """Go through the engines."""
        steps = (
            self._crown,
            self._second_opinion,
            self._quick,
            self._short_split,
            self._alpha,
            self._short_bab,
            self._small_milp,
            self._thorough,
            self._long_split,
            self._both,
            self._long_bab,
            self._last_milp,
        )
        for step in steps:
            if self._budget.exhausted:
                break
            result = step()
            if result is not None:
                return result
        return self._account.unknown(self._remark())

    def _crown(self) -> Result | None:
        if not self._engines & {Engine.BOUNDS, Engine.BAB, Engine.MILP}:
            return None
        started = time.monotonic()
        if self._recorder is None:
            self._account.known = self._verifier.bounds.crown(self._problem.region, self._problem.property)
        else:
            self._account.known = self._alone(self._recorder)
        return self._after_bounds("bounds/crown", started) if Engine.BOUNDS in self._engines else None

    def _alone(self, recorder: Recorder) -> BoundsOutcome:
        """Bounds that the checker can confirm: a proof without a certificate is none here."""
        alone = refute_alone(self._problem, recorder)
        # the engines' bounds can be tighter than the checker's, and leaves that rest on them prove nothing to it
        values = default_values(self._problem)
        own = proof_margin(values, self._problem.network.output)
        uppers = [upper + max(0.0, alone.margin - own) for upper in alone.uppers]
        return self._verifier.bounds.judge(self._problem.property, values, uppers)

    def _second_opinion(self) -> Result | None:
        if not self._verifier.settings.second_opinion or self._recorder is not None:
            return None
        started = time.monotonic()
        outcome = self._verifier.second_opinion(self._problem)
        if outcome is None:
            return None
        detail = f"margin at most {outcome.margin_bound:.4g}"
        self._account.done("bounds/auto_LiRPA", time.monotonic() - started, detail, proved=outcome.proved)
        if not outcome.proved:
            return None
        trusted = ("auto_LiRPA's bounds in float64, with a margin for rounding",)
        reason = "auto_LiRPA's bounds exclude every violation"
        return self._holds("bounds/auto_LiRPA", outcome.margin_bound, reason, trusted)

    def _alpha(self) -> Result | None:
        """Bounds with optimised slopes, on what the first bounds have left of the network."""
        if self._account.known is None or not self._engines & {Engine.BOUNDS, Engine.BAB}:
            return None
        started = time.monotonic()
        if self._curves:
            self._account.known = self._verifier.bounds.descend(
                self._problem.property, self._account.known, self._budget
            )
            return self._after_bounds("bounds/alpha-crown", started)
        self._branchings = [
            Branching(
                self._problem.network,
                self._account.known.values,
                clause,
                known,
                self._verifier.settings.search,
                self._verifier.settings.device,
                None if self._recorder is None else Recording(self._recorder, position),
            )
            for position, (clause, known) in enumerate(
                zip(self._problem.property.clauses, self._account.known.clauses, strict=True)
            )
        ]
        for position, known in enumerate(self._account.known.clauses):
            if not known.proved and not self._budget.exhausted:
                self._account.learn(position, self._branchings[position].bound(self._budget))
        return self._after_bounds("bounds/alpha-crown", started) if Engine.BOUNDS in self._engines else None

    def _after_bounds(self, engine: str, started: float) -> Result | None:
        known = self._account.known
        assert known is not None
        detail = f"margin at most {known.margin_bound:.4g}"
        self._account.done(engine, time.monotonic() - started, detail, proved=known.proved)
        if not known.proved:
            return None
        trusted = ("float64 arithmetic of the bounds, with a margin for rounding",)
        return self._holds(engine, known.margin_bound, "linear bounds exclude every violation", trusted)

    def _quick(self) -> Result | None:
        return self._attack("falsify/apgd-quick", lambda: self._search(quick=True))

    def _thorough(self) -> Result | None:
        return self._attack("falsify/apgd", lambda: self._search(quick=False))

    def _search(self, *, quick: bool) -> AttackOutcome:
        verifier = self._verifier
        attack = QUICK if quick else THOROUGH
        return verifier.falsifier.search(self._problem, attack, verifier.settings.seed, self._budget)

    def _attack(self, engine: str, search: Callable[[], AttackOutcome]) -> Result | None:
        if Engine.FALSIFY not in self._engines:
            return None
        started = time.monotonic()
        outcome = search()
        seconds, witness = time.monotonic() - started, outcome.witness
        self._account.done(engine, seconds, outcome.reason, proved=False, witness=witness)
        return None if witness is None else self._account.violated(engine, witness)

    def _short_bab(self) -> Result | None:
        return self._bab(self._budget.at_most(SHORT_SECONDS))

    def _long_bab(self) -> Result | None:
        milp_follows = self._milp.follows(self._branchings) and self._budget.remaining < math.inf
        share = BAB_SHARE * self._budget.remaining
        return self._bab(self._budget.at_most(share) if milp_follows else self._budget)

    def _both(self) -> Result | None:
        """Branch and bound with the MILP beside it; who decides first ends the other."""
        known = self._account.known
        if known is None or not self._milp.beside(self._branchings):
            return None
        with Beside(lambda budget: list(self._milp.ask(known, budget)), self._budget) as milp:
            result = self._bab(milp.until_done(self._budget))
            outcomes = milp.result() if result is None else []
        if result is None:
            return self._after_milp(outcomes)
        if result.verdict is Verdict.HOLDS:
            self._contradicted(milp.finished() or [])
        return result

    def _contradicted(self, outcomes: Iterable[MilpOutcome]) -> None:
        """A witness that the MILP had found before branch and bound proved that there is none is an error."""
        if any(self._replayed(outcome) is not None for outcome in outcomes):
            raise proof_against_witness()
        # the replay may have shown that onnxruntime and float64 differ: too late for the proof to say so
        self._account.raise_disagreement()

    def _short_split(self) -> Result | None:
        return self._split_inputs(self._budget.at_most(SHORT_SECONDS))

    def _long_split(self) -> Result | None:
        share = 1.0 if self._curves else SPLIT_SHARE
        return self._split_inputs(self._budget.at_most(share * self._budget.remaining))

    def _split_inputs(self, budget: Budget) -> Result | None:
        """Halve the region where few inputs move."""
        region, question = self._problem.region, self._problem.property
        if Engine.BAB not in self._engines or not 0 < moving_inputs(region) <= MOST_INPUTS:
            return None
        if self._boxes is None:
            self._box_proof = None if self._recorder is None else BoxProof(self._problem)
            linear = self._verifier.bounds.linear
            self._boxes = InputSplit(linear, region, question.clauses, self._box_proof)
        started = time.monotonic()
        found = self._boxes.run(budget)
        reason, witness = f"{found.end.value} after {found.boxes} boxes", None
        if found.candidate is not None:
            reason, witness = self._account.refine(found.candidate)
        proved = found.end is SplitEnd.PROVED
        seconds = time.monotonic() - started
        self._account.done("bab/inputs", seconds, reason, proved=proved, witness=witness)
        if witness is not None:
            return self._account.violated("bab/inputs", witness)
        if not proved:
            return None
        if self._box_proof is not None:
            # what other engines recorded is no part of this proof
            self._recorder = self._box_proof.recorder()
        trusted = ("float64 arithmetic of the bounds, with a margin for rounding",)
        return self._holds("bab/inputs", found.bound, "halved boxes exclude every violation", trusted)

    def _bab(self, budget: Budget) -> Result | None:
        """Branch and bound on every open clause; its proofs stay for the MILP."""
        if self._account.known is None or Engine.BAB not in self._engines or self._curves:
            return None
        for position, branching in enumerate(self._branchings):
            if self._account.known.clauses[position].proved:
                continue
            witness = self._search_clause(position, branching, budget)
            if witness is not None:
                return self._account.violated("bab", witness)
            if not self._account.known.clauses[position].proved:
                return None
        trusted = ("float64 arithmetic of the bounds, with a margin for rounding",)
        reason = "branch and bound excludes every violation"
        return self._holds("bab", self._account.known.margin_bound, reason, trusted)

    def _search_clause(self, position: int, branching: Branching, budget: Budget) -> Witness | None:
        """Search until the clause is decided or the time is over; candidates that fail their replay end nothing."""
        for _ in range(MOST_CANDIDATES):
            started = time.monotonic()
            found = branching.advance(budget)
            self._account.learn(position, found)
            reason, witness = found.reason, None
            if found.candidate is not None:
                reason, witness = self._account.refine(found.candidate)
            seconds = time.monotonic() - started
            self._account.done("bab", seconds, reason, proved=found.clause.proved, witness=witness)
            if witness is not None or found.candidate is None:
                return witness
        return None

    def _small_milp(self) -> Result | None:
        if self._account.known is None or not self._milp.comes_first(self._branchings):
            return None
        return self._after_milp(self._milp.ask(self._account.known, self._milp.first_budget(self._budget)))

    def _last_milp(self) -> Result | None:
        if self._account.known is None or self._milp.over:
            return None
        return self._after_milp(self._milp.ask(self._account.known, self._budget))

    def _after_milp(self, outcomes: Iterable[MilpOutcome]) -> Result | None:
        """Replay its candidates; it has proved the property where it has proved all that was open."""
        assert self._account.known is not None
        worst = max(
            (clause.margin_bound for clause in self._account.known.clauses if clause.proved),
            default=-math.inf,
        )
        for outcome in outcomes:
            witness = self._replayed(outcome)
            if witness is not None:
                return self._account.violated("milp", witness)
            if outcome.verdict is not MilpVerdict.PROVED:
                return None
            worst = max(worst, outcome.bound)
        trusted = ("the MILP solver's dual bound", "float64 arithmetic of the bounds behind the encoding")
        return self._holds("milp", worst, "the MILP's dual bound excludes every violation", trusted)

    def _replayed(self, outcome: MilpOutcome) -> Witness | None:
        reason, witness = outcome.reason, None
        if outcome.candidate is not None:
            reason, witness = self._account.refine(outcome.candidate)
        proved = outcome.verdict is MilpVerdict.PROVED
        self._account.done("milp", outcome.seconds, reason, proved=proved, witness=witness, milp=outcome.size)
        return witness

    def _holds(self, engine: str, bound: float, reason: str, trusted: tuple[str, ...]) -> Result:
        return self._account.holds(engine, bound, reason, trusted, self._recorder)

    def _remark(self) -> str:
        """Who could have gone on but for what it can't express."""
        inexpressible = self._curves and self._engines & {Engine.BAB, Engine.MILP}
        return f"; {_inexpressible(self._curves[0])}" if inexpressible else ""


def _inexpressible(curve: SShaped) -> str:
    return (
        f"branch and bound on neurons and the MILP can't express {curve.curve.title()} (node '{curve.name}'), "
        f"and inputs are halved where at most {MOST_INPUTS} move"
    )
