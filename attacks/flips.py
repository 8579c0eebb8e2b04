"""What an attack is asked to change: which labels to hide, which to show, and what of the others."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from ..errors import InputError


class Others(Enum):
    """What must become of the labels that are not asked to flip."""

    FREE = "free"
    KEEP = "keep"


class Aim(Enum):
    """How many of the flips count as success."""

    ALL = "all"
    MOST = "most"


@dataclass(frozen=True, slots=True)
class Goal:
    """A wish with the clean label sets put in: what it asks of each label, worked out once.

    Attributes:
        asked: which labels matter, shape (images, labels), bool.
        present: their side, same shape.
    """

    asked: Tensor
    present: Tensor

    def reached(self, present: Tensor) -> Tensor:
        """Whether nothing is left to be done, shape (rows,), bool.

        Args:
            present: label sets, shape (rows, labels), bool; rows is a multiple of the images, in their order.
        """
        wrong = (present.reshape(-1, *self.present.shape) ^ self.present) & self.asked
        return wrong.any(dim=2).flatten().logical_not()


@dataclass(frozen=True, slots=True)
class Flips:
    """The wish of the attacker, one row per image.

    Attributes:
        wanted: shape (images, labels), int8: +1 show the label, -1 hide it, 0 not asked.
        others: whether the labels not asked for must stay on their side.
        aim: ALL: success when every flip happened; MOST: when more labels are as wanted than before.
    """

    wanted: Tensor
    others: Others = Others.FREE
    aim: Aim = Aim.ALL

    def __post_init__(self) -> None:
        if (
            self.wanted.dim() != 2
            or self.wanted.dtype.is_floating_point
            or bool((self.wanted.abs() > 1).any())
        ):
            raise InputError("flips need the shape (images, labels) and the values -1 hide, 0 leave, +1 show")

    @classmethod
    def of(
        cls,
        images: int,
        labels: int,
        hide: Sequence[int] = (),
        show: Sequence[int] = (),
        others: Others = Others.FREE,
    ) -> "Flips":
        """The same flips for every image, by label number.

        Raises:
            InputError: a label does not exist, is both hidden and shown, or nothing is asked.
        """
        for label in (*hide, *show):
            if not 0 <= label < labels:
                raise InputError(f"there is no label {label}; this network has the labels 0 to {labels - 1}")
        both = set(hide) & set(show)
        if both:
            raise InputError(f"the labels {sorted(both)} are to be hidden and shown at once; choose one")
        if not hide and not show:
            raise InputError("no label is asked to flip; name one to hide or to show")
        row = torch.zeros(labels, dtype=torch.int8)
        row[list(hide)] = -1
        row[list(show)] = 1
        return cls(row.repeat(images, 1), others)

    @classmethod
    def toggle(cls, present: Tensor, targets: Tensor, others: Others = Others.FREE) -> "Flips":
        """Change the side of every target label (the target set Omega of GMLA's section 3.1).

        Args:
            present: the clean label sets, shape (images, labels), bool.
            targets: the labels to change, same shape, bool.
            others: what of the rest.
        """
        side = 1 - 2 * present.to(torch.int8)
        return cls(side * targets.to(torch.int8), others)

    @classmethod
    def hide_all(cls, present: Tensor) -> "Flips":
        """Hide every label that is present; the others may not appear."""
        return cls(-present.to(torch.int8), Others.KEEP)

    @classmethod
    def show_most(cls, present: Tensor) -> "Flips":
        """Show as many labels as possible, keeping none hidden on purpose."""
        return cls(torch.ones_like(present, dtype=torch.int8), Others.FREE, Aim.MOST)

    def to(self, device: torch.device) -> "Flips":
        """The same wish on another device."""
        return Flips(self.wanted.to(device), self.others, self.aim)

    def rows(self, chosen: Tensor) -> "Flips":
        """The wish for some of the images (index or mask)."""
        return Flips(self.wanted[chosen], self.others, self.aim)

    def satisfied(self, present: Tensor) -> Tensor:
        """Which wishes a label set fulfils, shape (rows, labels), bool; true where nothing is asked."""
        return (self.wanted == 0) | (present == (self.wanted > 0))

    def matched(self, present: Tensor, before: Tensor) -> Tensor:
        """How many labels are as they should be, shape (rows,).

        Args:
            present: label sets now, shape (rows, labels), bool.
            before: label sets of the clean images, same shape.
        """
        right = self.satisfied(present) & (self.wanted != 0)
        if self.others is Others.KEEP:
            right |= (self.wanted == 0) & (present == before)
        return right.sum(dim=1)

    def complete(self, present: Tensor, before: Tensor) -> Tensor:
        """Whether nothing is left to be done, shape (rows,), bool."""
        return self.goal(before).reached(present)

    def goal(self, before: Tensor) -> Goal:
        """The wish for images with the label sets `before`, shape (images, labels), bool."""
        asked = self.wanted != 0
        if self.others is Others.FREE:
            return Goal(asked, self.wanted > 0)
        return Goal(torch.ones_like(asked), torch.where(asked, self.wanted > 0, before))

    def success(self, present: Tensor, before: Tensor) -> Tensor:
        """Whether the attack succeeded, shape (rows,), bool; the one definition all records use."""
        if self.aim is Aim.ALL:
            return self.complete(present, before)
        return self.matched(present, before) > self.matched(before, before)
