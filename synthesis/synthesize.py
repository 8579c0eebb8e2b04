"""Synthesis: grow the epsilons of a layered neighbourhood, and certify exactly what is returned.

Certified ascent on linear bounds first; then steps beyond them that the complete engines prove; then a witness for
every layer that could still grow, and a bound on what any robust neighbourhood could reach. Every witness met on
the way is made smaller and kept. Without an ascent, the loop of Mour (2023, section 3) expands and cuts instead. What
is returned is what an engine was asked and has proved, to the last digit.
"""

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from ..errors import DisagreementError, PropertyError
from ..verifier.budget import Budget
from ..verifier.certificate import CERTIFIED, WINDOWED, BoundCertificate
from ..verifier.linear_bounds import LinearBounds
from ..verifier.operators import FloatArray
from ..verifier.portfolio import Engine, Notice, silent
from ..verifier.result import Result, Verdict
from ..verifier.threads import few_threads
from .ascent import Ascent
from .bounding import approach, tighten_bound
from .certifying import Certified, Certifying
from .cutting import cutting_weights
from .expansion import Expansion
from .frontier import Frontier
from .lexicographic import grow_in_order
from .maximality import Closing
from .nogoods import UpperBound
from .objective import Objective, degenerate
from .oracle import Oracle, Proof, Scope
from .polish import polish
from .problem import Phase, SynthesisProblem, SynthesisSettings, no_progress
from .prover import Prover
from .result import Queries, Synthesis
from .rows import CertifiedRows
from .search_region import FEW_BANDS
from .weakest import Weakening

# Share of the time for each phase; what one does not use the next one has.
ASCENT_SHARE = 0.2
POLISH_SHARE = 0.1
FRONTIER_SHARE = 0.85
CLOSING_SHARE = 0.5
BOUNDING_SHARE = 0.6
# Polishing, each time after a search behind the windows, and what one has to gain for the next.
POLISHES = 3
WORTH_POLISHING = 0.01
# The same, with few bands, for bringing the bound and the best vector near each other.
APPROACH_SHARE = 0.9
# For the bound from all no-goods at the end: it takes one or two for thousands of them.
BOUND_SECONDS = 10.0
# Engines whose proofs start from the kept slopes.
WITH_SLOPES = (CERTIFIED, WINDOWED)
# With few bands the no-goods' bound comes near enough to be worth steering by, and few steps find the proportions:
# most of the time goes to the bound.
FEW_BANDS_SHARE = 0.15


def synthesize(
    problem: SynthesisProblem,
    settings: SynthesisSettings | None = None,
    budget: Budget | None = None,
    notice: Notice = silent,
    progress: Phase = no_progress,
) -> Synthesis:
    """The largest layered neighbourhood that can be certified within the budget.

    Args:
        problem: network, image, layers, target and weights.
        settings: effort and strategy.
        budget: deadline and interruption; when it ends, the best certified vector so far is returned.
        notice: told once about each fallback.
        progress: told about each phase.

    Raises:
        PropertyError: when the network does not show the target in the clean image.
    """
    with few_threads():
        return _Run(problem, settings or SynthesisSettings(), budget or Budget(), notice, progress).run()


class _Run:
    def __init__(
        self,
        problem: SynthesisProblem,
        settings: SynthesisSettings,
        budget: Budget,
        notice: Notice,
        progress: Phase,
    ) -> None:
        self._problem = problem
        self._settings = settings
        self._budget = budget
        self._progress = progress
        self._started = time.monotonic()
        self._prover = Prover(problem.network, settings.verify, notice)
        self._verifier = self._prover.cheap
        where = problem.neighbourhood
        clause = problem.question.clauses[0]
        weakening = Weakening(
            self._verifier.falsifier.module, where.image, where.layers, clause, settings.verify.seed
        )
        scope = Scope(problem.at, where.image, where.layers, problem.goal, problem.allowed)
        self._oracle = Oracle(scope, self._prover, weakening)
        self._expansion: Expansion | None = None
        self._bounds_queries = 0
        self._cut_short = False

    def run(self) -> Synthesis:
        """All phases."""
        self._check_clean_image()
        zero = self._point_certificate()
        rows = self._rows()
        first = (None if rows is None else self._ascend(rows)) or zero
        self._oracle.proven.append(first.epsilons)
        best = first if self._budget.exhausted else self._confirmed(self._beyond(rows, first.epsilons), first)
        closing, bound = Closing(self._oracle, self._settings.closing, best.epsilons), None
        if not self._budget.exhausted and Engine.FALSIFY in self._settings.verify.engines:
            self._closed(closing)
            bound = self._bounded(closing)
        best = self._confirmed(closing.epsilons, best)
        return self._synthesis(best, closing, bound)

    @property
    def _few_bands(self) -> bool:
        """Whether most of the time goes to the upper bound and the way to it; two objectives have neither."""
        bounded = self._problem.objective not in (Objective.MAX_MIN, Objective.LEXICOGRAPHIC)
        return bounded and self._problem.allowed.count <= FEW_BANDS

    def _confirmed(self, grown: FloatArray, before: Certified) -> Certified:
        """``grown`` with its proof where it is worth more; else, or without one, what was certified before."""
        known = before.epsilons
        wider = bool((grown >= known).all() and (grown > known).any())
        if not wider and self._value(grown) <= self._value(known):
            return before
        return self._finally(grown) or before

    # --- beyond the linear bounds -----------------------------------------------------------------------

    def _beyond(self, rows: CertifiedRows | None, start: FloatArray) -> FloatArray:
        part = self._part(FEW_BANDS_SHARE if self._few_bands else FRONTIER_SHARE)
        if self._problem.objective is Objective.LEXICOGRAPHIC:
            return grow_in_order(
                self._oracle, self._settings.closing.tolerance, start, part, self._observer("layers")
            )
        observer, settings = self._observer("beyond"), self._settings.frontier
        if self._few_bands:
            settings = replace(settings, questions=max(1, settings.questions // 4))
        frontier = Frontier(self._oracle, settings, observer, start, self._cutting_weights())
        if rows is None or rows.best is None:
            self._expand(frontier, part)
        elif self._prover.is_complete:
            frontier.beyond(rows, part)
        self._cut_short |= part.exhausted
        return frontier.epsilons

    def _cutting_weights(self) -> FloatArray:
        problem = self._problem
        module, clause = self._verifier.falsifier.module, problem.question.clauses[0]
        return cutting_weights(self._settings.cutting, module, problem.neighbourhood, clause)

    def _expand(self, frontier: Frontier, budget: Budget) -> None:
        """The loop of the thesis, from where the frontier has come to."""
        if budget.exhausted:
            return
        scope = self._oracle.scope
        self._expansion = Expansion(
            self._prover,
            scope.at,
            self._problem.weights,
            self._problem.neighbourhood,
            self._settings.cutting,
            self._settings.expansion,
            scope.goal.objective,
            scope.shape,
        )
        self._expansion.run(frontier.epsilons, budget, self._observer("expand"))
        proof = self._expansion.proof
        if proof is not None and self._expansion.value > scope.goal.value(frontier.epsilons):
            frontier.epsilons = self._expansion.epsilons
            self._oracle.remember(Proof(frontier.epsilons, proof, None))

    def _closed(self, closing: Closing) -> None:
        part = self._part(FEW_BANDS_SHARE if self._few_bands else CLOSING_SHARE)
        self._progress("closing", 0.0, self._oracle.scope.goal.size(closing.epsilons))
        self._oracle.seed(part)
        closing.run(part)
        self._cut_short |= part.exhausted

    def _bounded(self, closing: Closing) -> UpperBound | None:
        """The no-goods' bound; with few bands, also steps toward the vector that it leaves possible."""
        if self._problem.objective is Objective.LEXICOGRAPHIC or self._budget.exhausted:
            return None
        oracle, settings = self._oracle, self._settings
        if not self._few_bands:
            return tighten_bound(oracle, settings.bounding, self._part(BOUNDING_SHARE))[0]
        part = self._part(APPROACH_SHARE)
        frontier = Frontier(oracle, settings.frontier, self._observer("bound"), closing.epsilons)
        approach(oracle, settings.bounding, frontier, part)
        closing.epsilons = frontier.epsilons
        seconds = min(BOUND_SECONDS, self._budget.remaining)
        return oracle.nogoods.upper_bound(oracle.scope.goal, oracle.scope.shape, seconds)

    def _check_clean_image(self) -> None:
        problem = self._problem
        image = problem.neighbourhood.image[None]
        if problem.question.margin(self._verifier.replay.logits(image))[0] >= 0:
            name = problem.network.labels[problem.target]
            raise PropertyError(
                f"the network does not see label '{name}' among its top {problem.k} in the clean image: there is "
                "nothing to protect; choose another --target or --k"
            )

    def _point_certificate(self) -> Certified:
        """The neighbourhood of size zero, which holds the clean image only."""
        epsilons = np.zeros_like(self._problem.neighbourhood.epsilons)
        result = self._prover.ask(self._problem.at(epsilons), Budget())
        if result.verdict is not Verdict.HOLDS:
            raise PropertyError(
                "the clean image itself can't be certified: its margin is within rounding of a tie; "
                "choose another image or target"
            )
        return Certified(epsilons, result, None)

    # --- linear bounds --------------------------------------------------------------------------------

    def _rows(self) -> CertifiedRows | None:
        """The rows of the ascent, None where linear bounds are not asked."""
        problem, ascent = self._problem, self._settings.ascent
        if ascent.steps == 0 or Engine.BOUNDS not in self._settings.verify.engines:
            return None
        if problem.objective is Objective.LEXICOGRAPHIC:
            return None
        linear = LinearBounds(problem.network, torch.float32, self._settings.verify.device)
        where, clause = problem.neighbourhood, problem.question.clauses[0]
        goal, shape = problem.goal, problem.allowed
        return CertifiedRows(linear, where.image, where.layers, goal.weights, clause, goal.objective, shape)

    def _ascend(self, rows: CertifiedRows) -> Certified | None:
        climbing = self._part(FEW_BANDS_SHARE if self._few_bands else ASCENT_SHARE)
        looks = self._prover.windows.is_available
        if looks:
            # only to know where to look
            first = replace(self._settings.ascent, steps=max(1, self._settings.ascent.steps // 4))
            Ascent(rows, first, self._observer("ascent")).run(climbing)
        else:
            self._climb(rows, climbing)
        plain = rows.best
        if looks and plain is not None:
            rows.look_behind(self._prover.windows, self._verifier.bounds.linear)
            rows.restart()
            self._climb(rows, climbing)
        self._cut_short |= climbing.exhausted
        polishing = self._part(FEW_BANDS_SHARE if self._few_bands else POLISH_SHARE)
        self._polish(rows, polishing)
        self._cut_short |= polishing.exhausted
        self._bounds_queries += rows.queries
        if rows.best is None or plain is None:
            return None
        self._oracle.slopes = rows.best.certificate
        certifying = Certifying(self._problem, self._verifier.bounds.linear, self._budget)
        certifying.windows = self._prover.windows if looks else None
        found = certifying.certify(rows.best)
        if found is None or found.epsilons @ self._problem.weights < plain.size:
            # what was certified without the windows is worth more than proposals that did not stand
            found = certifying.certify(plain) or found
        self._bounds_queries += certifying.queries
        return found

    def _polish(self, rows: CertifiedRows, budget: Budget) -> None:
        """Rounds of polishing, with a new search behind the windows before each, until one gains next to nothing."""
        if self._problem.objective is Objective.MAX_MIN:
            return
        for _ in range(POLISHES):
            rows.settle()
            before = None if rows.best is None else rows.best.value
            polish(rows, self._settings.polish, budget, self._observer("polish"))
            if before is None or rows.best is None or budget.exhausted or rows.share is None:
                return
            if rows.best.value - before <= WORTH_POLISHING * abs(before):
                return

    def _climb(self, rows: CertifiedRows, budget: Budget) -> None:
        """One ascent, and further ones with other barriers while there is time for a whole one."""
        own = self._settings.ascent
        # behind windows the first one ends far from where the search was
        first = (own,) if rows.share is None else (own, own)
        for ascent in (*first, *own.variants()):
            started = budget.remaining
            rows.restart()
            Ascent(rows, ascent, self._observer("ascent")).run(budget)
            rows.settle()
            spent = started - budget.remaining
            if started == float("inf") or budget.exhausted or budget.remaining < spent:
                return

    def _observer(self, name: str) -> Callable[[float, float], None]:
        return lambda share, size: self._progress(name, share, size)

    def _part(self, share: float) -> Budget:
        remaining = self._budget.remaining
        return self._budget if remaining == float("inf") else self._budget.at_most(share * remaining)

    # --- the last word --------------------------------------------------------------------------------

    def _finally(self, epsilons: FloatArray) -> Certified | None:
        """The proof of exactly these numbers; where none was kept, a fresh one."""
        known = self._oracle.proof_of(epsilons)
        if known is not None:
            return Certified(epsilons, known.result, _kept(known.result, known.slopes))
        # Ctrl-C ends the search, not the proof of what it found
        budget = Budget(self._budget.deadline, clock=self._budget.clock)
        if self._budget.cancelled():
            budget = budget.at_most(self._settings.frontier.query_seconds)
        fresh = Prover(self._problem.network, self._settings.verify)
        try:
            ask = fresh.ask_beyond if fresh.is_complete else fresh.ask
            result = ask(self._problem.at(epsilons), budget, self._oracle.slopes)
        except DisagreementError:
            # the linear bounds' certificate stands; what only this question would add is not worth an error
            return None
        if result.verdict is not Verdict.HOLDS:
            return None
        return Certified(epsilons, result, _kept(result, self._oracle.slopes))

    # --- the answer -----------------------------------------------------------------------------------

    def _value(self, epsilons: FloatArray) -> float:
        return self._problem.goal.value(epsilons)

    def _synthesis(self, best: Certified, closing: Closing, bound: UpperBound | None) -> Synthesis:
        out_of_time = self._cut_short or self._budget.exhausted
        reason = "interrupted" if self._budget.cancelled() else "time limit" if out_of_time else "done"
        goal = self._problem.goal
        return Synthesis(
            epsilons=best.epsilons,
            size=goal.size(best.epsilons),
            proof=best.result,
            certificate=best.certificate,
            objective=goal.objective,
            value=goal.value(best.epsilons),
            upper_bound=None if bound is None else bound.value,
            maximality=closing.report(best.epsilons),
            tolerance=self._settings.closing.tolerance,
            shape=self._problem.allowed,
            nogoods=() if bound is None else tuple(item.image for item in bound.grounds),
            warning=degenerate(self._problem.weights, best.epsilons),
            queries=self._counts(),
            seconds=time.monotonic() - self._started,
            stopped=reason,
        )

    def _counts(self) -> Queries:
        counts = self._oracle.counts(self._bounds_queries)
        loop = self._expansion
        if loop is None:
            return counts
        return Queries(
            counts.attack + loop.attack,
            counts.bounds + loop.bounds,
            counts.bab + loop.bab,
            counts.milp + loop.milp,
            counts.complete + loop.complete,
        )


def _kept(result: Result, slopes: BoundCertificate | None) -> BoundCertificate | None:
    return slopes if result.engine in WITH_SLOPES else None
