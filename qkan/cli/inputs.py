"""What the commands share: a model's inputs from a file, results as JSON, checks of --out."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from qkan._files import draft_of
from qkan.errors import QKANError
from qkan.tabular.columns import Array, grouped
from qkan.tabular.reading import Dialect, Table, check_file, read_table
from qkan.tabular.table_model import TableModel

from .terminal import tell


def read_inputs(
    path: Path,
    model: nn.Module,
    drop: Sequence[str] | None = None,
    dialect: Dialect | None = None,
) -> Tensor:
    """Read the inputs (n, in) of a model from a file, in the model's dtype and on its device.

    Args:
        path: A ".npy" array, or a CSV file with a sample on each line. A model with a table finds
            the columns by their names, and its inputs are in float64; for any other model a line
            of names is optional.
        model: A `TableModel`, or another model for its dtype and device.
        drop: Columns to leave out.
        dialect: How the file is written.

    Raises:
        QKANError: No such file, columns missing or too many, or a cell that does not fit what its
            column held in training; the message names its line.
    """
    like = model.mean if isinstance(model, TableModel) else next(model.parameters())
    if path.suffix == ".npy":
        if drop:
            raise QKANError(f"{path} has no names, so no column to drop; take --drop away.")
        return torch.from_numpy(_read_npy(path)).to(like)
    if isinstance(model, TableModel):
        return _matched(read_table(path, dialect=dialect), model, drop)
    table = read_table(path, named=None, dialect=dialect)
    names = table.others((), drop) if drop else None
    return torch.from_numpy(table.numbers(names)).to(like)


def noted_inputs(
    path: Path, model: nn.Module, drop: Sequence[str] | None, dialect: Dialect
) -> tuple[Tensor, dict[str, Any], list[str]]:
    """Read inputs as `read_inputs` does, and note on the terminal what is new to the model.

    Returns:
        The inputs; which of them lie far outside those of training, by name; and the notes.
    """
    notes = list[str]()
    with noting(notes):
        x = read_inputs(path, model, drop, dialect)
    outside = model.outside(x) if isinstance(model, TableModel) and x.ndim == 2 else {}
    notes += [
        f"{entry['rows']} of {len(x)} rows have {name!r} outside its range in training, "
        f"{entry['training'][0]:g} to {entry['training'][1]:g}, up to {entry['farthest']:g}: the "
        "model has seen nothing there."
        for name, entry in outside.items()
    ]
    for note in notes:
        tell(f"Note: {note}")
    return x, outside, notes


@contextmanager
def noting(notes: list[str]) -> Iterator[None]:
    """Collect warnings as texts, so that the terminal shows each in one line."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    notes.extend(str(warning.message) for warning in caught)


def _matched(table: Table, model: TableModel, drop: Sequence[str] | None) -> Tensor:
    """Find the columns that a model reads by their names; it must know all others as well."""
    known = [column.name for column in model.table]
    missing = [name for name in known if name not in (table.names or ())]
    if missing:
        raise QKANError(
            f"{table.path} lacks the columns {missing} that the model reads; it has "
            f"{[*(table.names or ())]}."
        )
    extra = table.others({*known, *model.targets, *model.unused}, drop)
    if extra:
        raise QKANError(
            f"{table.path} has columns {extra} that the model does not know; leave them out with "
            + " ".join(f"--drop {name!r}" for name in extra)
        )
    cells = {name: table.column(name) for name in known}
    for column in model.table:
        bad = column.encode(cells[column.name], table.decimal).bad
        if bad:
            wanted = {
                "number": "finite number", "date": f"date as those of training, {column.example},"
            }.get(column.kind, f"{column.kind} of training")  # fmt: skip
            cell = [cells[column.name][bad[0]]]
            hint = grouped(cell) if column.kind == "number" else ""
            advice = f"{hint}The model reads the column: correct it."
            raise table.complaint({table.place(column.name): bad}, wanted, advice)
    return model.inputs(cells, decimal=table.decimal)


def to_json(result: Any) -> dict[str, Any]:
    """Return a device's result as JSON values, with null for missing values."""
    return {
        "backend": result.backend,
        "shots": result.shots,
        "mode": result.mode,
        "store": None if result.path is None else str(result.path),
        "jobs": list(result.jobs),
        "seconds": result.seconds,
        "complete": result.complete,
        "notes": list(result.notes),
        "values": plain(result.values.tolist()),
        "stderr": plain(result.stderr.tolist()),
    }


def check_out(out: Path | None) -> None:
    """Raise, before the work rather than after it, if a file cannot be written.

    Raises:
        QKANError: The name of a folder, a folder that does not exist, or one that takes no file.
    """
    if out is None:
        return
    try:
        draft = draft_of(out)
        draft.touch(exist_ok=False)
        draft.unlink()
    except OSError as error:
        raise QKANError(
            f"{out} cannot be written: {error.strerror}. Name a file in a folder of yours."
        ) from error


def plain(value: Any) -> Any:
    """Replace NaN in nested lists of numbers by None."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _read_npy(path: Path) -> Array:
    check_file(path)
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, OSError) as error:
        raise QKANError(f"{path} is not an array that numpy saved: {error}.") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise QKANError(f"{path} holds {getattr(array, 'dtype', 'no array')}; wanted real numbers.")
    return array.astype(np.float64)
