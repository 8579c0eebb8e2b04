"""What an evaluation has found so far, image by image; it can be written, read again and continued."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ..arrays import read_arrays
from ..errors import InputError
from ..verifier.files import replacing

Identity = Mapping[str, str]
"""Everything that must be equal for one run to continue another, in words."""


class Outcome(IntEnum):
    """What is known of one label of one image in one neighbourhood."""

    OPEN = 0
    PROVED = 1
    BROKEN = 2


@dataclass(frozen=True, slots=True, eq=False)
class EvaluationState:
    """The numbers; rows that are not done yet hold nothing of meaning.

    Attributes:
        logits: on clean images, shape (images, labels), float32.
        measured: which images have logits, shape (images,), bool.
        sample: numbers of the images on which robustness is asked, shape (sample,).
        attacked: logits on attacked images, shape (epsilons, sample, labels), float32.
        outcomes: `Outcome` of every label, shape (epsilons, sample, labels), int8.
        fitness: D-Score-like fitness, shape (sample,), nan where it was not asked.
        robustness: D-Score-like robustness, shape (sample,).
        done: which images of the sample are done, shape (sample,), bool.
    """

    logits: NDArray[np.float32]
    measured: NDArray[np.bool_]
    sample: NDArray[np.int64]
    attacked: NDArray[np.float32]
    outcomes: NDArray[np.int8]
    fitness: NDArray[np.float64]
    robustness: NDArray[np.float64]
    done: NDArray[np.bool_]

    @classmethod
    def empty(cls, images: int, labels: int, sample: NDArray[np.int64], epsilons: int) -> Self:
        """Nothing found yet."""
        count = len(sample)
        return cls(
            logits=np.zeros((images, labels), np.float32),
            measured=np.zeros(images, np.bool_),
            sample=sample,
            attacked=np.zeros((epsilons, count, labels), np.float32),
            outcomes=np.full((epsilons, count, labels), Outcome.OPEN, np.int8),
            fitness=np.full(count, np.nan),
            robustness=np.full(count, np.nan),
            done=np.zeros(count, np.bool_),
        )

    @property
    def complete(self) -> bool:
        """Whether no image is left."""
        return bool(self.measured.all() and self.done.all())

    def save(self, path: Path, identity: Identity) -> None:
        """Write the state beside a result, whole or not at all.

        Raises:
            InputError: it can't be written.
        """
        arrays: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        with replacing(path) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, identity=np.array(json.dumps(dict(identity))), **arrays)

    @classmethod
    def load(cls, path: Path, identity: Identity) -> Self:
        """Read a state to continue it.

        Raises:
            InputError: it is missing, damaged, or of another run; the message says what differs.
        """
        arrays = read_arrays(path, "what was done", "leave --resume out", (*cls.__slots__, "identity"))
        state = cls(**{name: arrays[name] for name in cls.__slots__})
        try:
            written = json.loads(str(arrays["identity"]))
        except ValueError as error:
            raise InputError(f"{path} is damaged ({error}); leave --resume out") from None
        differing = [name for name, value in identity.items() if written.get(name) != value]
        if differing:
            name = differing[0]
            raise InputError(
                f"{path} is of another run: {name} was {written.get(name)}, now it is {identity[name]}; use the same "
                "options, or leave --resume out"
            )
        return state
