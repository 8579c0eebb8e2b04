"""What synthesis returns."""

from dataclasses import dataclass
from enum import StrEnum

from ..verifier.certificate import BoundCertificate
from ..verifier.operators import FloatArray
from ..verifier.result import Result


class LayerStatus(StrEnum):
    """cap: epsilon 1, nothing larger exists; tight: a witness breaks it beyond; open: neither."""

    CAP = "cap"
    TIGHT = "tight"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Maximality:
    """Why a layer's epsilon is as large as it is."""

    layer: int
    status: LayerStatus
    reason: str


@dataclass(frozen=True, slots=True)
class Queries:
    """How often each engine was asked."""

    attack: int = 0
    bounds: int = 0
    bab: int = 0
    milp: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Synthesis:
    """A certified layered neighbourhood.

    Attributes:
        epsilons: (layers,) largest perturbation per layer, pixel units.
        size: weighted sum of the epsilons.
        proof: the fresh verification of exactly these epsilons; its verdict is always ``holds``.
        certificate: slopes that prove it again quickly, None when a complete engine proved it.
        maximality: per layer.
        queries: per engine.
        seconds: whole time.
        stopped: "done", "time limit" or "interrupted".
    """

    epsilons: FloatArray
    size: float
    proof: Result
    certificate: BoundCertificate | None
    maximality: tuple[Maximality, ...]
    queries: Queries
    seconds: float
    stopped: str
