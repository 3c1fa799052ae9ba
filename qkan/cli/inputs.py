"""Helpers of several commands: inputs from a file, results as JSON, checks of --out."""

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
        path: A ".npy" array, or a CSV file with a sample on each line. For a model with a table,
            the columns are found by their names and the inputs are in float64; for any other model
            a line of names is optional.
        model: A `TableModel`, or another model, which gives dtype and device.
        drop: Columns to leave out.
        dialect: The format of the file.

    Raises:
        QKANError: There is no such file, columns are missing or unknown, or a cell does not fit its
            column's kind in training; the message names its line.
    """
    like = model.mean if isinstance(model, TableModel) else next(model.parameters())
    if path.suffix == ".npy":
        if drop:
            raise QKANError(
                f"{path} has no names of columns, so none can be dropped; leave --drop out."
            )
        return torch.from_numpy(_read_npy(path)).to(like)
    if isinstance(model, TableModel):
        return _matched(read_table(path, dialect=dialect), model, drop)
    table = read_table(path, named=None, dialect=dialect)
    names = table.others((), drop) if drop else None
    return torch.from_numpy(table.numbers(names)).to(like)


def noted_inputs(
    path: Path, model: nn.Module, drop: Sequence[str] | None, dialect: Dialect
) -> tuple[Tensor, dict[str, Any], list[str]]:
    """Read inputs as `read_inputs` does, and tell the user which values are new to the model.

    Returns:
        The inputs; those that are far outside the range of training, by name; and the notes.
    """
    notes = list[str]()
    with noting(notes):
        x = read_inputs(path, model, drop, dialect)
    outside = model.outside(x) if isinstance(model, TableModel) and x.ndim == 2 else {}
    notes += [
        f"{entry['rows']} of {len(x)} rows have {name!r} outside its range in training, "
        f"{entry['training'][0]:g} to {entry['training'][1]:g}, up to {entry['farthest']:g}; the "
        "model was not trained there."
        for name, entry in outside.items()
    ]
    for note in notes:
        tell(f"Note: {note}")
    return x, outside, notes


@contextmanager
def noting(notes: list[str]) -> Iterator[None]:
    """Collect warnings as texts, so that the terminal shows each on one line."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    notes.extend(str(warning.message) for warning in caught)


def _matched(table: Table, model: TableModel, drop: Sequence[str] | None) -> Tensor:
    """Find a model's columns by their names; the model must know all other columns, too."""
    known = [column.name for column in model.table]
    missing = [name for name in known if name not in (table.names or ())]
    if missing:
        raise QKANError(
            f"{table.path} lacks the columns {missing}, which the model needs; it has "
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
            advice = f"{hint}The model needs this column; correct the cells."
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
        QKANError: The path is a folder, its folder does not exist, or it cannot be written to.
    """
    if out is None:
        return
    try:
        draft = draft_of(out)
        draft.touch(exist_ok=False)
        draft.unlink()
    except OSError as error:
        raise QKANError(
            f"{out} cannot be written: {error.strerror}. Name a file in a folder to which you can "
            "write."
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
        raise QKANError(f"{path} has {getattr(array, 'dtype', 'no array')}; wanted real numbers.")
    return array.astype(np.float64)
