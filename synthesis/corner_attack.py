"""The upper bound with few bands: attack the boxes that hold the best vectors left, and cut them deeply.

Where few bands are tied, the frontier between robust and broken vectors has few dimensions, and many witnesses
beside one another bring the bound near it. So the corners of many boxes are attacked at once, and each witness is
pulled toward zero until attacks break its box no more: by the same loss of worth in every band, for a box is cut
into one part per band and its bound is that of the best part.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..verifier.budget import Budget
from ..verifier.operators import FloatArray
from .objective import Objective
from .oracle import Oracle
from .search_region import SearchRegion
from .weakest import SURE

# Gradient steps of the first attack on a corner, of the second one, of the last one on the best corner, and of each
# step of pulling.
STEPS, MORE_STEPS, LAST_STEPS, PULL_STEPS = 20, 60, 100, 8
# Bisections of how far a witness is pulled.
PULLS = 6
# Each time so many corners, one is attacked from a random one in place of the nearest witness.
FRESH = 4


@dataclass(frozen=True, slots=True)
class CornerSettings:
    """Effort.

    Attributes:
        corners: attacked at once.
        rounds: at most, in one go.
    """

    corners: int = 24
    rounds: int = 400


class CornerAttack:
    """Cuts a search region with the witnesses that it finds; all of them become no-goods of the oracle."""

    def __init__(self, oracle: Oracle, settings: CornerSettings) -> None:
        """Begin with what the oracle knows."""
        self._oracle = oracle
        self._settings = settings
        self.region = SearchRegion(oracle.scope.goal, oracle.scope.shape)

    def run(self, least: float, budget: Budget) -> FloatArray:
        """Attack until the budget or the rounds end, or the best corner resists.

        Args:
            least: worth of the best vector that was proved; boxes are not pulled much below it.
            budget: asked between attacks.

        Returns:
            (layers,) the best vector that no witness speaks against.
        """
        for _ in range(self._settings.rounds):
            corners = self._leading(budget)
            if budget.exhausted or self.region.bound <= least:
                break
            if not self._attack(corners, least, budget)[0] and not self._broken(corners[:1], budget):
                break
        return np.asarray(self.region.epsilons(self._leading(budget)[:1])[0])

    def _leading(self, budget: Budget) -> FloatArray:
        if self._oracle.nogoods.items:
            self.region.give(self._oracle.nogoods.deviations())
        return self.region.leading(self._settings.corners, budget)

    def _broken(self, corner: FloatArray, budget: Budget) -> bool:
        """Whether a longer attack from more points breaks one corner (1, bands)."""
        epsilons = self.region.epsilons(corner)[0]
        self._oracle.attack(epsilons, budget, LAST_STEPS)
        return self._oracle.nogoods.forbidding(epsilons) is not None

    def _attack(self, corners: FloatArray, least: float, budget: Budget) -> NDArray[np.bool_]:
        """Which corners (count, bands) were broken; their witnesses are pulled and kept."""
        oracle, boxes = self._oracle, self.region.epsilons(corners)
        weak = oracle.weakening.climb(boxes, self._starts(corners), STEPS, budget)
        images, broken = weak.images.copy(), weak.margins > SURE
        left = np.flatnonzero(~broken)
        if len(left):
            again = oracle.weakening.climb(
                boxes[left], oracle.weakening.corners(len(left)), MORE_STEPS, budget
            )
            images[left], broken[left] = again.images, again.margins > SURE
        oracle.count_attack()
        if not broken.any():
            return broken
        pulled = self._pulled(corners[broken], images[broken], least, budget)
        learned = [self._learned(small, large) for small, large in zip(pulled, images[broken], strict=True)]
        broken[broken] = learned
        return broken

    def _learned(self, small: NDArray[np.float32], large: NDArray[np.float32]) -> bool:
        """Whether the replay confirms a witness, the pulled one or else the one it was pulled from."""
        return self._oracle.learn(small) is not None or self._oracle.learn(large) is not None

    def _starts(self, corners: FloatArray) -> NDArray[np.float32]:
        """For every corner (count, bands) the witness that exceeds its box by the smallest factor, or a random one."""
        starts, items = self._oracle.weakening.corners(len(corners)), self._oracle.nogoods.items
        if items:
            deviations = self.region.bands(self._oracle.nogoods.deviations())
            beyond = deviations[None] / np.maximum(corners[:, None], 1e-9)
            near = beyond.max(axis=2).argmin(axis=1)
            for row in np.flatnonzero(np.arange(len(corners)) % FRESH != FRESH - 1):
                starts[row] = items[near[row]].image
        return starts

    def _pulled(
        self, corners: FloatArray, images: NDArray[np.float32], least: float, budget: Budget
    ) -> NDArray[np.float32]:
        """Witnesses in boxes that lost as much worth in every band as they could and still be broken."""
        best = images.copy()
        low = np.zeros(len(corners))
        high = np.maximum(self.region.goal.values(corners) - least, 0.0)
        for _ in range(PULLS):
            if budget.exhausted:
                break
            middle = (low + high) / 2
            boxes = self.region.epsilons(self._lowered(corners, middle))
            weak = self._oracle.weakening.climb(boxes, best, PULL_STEPS, budget)
            broken = weak.margins > SURE
            best[broken] = weak.images[broken]
            low, high = np.where(broken, middle, low), np.where(broken, high, middle)
        return best

    def _lowered(self, corners: FloatArray, loss: FloatArray) -> FloatArray:
        """Corners (count, bands) whose every band is worth less by ``loss`` (count,), or zero."""
        goal = self.region.goal
        weighs = goal.weights > 0
        each = np.where(weighs, loss[:, None] / np.where(weighs, goal.weights, 1.0), 0.0)
        match goal.objective:
            case Objective.LOG_VOLUME:
                lowered = corners * np.exp(-each)
            case Objective.MEAN_WIDTH:
                lowered = corners - each * goal.weights.sum()
            case Objective.MAX_MIN:
                lowered = corners - loss[:, None]
            case Objective.WEIGHTED_SUM | Objective.LEXICOGRAPHIC:
                lowered = corners - each
        return np.asarray(np.maximum(lowered, 0.0))
