"""The oracle's proofs: linear bounds and attacks first, then the complete engines, part by part where that helps."""

import time
from dataclasses import replace

from ..verifier.beside import Beside, proof_against_witness
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
# Share of a question's time before the parts.
FIRST_SHARE = 0.6
# What the engine that comes first may take where there is one thread, in seconds and as a share: it decides most of
# what it can decide within that.
TURN_SECONDS = 4.0
# It gets so many times what its longest proof has taken.
PATIENCE = 4.0
TURN_SHARE = 0.5


class Prover:
    """Answers synthesis's questions about one network."""

    def __init__(self, network: Network, settings: Settings | None = None, notice: Notice = silent) -> None:
        """Prepare the engines that the settings allow."""
        settings = settings or Settings()
        self._network = network
        self._settings = settings
        self.cheap = Verifier(network, replace(settings, engines=settings.engines & _CHEAP), notice)
        self.windows = WindowBounds(network)
        self._bounds = WindowedBounds(network, self.windows, settings.device)
        self._engines = {
            engine: Verifier(network, replace(settings, engines=frozenset({engine})), notice)
            for engine in (Engine.BAB, Engine.MILP)
            if engine in settings.engines
        }
        self._patience = dict.fromkeys(self._engines, TURN_SECONDS)
        self._complete = Verifier(network, replace(settings, engines=settings.engines & _COMPLETE), notice)
        for verifier in (self._complete, *self._engines.values()):
            verifier.bounds = self._bounds
        self._cells = CellsEngine(
            network, HighsBackend(), CellsSettings(settings.threads, settings.seed), self.windows
        )

    def fresh(self) -> "Prover":
        """A prover that has seen nothing yet, but begins with the engine that proved last, and waits as long for it."""
        found = Prover(self._network, self._settings)
        found._engines = {engine: found._engines[engine] for engine in self._engines}
        found._patience = dict(self._patience)
        return found

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

    def ask_beyond(
        self, problem: Problem, budget: Budget, certificate: BoundCertificate | None = None
    ) -> Result:
        """The slopes and the complete engines only: for questions that attacks were tried on before."""
        return self.by_certificate(problem, certificate) or self.ask_completely(problem, budget, certificate)

    def by_certificate(self, problem: Problem, certificate: BoundCertificate | None) -> Result | None:
        """The proof that the slopes give at once, None where they give none."""
        if certificate is None or Engine.BOUNDS not in self._settings.engines:
            return None
        started = time.monotonic()
        for windows in self._windows():
            proof = certificate.check(self.cheap.bounds.linear, problem.region, problem.property, windows)
            if proof.proved:
                return certified(proof, time.monotonic() - started, windows=windows is not None)
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

        def answer(found: Result) -> Result:
            return replace(found, stages=tuple(stages), seconds=time.monotonic() - started)

        found = self._first(problem, budget, stages)
        if found.verdict is not Verdict.UNKNOWN:
            return answer(found)
        if certificate is not None and self._cells.is_available and Engine.MILP in self._settings.engines:
            result = self._by_cells(problem, budget, certificate, stages, started)
            if result is not None:
                return result
        found = self._complete.verify(problem, budget)
        stages += found.stages
        return answer(found)

    def _first(self, problem: Problem, budget: Budget, stages: list[Stage]) -> Result:
        """Complete engines at the same time where there are threads, else in turn, the one that proved last first."""
        if len(self._engines) > 1 and self._settings.threads > 1:
            return self._beside(problem, budget.at_most(FIRST_SHARE * budget.remaining), stages)
        found = Result(Verdict.UNKNOWN, "time limit", "none", 0.0)
        for engine, verifier in tuple(self._engines.items()):
            if budget.exhausted:
                break
            found = verifier.verify(
                problem, budget.at_most(min(self._patience[engine], TURN_SHARE * budget.remaining))
            )
            stages += found.stages
            if found.verdict is not Verdict.UNKNOWN:
                self._patience[engine] = max(self._patience[engine], PATIENCE * found.seconds)
                others = {item: self._engines[item] for item in self._engines if item is not engine}
                self._engines = {engine: verifier, **others}
                break
        return found

    def _beside(self, problem: Problem, budget: Budget, stages: list[Stage]) -> Result:
        # both read the bounds of the same region
        self._bounds.crown(problem.region, problem.property)
        milp, branching = self._engines[Engine.MILP], self._engines[Engine.BAB]
        with Beside(lambda part: milp.verify(problem, part), budget) as other:
            found = branching.verify(problem, other.until_done(budget))
            if found.verdict is Verdict.UNKNOWN:
                stages += found.stages
                found = other.result()
        stages += found.stages
        finished = other.finished()
        if found.verdict is Verdict.HOLDS and finished is not None and finished.verdict is Verdict.VIOLATED:
            raise proof_against_witness()
        return found

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
