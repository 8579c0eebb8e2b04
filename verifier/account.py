"""What is known of a question while engines work on it, and the result that this makes."""

import math
import time
from typing import TYPE_CHECKING

from ..errors import DisagreementError
from .bounds_engine import BoundsOutcome
from .budget import Budget
from .interval import ValueBounds
from .max_engine import BabResult
from .operators import FloatArray
from .problem import Problem
from .proof_certificate import Certificate
from .proof_record import Recorder
from .result import MilpSize, Result, Stage, Verdict, Witness

if TYPE_CHECKING:
    from .portfolio import Verifier


class Account:
    """The bounds and stages of one question.

    Attributes:
        known: bounds proved so far, None before the first.
    """

    def __init__(self, verifier: "Verifier", problem: Problem, budget: Budget) -> None:
        """Start without any."""
        self._verifier = verifier
        self._problem = problem
        self._budget = budget
        self._started = time.monotonic()
        self._stages: list[Stage] = []
        self._disagreement: DisagreementError | None = None
        self.known: BoundsOutcome | None = None

    def learn(self, position: int, found: BabResult) -> None:
        """Keep what branch and bound has proved of a clause and of the values in the network."""
        assert self.known is not None
        clauses = list(self.known.clauses)
        clauses[position] = found.clause
        values = zip(self.known.values.values, found.values.values, strict=True)
        better = ValueBounds(tuple(mine.intersect(theirs) for mine, theirs in values))
        self.known = BoundsOutcome(tuple(clauses), better)

    def refine(self, candidate: FloatArray) -> tuple[str, Witness | None]:
        """Replay a candidate; where onnxruntime contradicts float64 there, nothing may hold any more."""
        settings, falsifier = self._verifier.settings, self._verifier.falsifier
        try:
            refined = falsifier.refine(self._problem, candidate, settings.seed, self._budget)
        except DisagreementError as error:
            self._disagreement = error
            return str(error), None
        return refined.reason, refined.witness

    def done(
        self,
        engine: str,
        seconds: float,
        detail: str,
        *,
        proved: bool,
        witness: Witness | None = None,
        milp: MilpSize | None = None,
    ) -> None:
        """An engine has ended its turn."""
        verdict = Verdict.VIOLATED if witness is not None else Verdict.HOLDS if proved else Verdict.UNKNOWN
        self._stages.append(Stage(engine, verdict, seconds, detail, milp))
        self._verifier.watch(self._stages[-1])

    def holds(
        self, engine: str, bound: float, reason: str, trusted: tuple[str, ...], recorder: Recorder | None
    ) -> Result:
        """The property is proved; with a certificate where ``recorder`` has all of the proof.

        Raises:
            DisagreementError: when onnxruntime and float64 have disagreed.
        """
        self.raise_disagreement()
        certificates: tuple[Certificate, ...] = ()
        if recorder is not None and recorder.proves(self._problem.property):
            certificates = (recorder.certificate(self._problem),)
        stages = tuple(self._stages)
        return Result(
            Verdict.HOLDS, reason, engine, self._seconds(), bound, None, stages, trusted, certificates
        )

    def violated(self, engine: str, witness: Witness) -> Result:
        """A replayed witness breaks the property."""
        return Result(
            Verdict.VIOLATED,
            f"replayed in onnxruntime on {self._problem.network.path.name}",
            engine,
            self._seconds(),
            self._bound(),
            witness,
            tuple(self._stages),
            ("onnxruntime's evaluation of the user's file",),
        )

    def unknown(self, remark: str) -> Result:
        """Nobody could decide; ``remark`` is said where there was time left.

        Raises:
            DisagreementError: when onnxruntime and float64 have disagreed.
        """
        self.raise_disagreement()
        if self._budget.cancelled():
            reason = "interrupted"
        elif self._budget.exhausted:
            reason = "time limit"
        else:
            reason = (self._stages[-1].detail if self._stages else "no engine was asked") + remark
        engine = self._stages[-1].engine if self._stages else "none"
        return Result(
            Verdict.UNKNOWN, reason, engine, self._seconds(), self._bound(), None, tuple(self._stages)
        )

    def raise_disagreement(self) -> None:
        """Only a replayed witness is worth anything once onnxruntime and float64 have disagreed.

        Raises:
            DisagreementError: that one.
        """
        if self._disagreement is not None:
            raise self._disagreement

    def _bound(self) -> float | None:
        known = self.known
        return known.margin_bound if known is not None and math.isfinite(known.margin_bound) else None

    def _seconds(self) -> float:
        return time.monotonic() - self._started
