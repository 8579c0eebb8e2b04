"""How good multi-label scores are."""

import torch
from torch import Tensor


def margins(logits: Tensor, targets: Tensor) -> Tensor:
    """How far the lowest present label lies above the highest absent one.

    Args:
        logits: (batch, labels).
        targets: 0 or 1, (batch, labels), with at least one label present and one absent per row.

    Returns:
        One number per row, shape (batch,); positive exactly when the top-k set of the row, k being
        its number of labels, is the set of its labels and no tie touches it.
    """
    present = targets > 0
    lowest = logits.masked_fill(~present, torch.inf).amin(dim=1)
    highest = logits.masked_fill(present, -torch.inf).amax(dim=1)
    return lowest - highest


def exact_match(logits: Tensor, targets: Tensor) -> float:
    """Share of rows whose top-k set is exactly the set of labels; ties count as wrong.

    Args:
        logits: (batch, labels).
        targets: 0 or 1, (batch, labels).

    Returns:
        A share in [0, 1].
    """
    return float((margins(logits, targets) > 0).double().mean())
