"""Which elements of a network's values move at all over a region, and the numbers of those that don't.

Bounds can't tell: they are widened against rounding, so that a constant looks like a tiny range.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from .interval import ValueBounds
from .network import Network
from .operators import Constant, Conv, FloatArray, Linear, Operator, Pad, Relu, Scale, Sum
from .torch_network import TorchNetwork


def constant_values(network: Network, bounds: ValueBounds) -> tuple[FloatArray, ...]:
    """For every value, flat: the number of each element that does not move, NaN for those that may.

    An element moves when some path of nonzero weights that no switched-off ReLU cuts leads to it from an
    input that moves.

    Args:
        network: the network.
        bounds: valid bounds on every value; ``bounds[0]`` is the region.
    """
    point = torch.as_tensor(bounds[0].lower[None])
    values = TorchNetwork(network, torch.float64).values(point)
    moving = _moving(network, bounds)
    return tuple(
        np.where(mask[0].numpy().reshape(-1) > 0, np.nan, value[0].numpy().reshape(-1))
        for value, mask in zip(values, moving, strict=True)
    )


def _moving(network: Network, bounds: ValueBounds) -> list[Tensor]:
    """Per value, (1, *shape): positive where the element may move."""
    structure = replace(network, operators=tuple(_structure(operator) for operator in network.operators))
    module = TorchNetwork(structure, torch.float64)
    masks = [torch.as_tensor((bounds[0].lower < bounds[0].upper)[None]).double()]
    for position, operator in enumerate(network.operators):
        inputs = [masks[source] for source in operator.inputs]
        # back to 0 and 1 at every step, so that nothing overflows on the way
        mask = (module.step(position, structure.operators[position], inputs, 1) > 0).double()
        if isinstance(operator, Relu) and operator.negative_slope == 0:
            mask = mask * torch.as_tensor((bounds[operator.inputs[0]].upper > 0)[None])
        masks.append(mask)
    return masks


def _structure(operator: Operator) -> Operator:
    """The operator with weight 1 where it reads and 0 where it doesn't."""
    match operator:
        case Conv() | Linear():
            reads = (operator.weight != 0).astype(np.float64)
            return replace(operator, weight=reads, bias=np.zeros_like(operator.bias))
        case Scale():
            return replace(
                operator, scale=(operator.scale != 0).astype(np.float64), shift=np.zeros_like(operator.shift)
            )
        case Pad():
            return replace(operator, value=0.0)
        case Sum():
            return replace(operator, signs=(1.0, 1.0))
        case Constant():
            return replace(operator, value=np.zeros_like(operator.value))
        case _:
            return operator
