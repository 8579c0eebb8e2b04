"""What is known of robust and broken neighbourhoods in one run: asks engines only what this does not answer."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..errors import DisagreementError
from ..verifier.budget import Budget
from ..verifier.certificate import CERTIFIED, WINDOWED, BoundCertificate
from ..verifier.operators import FloatArray
from ..verifier.problem import Problem
from ..verifier.result import Result, Stage, Verdict, Witness
from .nogoods import NoGood, NoGoods
from .objective import Goal
from .prover import Prover
from .result import Queries
from .shape import Shape
from .weakest import POINTS, SHRINK_ROUNDS, SURE, Weakening, WeakPoints

# Gradient steps of the attack before an engine is asked.
ATTACK_STEPS = 20
# Witnesses of one attack that are made smaller and kept.
LESSONS = 4
# Weight of the band that a lesson puts before all others; and the least weight of a layer against the largest.
EMPHASIS = 30.0
# Bisections of the epsilon at which one band alone breaks, from this one to 1: to 3 % of it.
SEED_ROUNDS = 8
SMALLEST_SEED = 5e-4
SMALLEST_WORTH = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class Scope:
    """What one run is about.

    Attributes:
        at: the verifier's problem at given epsilons (layers,).
        image: (channels, height, width) float32.
        layers: (height, width).
        goal: what is made large.
        shape: allowed epsilons.
    """

    at: Callable[[FloatArray], Problem]
    image: NDArray[np.float32]
    layers: NDArray[np.int64]
    goal: Goal
    shape: Shape


@dataclass(frozen=True, slots=True, eq=False)
class Proof:
    """A question and the answer that it holds.

    Attributes:
        epsilons: (layers,) of the question.
        result: the answer.
        slopes: at hand when it was asked.
    """

    epsilons: FloatArray
    result: Result
    slopes: BoundCertificate | None


@dataclass(slots=True, eq=False)
class Oracle:
    """Proofs, witnesses and no-goods of one run.

    Attributes:
        scope: of the run.
        prover: the engines.
        weakening: the attack that proposes witnesses.
        nogoods: what witnesses forbid.
        proven: epsilons that were proved robust.
        points: where the next attack starts.
        stages: engines that were asked, for counting.
        complete: questions that went to a complete engine.
        seeded: whether every band was attacked alone.
        turn: band that the last lesson put before the others.
        slopes: that may help the next proof, None for none.
        proofs: of what was proved here.
    """

    scope: Scope
    prover: Prover
    weakening: Weakening
    nogoods: NoGoods = field(default_factory=NoGoods)
    proven: list[FloatArray] = field(default_factory=list)
    points: NDArray[np.float32] | None = None
    stages: list[Stage] = field(default_factory=list)
    complete: int = 0
    turn: int = 0
    seeded: bool = False
    slopes: BoundCertificate | None = None
    proofs: list[Proof] = field(default_factory=list)

    def is_known(self, epsilons: FloatArray) -> bool | None:
        """Whether epsilons (layers,) are known to be robust (True) or broken (False)."""
        if any((epsilons <= item).all() for item in self.proven):
            return True
        return None if self.nogoods.forbidding(epsilons) is None else False

    def learn(self, image: NDArray[np.float32]) -> NoGood | None:
        """Replay an image in the smallest neighbourhood that holds it; its no-good, None when it is no witness."""
        found = NoGood.of(image, self.scope.image, self.scope.layers)
        problem = self.scope.at(found.deviation)
        judged = self.prover.cheap.replay.judge(problem.region, problem.property, image)
        if not isinstance(judged, Witness):
            return None
        self.nogoods.add(found)
        return found

    def attack(self, epsilons: FloatArray, budget: Budget, steps: int = ATTACK_STEPS) -> WeakPoints:
        """Climb in the neighbourhood from the last weak points; what breaks it is made smaller and kept."""
        fresh = self.weakening.corners(POINTS // 2)
        kept = (
            self.points[: POINTS - len(fresh)]
            if self.points is not None
            else self.weakening.corners(POINTS // 2)
        )
        weak = self.weakening.climb(epsilons, np.concatenate([kept, fresh]), steps, budget)
        order = np.argsort(-weak.margins)
        self.points = weak.images[order]
        self.count_attack()
        if weak.margins[order[0]] > SURE:
            self.teach(np.repeat(weak.images[order[:1]], LESSONS, axis=0), budget)
        return weak

    def count_attack(self) -> None:
        """Remember that an attack was made."""
        self.stages.append(Stage("falsify/weakest", Verdict.UNKNOWN, 0.0, ""))

    def teach(self, images: NDArray[np.float32], budget: Budget, rounds: int = SHRINK_ROUNDS) -> list[NoGood]:
        """Make witnesses smaller and keep what they forbid."""
        bands = self.scope.shape.bands
        shrunk = self.weakening.shrink(images, self._emphasised(len(images)), bands, budget, rounds)
        lessons = []
        for small, large in zip(shrunk, images, strict=True):
            lesson = self.learn(small)
            lessons.append(lesson if lesson is not None else self.learn(large))
        return [lesson for lesson in lessons if lesson is not None]

    def seed(self, budget: Budget) -> None:
        """Witnesses that deviate in one band only, and as little as attacks find: nothing exceeds them in that band."""
        self.seeded = True
        bands = self.scope.shape.bands
        units = (bands == np.arange(self.scope.shape.count)[:, None]).astype(np.float64)
        for part in np.array_split(units, max(1, len(units) // POINTS)):
            for image in self._smallest(part, budget):
                self.learn(image)

    def _smallest(self, units: FloatArray, budget: Budget) -> list[NDArray[np.float32]]:
        """Witnesses along vectors (units, layers), each in the smallest multiple up to 1 that attacks broke."""
        weak = self.weakening.climb(units, self.weakening.corners(len(units)), ATTACK_STEPS, budget)
        best, broken = weak.images.copy(), weak.margins > SURE
        low, high = np.full(len(units), SMALLEST_SEED), np.ones(len(units))
        for _ in range(SEED_ROUNDS):
            if budget.exhausted:
                break
            middle = np.sqrt(low * high)
            weak = self.weakening.climb(middle[:, None] * units, best, ATTACK_STEPS, budget)
            hit = weak.margins > SURE
            best[hit] = weak.images[hit]
            broken |= hit
            low, high = np.where(hit, low, middle), np.where(hit, middle, high)
        self.count_attack()
        return list(best[broken])

    def _emphasised(self, count: int) -> FloatArray:
        """Weights (count, layers) for making witnesses smaller: the goal's, then each with one band before all others.

        Witnesses that are small in different bands forbid more together than several that are small in the same.
        """
        weights = np.maximum(self.scope.goal.weights, SMALLEST_WORTH * self.scope.goal.weights.max())
        rows = np.repeat(weights[None], count, axis=0)
        for row in range(1, count):
            self.turn = (self.turn + 1) % self.scope.shape.count
            rows[row, self.scope.shape.bands == self.turn] *= EMPHASIS
        return rows

    def ask(self, epsilons: FloatArray, budget: Budget, *, completely: bool) -> Result:
        """The slopes at hand and linear bounds with attacks, or the complete engines; every answer is remembered."""
        started = time.monotonic()
        try:
            problem = self.scope.at(epsilons)
            slopes = self.slopes
            if completely and self.prover.is_complete:
                result = self.prover.ask_beyond(problem, budget, slopes)
                self.complete += result.engine not in (CERTIFIED, WINDOWED)
            else:
                result = self.prover.by_certificate(problem, slopes) or self.prover.cheap.verify(
                    problem, budget
                )
        except DisagreementError as error:
            # what is certified already stays certified; a question that can't be judged is not robust
            self.prover.cheap.tell("disagreement", str(error))
            return Result(Verdict.UNKNOWN, str(error), "none", time.monotonic() - started)
        self.stages.extend(result.stages)
        if result.verdict is Verdict.HOLDS:
            self.remember(Proof(epsilons, result, slopes))
        elif result.witness is not None:
            self.teach(result.witness.image[None], budget)
        return result

    def is_certified(self, epsilons: FloatArray) -> bool:
        """Whether the slopes at hand prove epsilons at once; remembered when they do."""
        result = self.prover.by_certificate(self.scope.at(epsilons), self.slopes)
        if result is None:
            return False
        self.stages.extend(result.stages)
        self.remember(Proof(epsilons, result, self.slopes))
        return True

    def proof_of(self, epsilons: FloatArray) -> Proof | None:
        """The proof of exactly these epsilons (layers,), None where none was kept."""
        return next((item for item in self.proofs if np.array_equal(item.epsilons, epsilons)), None)

    def remember(self, proof: Proof) -> None:
        """Keep a proof."""
        self.proven.append(proof.epsilons)
        self.proofs.append(proof)

    def counts(self, bounds: int) -> Queries:
        """Questions by engine; ``bounds`` were asked outside."""
        names = [stage.engine for stage in self.stages]
        return Queries(
            attack=sum(name.startswith("falsify") for name in names),
            bounds=bounds + sum(name.startswith("bounds") for name in names),
            bab=sum(name.startswith("bab") for name in names),
            milp=names.count("milp"),
            complete=self.complete,
        )
