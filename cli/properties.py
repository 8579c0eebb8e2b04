"""The question of ``mlverify verify`` about an image: from options to a property, and from a result file back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..verifier.decision import Threshold, TopK
from ..verifier.property import (
    Clause,
    Property,
    not_top_k,
    ranked_above,
    threshold,
    threshold_set,
    top_k,
    top_k_set,
)
from .documents import Fields
from .labels import find_label
from .options import PropertyOptions
from .question import Question


class PropertyKind(StrEnum):
    """Field ``kind`` of a result's question."""

    TOP_K = "top-k"
    NOT_TOP_K = "not-top-k"
    THRESHOLD = "threshold"
    LABEL_SET = "label-set"
    ABOVE = "above"
    ALL_LABELS = "all-labels"


@dataclass(frozen=True, slots=True, eq=False)
class Described:
    """A property and the fields that describe it in a result file; :func:`property_of` reads them."""

    property: Property
    fields: Fields


def asks(options: PropertyOptions) -> list[str]:
    """The options that ask a question of their own, of those that are given."""
    given = {
        "--target": options.target is not None,
        "--never": options.never is not None,
        "--label-set": options.label_set,
        "--max-flips": options.max_flips is not None,
        "--above": options.above is not None,
        "--all-labels": options.all_labels,
    }
    return [name for name, is_given in given.items() if is_given]


def check_one_question(options: PropertyOptions) -> None:
    """Options that ask different questions exclude one another.

    Raises:
        InputError: when two of them are given.
    """
    given = asks(options)
    if len(given) > 1:
        raise InputError(f"{' and '.join(given)} ask different questions; give one of them")


def described_property(question: Question, options: PropertyOptions) -> Described:
    """What the user wants to stay, which must be so on the clean image.

    Raises:
        InputError: when it is not, or an option does not fit the network.
    """
    if options.above is not None:
        return _ranking(question, options.above)
    if options.label_set or options.max_flips is not None:
        return _set(question, options.max_flips or 0)
    if options.never is not None:
        return _absence(question, options.never)
    return _membership(question, options.target)


def _membership(question: Question, target: str | None) -> Described:
    names = question.network.labels
    if target is None and not question.predicted:
        raise InputError("the network predicts no label here; name one with --target")
    label = question.predicted[0] if target is None else find_label(names, target)
    if isinstance(question.decision, TopK):
        if label not in question.predicted:
            raise InputError(
                f"the network does not predict label '{names[label]}' on the clean image (it predicts "
                f"{', '.join(names[item] for item in question.predicted)}): there is nothing to protect"
            )
        k = question.decision.k
        asked = top_k(len(names), label, k, names[label])
        return Described(asked, {"kind": PropertyKind.TOP_K, **_target(names, label), "k": k})
    return _side(question, label, above=label in question.predicted)


def _absence(question: Question, text: str) -> Described:
    names = question.network.labels
    label = find_label(names, text)
    if label in question.predicted:
        raise InputError(
            f"the network predicts label '{names[label]}' on the clean image: it can't stay out of the label set"
        )
    if isinstance(question.decision, TopK):
        k = question.decision.k
        asked = not_top_k(len(names), label, k, names[label])
        return Described(asked, {"kind": PropertyKind.NOT_TOP_K, **_target(names, label), "k": k})
    return _side(question, label, above=False)


def _side(question: Question, label: int, *, above: bool) -> Described:
    names, decision = question.network.labels, _threshold_of(question)
    logit = float(decision.logits(len(names), question.network.tail)[label])
    asked = threshold(len(names), label, above=above, logit=logit, name=names[label])
    fields = {
        "kind": PropertyKind.THRESHOLD,
        **_target(names, label),
        "threshold": float(decision.per_label(len(names))[label]),
        "above": above,
        "logit": logit,
    }
    return Described(asked, fields)


def _target(names: Sequence[str], label: int) -> Fields:
    return {"target": names[label], "target_number": label}


def _set(question: Question, flips: int) -> Described:
    names, present = question.network.labels, sorted(question.predicted)
    common = {
        "kind": PropertyKind.LABEL_SET,
        "labels": [names[label] for label in present],
        "label_numbers": present,
        "flips": flips,
    }
    if isinstance(question.decision, TopK):
        return Described(top_k_set(len(names), present, flips), {**common, "k": question.decision.k})
    decision = _threshold_of(question)
    logits = decision.logits(len(names), question.network.tail)
    fields = {**common, "thresholds": decision.per_label(len(names)), "logits": logits}
    return Described(threshold_set(logits, present, flips), fields)


def _ranking(question: Question, above: tuple[str, str]) -> Described:
    names = question.network.labels
    upper, lower = (find_label(names, text) for text in above)
    asked = ranked_above(len(names), upper, lower, (names[upper], names[lower]))
    if question.logits[upper] < question.logits[lower]:
        raise InputError(
            f"the network ranks label '{names[lower]}' above label '{names[upper]}' on the clean image: there is "
            "nothing to protect"
        )
    fields = {
        "kind": PropertyKind.ABOVE,
        "upper": names[upper],
        "upper_number": upper,
        "lower": names[lower],
        "lower_number": lower,
    }
    return Described(asked, fields)


def _threshold_of(question: Question) -> Threshold:
    assert isinstance(question.decision, Threshold)
    return question.decision


def property_of(fields: Mapping[str, Any], labels: int) -> Property:
    """The property that field ``question`` of a verify result describes.

    Raises:
        PropertyError: when it does not fit the number of labels.
        KeyError: when a field is missing.
        ValueError: when a field is damaged.
    """
    # results of before the field was there asked about one label
    match PropertyKind(fields.get("kind") or ("top-k" if "k" in fields else "threshold")):
        case PropertyKind.TOP_K | PropertyKind.NOT_TOP_K as kind:
            make = top_k if kind is PropertyKind.TOP_K else not_top_k
            return make(labels, int(fields["target_number"]), int(fields["k"]), str(fields["target"]))
        case PropertyKind.THRESHOLD:
            logit, name = float(fields["logit"]), str(fields["target"])
            above = bool(fields["above"])
            return threshold(labels, int(fields["target_number"]), above=above, logit=logit, name=name)
        case PropertyKind.LABEL_SET:
            present, flips = [int(label) for label in fields["label_numbers"]], int(fields["flips"])
            if "k" in fields:
                return top_k_set(labels, present, flips)
            return threshold_set(np.array(fields["logits"], dtype=np.float64), present, flips)
        case PropertyKind.ABOVE:
            names = str(fields["upper"]), str(fields["lower"])
            return ranked_above(labels, int(fields["upper_number"]), int(fields["lower_number"]), names)
        case kind:
            raise ValueError(f"a question of kind '{kind}' is no property")


def property_arrays(asked: Property) -> Mapping[str, NDArray[Any]]:
    """The clauses of a property as arrays: atoms below one another, and per clause their number and the needed."""
    return {
        "weights": np.concatenate([clause.weights for clause in asked.clauses]),
        "offsets": np.concatenate([clause.offsets for clause in asked.clauses]),
        "atoms": np.array([clause.atoms for clause in asked.clauses]),
        "needed": np.array([clause.needed for clause in asked.clauses]),
    }


def property_from(arrays: Mapping[str, NDArray[Any]], text: str) -> Property:
    """The property of :func:`property_arrays`.

    Raises:
        KeyError: when an array is missing.
        ValueError: when they don't fit one another.
    """
    weights, offsets = arrays["weights"].astype(np.float64), arrays["offsets"].astype(np.float64)
    needed = np.atleast_1d(arrays["needed"])
    # results of one clause were written without its number of atoms
    atoms = np.atleast_1d(arrays["atoms"]) if "atoms" in arrays else np.array([len(weights)])
    ends = np.cumsum(atoms)[:-1]
    parts = zip(np.split(weights, ends), np.split(offsets, ends), needed, strict=True)
    return Property(tuple(Clause(rows, constants, int(count)) for rows, constants, count in parts), text)


def same_clauses(first: Property, second: Property) -> bool:
    """Whether two properties are the same in all numbers."""
    mine, theirs = property_arrays(first), property_arrays(second)
    return all(np.array_equal(mine[name], theirs[name]) for name in mine)
