"""The oracle's proofs: the slopes at hand, linear bounds and attacks first, then the complete engines."""

import time
from dataclasses import replace

from ..verifier.budget import Budget
from ..verifier.certificate import BoundCertificate, certified
from ..verifier.falsify import Falsifier
from ..verifier.network import Network
from ..verifier.portfolio import Engine, Notice, Settings, Verifier, silent
from ..verifier.problem import Problem
from ..verifier.result import Result, Verdict
from ..verifier.window_bounds import WindowBounds, WindowedBounds

_CHEAP = frozenset({Engine.BOUNDS, Engine.FALSIFY})
_COMPLETE = frozenset({Engine.BAB, Engine.MILP})


class Prover:
    """Answers synthesis's questions about one network."""

    def __init__(self, network: Network, settings: Settings | None = None, notice: Notice = silent) -> None:
        """Prepare the engines that the settings allow."""
        settings = settings or Settings()
        self._settings = settings
        self.cheap = Verifier(network, replace(settings, engines=settings.engines & _CHEAP), notice)
        self.windows = WindowBounds(network)
        self._complete = Verifier(network, replace(settings, engines=settings.engines & _COMPLETE), notice)
        self._complete.bounds = WindowedBounds(network, self.windows, settings.device)

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
        found = self._complete.verify(problem, budget)
        return replace(found, stages=first.stages + found.stages, seconds=time.monotonic() - started)

    def ask_beyond(
        self, problem: Problem, budget: Budget, certificate: BoundCertificate | None = None
    ) -> Result:
        """The slopes and the complete engines only: for questions that attacks were tried on before."""
        return self.by_certificate(problem, certificate) or self.ask_completely(problem, budget)

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

    def ask_completely(self, problem: Problem, budget: Budget) -> Result:
        """The complete engines only."""
        return self._complete.verify(problem, budget)
