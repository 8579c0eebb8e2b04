"""What synthesis is asked, and the effort that it may spend."""

from dataclasses import dataclass, field, replace
from typing import Protocol

from ..errors import PropertyError
from ..verifier.network import Network
from ..verifier.operators import FloatArray
from ..verifier.portfolio import Settings
from ..verifier.problem import Problem
from ..verifier.property import Property, top_k
from ..verifier.region import Layered, Region
from .ascent import AscentSettings
from .bounding import BoundingSettings
from .cutting import Cutting
from .expansion import ExpansionSettings
from .frontier import FrontierSettings
from .maximality import ClosingSettings
from .objective import Goal, Objective, check_weights
from .polish import PolishSettings
from .shape import Shape


class Phase(Protocol):
    """Told what is being done; see :class:`Progress`."""

    def __call__(self, name: str, share: float, size: float) -> None:
        """``share`` of phase ``name`` is done, the best certified size so far is ``size``."""
        ...


def no_progress(name: str, share: float, size: float) -> None:
    """The observer that does nothing."""
    del name, share, size


@dataclass(frozen=True, slots=True)
class SynthesisSettings:
    """Effort and strategy.

    Attributes:
        verify: solver, threads, seed, device and engines of the verifier.
        ascent: effort of the ascent; 0 steps for none (the thesis's loop).
        polish: effort of the polishing.
        cutting: which cutting weights shrink a neighbourhood that is not robust.
        expansion: step sizes of the thesis's loop.
        frontier: effort beyond the linear bounds.
        closing: tolerance and effort of the certificate of maximality.
        bounding: effort of the upper bound.
    """

    verify: Settings = field(default_factory=Settings)
    ascent: AscentSettings = field(default_factory=AscentSettings)
    polish: PolishSettings = field(default_factory=PolishSettings)
    cutting: Cutting = Cutting.FIXED
    expansion: ExpansionSettings = field(default_factory=ExpansionSettings)
    frontier: FrontierSettings = field(default_factory=FrontierSettings)
    closing: ClosingSettings = field(default_factory=ClosingSettings)
    bounding: BoundingSettings = field(default_factory=BoundingSettings)


@dataclass(frozen=True, slots=True, eq=False)
class SynthesisProblem:
    """How far may each layer change without hiding the target?

    Attributes:
        network: the network.
        neighbourhood: image and layers; its epsilons are not read.
        target: label that must stay among the ``k`` highest scores.
        k: size of the label set.
        weights: (layers,) of the size, not negative.
        objective: what is made large.
        shape: allowed epsilons, None for all.
    """

    network: Network
    neighbourhood: Layered
    target: int
    k: int
    weights: FloatArray
    objective: Objective = Objective.WEIGHTED_SUM
    shape: Shape | None = None

    def __post_init__(self) -> None:
        """Check weights and label.

        Raises:
            PropertyError: weights of the wrong length, negative or all zero; a shape for another number of
                layers; a label or k that does not fit.
        """
        layers = len(self.neighbourhood.epsilons)
        check_weights(self.weights, layers)
        if self.shape is not None and len(self.shape.bands) != layers:
            raise PropertyError(f"bands for {len(self.shape.bands)} layers, the image has {layers}")
        top_k(len(self.network.labels), self.target, self.k)

    @property
    def question(self) -> Property:
        """Top-k membership of the target."""
        return top_k(len(self.network.labels), self.target, self.k)

    @property
    def goal(self) -> Goal:
        """Objective and weights."""
        return Goal(self.objective, self.weights)

    @property
    def allowed(self) -> Shape:
        """The shape; every vector where there is none."""
        return self.shape or Shape.free(len(self.weights))

    def region(self, epsilons: FloatArray) -> Region:
        """The neighbourhood with these epsilons (layers,)."""
        return replace(self.neighbourhood, epsilons=epsilons).region

    def at(self, epsilons: FloatArray) -> Problem:
        """The verifier's problem at these epsilons."""
        return Problem(self.network, self.region(epsilons), self.question, self.neighbourhood.image)
