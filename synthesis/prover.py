"""The oracle's proofs: linear bounds and attacks first, then the complete engines, part by part where that helps."""

import time
from dataclasses import replace

from ..verifier.budget import Budget
from ..verifier.cells_engine import CellsEngine, CellsSettings
from ..verifier.certificate import BoundCertificate, certified
from ..verifier.falsify import Falsifier
from ..verifier.milp_highs import HighsBackend
from ..verifier.network import Network
from ..verifier.portfolio import Engine, Notice, Settings, Verifier, silent
from ..verifier.problem import Problem
from ..verifier.result import Result, Stage, Verdict
from ..verifier.threads import few_threads
from ..verifier.window_bounds import WindowBounds, WindowedBounds

_CHEAP = frozenset({Engine.BOUNDS, Engine.FALSIFY})
_COMPLETE = frozenset({Engine.BAB, Engine.MILP})
# Share of a question's time for the parts; the whole network has the rest.
CELLS_SHARE = 0.6
SHORT_SECONDS = 5.0


class Prover:
    """Answers synthesis's questions about one network."""

    def __init__(self, network: Network, settings: Settings | None = None, notice: Notice = silent) -> None:
        """Prepare the engines that the settings allow."""
        settings = settings or Settings()
        self._settings = settings
        self.cheap = Verifier(network, replace(settings, engines=settings.engines & _CHEAP), notice)
        self._complete = Verifier(network, replace(settings, engines=settings.engines & _COMPLETE), notice)
        self.windows = WindowBounds(network)
        if self.windows.is_available:
            self._complete.bounds = WindowedBounds(network, self.windows, settings.device)
        self._cells = CellsEngine(network, HighsBackend(), CellsSettings(settings.threads, settings.seed))

    @property
    def is_complete(self) -> bool:
        """Whether any complete engine may be asked."""
        return bool(self._settings.engines & _COMPLETE)

    @property
    def falsifier(self) -> Falsifier:
        """The attacks."""
        return self.cheap.falsifier

    def tell(self, subject: str, message: str) -> None:
        """Pass a notice on, once per subject."""
        self.cheap.tell(subject, message)

    def verify(self, problem: Problem, budget: Budget) -> Result:
        """All engines in turn, without slopes to start from."""
        return self.ask(problem, budget)

    def ask(self, problem: Problem, budget: Budget, certificate: BoundCertificate | None = None) -> Result:
        """All engines in turn; the stages of all of them are in the result.

        Args:
            problem: the question.
            budget: for all engines together.
            certificate: slopes that may help, from this question or from one like it.
        """
        started = time.monotonic()
        first = self.by_certificate(problem, certificate) or self.cheap.verify(problem, budget)
        if first.verdict is not Verdict.UNKNOWN or not self.is_complete or budget.exhausted:
            return first
        return self.ask_completely(problem, budget, certificate, first.stages, started)

    def by_certificate(self, problem: Problem, certificate: BoundCertificate | None) -> Result | None:
        """The proof that the slopes give at once, None where they give none."""
        if certificate is None or Engine.BOUNDS not in self._settings.engines:
            return None
        started = time.monotonic()
        for windows in self._windows():
            proof = certificate.check(self.cheap.bounds.linear, problem.region, problem.property, windows)
            if proof.proved:
                return certified(proof, time.monotonic() - started)
        return None

    def _windows(self) -> tuple[WindowBounds | None, ...]:
        """Without and with the search behind single windows, the cheap one first."""
        return (None, self.windows) if self.windows.is_available else (None,)

    def ask_completely(
        self,
        problem: Problem,
        budget: Budget,
        certificate: BoundCertificate | None = None,
        before: tuple[Stage, ...] = (),
        started: float | None = None,
    ) -> Result:
        """The complete engines only; ``before`` and ``started`` belong to what was asked already."""
        started = time.monotonic() if started is None else started
        stages = list(before)
        # branch and bound decides most questions that it can decide within seconds
        short = self._complete.verify(problem, budget.at_most(SHORT_SECONDS))
        stages += short.stages
        if short.verdict is not Verdict.UNKNOWN:
            return replace(short, stages=tuple(stages), seconds=time.monotonic() - started)
        if certificate is not None and self._cells.is_available and Engine.MILP in self._settings.engines:
            result = self._by_cells(problem, budget, certificate, stages, started)
            if result is not None:
                return result
        found = self._complete.verify(problem, budget)
        return replace(found, stages=(*stages, *found.stages), seconds=time.monotonic() - started)

    def _by_cells(
        self,
        problem: Problem,
        budget: Budget,
        certificate: BoundCertificate,
        stages: list[Stage],
        started: float,
    ) -> Result | None:
        part = budget.at_most(CELLS_SHARE * budget.remaining) if budget.remaining < float("inf") else budget
        begun = time.monotonic()
        with few_threads():
            outcome = self._cells.prove(self.cheap.bounds.linear, problem, certificate, part)
        verdict = Verdict.HOLDS if outcome.proved else Verdict.UNKNOWN
        stages.append(Stage("cells", verdict, time.monotonic() - begun, outcome.reason))
        if not outcome.proved:
            return None
        trusted = (
            "the MILP solver's dual bounds",
            "float64 arithmetic of the bounds, with a margin for rounding",
        )
        return Result(
            Verdict.HOLDS,
            f"linear bounds and exact parts together exclude every violation ({outcome.reason})",
            "cells",
            time.monotonic() - started,
            outcome.margin_bound,
            None,
            tuple(stages),
            trusted,
        )
