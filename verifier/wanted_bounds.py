"""Which inner values are worth a backward pass, and which of their elements."""

from enum import Enum

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .network import Network
from .operators import NONLINEAR, Concat, FloatArray, Pad, Relu, Reshape, Transpose

_MOVES = (Reshape, Transpose, Concat, Pad)


class Wanted(Enum):
    """Elements of a value whose bounds a relaxation reads."""

    OPEN = "those whose sign is open: the others make a ReLU linear whatever their bounds"
    POSITIVE = "those that may be positive: a pool reads what a ReLU leaves of them"
    ALL = "every one"

    def where(self, low: FloatArray, high: FloatArray) -> NDArray[np.bool_]:
        """The same of arrays."""
        return np.asarray(self.of(torch.as_tensor(low), torch.as_tensor(high)).numpy())

    def of(self, low: Tensor, high: Tensor) -> Tensor:
        """Where elements with bounds ``low`` and ``high`` are wanted."""
        match self:
            case Wanted.OPEN:
                return (low < 0) & (high > 0)
            case Wanted.POSITIVE:
                return high > 0
            case Wanted.ALL:
                return torch.ones_like(low, dtype=torch.bool)


def wanted_bounds(network: Network) -> dict[int, Wanted]:
    """Values read by a nonlinear operator that depend on an earlier one, by number."""
    relaxed: set[int] = set()
    found: dict[int, Wanted] = {}
    for number, operator in enumerate(network.operators, start=1):
        if isinstance(operator, NONLINEAR):
            source = operator.inputs[0]
            if source in relaxed and not _is_elementwise_of_nonlinear(network, source):
                found[source] = _wanted(network, source)
            relaxed.add(number)
        elif any(source in relaxed for source in operator.inputs):
            relaxed.add(number)
    return found


def _is_elementwise_of_nonlinear(network: Network, number: int) -> bool:
    operator = network.operators[number - 1]
    while isinstance(operator, Reshape):
        number = operator.inputs[0]
        if number == 0:
            return True
        operator = network.operators[number - 1]
    return isinstance(operator, NONLINEAR)


def _wanted(network: Network, number: int) -> Wanted:
    readers = [
        (position, operator)
        for position, operator in enumerate(network.operators, start=1)
        if number in operator.inputs
    ]
    strictest = Wanted.OPEN
    for position, operator in readers:
        if isinstance(operator, _MOVES):
            wanted = _wanted(network, position)
        elif isinstance(operator, Relu):
            below_is_zero = operator.negative_slope == 0
            wanted = Wanted.OPEN
            if _wanted(network, position) is not Wanted.OPEN:
                wanted = Wanted.POSITIVE if below_is_zero else Wanted.ALL
        else:
            wanted = Wanted.ALL if isinstance(operator, NONLINEAR) else Wanted.OPEN
        strictest = max(strictest, wanted, key=list(Wanted).index)
    return strictest
