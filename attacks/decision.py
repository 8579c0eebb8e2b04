"""How scores become a label set: by a threshold, or as the k highest."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError


class Decision(ABC):
    """The rule that turns scores into present labels, written as one margin per label.

    The attacks work on margins only, so each of them serves both rules.
    """

    @abstractmethod
    def margins(self, scores: Tensor) -> Tensor:
        """How far each label is on the present side; differentiable.

        Args:
            scores: network outputs (logits), shape (rows, labels).

        Returns:
            Shape (rows, labels); a label is present exactly when its margin is >= 0.
        """

    def present(self, scores: Tensor) -> Tensor:
        """The label set, shape (rows, labels), bool."""
        return self.margins(scores) >= 0


@dataclass(frozen=True, slots=True)
class Threshold(Decision):
    """A label is present when its score is at least `value` (0 for logits is probability 0.5)."""

    value: float = 0.0

    @classmethod
    def of_probability(cls, probability: float) -> "Threshold":
        """The threshold on logits that equals `probability` after a sigmoid.

        Raises:
            InputError: the probability is not strictly between 0 and 1.
        """
        if not 0 < probability < 1:
            raise InputError(f"the threshold {probability} is no probability; give one between 0 and 1")
        return cls(float(torch.logit(torch.tensor(probability, dtype=torch.float64))))

    def margins(self, scores: Tensor) -> Tensor:
        """The score above the threshold."""
        return scores - self.value if self.value else scores


@dataclass(frozen=True, slots=True)
class TopK(Decision):
    """The `k` labels of highest score are present.

    Tied labels at the border all count as present, so no tie is ever sold as a hidden label.
    """

    k: int

    def margins(self, scores: Tensor) -> Tensor:
        """Against the best label outside for those inside, and the last one inside for those outside.

        Raises:
            InputError: k is not between 1 and the number of labels less one.
        """
        labels = scores.shape[1]
        if not 1 <= self.k < labels:
            raise InputError(
                f"top-{self.k} says nothing about {labels} labels; choose k from 1 to {labels - 1}"
            )
        best, order = scores.topk(self.k + 1, dim=1)
        inside = torch.zeros_like(scores, dtype=torch.bool).scatter_(1, order[:, : self.k], True)
        return scores - torch.where(inside, best[:, -1:], best[:, -2:-1])
