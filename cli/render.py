"""What goes to stdout: tables and JSON. Everything else goes to stderr."""

import json
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum

import click


class Tone(StrEnum):
    """How a table's row is coloured on a terminal (values are rich styles)."""

    PLAIN = ""
    GOOD = "green"
    BAD = "bold red"
    FAINT = "dim"


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], tones: Sequence[Tone] = ()) -> None:
    """A table; aligned plain text when stdout is not a terminal."""
    if sys.stdout.isatty():
        _print_rich(columns, rows, tones)
        return
    for line in plain_table(columns, rows):
        click.echo(line)


def print_pairs(pairs: Sequence[tuple[str, str]]) -> None:
    """Names and values in two columns."""
    width = max(len(name) for name, _ in pairs)
    for name, value in pairs:
        click.echo(f"{name:<{width}}  {value}")


def print_json(document: Mapping[str, object]) -> None:
    """Nothing but one JSON document."""
    click.echo(json.dumps(document, indent=2, allow_nan=False))


def note(text: str) -> None:
    """One line on stderr."""
    click.echo(f"mlverify: {text}", err=True)


def plain_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table, columns aligned and two spaces apart."""
    cells = [list(columns), *(list(row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(columns))]
    return [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]


def _print_rich(columns: Sequence[str], rows: Sequence[Sequence[str]], tones: Sequence[Tone]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for number, row in enumerate(rows):
        style = tones[number].value if number < len(tones) else ""
        table.add_row(*(Text(cell) for cell in row), style=style)
    Console(highlight=False).print(table)
