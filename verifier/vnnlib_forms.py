"""The bracketed forms of a VNN-LIB file, with the lines they start on."""

import re
from typing import NamedTuple, TypeAlias

from ..errors import PropertyError

Item: TypeAlias = "Form | str"

_TOKEN = re.compile(r"[()]|[^()\s]+")
# Deeper than any specification is written, and shallow enough to be read by recursion.
_MOST_NESTED = 150


class Form(NamedTuple):
    """``(item item ...)``; a named tuple because large files have hundreds of thousands.

    Attributes:
        line: where its bracket opens, counted from 1.
        items: symbols and forms.
    """

    line: int
    items: list[Item]

    @property
    def head(self) -> str:
        """The first symbol, empty where there is none."""
        first = self.items[0] if self.items else ""
        return first if isinstance(first, str) else ""


class Source:
    """Where forms come from, for messages."""

    def __init__(self, name: str) -> None:
        """Remember the file's name."""
        self.name = name

    def error(self, line: int, message: str) -> PropertyError:
        """What is wrong in which line."""
        return PropertyError(f"{self.name}, line {line}: {message}")


def read_forms(text: str, source: Source) -> list[Form]:
    """The outermost forms of ``text``; a semicolon starts a comment.

    Raises:
        PropertyError: for brackets that don't balance, or nest too deeply.
    """
    outermost: list[Form] = []
    open_forms: list[Form] = []
    for number, line in enumerate(text.split("\n"), start=1):
        for token in _TOKEN.findall(line.partition(";")[0]):
            if token == "(":
                form = Form(number, [])
                (open_forms[-1].items if open_forms else outermost).append(form)
                open_forms.append(form)
                if len(open_forms) > _MOST_NESTED:
                    raise source.error(number, f"brackets nest deeper than {_MOST_NESTED}; write it flatter")
            elif token == ")":
                if not open_forms:
                    raise source.error(number, "this ')' closes nothing; remove it or open its bracket")
                open_forms.pop()
            elif open_forms:
                open_forms[-1].items.append(token)
            else:
                raise source.error(
                    number, f"'{shorten(token)}' stands outside any bracket; a command is expected"
                )
    if open_forms:
        raise source.error(
            open_forms[0].line, "the bracket that opens here is never closed; is the file complete?"
        )
    return outermost


def shorten(text: str) -> str:
    """The beginning of a symbol, for messages of one line."""
    return text if len(text) <= 40 else f"{text[:37]}..."
