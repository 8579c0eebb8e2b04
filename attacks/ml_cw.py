"""ML-CW: the multi-label Carlini-Wagner attack."""

from dataclasses import dataclass

from torch import Tensor

from .losses import hinge_sum
from .minimal_l2 import MinimalL2


@dataclass(frozen=True, slots=True)
class MlCw(MinimalL2):
    """Smallest L2 perturbation with a hinge on every label, flipped or kept.

    Reference:
        Q. Song, H. Jin, X. Huang and X. Hu, "Multi-label adversarial perturbations", ICDM 2018.
    """

    @classmethod
    def as_published(cls) -> "MlCw":
        """1,000 iterations, ten searches from c = 1e5 (N. Zhou et al., IJCNN 2020, section IV-D)."""
        return cls(iterations=1000, searches=10, weight=1e5)

    def penalty(self, margins: Tensor, wanted: Tensor, kept: Tensor) -> Tensor:
        """The total shortfall."""
        return -hinge_sum(margins, wanted, kept)
