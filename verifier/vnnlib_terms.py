"""Linear terms over the inputs X_i and outputs Y_j of a VNN-LIB file."""

import math
import re
from dataclasses import dataclass
from typing import NamedTuple

from .vnnlib_forms import Item, Source, shorten

_VARIABLE = re.compile(r"([XY])_(0|[1-9]\d{0,8})")
# float() also takes nan, infinity and underscores
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


class Variable(NamedTuple):
    """``X_i`` or ``Y_j``."""

    is_input: bool
    number: int

    def __str__(self) -> str:
        """As the file writes it."""
        return f"{'X' if self.is_input else 'Y'}_{self.number}"


def variable_named(name: str) -> Variable | None:
    """The variable that a symbol stands for, None where it is another kind of symbol."""
    found = _VARIABLE.fullmatch(name)
    return None if found is None else Variable(found[1] == "X", int(found[2]))


class Linear(NamedTuple):
    """The sum of coefficients times variables and a constant, in float64."""

    terms: dict[Variable, float]
    constant: float

    def plus(self, other: "Linear", factor: float = 1.0) -> "Linear":
        """This term and ``factor`` times another one."""
        terms = dict(self.terms)
        for variable, coefficient in other.terms.items():
            terms[variable] = terms.get(variable, 0.0) + factor * coefficient
        return Linear(terms, self.constant + factor * other.constant)

    def times(self, factor: float) -> "Linear":
        """``factor`` times this term."""
        return Linear({key: factor * value for key, value in self.terms.items()}, factor * self.constant)

    @property
    def finite(self) -> bool:
        """Whether no number has overflowed."""
        return math.isfinite(self.constant) and all(map(math.isfinite, self.terms.values()))


@dataclass(frozen=True, slots=True)
class Terms:
    """Reads terms.

    Attributes:
        declared: variables that may occur, by name.
        source: of the forms.
    """

    declared: dict[str, Variable]
    source: Source

    def difference(self, left: Item, right: Item, line: int) -> Linear:
        """``left - right``, without the variables that cancel.

        Raises:
            PropertyError: when it is not linear in declared variables.
        """
        found = self.read(left, line).plus(self.read(right, line), -1.0)
        if not found.finite:
            raise self.source.error(line, "a number is too large for double precision")
        return Linear({key: value for key, value in found.terms.items() if value != 0.0}, found.constant)

    def read(self, item: Item, line: int) -> Linear:
        """The linear term that ``item`` writes.

        Raises:
            PropertyError: when it is not linear in declared variables.
        """
        if isinstance(item, str):
            return self._symbol(item, line)
        if not item.items:
            raise self.source.error(item.line, "an empty bracket is no term")
        parts = [self.read(part, item.line) for part in item.items[1:]]
        match item.head, parts:
            case "+", [first, *others]:
                return _sum(first, others, 1.0)
            case "-", [only]:
                return only.times(-1.0)
            case "-", [first, *others]:
                return _sum(first, others, -1.0)
            case "*", [first, *others]:
                return self._product(first, others, item.line)
            case "/", [first, *others] if others:
                return self._quotient(first, others, item.line)
            case "+" | "-" | "*" | "/", _:
                raise self.source.error(item.line, f"'{item.head}' needs something to work on")
        found = item.head or "a bracket"
        raise self.source.error(
            item.line, f"'{shorten(found)}' can't start a term; terms use +, - and * by constants"
        )

    def _symbol(self, name: str, line: int) -> Linear:
        variable = self.declared.get(name)
        if variable is not None:
            return Linear({variable: 1.0}, 0.0)
        if _NUMBER.fullmatch(name):
            return Linear({}, float(name))
        hint = "declare it first" if variable_named(name) else "variables are X_0, X_1, ... and Y_0, Y_1, ..."
        raise self.source.error(line, f"unknown symbol '{shorten(name)}'; {hint}")

    def _product(self, first: Linear, others: list[Linear], line: int) -> Linear:
        for other in others:
            if first.terms and other.terms:
                raise self.source.error(
                    line, "a product of two variables is not linear; only linear terms are read"
                )
            first = first.times(other.constant) if first.terms else other.times(first.constant)
        return first

    def _quotient(self, first: Linear, others: list[Linear], line: int) -> Linear:
        for other in others:
            if other.terms:
                raise self.source.error(
                    line, "division by a variable is not linear; only linear terms are read"
                )
            if other.constant == 0.0:
                raise self.source.error(line, "division by zero")
            # each number is divided once: a reciprocal would round twice
            divided = {key: value / other.constant for key, value in first.terms.items()}
            first = Linear(divided, first.constant / other.constant)
        return first


def _sum(first: Linear, others: list[Linear], factor: float) -> Linear:
    for other in others:
        first = first.plus(other, factor)
    return first
