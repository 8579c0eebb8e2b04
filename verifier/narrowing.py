"""A network as a function of the inputs that move: fixed ones become part of the first layer's bias."""

from dataclasses import replace

import numpy as np

from .network import Network
from .operators import Linear, Operator, Reshape
from .region import Region


def narrowed(network: Network, region: Region) -> Network | None:
    """The network on the moving inputs of a region, (moving,) in row-major order.

    Args:
        network: whose input is read, flat, by fully connected layers only.
        region: of its inputs; at least one moves and at least one is fixed.

    Returns:
        None where there is nothing to gain, or where other operators read the input.
    """
    moves = (region.lower < region.upper).reshape(-1)
    if moves.all() or not moves.any():
        return None
    fixed = np.where(moves, 0.0, region.lower.reshape(-1).astype(np.float64))
    inputs = {0}
    operators: list[Operator] = []
    for number, operator in enumerate(network.operators, start=1):
        if inputs.isdisjoint(operator.inputs):
            operators.append(operator)
            continue
        match operator:
            case Linear() if len(operator.shape) == 1:
                bias = operator.bias + operator.weight @ fixed
                operators.append(replace(operator, weight=operator.weight[:, moves], bias=bias))
            case Reshape():
                inputs.add(number)
                operators.append(replace(operator, shape=(int(moves.sum()),)))
            case _:
                return None
    if network.output in inputs:
        return None
    return replace(network, operators=tuple(operators), input_shape=(int(moves.sum()),))
