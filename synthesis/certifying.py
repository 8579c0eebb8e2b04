"""Proofs of what the ascent found, afresh in float64 from the slopes as they are kept."""

import time
from dataclasses import dataclass

import numpy as np

from ..verifier.budget import Budget
from ..verifier.certificate import BoundCertificate, certified
from ..verifier.linear_bounds import LinearBounds
from ..verifier.operators import FloatArray
from ..verifier.result import Result
from ..verifier.window_bounds import WindowBounds
from .problem import SynthesisProblem
from .rows import SearchPoint

# A certificate that rounding spoils is shrunk by this share, twice as much each time, so many times.
SHRINK = 1e-4
SHRINKS = 12
# A certificate with slack is stretched, at most to this multiple of its epsilons, by bisection in so many checks.
STRETCH = 1.3
STRETCHES = 8


@dataclass(frozen=True, slots=True, eq=False)
class Certified:
    """Epsilons with their proof."""

    epsilons: FloatArray
    result: Result
    certificate: BoundCertificate | None


@dataclass(slots=True, eq=False)
class Certifying:
    """Certifies points of one problem.

    Attributes:
        problem: the problem.
        linear: bounds in float64.
        budget: ends stretching.
        windows: better inner bounds to start from, None for none.
        queries: proofs tried so far.
    """

    problem: SynthesisProblem
    linear: LinearBounds
    budget: Budget
    windows: WindowBounds | None = None
    queries: int = 0

    def certify(self, point: SearchPoint) -> Certified | None:
        """A proof of the point: shrunk a little where rounding spoils it, stretched as far as its slopes carry it."""
        certificate = point.certificate
        epsilons = np.minimum(point.epsilons, 1.0)
        for attempt in range(SHRINKS):
            found = self._prove(certificate, epsilons)
            if found is not None:
                return self._stretch(certificate, found)
            epsilons = epsilons * (1.0 - SHRINK * 2**attempt)
        return None

    def _stretch(self, certificate: BoundCertificate, found: Certified) -> Certified:
        low, high, best = 1.0, STRETCH, found
        for _ in range(STRETCHES):
            # one check of a photo takes a second
            if self.budget.exhausted:
                break
            factor = (low + high) / 2
            further = self._prove(certificate, np.minimum(found.epsilons * factor, 1.0))
            low, high, best = (low, factor, best) if further is None else (factor, high, further)
        return best

    def _prove(self, certificate: BoundCertificate, epsilons: FloatArray) -> Certified | None:
        started = time.monotonic()
        region, question = self.problem.region(epsilons), self.problem.question
        for windows in (None,) if self.windows is None else (None, self.windows):
            proof = certificate.check(self.linear, region, question, windows)
            self.queries += 1
            if proof.proved:
                seconds = time.monotonic() - started
                found = certified(proof, seconds, windows=windows is not None)
                return Certified(epsilons, found, certificate)
        return None
