"""A lowered program as arrays of numbers, so that one compiled kernel runs any circuit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .edge import AFFINE, ARCCOS, CONSTANT, HEADER, IDLE, RECORD

Array = np.ndarray
Vector = tuple[float, float, float]
Rotation = tuple[int, float, tuple[int, ...], int, bool]
Record = tuple[int, int, int, tuple[int, ...], int, float]


class Tables(NamedTuple):
    """A program as the kernels take it; build it once with `tables`.

    Attributes:
        code: Rotations as integers, see `_edge.HEADER`.
        consts: Initial vector, observable and constant angles, for each dtype.
        shared_code: The same program with the edge's part of each data angle split off, so that
            the rest is the same on every edge when the scales are; None with an arccos.
        shared_consts: Its numbers.
        data: Data rotations.
    """

    code: Array
    consts: dict[np.dtype, Array]
    shared_code: Array | None
    shared_consts: dict[np.dtype, Array]
    data: int


def tables(
    initial: Vector,
    observable: Vector,
    rotations: Sequence[Rotation],
    num_theta: int,
    num_encodings: int,
) -> Tables:
    """Pack a lowered program into the arrays that the kernels read.

    Args:
        initial: Bloch vector before the first rotation.
        observable: Vector that the last Bloch vector is projected on.
        rotations: In time order (axis, constant, thetas, encoding or −1, arccos): the angle is
            constant + Σ θ + e, or with arccos(e), where e = scale·x + shift of the encoding. A
            slot may occur several times.
        num_theta: Theta slots k.
        num_encodings: Encodings u.

    Returns:
        The tables, for both dtypes.
    """
    whole, split = [], []
    for axis, constant, thetas, u, arccos in rotations:
        if u < 0:
            record = (axis, CONSTANT, 0, tuple(thetas), -1, constant)
            whole.append(record)
            split.append(record)
        else:
            kind = ARCCOS if arccos else AFFINE
            whole.append((axis, kind, u, tuple(thetas), -1 if arccos else u, constant))
            split.append((axis, CONSTANT, 0, tuple(thetas), u, constant))
            split.append((axis, kind, u, (), -1, 0.0))
    code, consts = _pack(initial, observable, whole, num_theta, num_encodings)
    shared, numbers = _pack(initial, observable, split, num_theta, num_encodings)
    arccos_used = any(u >= 0 and arccos for *_, u, arccos in rotations)
    data = sum(rotation[3] >= 0 for rotation in rotations)
    shared_code = None if arccos_used else shared
    return Tables(code, _both(consts), shared_code, _both(numbers), data)


def _both(numbers: Array) -> dict[np.dtype, Array]:
    return {np.dtype(t): numbers.astype(t) for t in (np.float32, np.float64)}


def _pack(
    initial: Vector,
    observable: Vector,
    records: list[Record],
    num_theta: int,
    num_encodings: int,
) -> tuple[np.ndarray, np.ndarray]:
    """The code and constants arrays of a program.

    Args:
        initial: Bloch vector before the first rotation.
        observable: Vector that the last Bloch vector is projected on.
        records: (axis, kind, encoding, thetas, shift, constant) in time order.
        num_theta: Theta slots K.
        num_encodings: Encodings U.

    Returns:
        int64 code, float64 constants.
    """
    records = list(records)
    while sum(kind != CONSTANT for _, kind, *_ in records) < 2:
        records.append((2, IDLE, 0, (), -1, 0.0))
    data = [at for at, record in enumerate(records) if record[1] != CONSTANT]
    thetas_at = HEADER + RECORD * len(records) + len(data) + 1
    code: list[int] = []
    slots: list[int] = []
    for axis, kind, encoding, thetas, shift, _ in records:
        begin = thetas_at + len(slots)
        slots += thetas
        code += [axis, kind, encoding, begin, begin + len(thetas), shift]
    header = [len(data), len(records), num_theta, num_encodings, HEADER, HEADER + len(code)]
    constants = [*initial, *observable, *(record[5] for record in records)]
    return np.array(header + code + data + [len(records)] + slots), np.array(constants, np.float64)
