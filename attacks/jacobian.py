"""Margins of all labels and their Jacobian, one backward pass per label, batched over images."""

import torch
from torch import Tensor

from ..errors import InputError
from .base import Task


def margins_and_jacobian(task: Task, points: Tensor) -> tuple[Tensor, Tensor]:
    """Linearise the margins at a batch of points.

    Args:
        task: supplies network and decision.
        points: shape (images, *input_shape).

    Returns:
        Margins, shape (images, labels), and their Jacobian, shape (images, labels, inputs), detached.

    Raises:
        InputError: the network gives no gradient.
    """
    with torch.enable_grad():
        inputs = points.detach().requires_grad_(True)
        margins = task.margins(inputs)
        if not margins.requires_grad:
            raise InputError("this method needs gradients and the network gives none; use MlaDe instead")
        rows = []
        for label in range(margins.shape[1]):
            (row,) = torch.autograd.grad(margins[:, label].sum(), inputs, retain_graph=True)
            rows.append(row.flatten(1))
    # A broken entry must not spoil the linear algebra of its batch.
    return margins.detach(), torch.nan_to_num(torch.stack(rows, dim=1), nan=0.0, posinf=0.0, neginf=0.0)
