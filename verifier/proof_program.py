"""A network and its bounds as the proof checker sees them: flat values, affine maps and maxima."""

from dataclasses import dataclass

import numpy as np

from ..errors import UnsupportedOperatorError
from .network import Network
from .operators import FloatArray, MaxPool, Relu
from .proof_affine import Affine, affine
from .proof_maxima import IndexArray, Maxima, maxima

# Rows go through the network in slices of about this many numbers (rows times the size of the widest value).
SLICE_NUMBERS = 1_000_000

Step = Affine | Maxima


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """A network as the checker sees it: flat values, step i computes value i + 1.

    Attributes:
        steps: affine maps and maxima.
        sizes: of every value.
        output: number of the value that holds the logits.
    """

    steps: tuple[Step, ...]
    sizes: tuple[int, ...]
    output: int

    @classmethod
    def of(cls, network: Network) -> "Program":
        """Read the operators.

        Raises:
            UnsupportedOperatorError: for an S-shaped one, which is no maximum.
        """
        for curve in network.curves:
            hint = "certificates are of networks of ReLU and max-pool; ask without one"
            raise UnsupportedOperatorError(curve.curve.title(), curve.name, hint)
        steps: list[Step] = []
        for operator in network.operators:
            if isinstance(operator, Relu | MaxPool):
                steps.append(maxima(network, operator))
            else:
                steps.append(affine(operator, [network.shape_of(source) for source in operator.inputs]))
        shapes = [network.shape_of(value) for value in range(len(steps) + 1)]
        return cls(
            tuple(steps), tuple(int(np.prod(shape, dtype=np.int64)) for shape in shapes), network.output
        )

    @property
    def widest(self) -> int:
        """Size of the largest value."""
        return max(self.sizes)

    def readers(self, value: int) -> list[Maxima]:
        """The maxima over elements of a value."""
        return [step for step in self.steps if isinstance(step, Maxima) and step.source == value]

    def relaxed(self) -> set[int]:
        """Values that depend on a maximum."""
        found: set[int] = set()
        for number, step in enumerate(self.steps, start=1):
            if isinstance(step, Maxima) or found & set(step.inputs):
                found.add(number)
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Bounds:
    """Bounds of every value over several boxes; arrays (boxes, size), one per value.

    Attributes:
        lower: lower bounds.
        upper: upper bounds.
        size: for affine values the largest sum of absolute terms that they are made of; else unused.
    """

    lower: tuple[FloatArray, ...]
    upper: tuple[FloatArray, ...]
    size: tuple[FloatArray, ...]

    def largest(self, value: int, box: IndexArray, element: IndexArray) -> FloatArray:
        """Largest absolute numbers that elements of a value can take."""
        return np.maximum(np.abs(self.lower[value][box, element]), np.abs(self.upper[value][box, element]))


def logits(program: Program, inputs: FloatArray) -> FloatArray:
    """The network's logits (batch, labels) at inputs (batch, size), without any account of rounding."""
    values = [inputs]
    for step in program.steps:
        if isinstance(step, Affine):
            parts = [(m @ values[source].T).T for source, m in zip(step.inputs, step.matrices, strict=True)]
            values.append(sum(parts, start=np.tile(step.constant, (len(inputs), 1))))
        else:
            values.append(step.largest(values[step.source]))
    return values[program.output]
