"""Read CSV files as people write them, with every cell as text, and notes on their format.

Messages name the file, the line and the options of `qkan fit` and `qkan predict` that help.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from qkan.circuits import did_you_mean
from qkan.errors import QKANError

from .columns import Array, number

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_SAMPLE = 50
"""The number of lines from which the delimiter is found."""

_COMMA_DECIMAL, _POINT_DECIMAL = re.compile(r"[+-]?\d+,\d+"), re.compile(r"[+-]?\d+\.\d+")
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")


@dataclass(frozen=True)
class Dialect:
    """The format of a file; None where it is found from the file.

    Attributes:
        delimiter: The character between cells.
        decimal: The mark before the decimals of a number.
    """

    delimiter: str | None = None
    decimal: str | None = None

    def __post_init__(self) -> None:
        if self.delimiter in ("tab", r"\t"):
            object.__setattr__(self, "delimiter", "\t")
        if self.delimiter is not None and len(self.delimiter) != 1:
            raise QKANError(f"--delimiter {self.delimiter!r}; wanted one character, or tab.")
        if self.decimal not in (None, ".", ","):
            raise QKANError(f"--decimal {self.decimal!r}; wanted . or a comma.")


@dataclass(frozen=True)
class Table:
    """The cells of a CSV file.

    Attributes:
        path: The file.
        names: The names of the columns; None without a line of names.
        rows: The cells of at least one row; all rows have the same length.
        lines: The line of each row in the file, counted from 1.
        source: The lines of the file, unchanged.
        delimiter: The character between cells.
        decimal: The mark before the decimals of a number.
        notes: Assumptions about the file that may be wrong, for the user.
    """

    path: Path
    names: tuple[str, ...] | None
    rows: list[list[str]]
    lines: list[int]
    source: list[str] = field(repr=False)
    delimiter: str = ","
    decimal: str = "."
    notes: tuple[str, ...] = ()

    def column(self, name: str) -> list[str]:
        """Return the cells of a column; `place` raises for an unknown name."""
        place = self.place(name)
        return [row[place] for row in self.rows]

    def numbers(self, names: Sequence[str] | None = None) -> Array:
        """Return columns as finite numbers, (n, columns); None takes all.

        Raises:
            QKANError: There is no such column; cells are empty or not numbers. The message names
                the columns, and one cell of each with its line.
        """
        places = range(len(self.rows[0])) if names is None else [*map(self.place, names)]
        found = [[number(row[place], self.decimal) for place in places] for row in self.rows]
        bad = {
            place: [row for row, values in enumerate(found) if values[k] is None]
            for k, place in enumerate(places)
        }
        if any(bad.values()):
            raise self.complaint({place: rows for place, rows in bad.items() if rows})
        return np.array(found)

    def others(self, used: Collection[str], drop: Sequence[str] | None) -> list[str]:
        """Return the names of the columns that are neither used nor dropped, in order.

        Raises:
            QKANError: The table lacks a column that is to be dropped.
        """
        for name in drop or ():
            parts = [part.strip() for part in name.split(",")]
            if name not in (self.names or ()) and {*parts} <= {*(self.names or ())}:
                repeated = " ".join(f"--drop {part!r}" for part in parts)
                raise QKANError(
                    f"{self.path} has no column {name!r}. Repeat the option to leave out several "
                    f"columns: {repeated}"
                )
            self.place(name)
        return [name for name in self.names or () if name not in {*used, *(drop or ())}]

    def complaint(
        self,
        bad: dict[int, list[int]],
        wanted: str = "finite number",
        advice: str = "Correct the cells, or leave the column out with --drop.",
    ) -> QKANError:
        """Build the error for bad cells, given as rows by the place of their column."""
        parts = []
        for place, rows in sorted(bad.items()):
            cell, name = self.rows[rows[0]][place], (self.names or {place: ""})[place]
            found = "an empty cell" if not cell else f"{cell!r}, no {wanted}"
            of = f" of column {name!r}" if name else ""
            parts.append(
                f"line {self.lines[rows[0]]}: found {found}{of} (in {len(rows)} of "
                f"{len(self.rows)} rows)"
            )
        more = f"; and {len(parts) - 5} more columns" * (len(parts) > 5)
        return QKANError(
            f"{self.path}, {'; '.join(parts[:5])}{more}. {self.seen(min(bad.values())[0])} {advice}"
        )

    def seen(self, row: int) -> str:
        """Return a sentence that shows the line of a row and how it was read."""
        line = self.source[self.lines[row] - 1].rstrip("\r\n")
        shown = line if len(line) <= 100 else line[:99] + "…"
        return f"The line is {shown!r}, read with {self.described()}."

    def described(self) -> str:
        """Return the delimiter and the decimal mark in words."""
        cells = DELIMITERS.get(self.delimiter, repr(self.delimiter))
        return f"{cells} between cells and a decimal {'point' if self.decimal == '.' else 'comma'}"

    def place(self, name: str) -> int:
        """Return the place of a column in every row.

        Raises:
            QKANError: There is no such column; the message suggests the nearest name.
        """
        if self.names is None:
            raise QKANError(
                f"{self.path} begins with numbers; add a first line with the names of the columns."
            )
        if name not in self.names:
            raise QKANError(f"{self.path} has no column {name!r}. {did_you_mean(name, self.names)}")
        return self.names.index(name)


def read_table(path: Path, *, named: bool | None = True, dialect: Dialect | None = None) -> Table:
    """Read a CSV file.

    The delimiter is the comma, semicolon, tab or bar that divides most lines into equal numbers of
    cells, without those inside quotes. Excel's first line "sep=;" is respected. Lines that begin
    with # before the names are left out, and so are blanks around cells. The decimal mark is a
    comma if some numbers have one and none has a point; it is an error if all of these commas could
    separate thousands, as in 1,234.

    Args:
        path: The file, in UTF-8, or in UTF-16 as Excel writes it.
        named: Whether the first line has names; None means that it does if none of its cells is a
            number.
        dialect: The known format of the file.

    Raises:
        QKANError: There is no such file or no row, a row has another length, a name is missing or
            occurs twice, or the meaning of commas is unclear; the message has the line.
    """
    dialect = dialect or Dialect()
    source, notes = _source(path), []
    start, delimiter = 0, dialect.delimiter
    if source and (found := re.fullmatch(r"sep=(.)\s*", source[0], re.IGNORECASE)):
        start, delimiter = 1, delimiter or found[1]
    while start < len(source) and source[start].lstrip().startswith("#"):
        start += 1
    delimiter = delimiter or _sniffed(source[start : start + _SAMPLE])
    lines, cells = _cells(path, source[start:], delimiter)
    lines = [line + start for line in lines]
    decimal = dialect.decimal or _decimal(path, cells, delimiter)
    if decimal == "," and dialect.decimal is None:
        notes.append("numbers have a decimal comma (change that with --decimal)")
    names: tuple[str, ...] | None = None
    if cells and named is None:
        named = not any(number(cell, decimal) is not None for cell in cells[0])
    if cells and named:
        names = _names(path, cells[0], decimal)
        lines, cells = lines[1:], cells[1:]
    if not cells:
        raise QKANError(f"{path} has no line with {'cells below its names' if names else 'cells'}.")
    table = Table(path, names, cells, lines, source, delimiter, decimal, tuple(notes))
    width = len(names or cells[0])
    for row, content in enumerate(cells):
        if len(content) != width:
            raise QKANError(
                f"{path}, line {lines[row]}: found {len(content)} cells; wanted {width}. "
                f"{table.seen(row)} See --delimiter; a cell with a delimiter in it needs quotes."
            )
    return table


def check_file(path: Path) -> None:
    """Raise `QKANError` if there is no such file."""
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "does not exist"
        raise QKANError(f"{path} {found}; pass a .csv file, or a .npy file of a model's inputs.")


def _source(path: Path) -> list[str]:
    check_file(path)
    data = path.read_bytes()
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        # splitlines would also split at a line separator of Unicode inside a cell
        return [*io.StringIO(data.decode(encoding), newline="")]
    except UnicodeDecodeError as error:
        raise QKANError(
            f"{path} is not a CSV file in UTF-8: {error}. Save it as UTF-8; Excel calls that "
            '"CSV UTF-8".'
        ) from error


def _sniffed(sample: list[str]) -> str:
    """The delimiter that divides most lines into as many cells as the first, at least two."""

    def score(delimiter: str) -> tuple[float, int]:
        widths = [len(row) for row in _reader(sample, delimiter) if any(row)]
        if not widths or widths[0] < 2:
            return 0.0, 0
        return sum(width == widths[0] for width in widths) / len(widths), widths[0]

    return max(DELIMITERS, key=score)


def _reader(lines: list[str], delimiter: str) -> Any:
    return csv.reader(lines, delimiter=delimiter, skipinitialspace=True)


def _cells(path: Path, source: list[str], delimiter: str) -> tuple[list[int], list[list[str]]]:
    """Return the numbers of the lines with cells, and the cells without blanks around them.

    A line of delimiters only is a row of missing values. Above the first and below the last row
    with a cell it is left out, since spreadsheets write such lines there.
    """
    reader = _reader(source, delimiter)
    try:
        found = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except csv.Error as error:
        raise QKANError(f"{path}, line {reader.line_num}: {error}.") from error
    filled = [n for n, (_, row) in enumerate(found) if any(row)]
    within = found[filled[0] : filled[-1] + 1] if filled else []
    kept = [(line, row) for line, row in within if len(row) > 1 or any(row)]
    return [line for line, _ in kept], [row for _, row in kept]


def _decimal(path: Path, cells: list[list[str]], delimiter: str) -> str:
    if delimiter == ",":
        return "."
    commas = [cell for row in cells for cell in row if _COMMA_DECIMAL.fullmatch(cell)]
    points = any(_POINT_DECIMAL.fullmatch(cell) for row in cells for cell in row)
    if not commas or points:
        return "."
    if all(map(_THOUSANDS.fullmatch, commas)):
        raise QKANError(
            f"{path} has numbers such as {commas[0]!r}, whose comma may separate decimals or "
            "thousands. For decimals use --decimal , and write thousands without a mark."
        )
    return ","


def _names(path: Path, cells: list[str], decimal: str) -> tuple[str, ...]:
    if all(number(cell, decimal) is not None for cell in cells):
        raise QKANError(
            f"{path} begins with numbers; add a first line with the names of the columns."
        )
    if not all(cells):
        raise QKANError(
            f"{path}: column {cells.index('') + 1} has no name. Name it; if it is an index, "
            "write the file without it."
        )
    twice = [name for name, count in Counter(cells).items() if count > 1]
    if twice:
        raise QKANError(
            f"{path}: the names {twice} occur twice; every column needs a name of its own."
        )
    return tuple(cells)
