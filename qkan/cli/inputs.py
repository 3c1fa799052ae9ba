"""What commands read and write beside tables: a model's inputs, results, and where files go."""

from __future__ import annotations

import math
import secrets
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import qkan
from qkan.errors import QKANError
from qkan.tabular.reading import Array, Dialect, Table, check_file
from qkan.tabular.reading import read_table as read_table

from .terminal import tell

if TYPE_CHECKING:
    from torch import Tensor, nn


def read_inputs(
    path: Path,
    model: nn.Module,
    drop: Sequence[str] | None = None,
    dialect: Dialect | None = None,
) -> Tensor:
    """Inputs (n, in) of a model from a file, in the model's dtype and on its device.

    Args:
        path: A ".npy" array, or a CSV file with a sample a line. A model that knows its table
            takes the columns by their names, and its inputs are float64; for any other one a line
            of names may be there.
        model: A `TableModel`, or another one for its dtype and device.
        drop: Columns to leave out.
        dialect: How the file is written.

    Raises:
        QKANError: No such file, columns missing or too many, or a cell that is not what it was in
            training, named with its line.
    """
    import torch

    like: Tensor = next(model.parameters())
    if isinstance(model, qkan.TableModel):
        like = model.mean
    if path.suffix == ".npy":
        if drop:
            raise QKANError(f"{path} has no names, so no column to drop; take it out.")
        return torch.from_numpy(_read_npy(path)).to(like)
    if isinstance(model, qkan.TableModel):
        return _matched(read_table(path, dialect=dialect), model, drop)
    table = read_table(path, named=None, dialect=dialect)
    names = table.others((), drop) if drop else None
    return torch.from_numpy(table.numbers(names)).to(like)


def noted_inputs(
    path: Path, model: nn.Module, drop: Sequence[str] | None, dialect: Dialect
) -> tuple[Tensor, dict[str, Any], list[str]]:
    """What `read_inputs` reads; what is new to the model in it is told, and returned.

    Returns:
        The inputs; which of them are far outside those of training, as `far_off` says; the notes.
    """
    notes = list[str]()
    with noting(notes):
        x = read_inputs(path, model, drop, dialect)
    outside, sentences = far_off(model, x)
    notes += sentences
    for note in notes:
        tell(f"Note: {note}")
    return x, outside, notes


@contextmanager
def noting(notes: list[str]) -> Iterator[None]:
    """Collect warnings as texts for whoever reads the terminal."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    notes.extend(str(warning.message) for warning in caught)


def far_off(model: nn.Module, x: Tensor) -> tuple[dict[str, Any], list[str]]:
    """Which inputs are far outside those of training, by name, and a sentence about each."""
    found = model.outside(x) if isinstance(model, qkan.TableModel) and x.ndim == 2 else {}
    return found, [
        f"{entry['rows']} of {len(x)} rows have {name!r} outside its range in training, "
        f"{entry['training'][0]:g} to {entry['training'][1]:g}, up to {entry['farthest']:g}: the "
        "model has seen nothing there."
        for name, entry in found.items()
    ]


def _matched(table: Table, model: Any, drop: Sequence[str] | None) -> Tensor:
    """The columns that a model reads, by name; the others must be known, too."""
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
            wanted = "finite number" if column.kind == "number" else f"{column.kind} of training"
            place = (table.names or ()).index(column.name)
            raise table.complaint({place: bad}, wanted, "The model reads the column: mend it.")
    found: Tensor = model.inputs(cells, decimal=table.decimal)
    return found


def to_json(result: Any) -> dict[str, Any]:
    """A device's result as JSON values; what is missing is null."""
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
    """Raise before the work, rather than after it, where a file cannot be written.

    Raises:
        QKANError: A folder of that name, none to hold it, or one that takes no file.
    """
    if out is None:
        return
    target = out.absolute()
    # a file is written beside its place and then moved there
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        if target.is_dir() or not target.parent.is_dir():
            wrong = "is a folder" if target.is_dir() else "is in a folder that does not exist"
            raise QKANError(f"--out {out} {wrong}; name a file in a folder that is there.")
        draft.touch(exist_ok=False)
        draft.unlink()
    except OSError as error:
        raise QKANError(
            f"--out {out} cannot be written: {error.strerror}. Name a file in a folder of yours."
        ) from error


def plain(value: Any) -> Any:
    """Nested lists of numbers with None for NaN."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _read_npy(path: Path) -> Array:
    check_file(path)
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, OSError) as error:
        raise QKANError(f"{path} is no array that numpy saved: {error}.") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise QKANError(f"{path} holds {getattr(array, 'dtype', 'no array')}; wanted real numbers.")
    return array.astype(np.float64)
