"""The files of the command line: inputs from CSV or npy, results to JSON values."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from qkan.devices import DeviceResult
from qkan.errors import QKANError


def read_inputs(path: Path, model: nn.Module) -> Tensor:
    """Inputs (n, in) of a model from a file, in the model's dtype and on its device.

    Args:
        path: A ".npy" array, or a CSV file of numbers, one sample a line, with or without a line
            of names.
        model: For the dtype and the device.

    Raises:
        QKANError: No such file, or something in it that is no number, named with its line.
    """
    if not path.is_file():
        raise QKANError(f"{path} does not exist; pass a .npy or .csv file of inputs.")
    array = _read_npy(path) if path.suffix == ".npy" else _read_csv(path)
    like = next(model.parameters())
    return torch.from_numpy(array).to(like)


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


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return None if math.isnan(value) else value


def _read_npy(path: Path) -> np.ndarray[Any, Any]:
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, OSError) as error:
        raise QKANError(f"{path} is no array that numpy saved: {error}.") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise QKANError(f"{path} holds {getattr(array, 'dtype', 'no array')}; wanted real numbers.")
    return array.astype(np.float64)


def _read_csv(path: Path) -> np.ndarray[Any, Any]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = [(number, line) for number, line in enumerate(csv.reader(file), 1) if any(line)]
    if lines and not any(_is_number(cell) for cell in lines[0][1]):
        lines = lines[1:]
    for number, line in lines:
        bad = [cell for cell in line if not _is_number(cell)]
        if bad or len(line) != len(lines[0][1]):
            found = f"{bad[0]!r}, no number" if bad else f"{len(line)} numbers"
            raise QKANError(
                f"{path}, line {number}: found {found}; wanted {len(lines[0][1])} numbers a line."
            )
    if not lines:
        raise QKANError(f"{path} has no line of numbers.")
    return np.array([[float(cell) for cell in line] for _, line in lines])


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
