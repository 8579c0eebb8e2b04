"""ML-Rank1 and ML-Rank2: order the labels instead of moving each across its threshold."""

from dataclasses import dataclass

from torch import Tensor

from .losses import rank_all, rank_flipped
from .minimal_l2 import MinimalL2


@dataclass(frozen=True, slots=True)
class MlRank1(MinimalL2):
    """Every label that should be absent scores below every one that should be present.

    An order says nothing about a threshold: on networks with one, the order is often reached while the
    label set is not, which is why the published success is low.

    Reference:
        Q. Song, H. Jin, X. Huang and X. Hu, "Multi-label adversarial perturbations", ICDM 2018.
    """

    def penalty(self, margins: Tensor, wanted: Tensor, kept: Tensor) -> Tensor:
        """By how much the order is missed."""
        return -rank_all(margins, wanted, kept)


@dataclass(frozen=True, slots=True)
class MlRank2(MinimalL2):
    """Besides, labels to hide fall below all others and labels to show rise above.

    Reference:
        As `MlRank1`.
    """

    def penalty(self, margins: Tensor, wanted: Tensor, kept: Tensor) -> Tensor:
        """By how much the order is missed."""
        return -rank_flipped(margins, wanted, kept)
