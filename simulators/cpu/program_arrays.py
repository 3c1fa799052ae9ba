"""A lowered program as arrays of numbers, so that one compiled kernel runs any circuit."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from qkan.circuits import Program

from .layout import AFFINE, ARCCOS, CONSTANT, HEADER, IDLE, RECORD

Array = np.ndarray
Record = tuple[int, int, int, tuple[int, ...], int, float]
"""Of one rotation: axis, kind, encoding, thetas, index of its shift or −1, constant."""


class ProgramArrays(NamedTuple):
    """A program as the kernels read it.

    Attributes:
        code: The rotations as integers, see `layout.HEADER`.
        consts: Initial vector, observable and the rotations' constants, for each dtype.
        shared_code: The same program in which the part of each data angle that belongs to the edge
            is a rotation of its own. What is left is scale·x, which is the same on every edge where
            the scales are. None with an arccos, which does not split like that.
        shared_consts: Its numbers.
        data: Data rotations.
    """

    code: Array
    consts: dict[np.dtype, Array]
    shared_code: Array | None
    shared_consts: dict[np.dtype, Array]
    data: int


@functools.lru_cache(maxsize=1024)
def program_arrays(program: Program) -> ProgramArrays:
    """Return the arrays of a lowered program, for both dtypes."""
    joined: list[Record] = []
    split: list[Record] = []
    for r in program.rotations:
        if r.encoding is None:
            record = (r.axis, CONSTANT, 0, r.thetas, -1, r.constant)
            joined.append(record)
            split.append(record)
        else:
            kind, u = ARCCOS if r.arccos else AFFINE, r.encoding
            joined.append((r.axis, kind, u, r.thetas, -1 if r.arccos else u, r.constant))
            split.append((r.axis, CONSTANT, 0, r.thetas, u, r.constant))
            split.append((r.axis, kind, u, (), -1, 0.0))
    code, consts = _pack(program, joined)
    shared_code, shared_consts = _pack(program, split)
    return ProgramArrays(
        code, consts, None if program.uses_arccos else shared_code, shared_consts,
        sum(r.encoding is not None for r in program.rotations),
    )  # fmt: skip


def _pack(program: Program, records: list[Record]) -> tuple[Array, dict[np.dtype, Array]]:
    """Code and constants of a program with these records in time order."""
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
    header = [
        len(data), len(records), program.num_theta, program.num_encodings, HEADER,
        HEADER + len(code),
    ]  # fmt: skip
    constants = [*program.initial, *program.observable, *(record[5] for record in records)]
    consts = {np.dtype(t): np.array(constants, t) for t in (np.float32, np.float64)}
    return np.array(header + code + data + [len(records)] + slots), consts
