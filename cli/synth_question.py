"""The question of ``mlverify synth``: which label is protected, which objects are perturbed, and what is made large."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..synthesis.layers import Bands, ObjectLayers
from ..synthesis.objective import Objective, Weighting, check_weights, weights_of
from ..synthesis.problem import SynthesisProblem
from ..synthesis.shape import Order, Shape
from ..verifier.decision import TopK
from ..verifier.operators import FloatArray
from ..verifier.region import Layered
from .labels import find_label
from .objects import FoundObjects, find_objects
from .question import Question
from .render import note


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """A label that must stay and the objects that are perturbed; masks need no label."""

    target: int
    objects: tuple[int, ...]
    found: FoundObjects


def choose(
    question: Question,
    target: str | None,
    objects: Sequence[str],
    masks: Sequence[Path],
    bands: Bands | int | None,
) -> Chosen:
    """Which label is protected and which objects are perturbed; ``bands`` tie the layers of several objects.

    Raises:
        InputError: when a label is both or named twice, or no second label is left to choose.
    """
    names = question.network.labels
    wanted = None if target is None else find_label(names, target)
    perturbed = tuple(find_label(names, text) for text in objects)
    _check_objects(question, perturbed, masks)
    if wanted is None:
        wanted = next((label for label in question.predicted if label not in perturbed), None)
    if not perturbed and not masks:
        perturbed = tuple(label for label in question.predicted if label != wanted)[:1]
    if wanted is None or not (perturbed or masks):
        raise InputError(
            "the network sees only one label here; name the object with --object or mark it with --mask"
            if wanted is not None or not perturbed
            else "all labels that the network sees here are perturbed; name the --target that must stay"
        )
    if wanted in perturbed:
        raise InputError(
            f"label '{names[wanted]}' can't be both the target and the perturbed object; choose another"
        )
    several = max(len(perturbed), len(masks)) > 1
    found = find_objects(question, perturbed, masks, bands if several else None)
    if found.doubt is not None:
        note(found.doubt)
    return Chosen(wanted, perturbed, found)


def _check_objects(question: Question, objects: Sequence[int], masks: Sequence[Path]) -> None:
    names = question.network.labels
    twice = next((label for label in objects if objects.count(label) > 1), None)
    if twice is not None:
        raise InputError(f"--object {names[twice]} is given twice; name each object once")
    if masks and objects and len(masks) != len(objects):
        raise InputError(
            f"{len(masks)} --mask and {len(objects)} --object: give one mask per object, in the same order, "
            "or masks alone"
        )
    unseen = next((label for label in objects if label not in question.predicted), None)
    if unseen is not None and not masks:
        raise InputError(
            f"the network does not see label '{names[unseen]}' here (it sees "
            f"{', '.join(names[label] for label in question.predicted)}), so it can't find its object; "
            "mark it with --mask"
        )


def read_weights(text: str, layers: ObjectLayers) -> tuple[Weighting | Path, FloatArray]:
    """Weights of layers by name, or from a text file.

    Raises:
        InputError: for a file that can't be read as numbers.
        PropertyError: for numbers that make no size.
    """
    if text in set(Weighting):
        weighting = Weighting(text)
        return weighting, weights_of(weighting, layers)
    path = Path(text)
    try:
        numbers = np.loadtxt(path, dtype=np.float64, ndmin=1, delimiter=None).reshape(-1)
    except (OSError, ValueError) as error:
        raise InputError(
            f"--weights {text}: neither {' nor '.join(Weighting)} nor a file with one number per layer ({error})"
        ) from None
    check_weights(numbers, layers.count)
    return path, numbers


def synthesis_problem(
    question: Question, chosen: Chosen, weights: FloatArray, objective: Objective, shape: Shape
) -> SynthesisProblem:
    """The question with its layers, all epsilons still 0."""
    assert isinstance(question.decision, TopK)
    layers = chosen.found.layers
    where = Layered(question.image, layers.layers, np.zeros(layers.count))
    return SynthesisProblem(
        question.network, where, chosen.target, question.decision.k, weights, objective, shape
    )


def shape_of(tie: Bands | int | None, order: Order, around: ObjectLayers) -> Shape:
    """The shape that --tie and --order ask for; several objects are tied in their layers already.

    Raises:
        InputError: for an order where there are several objects.
        PropertyError: for bands that do not fit the layers.
    """
    layers, several = around.count, around.items > 1
    if order is not Order.FREE and several:
        raise InputError(f"--order {order} speaks of the distance from one object; leave it out for several")
    if tie is None or several:
        return Shape(Shape.free(layers).bands, order)
    return (
        Shape.tied(layers, tie, order) if isinstance(tie, int) else Shape.starting(layers, tie.starts, order)
    )
