"""How the text of options becomes values: members of enumerations, epsilons, numbers, bands."""

import math
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import InputError, PropertyError

if TYPE_CHECKING:
    from ..synthesis.layers import Bands

    # generic in click's annotations only since 8.2
    ParamType = click.ParamType[Any]
else:
    ParamType = click.ParamType

# a mean or deviation above this can't be meant for pixels in [0, 1]
_LARGEST_PIXEL_UNIT = 2.0


class EnumChoice(ParamType):
    """One member of an enumeration, by its value."""

    def __init__(self, kind: type[StrEnum]) -> None:
        self.kind = kind
        self.name = "|".join(kind)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> StrEnum:
        """The member."""
        try:
            return self.kind(value)
        except ValueError:
            self.fail(f"'{value}' is not one of {', '.join(self.kind)}", param, ctx)


class EpsilonType(ParamType):
    """A perturbation size in pixel units [0, 1], written as a decimal or a fraction."""

    name = "epsilon"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number."""
        if isinstance(value, float):
            return value
        try:
            return parse_epsilon(str(value))
        except InputError as error:
            self.fail(str(error), param, ctx)


class NumbersType(ParamType):
    """Numbers separated by commas, in pixel units."""

    name = "number[,number...]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """The numbers."""
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(float(Fraction(part.replace(" ", ""))) for part in str(value).split(","))
        except (ValueError, ZeroDivisionError, OverflowError):
            self.fail(f"'{value}' is not a list of numbers; write 0.5 or 0.485,0.456,0.406", param, ctx)
        if max(numbers) > _LARGEST_PIXEL_UNIT:
            self.fail(
                f"'{value}' looks like units of 0 to 255; divide by 255, pixels are in [0, 1]", param, ctx
            )
        return numbers


class ThresholdsType(ParamType):
    """A number, numbers separated by commas, or a file of numbers."""

    name = "number[,number...]|file"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """The numbers, all finite."""
        if isinstance(value, tuple):
            return value
        text = str(value)
        try:
            numbers = tuple(float(part) for part in text.split(","))
        except ValueError:
            numbers = self._read(text, param, ctx)
        if not all(map(math.isfinite, numbers)):
            self.fail(f"'{text}' has what is not a number that scores can be compared with", param, ctx)
        return numbers

    def _read(self, text: str, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        try:
            content = Path(text).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            self.fail(f"'{text}' is neither a number, nor numbers such as 0.5,0.3, nor a file", param, ctx)
        try:
            numbers = tuple(float(part) for part in content.replace(",", " ").split())
        except ValueError as error:
            self.fail(f"{text}: {error}; write one number per label", param, ctx)
        if not numbers:
            self.fail(f"{text} is empty; write one number per label", param, ctx)
        return numbers


def parse_epsilon(text: str) -> float:
    """An epsilon in pixel units from ``2/255``, ``0.01`` or ``1e-3``.

    Raises:
        InputError: when it is not a number between 0 and 1.
    """
    try:
        value = float(Fraction(text.replace(" ", "")))
    except (ValueError, ZeroDivisionError, OverflowError):
        raise InputError(
            f"'{text}' is not an epsilon; write a number in [0, 1] such as 2/255 or 0.01"
        ) from None
    if value > 1:
        raise InputError(
            f"epsilon {text} is above 1, the range of a pixel; write {text}/255 if you mean grey levels"
        )
    if value < 0:
        raise InputError(f"epsilon {text} is negative; write a number in [0, 1]")
    return value


class BandsType(ParamType):
    """A number of bands, or the first distance of each."""

    name = "bands"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Bands, or how many there should be."""
        try:
            return parse_bands(str(value))
        except InputError as error:
            self.fail(str(error), param, ctx)


def parse_bands(text: str) -> "Bands | int":
    """Bands from the first distance of each, such as ``0,1,4,16``, or how many there should be.

    Raises:
        InputError: when it is neither.
    """
    from ..synthesis.layers import Bands

    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts) or parts == ["0"]:
        raise InputError(f"'{text}' is neither a number of bands nor distances such as 0,1,4,16")
    try:
        return int(parts[0]) if len(parts) == 1 else Bands(tuple(map(int, parts)))
    except PropertyError as error:
        raise InputError(f"'{text}': {error}") from None
