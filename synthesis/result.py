"""What synthesis returns."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from ..verifier.certificate import BoundCertificate
from ..verifier.operators import FloatArray
from ..verifier.result import Result
from .objective import Objective
from .shape import Shape


class LayerStatus(StrEnum):
    """cap: epsilon 1, nothing larger exists; tight: a witness breaks every expansion; open: neither."""

    CAP = "cap"
    TIGHT = "tight"
    OPEN = "open"


@dataclass(frozen=True, slots=True, eq=False)
class Maximality:
    """Why a layer's epsilon is as large as it is.

    Attributes:
        layer: its number.
        status: see :class:`LayerStatus`.
        reason: in words.
        witness: float32 image that breaks the smallest vector of the shape which expands the epsilons and has
            ``breaks_at`` in this layer; replayed. None when none was found.
        breaks_at: epsilon of this layer at which the witness breaks the network, all others as they are.
    """

    layer: int
    status: LayerStatus
    reason: str
    witness: NDArray[np.float32] | None = None
    breaks_at: float | None = None


@dataclass(frozen=True, slots=True)
class Queries:
    """How often each engine was asked; ``complete`` are the questions that reached a complete engine."""

    attack: int = 0
    bounds: int = 0
    bab: int = 0
    milp: int = 0
    complete: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Synthesis:
    """A certified layered neighbourhood.

    Attributes:
        epsilons: (layers,) largest perturbation per layer, pixel units.
        size: weighted sum of the epsilons.
        proof: of exactly these epsilons; its verdict is always ``holds``.
        certificate: slopes that the proof starts from; None where it needs none.
        objective: what was made large, and its value here.
        value: of the objective.
        upper_bound: no robust epsilons of the shape have a larger value; None where none was computed.
        maximality: per layer.
        tolerance: a layer is tight when a witness breaks it within this much, pixel units.
        shape: allowed epsilons.
        nogoods: the witnesses behind the upper bound, images of float32.
        warning: why the result may not be what was meant, or None.
        queries: per engine.
        seconds: whole time.
        stopped: "done", "time limit" or "interrupted".
    """

    epsilons: FloatArray
    size: float
    proof: Result
    certificate: BoundCertificate | None
    objective: Objective
    value: float
    upper_bound: float | None
    maximality: tuple[Maximality, ...]
    tolerance: float
    shape: Shape
    nogoods: tuple[NDArray[np.float32], ...]
    warning: str | None
    queries: Queries
    seconds: float
    stopped: str

    @property
    def gap(self) -> float | None:
        """How far below the upper bound the value is, as a share of the bound; None without one, or for logarithms."""
        if self.upper_bound is None or self.objective is Objective.LOG_VOLUME or self.upper_bound <= 0:
            return None
        return max(0.0, 1.0 - self.value / self.upper_bound)

    @property
    def closed(self) -> float:
        """Share of the layers that are at their cap or tight."""
        return sum(item.status is not LayerStatus.OPEN for item in self.maximality) / len(self.maximality)
