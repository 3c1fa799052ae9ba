"""The files of the command line: tables, a model's inputs, results as JSON values."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from qkan.circuits import did_you_mean
from qkan.devices import DeviceResult
from qkan.errors import QKANError
from qkan.table_model import TableModel

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Table:
    """The cells of a CSV file.

    Attributes:
        path: The file.
        names: Of the columns; None without a line of names.
        rows: The cells, all rows of one length, of at least one row.
        lines: The line of each row in the file, from 1 on.
    """

    path: Path
    names: tuple[str, ...] | None
    rows: list[list[str]]
    lines: list[int]

    def column(self, name: str) -> list[str]:
        """The cells of a column.

        Raises:
            QKANError: No such column; the nearest name is suggested.
        """
        return [row[self._place(name)] for row in self.rows]

    def numbers(self, names: Sequence[str] | None = None) -> Array:
        """Columns as finite numbers, (n, columns); all of them when None.

        Raises:
            QKANError: No such column; cells that are empty, no numbers or not finite: the message
                names the columns, and one cell of each with its line.
        """
        chosen = self.rows
        if names is not None:
            places = [self._place(name) for name in names]
            chosen = [[row[place] for place in places] for row in self.rows]
        try:
            found = np.array([[float(cell) for cell in row] for row in chosen])
        except ValueError:
            found = None
        if found is None or not np.isfinite(found).all():
            raise QKANError(self._complaint(chosen, names or self.names))
        return found

    def others(self, used: Collection[str], drop: Sequence[str] | None) -> list[str]:
        """Names of the columns that are neither used nor dropped, in order.

        Raises:
            QKANError: A column to drop that is not there.
        """
        for name in drop or ():
            self._place(name)
        return [name for name in self.names or () if name not in {*used, *(drop or ())}]

    def _place(self, name: str) -> int:
        if self.names is None:
            raise QKANError(f"{self.path} begins with numbers; it needs a first line of names.")
        if name not in self.names:
            raise QKANError(f"{self.path} has no column {name!r}. {did_you_mean(name, self.names)}")
        return self.names.index(name)

    def _complaint(self, rows: list[list[str]], names: Sequence[str] | None) -> str:
        first: dict[int, str] = {}
        bad: Counter[int] = Counter()
        for line, row in zip(self.lines, rows, strict=True):
            for place, cell in enumerate(row):
                if not (is_number(cell) and math.isfinite(float(cell))):
                    bad[place] += 1
                    name = f" of column {names[place]!r}" if names else ""
                    found = f"{cell!r}, no finite number" if cell.strip() else "an empty cell"
                    first.setdefault(place, f"line {line}: found {found}{name}")
        said = [f"{text} ({bad[place]} such cells in {len(rows)} rows)"
                for place, text in sorted(first.items())]  # fmt: skip
        shown = "; ".join(said[:5]) + (f"; and {len(said) - 5} more columns" * (len(said) > 5))
        return (
            f"{self.path}, {shown}. Models read numbers: fill the cells, encode them, or leave the "
            "columns out with --drop."
        )


def read_table(path: Path, *, named: bool | None = True) -> Table:
    """Read a CSV file; cells are parted by commas, semicolons or tabs.

    Args:
        path: The file, UTF-8.
        named: Whether its first line has names; None: it does if no cell of it is a number.

    Raises:
        QKANError: No such file, no row, a row of another length, or names that are missing or
            occur twice; the message has the line.
    """
    lines, cells = _cells(path)
    names: tuple[str, ...] | None = None
    if cells and named is None:
        named = not any(is_number(cell) for cell in cells[0])
    if cells and named:
        names = _names(path, cells[0])
        lines, cells = lines[1:], cells[1:]
    if not cells:
        raise QKANError(f"{path} has no line of {'cells below its names' if names else 'cells'}.")
    width = len(names or cells[0])
    for line, row in zip(lines, cells, strict=True):
        if len(row) != width:
            raise QKANError(f"{path}, line {line}: found {len(row)} cells; wanted {width}.")
    return Table(path, names, cells, lines)


def read_inputs(path: Path, model: nn.Module, drop: Sequence[str] | None = None) -> Tensor:
    """Inputs (n, in) of a model from a file, in the model's dtype and on its device.

    Args:
        path: A ".npy" array, or a CSV file with a sample a line. A model that knows its table
            takes the columns by their names; for any other one a line of names may be there.
        model: A `TableModel`, or another one for its dtype and device.
        drop: Columns to leave out.

    Raises:
        QKANError: No such file, columns missing or too many, or a cell that is no finite number,
            named with its line.
    """
    like = next(model.parameters())
    if path.suffix == ".npy":
        if drop:
            raise QKANError(f"{path} has no names, so no column to drop; take it out.")
        return torch.from_numpy(_read_npy(path)).to(like)
    if isinstance(model, TableModel):
        return torch.from_numpy(_matched(read_table(path), model, drop)).to(like)
    table = read_table(path, named=None)
    names = table.others((), drop) if drop else None
    return torch.from_numpy(table.numbers(names)).to(like)


def _matched(table: Table, model: TableModel, drop: Sequence[str] | None) -> Array:
    """The columns that a model reads, by name; the others must be known, too."""
    missing = [name for name in model.columns if name not in (table.names or ())]
    if missing:
        raise QKANError(
            f"{table.path} lacks the columns {missing} that the model reads; it has "
            f"{[*(table.names or ())]}."
        )
    extra = table.others({*model.columns, *model.targets, *model.unused}, drop)
    if extra:
        raise QKANError(
            f"{table.path} has columns {extra} that the model does not know; leave them out with "
            + " ".join(f"--drop {name!r}" for name in extra)
        )
    return table.numbers(model.columns)


def to_json(result: DeviceResult) -> dict[str, Any]:
    """A result as JSON values; what is missing is null."""
    return {
        "backend": result.backend,
        "shots": result.shots,
        "mode": result.mode,
        "store": None if result.path is None else str(result.path),
        "jobs": list(result.jobs),
        "seconds": result.seconds,
        "complete": result.complete,
        "notes": list(result.notes),
        "values": _plain(result.values.tolist()),
        "stderr": _plain(result.stderr.tolist()),
    }


def check_out(out: Path | None) -> None:
    """Raise before the work, rather than after it, where a file cannot be written.

    Raises:
        QKANError: A folder of that name, or none to hold it.
    """
    if out is not None and (out.is_dir() or not out.absolute().parent.is_dir()):
        wrong = "is a folder" if out.is_dir() else "is in a folder that does not exist"
        raise QKANError(f"--out {out} {wrong}; name a file in a folder that is there.")


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return None if math.isnan(value) else value


def _read_npy(path: Path) -> Array:
    _check_file(path)
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, OSError) as error:
        raise QKANError(f"{path} is no array that numpy saved: {error}.") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise QKANError(f"{path} holds {getattr(array, 'dtype', 'no array')}; wanted real numbers.")
    return array.astype(np.float64)


def _check_file(path: Path) -> None:
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "does not exist"
        raise QKANError(f"{path} {found}; pass a .csv file, or a .npy file of a model's inputs.")


def _cells(path: Path) -> tuple[list[int], list[list[str]]]:
    """The lines that are not empty, each with its number and its cells without blanks around."""
    _check_file(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            reader = csv.reader(file, delimiter=max(",;\t", key=first.count))
            found = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise QKANError(f"{path} is no CSV file in UTF-8: {error}.") from error
    kept = [(line, row) for line, row in found if any(row)]
    return [line for line, _ in kept], [row for _, row in kept]


def _names(path: Path, cells: list[str]) -> tuple[str, ...]:
    if all(is_number(cell) for cell in cells):
        raise QKANError(f"{path} begins with numbers; it needs a first line of names.")
    if not all(cells):
        raise QKANError(
            f"{path}: column {cells.index('') + 1} has no name. Name it, or leave out an index "
            "where the file is written."
        )
    twice = [name for name, count in Counter(cells).items() if count > 1]
    if twice:
        raise QKANError(f"{path}: the names {twice} occur twice; columns go by their names.")
    return tuple(cells)


def is_number(cell: str) -> bool:
    """Whether a cell reads as a number, NaN and infinity included."""
    try:
        float(cell)
    except ValueError:
        return False
    return True
