"""How scores become the set of labels that a network sees in an image."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import PropertyError


class Decision(ABC):
    """A rule that turns the scores of one image into its label set."""

    @abstractmethod
    def predicted(self, scores: NDArray[np.floating]) -> tuple[int, ...]:
        """Labels in the set at scores (labels,), most confident first.

        Raises:
            PropertyError: when the rule does not fit the number of labels.
        """

    @property
    @abstractmethod
    def text(self) -> str:
        """The rule in a few words."""


@dataclass(frozen=True, slots=True)
class TopK(Decision):
    """The k highest scores are the labels."""

    k: int

    def predicted(self, scores: NDArray[np.floating]) -> tuple[int, ...]:
        """Labels of the k highest scores."""
        if not 1 <= self.k < len(scores):
            raise PropertyError(
                f"k must be between 1 and {len(scores) - 1} for {len(scores)} labels, got {self.k}; set --k"
            )
        return ranking(scores)[: self.k]

    @property
    def text(self) -> str:
        """The rule in a few words."""
        return f"top {self.k}"


@dataclass(frozen=True, slots=True)
class Threshold(Decision):
    """Every score of the file above ``value`` is a label; the set may be empty.

    Attributes:
        value: in the unit of the file's scores: a probability after a sigmoid, else a logit.
    """

    value: float

    def predicted(self, scores: NDArray[np.floating]) -> tuple[int, ...]:
        """Labels whose score is above the threshold."""
        return tuple(label for label in ranking(scores) if scores[label] > self.value)

    @property
    def text(self) -> str:
        """The rule in a few words."""
        return f"score above {self.value:g}"


def ranking(scores: NDArray[np.floating]) -> tuple[int, ...]:
    """All labels, highest score first; of equal ones the smaller number first."""
    return tuple(int(label) for label in np.argsort(-scores, kind="stable"))
