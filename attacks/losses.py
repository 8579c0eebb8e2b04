"""Multi-label losses an attacker raises, all of margins of shape (rows, labels), all giving shape (rows,).

Every loss takes the margins, the wish `wanted` (+1 show, -1 hide, 0 not asked) and the side `kept` of the
labels not asked for (+1 present, -1 absent, 0 asked for), and grows as the attack gets closer.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import softplus

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def flip_cross_entropy(margins: Tensor, wanted: Tensor, kept: Tensor) -> Tensor:
    """Cross-entropy of the labels to flip against their clean side: MLA-U.

    Grows without bound, so a label that has flipped is pushed further.

    Reference:
        H. Mahmood and E. Elhamifar, "Semantic-aware multi-label adversarial attacks", 2024, eqs (1), (2).
    """
    del kept
    return (softplus(wanted * margins) * wanted.abs()).sum(dim=1)


def keep_cross_entropy(margins: Tensor, wanted: Tensor, kept: Tensor) -> Tensor:
    """Cross-entropy of the labels not asked for against their clean side; small means undisturbed.

    Reference:
        As `flip_cross_entropy`, the second term of eq. (3).
    """
    del wanted
    return (softplus(-kept * margins) * kept.abs()).sum(dim=1)


def flip_and_keep_cross_entropy(margins: Tensor, wanted: Tensor, kept: Tensor) -> Tensor:
    """Flip some labels and hold all the others: MLA-C.

    Reference:
        As `flip_cross_entropy`, eq. (3).
    """
    return flip_cross_entropy(margins, wanted, kept) - keep_cross_entropy(margins, wanted, kept)


def target_cross_entropy(margins: Tensor, wanted: Tensor, kept: Tensor) -> Tensor:
    """Minus the cross-entropy against the wish; saturates once a label has flipped, so hard labels lead."""
    del kept
    return -(softplus(-wanted * margins) * wanted.abs()).sum(dim=1)


def worst_margin(margins: Tensor, wanted: Tensor, kept: Tensor) -> Tensor:
    """The smallest signed margin of the labels to flip: >= 0 exactly when all have flipped (ties apart)."""
    del kept
    return _smallest(margins, wanted)


def worst_margin_of_all(margins: Tensor, wanted: Tensor, kept: Tensor) -> Tensor:
    """Like `worst_margin`, over the labels to keep as well."""
    return _smallest(margins, wanted + kept)


def hinge_sum(margins: Tensor, wanted: Tensor, kept: Tensor) -> Tensor:
    """Minus the total shortfall of all labels, flipped or kept: the penalty of ML-CW.

    Reference:
        Q. Song, H. Jin, X. Huang and X. Hu, "Multi-label adversarial perturbations", ICDM 2018.
    """
    side = wanted + kept
    return -(torch.relu(-side * margins) * side.abs()).sum(dim=1)


def rank_all(margins: Tensor, wanted: Tensor, kept: Tensor) -> Tensor:
    """Every label that should be absent below every one that should be present: ML-Rank1.

    Reference:
        As `hinge_sum`; minus max(0, max of the absent - min of the present).
    """
    side = wanted + kept
    return -torch.relu(_largest(margins, side < 0) - _least(margins, side > 0))


def rank_flipped(margins: Tensor, wanted: Tensor, kept: Tensor) -> Tensor:
    """Besides `rank_all`, labels to hide below the absent ones kept and to show above the present ones.

    The published form has the first of the two terms only and compares with the smallest kept label.

    Reference:
        As `hinge_sum`, ML-Rank2.
    """
    hidden_too_high = _largest(margins, wanted < 0) - _least(margins, kept < 0)
    shown_too_low = _largest(margins, kept > 0) - _least(margins, wanted > 0)
    return (
        rank_all(margins, wanted, kept)
        - _finite_relu(hidden_too_high, (wanted < 0).any(dim=1) & (kept < 0).any(dim=1))
        - _finite_relu(shown_too_low, (wanted > 0).any(dim=1) & (kept > 0).any(dim=1))
    )


def outside_top_k_average(scores: Tensor, hidden: Tensor, k: int) -> Tensor:
    """Push a set of labels out of the top k by the average of the largest gaps, as published.

    Args:
        scores: shape (rows, labels).
        hidden: the labels that must leave the top k, shape (rows, labels), bool.
        k: size of the predicted set.

    Returns:
        Minus the mean of the (labels - k) largest gaps (best hidden score - score), shape (rows,).

    Reference:
        S. Hu, L. Ke, X. Wang and S. Lyu, "TkML-AP: adversarial attacks to top-k multi-label learning",
        ICCV 2021, the untargeted loss. The mean bounds the gap that decides from above; it goes on
        pushing labels that need not move.
    """
    gaps = _largest(scores, hidden).unsqueeze(1) - scores
    return -gaps.sort(dim=1).values[:, k:].mean(dim=1)


def outside_top_k(scores: Tensor, hidden: Tensor, k: int) -> Tensor:
    """Like `outside_top_k_average`, on the k labels that can overtake first: 0 exactly when they did."""
    gaps = _largest(scores, hidden).unsqueeze(1) - scores
    # A hidden label can't help to push another out.
    return -torch.relu(torch.where(hidden, 0.0, _first(gaps, ~hidden, k))).sum(dim=1) / k


def exactly_top_k(scores: Tensor, target: Tensor) -> Tensor:
    """Whether the target set is exactly the top k, k its size, as a sum of hinges.

    Args:
        scores: shape (rows, labels).
        target: shape (rows, labels), bool.

    Returns:
        Minus the sum of hinges against the k-th score inside and the (k+1)-th outside, shape (rows,).

    Reference:
        As `outside_top_k`, the targeted loss; with both border scores, since against the k-th alone a
        tie would count as reached.
    """
    inside = torch.relu(_largest(scores, ~target).unsqueeze(1) - scores) * target
    outside = torch.relu(scores - _least(scores, target).unsqueeze(1)) * ~target
    return -(inside + outside).sum(dim=1)


def _first(values: Tensor, among: Tensor, count: int) -> Tensor:
    """The values among the `count` smallest of the labels `among`, zero elsewhere."""
    order = torch.where(among, values.detach(), torch.inf).argsort(dim=1)[:, :count]
    return values * torch.zeros_like(values).scatter_(1, order, 1.0)


def _smallest(margins: Tensor, side: Tensor) -> Tensor:
    return torch.where(side != 0, side * margins, torch.inf).amin(dim=1)


def _largest(values: Tensor, chosen: Tensor) -> Tensor:
    return torch.where(chosen, values, -torch.inf).amax(dim=1)


def _least(values: Tensor, chosen: Tensor) -> Tensor:
    return torch.where(chosen, values, torch.inf).amin(dim=1)


def _finite_relu(difference: Tensor, defined: Tensor) -> Tensor:
    return torch.where(defined, torch.relu(torch.where(defined, difference, 0.0)), 0.0)
