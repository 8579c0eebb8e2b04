"""Labels that are given by name or number."""

import difflib

from ..errors import InputError


def find_label(labels: tuple[str, ...], text: str) -> int:
    """The number of a label that is given by its name or its number; a name goes first.

    Raises:
        InputError: when there is none, with the names that come close.
    """
    wanted = text.strip()
    if wanted in labels:
        return labels.index(wanted)
    folded = [label.casefold() for label in labels]
    if folded.count(wanted.casefold()) == 1:
        return folded.index(wanted.casefold())
    if wanted.isdecimal() and int(wanted) < len(labels):
        return int(wanted)
    near = difflib.get_close_matches(wanted, labels, n=3)
    hint = f"did you mean {', '.join(near)}?" if near else f"labels are {_shortened(labels)}"
    raise InputError(f"the network has no label '{text}'; {hint}")


def _shortened(labels: tuple[str, ...]) -> str:
    shown = ", ".join(labels[:10])
    return shown if len(labels) <= 10 else f"{shown}, ... ({len(labels)} in all: see `mlverify info`)"
