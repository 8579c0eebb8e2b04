"""The MILP engine: encode a clause, solve it, and say only what the answer supports."""

import math
import time
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import torch

from ..errors import DisagreementError
from .budget import Budget
from .interval import Interval, ValueBounds
from .margins import MILP_MARGIN
from .milp_encoding import Encoding, ProvedByBounds, Refuted, encode
from .milp_model import MilpAnswer, MilpBackend, MilpStatus
from .network import Network
from .operators import FloatArray
from .property import Clause
from .result import MilpSize
from .torch_network import TorchNetwork

# An incumbent this far above zero survives its replay in float32 (scores of order 10, error near 1e-5);
# one on the boundary does not, so the search goes on past it.
WITNESS_MARGIN = 1e-4
# Solvers take a row for broken that is missed by 1e-9, the tightest they offer. Sums of numbers of this size are that
# exact only with luck (2^-53 of it is 1e-10): beyond it, feasible sub-problems are pruned. HiGHS proved what is false
# by far in 19 of 356 violated questions with numbers above 1e7 (the first with 2.8e7), and in none of 1441 below.
MOST_NUMBER = 1e6
# Points of the region at which the network is run, so that a solver's bound that is plainly wrong is noticed.
SEEN_POINTS = 32


class MilpVerdict(StrEnum):
    """proved: no point of the region violates; candidate: an image to replay; unknown: neither."""

    PROVED = "proved"
    CANDIDATE = "candidate"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, eq=False)
class MilpOutcome:
    """What the MILP says about one clause.

    Attributes:
        verdict: see :class:`MilpVerdict`.
        reason: in words.
        bound: upper bound on the margin, infinity when there is none.
        candidate: float64 image in the region, to be replayed before it is believed, or None.
        margin: the solver's margin of the candidate; NaN without one.
        size: of the program; None when the bounds decided before there was one.
        seconds: encoding and solving.
        nodes: of the search tree.
        error: what the solver's tolerances can hide in ``bound``; infinity where nothing is known of it.
    """

    verdict: MilpVerdict
    reason: str
    bound: float
    candidate: FloatArray | None
    margin: float
    size: MilpSize | None
    seconds: float
    nodes: int
    error: float = math.inf


@dataclass(frozen=True, slots=True)
class MilpSettings:
    """How a program is solved.

    Attributes:
        threads: at most this many.
        seed: of the solver.
    """

    threads: int = 1
    seed: int = 0


def solve_clause(
    network: Network,
    bounds: ValueBounds,
    clause: Clause,
    backend: MilpBackend,
    budget: Budget,
    settings: MilpSettings | None = None,
    atom_bounds: Interval | None = None,
    refuted: Refuted | None = None,
) -> MilpOutcome:
    """Ask a MILP solver whether a clause can be violated in a region.

    Args:
        network: the network.
        bounds: valid bounds on every value over the region; ``bounds[0]`` is the region.
        clause: what may not hold.
        backend: the solver.
        budget: of encoding and solving together.
        settings: threads and seed.
        atom_bounds: better bounds (atoms,) on the atoms than those that follow from the scores.
        refuted: sets of atoms that are proved not to reach zero together.

    Raises:
        SolverUnavailableError: when the solver can't take the program.
        DisagreementError: when the encoder read what it had not built (a bug, or bounds that are NaN).
    """
    started = time.monotonic()
    settings = settings or MilpSettings()
    if not all(np.isfinite([item.lower, item.upper]).all() for item in bounds.values):
        reason = "the bounds of the network's values overflow float64"
        return MilpOutcome(MilpVerdict.UNKNOWN, reason, math.inf, None, math.nan, None, 0.0, 0)
    encoding = encode(network, bounds, clause, atom_bounds, refuted)
    if isinstance(encoding, ProvedByBounds):
        seconds = time.monotonic() - started
        text = "the bounds leave too few atoms"
        return MilpOutcome(MilpVerdict.PROVED, text, encoding.bound, None, math.nan, None, seconds, 0)
    if not encoding.model.is_finite():
        raise DisagreementError(
            "the MILP encoder read a value that it had not built: please report this network"
        )
    encoding = replace(encoding, seen=_margin_seen(network, bounds[0], clause))
    answer = backend.solve(
        encoding.model,
        budget,
        stop_above=WITNESS_MARGIN,
        stop_below=-encoding.proof_margin,
        threads=settings.threads,
        seed=settings.seed,
    )
    return interpret(encoding, answer, time.monotonic() - started)


def interpret(encoding: Encoding, answer: MilpAnswer, seconds: float) -> MilpOutcome:
    """Turn a solver's answer into what it supports.

    No status proves anything: a proof is a dual bound below zero by the program's ``proof_margin`` that
    nothing contradicts, and a candidate is only an image. What is trusted is that the solver's dual bound is one.
    """
    doubt = _doubt(encoding, answer)
    bound = math.inf if doubt else encoding.margin_bound(answer.best_bound)

    def outcome(verdict: MilpVerdict, reason: str, image: FloatArray | None = None) -> MilpOutcome:
        margin = math.nan if image is None else answer.objective
        return MilpOutcome(
            verdict,
            reason,
            bound,
            image,
            margin,
            encoding.size,
            seconds,
            answer.nodes,
            encoding.proof_margin,
        )

    image = _candidate(encoding, answer)
    if image is not None:
        return outcome(MilpVerdict.CANDIDATE, "the solver's point, to be replayed", image)
    if doubt is None and encoding.proves(answer.best_bound):
        return outcome(MilpVerdict.PROVED, "dual bound below zero")
    return outcome(MilpVerdict.UNKNOWN, doubt or answer.status.value)


def _candidate(encoding: Encoding, answer: MilpAnswer) -> FloatArray | None:
    point = answer.incumbent
    if point is None or point.shape != encoding.model.lower.shape or not np.isfinite(point).all():
        return None
    return encoding.decode(point) if answer.objective >= -encoding.proof_margin else None


def _doubt(encoding: Encoding, answer: MilpAnswer) -> str | None:
    """Why the dual bound can't be used, or None.

    Every point of the region is feasible and has a margin of at least ``encoding.lowest``; an infeasible
    program, or a bound below that or below the solver's own point, is a contradiction.
    """
    if answer.status in (MilpStatus.ERROR, MilpStatus.INFEASIBLE):
        return f"the solver ended with: {answer.status.value}"
    if not math.isfinite(answer.best_bound):
        return f"no dual bound ({answer.status.value})"
    # the bound of a program without binaries was computed again from its duals
    if encoding.model.binaries and encoding.model.largest > MOST_NUMBER:
        return (
            f"the program's numbers reach {encoding.model.largest:.2g}, too much for the solver's tolerances"
        )
    if answer.best_bound < encoding.lowest - encoding.proof_margin:
        return "the solver's dual bound contradicts the bounds"
    if encoding.margin_bound(answer.best_bound) < encoding.seen - encoding.proof_margin:
        return "the solver's dual bound contradicts the network at a point of the region"
    if answer.objective > answer.best_bound + MILP_MARGIN:
        return "the solver's dual bound contradicts its own point"
    return None


def _margin_seen(network: Network, region: Interval, clause: Clause) -> float:
    """Largest margin at a few points of the region: corners and random points, always the same."""
    rng = np.random.default_rng(0)
    share = rng.random((SEEN_POINTS, *region.lower.shape))
    share[::2] = share[::2].round()
    points = np.clip(region.lower + share * (region.upper - region.lower), region.lower, region.upper)
    with torch.no_grad():
        scores = TorchNetwork(network, torch.float64)(torch.as_tensor(points)).numpy()
    return float(clause.margin(scores).max())
