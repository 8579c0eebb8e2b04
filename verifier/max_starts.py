"""Multipliers of a new decision with which a sub-problem starts from its parent's bound.

Where a node is open and its coefficient is negative, the dual puts ``sum(slope * entry) + rest * floor`` in its place;
once it is decided, the winner's entry. Multipliers of the decision's constraints that are the coefficient times the
slopes turn the one into the other. With multipliers of zero the first bound of a sub-problem may be far above its
parent's, and steps are spent on the way back.
"""

import torch
from torch import Tensor

from .max_groups import GroupLines


def start_multipliers(
    group: GroupLines, slopes: Tensor, coefficients: Tensor, nodes: Tensor, winners: Tensor
) -> Tensor:
    """Multipliers (entries, batch) of one decision per sub-problem, zero at all other nodes.

    Args:
        group: of the decided nodes.
        slopes: (entries, batch) of the parents.
        coefficients: (nodes, batch) of the parents.
        nodes: (batch,) the decided node.
        winners: (batch,) its entry in the group, or ``FLOOR``.
    """
    members = group.node.unsqueeze(1) == nodes
    size = (-coefficients.gather(0, nodes.unsqueeze(0))).clamp(min=0)
    shares = slopes * members
    rest = (1.0 - shares.sum(dim=0)).clamp(min=0)
    won = torch.arange(group.entries, device=nodes.device).unsqueeze(1) == winners
    floored = group.floored[nodes, 0] > 0
    # what the floor had: the winner is at least zero, or at least the entry that is never below the floor
    holds = _first(members & (group.lower >= group.spread(group.floor)), group.entries)
    from_floor = torch.where(floored, won.to(rest.dtype), holds * ~won)
    return size * (shares * ~won + rest * from_floor)


def _first(rows: Tensor, count: int) -> Tensor:
    """1 at the first true row of every column."""
    numbers = torch.arange(count, device=rows.device).unsqueeze(1)
    first = torch.where(rows, numbers, count).amin(dim=0)
    return (numbers == first).to(torch.float32)
