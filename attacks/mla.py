"""MLA-U and MLA-C: the naive multi-label attacks."""

from dataclasses import dataclass, field

from .apgd import Apgd
from .base import Attack, Attempt, Task
from .loss_attack import LossField, climb
from .losses import flip_and_keep_cross_entropy, flip_cross_entropy
from .pgd import Pgd


@dataclass(frozen=True, slots=True)
class MlaU(Attack):
    """Raise the loss of the target labels and ignore the rest.

    Reference:
        H. Mahmood and E. Elhamifar, "Semantic-aware multi-label adversarial attacks", 2024, eq. (1);
        after Q. Song et al., "Multi-label adversarial perturbations", ICDM 2018.
    """

    engine: Apgd | Pgd = field(default_factory=Apgd)

    def search(self, task: Task) -> Attempt:
        """Climb the cross-entropy of the labels to flip."""
        return climb(self.engine, LossField(task, flip_cross_entropy, self.engine.restarts), task, 1)


@dataclass(frozen=True, slots=True)
class MlaC(Attack):
    """Raise the loss of the target labels and lower that of all others.

    Reference:
        As `MlaU`, eq. (3).
    """

    engine: Apgd | Pgd = field(default_factory=Apgd)

    def search(self, task: Task) -> Attempt:
        """Climb the difference of the two cross-entropies."""
        return climb(self.engine, LossField(task, flip_and_keep_cross_entropy, self.engine.restarts), task, 1)
