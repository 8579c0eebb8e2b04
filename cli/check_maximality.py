"""The other side of a synthesis result: its caps, witnesses and upper bound, each found again."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DisagreementError, InputError
from ..synthesis.nogoods import NoGood, NoGoods
from ..synthesis.objective import Goal, Objective, check_weights
from ..synthesis.result import LayerStatus
from ..synthesis.search_region import FEW_BANDS
from ..synthesis.shape import Order, Shape
from ..verifier.network import Network
from ..verifier.operators import FloatArray
from ..verifier.property import Property
from ..verifier.region import Layered
from ..verifier.replay import Replay
from ..verifier.result import Verdict, Witness
from .results import ResultFile, Scene

# A bound that is found again may come out higher by this share: programs that run out of time stop a little earlier.
# With few bands there is no program, and the same witnesses give the same bound.
BOUND_SLACK = 1e-3
# What is computed again from the same numbers is the same up to rounding of sums: as a share, and near zero.
SAME, SAME_NEAR_ZERO = 1e-9, 1e-12
BOUND_SECONDS = 20.0


def check_numbers(result: ResultFile, epsilons: FloatArray) -> None:
    """See that the numbers that are made of the epsilons (layers,) are made of these.

    Raises:
        InputError: when a field is missing or damaged.
        DisagreementError: when a number is another one, or the epsilons reach more than is called possible.
    """
    path, verdict = result.path, result.get("verdict", str)
    if verdict != Verdict.HOLDS:
        raise DisagreementError(f"{path} claims the verdict '{verdict}'; what synthesis writes holds")
    weights = result.numbers("weights")
    check_weights(weights, len(epsilons))
    goal = Goal(_objective(result), weights)
    value, bound = goal.value(epsilons), _optional(result, "upper_bound")
    _compare(path, "size", result.get("size", float), goal.size(epsilons))
    _compare(path, "value", _optional(result, "value"), value)
    if bound is not None and value > _at_most(bound, SAME):
        raise DisagreementError(
            f"{path} claims that at most {bound:g} is possible, its epsilons reach {value:g}"
        )
    gap = math.nan
    if bound is not None and bound > 0 and goal.objective is not Objective.LOG_VOLUME:
        gap = max(0.0, 1.0 - value / bound)
    _compare(path, "gap", _optional(result, "gap"), gap)


def _objective(result: ResultFile) -> Objective:
    name = result.get("objective", str)
    if name not in set(Objective):
        raise InputError(f"{result.path}: '{name}' is no objective; write the result again")
    return Objective(name)


def _optional(result: ResultFile, name: str) -> float | None:
    return None if result.fields.get(name) is None else result.get(name, float)


def _at_most(claimed: float, share: float) -> float:
    """The largest number that is taken for one that is not above a claimed one."""
    return claimed + share * abs(claimed) + SAME_NEAR_ZERO


def _compare(path: Path, name: str, claimed: float | None, found: float) -> None:
    if claimed is not None and not math.isclose(claimed, found, rel_tol=SAME, abs_tol=SAME_NEAR_ZERO):
        raise DisagreementError(f"{path} claims {name} {claimed:.9g}, its epsilons give {found:.9g}")


def check_maximality(
    result: ResultFile, scene: Scene, network: Network, question: Property, epsilons: FloatArray
) -> tuple[bool, str]:
    """Check every claim that these epsilons can't grow.

    Args:
        result: of synthesis.
        scene: its arrays.
        network: the network it speaks of.
        question: its property.
        epsilons: (layers,) of the result.

    Returns:
        Whether all is confirmed, and in words what was found.

    Raises:
        InputError: when the result is damaged.
        DisagreementError: when a claim does not hold.
    """
    claims = result.get("maximality", list)
    if len(claims) != len(epsilons) or not all(isinstance(claim, dict) for claim in claims):
        raise InputError(f"{result.path}: field 'maximality' should have an entry per layer; write it again")
    judge = _Judge(result, scene, network, question, epsilons)
    tight = caps = 0
    for layer, claim in enumerate(claims):
        status = claim.get("status")
        if not isinstance(status, str) or status not in set(LayerStatus):
            raise InputError(f"{result.path}: '{status}' is no status of a layer; write the result again")
        if (status == LayerStatus.CAP) != (epsilons[layer] >= 1.0):
            raise DisagreementError(f"{result.path}: layer {layer} is not at its cap as it should be")
        caps += status == LayerStatus.CAP
        if status == LayerStatus.TIGHT:
            judge.replay(layer, claim)
            tight += 1
    _compare(result.path, "closed", _optional(result, "closed"), (caps + tight) / len(claims))
    how = "tight by a replayed witness"
    if tight:
        how = f"tight within {result.get('tolerance', float):g} by a replayed witness"
    confirmed, bound = judge.bound()
    text = f"{caps} layers at their cap, {tight} {how}, {len(claims) - caps - tight} open"
    return confirmed, f"{text}{bound}"


class _Judge:
    def __init__(
        self,
        result: ResultFile,
        scene: Scene,
        network: Network,
        question: Property,
        epsilons: FloatArray,
    ) -> None:
        self._result, self._scene, self._question, self._epsilons = result, scene, question, epsilons
        self._replay = Replay(network)
        self._shape = Shape(np.arange(len(epsilons)))
        if "bands" in result.fields:
            bands, order = result.numbers("bands").astype(np.int64), result.get("order", str)
            if len(bands) != len(epsilons) or order not in set(Order):
                raise InputError(f"{result.path}: its bands or their order are damaged; write it again")
            self._shape = Shape(bands, Order(order))
        if not np.array_equal(self._shape.inside(epsilons), epsilons):
            raise DisagreementError(f"{result.path}: its epsilons do not have the shape that it names")

    def replay(self, layer: int, claim: Mapping[str, Any]) -> None:
        """The witness of a layer breaks the smallest expansion within the tolerance."""
        path, tolerance = self._result.path, self._result.get("tolerance", float)
        number = claim.get("witness")
        if not isinstance(number, int) or not 0 <= number < len(self._scene.witnesses):
            raise DisagreementError(f"{path}: layer {layer} is called tight without a witness")
        value = min(1.0, float(self._epsilons[layer]) + tolerance)
        self._judge(number, self._shape.raised(self._epsilons, layer, value), f"layer {layer}")

    def _judge(self, number: int, epsilons: FloatArray, what: str) -> NoGood:
        scene, path = self._scene, self._result.path
        image = scene.witnesses[number]
        region = Layered(scene.image, scene.layers, epsilons).region
        if not region.contains(image):
            raise DisagreementError(f"{path}: the witness of {what} lies outside its neighbourhood")
        judged = self._replay.judge(region, self._question, image)
        if not isinstance(judged, Witness):
            raise DisagreementError(f"{path}: the witness of {what}: {judged.reason}")
        return NoGood.of(image, scene.image, scene.layers)

    def bound(self) -> tuple[bool, str]:
        """Whether the upper bound is found again from the witnesses, and what to say of it."""
        claimed = _optional(self._result, "upper_bound")
        if claimed is None:
            return True, ""
        nogoods, scene = NoGoods(), self._scene
        for number, image in enumerate(scene.witnesses):
            deviation = NoGood.of(image, scene.image, scene.layers).deviation
            nogoods.add(self._judge(number, deviation, f"the upper bound, number {number}"))
        goal = Goal(_objective(self._result), self._result.numbers("weights"))
        found = nogoods.upper_bound(goal, self._shape, BOUND_SECONDS).value
        share = SAME if self._shape.count <= FEW_BANDS else BOUND_SLACK
        if found <= _at_most(claimed, share):
            return True, f"; upper bound {claimed:.6g} found again from {len(scene.witnesses)} witnesses"
        return False, f"; upper bound {claimed:.6g} not found again, {found:.6g} is"
