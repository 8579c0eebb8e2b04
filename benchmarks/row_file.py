"""A CSV file of rows that are done, so that a long benchmark can continue where it was stopped."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

from ..errors import InputError

Row = Mapping[str, str]


class RowFile:
    """A CSV file that grows by a row at a time.

    Attributes:
        done: rows in the file, by key.
    """

    def __init__(self, path: Path, columns: Sequence[str], key: Sequence[str], same: Row) -> None:
        """Read what is there; a last row that was cut off is dropped.

        Args:
            path: the file, made when it is missing.
            columns: its header.
            key: columns that make a row different from all others.
            same: columns and what all rows must have in them, such as the time limit.

        Raises:
            InputError: when the file is something else, can't be written, or was made with other settings.
        """
        self._columns, self._key = columns, key
        try:
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
            self.done = self._read(path, lines, same)
            beside = path.with_name(f"{path.name}.part")
            self._stream: TextIO = beside.open("w", newline="", encoding="utf-8")
            self._writer = csv.DictWriter(self._stream, columns)
            self._writer.writeheader()
            self._writer.writerows(self.done.values())
            self._stream.flush()
            # the old rows are never missing from the disk
            beside.replace(path)
        except (OSError, UnicodeError) as error:
            raise InputError(f"{path}: {error}") from None

    def key_of(self, row: Row) -> tuple[str, ...]:
        """What makes the row different from all others."""
        return tuple(row[name] for name in self._key)

    def add(self, row: Row) -> None:
        """Append a row; it is on disk when this returns."""
        self.done[self.key_of(row)] = row
        self._writer.writerow(row)
        self._stream.flush()

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def _read(self, path: Path, lines: Sequence[str], same: Row) -> dict[tuple[str, ...], Row]:
        if lines and lines[0].strip() != ",".join(self._columns):
            raise InputError(f"{path} is not a file of this command; choose another name for --csv")
        found: dict[tuple[str, ...], Row] = {}
        for row in csv.DictReader(line for line in lines if line.endswith("\n")):
            if None in row.values():
                continue
            for name, value in same.items():
                if row[name] != value:
                    made = f"{path} was made with --{name} {row[name]}"
                    raise InputError(f"{made}; choose another file, or the same --{name}")
            found[self.key_of(row)] = row
        return found
