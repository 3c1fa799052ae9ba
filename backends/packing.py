"""Pack tasks into rows, each of which measures one value on every qubit.

Letters: v values of all tasks, r rows, w width, s slots of a sequence.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qkan.circuits import FUSED, Circuit, Isa, fused_turns, isa

from .backend import Floats, Task
from .errors import BackendError

LARGEST_ANGLE = 1e8
"""Beyond this, float64 no longer determines an angle modulo 2π to 1e-8."""

Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Values:
    """All values of one call, as slot angles of the sequences that measure them.

    Attributes:
        sequences: The distinct sequences.
        sequence: (v,) the number of the sequence that measures each value.
        turns: For each sequence, an array (n, s) of its values' angles in [0, 2π), in order.
        place: (v,) the row of `turns` with each value's angles.
        weight: (v,) how much each value counts.
        shapes: The shape of each task's values, in order.
    """

    sequences: tuple[Isa, ...]
    sequence: NDArray[np.int64]
    turns: tuple[Floats, ...]
    place: NDArray[np.int64]
    weight: Floats
    shapes: tuple[tuple[int, ...], ...]

    @property
    def size(self) -> int:
        """The number of values v."""
        return self.sequence.size

    @property
    def digest(self) -> str:
        """A hash of everything that is measured."""
        found = hashlib.sha256(repr((self.sequences, self.shapes)).encode())
        for array in (self.sequence, self.place, self.weight, *self.turns):
            found.update(np.ascontiguousarray(array).tobytes())
        return found.hexdigest()

    def split(self, flat: NDArray[np.generic]) -> list[NDArray[np.generic]]:
        """Split a flat array (v,) into one array for each task, in the shape of its values."""
        if not self.shapes:
            return []
        ends = np.cumsum([int(np.prod(shape)) for shape in self.shapes])[:-1]
        parts = np.split(flat, ends)
        return [part.reshape(shape) for part, shape in zip(parts, self.shapes, strict=True)]


@dataclass(frozen=True, eq=False)
class RowBlock:
    """Rows that run the same sequence.

    Attributes:
        sequence: Its number in `Values.sequences`.
        value_index: (r, w) the number of the value that each qubit of a row measures; -1 for a
            qubit that measures nothing.
    """

    sequence: int
    value_index: Integers

    def turns(self, values: Values) -> Floats:
        """Return the slot angles (r, w, s), with zeros where nothing is measured."""
        table = values.turns[self.sequence]
        found: Floats = table[values.place[np.maximum(self.value_index, 0)]]
        found[self.value_index < 0] = 0.0
        return found

    def to_json(self) -> list[Any]:
        """Return the block as JSON values."""
        index = self.value_index
        return [self.sequence, {"shape": list(index.shape), "data": index.ravel().tolist()}]

    @classmethod
    def from_json(cls, data: Sequence[Any]) -> RowBlock:
        """Return the block that `to_json` described."""
        sequence, index = data
        return cls(sequence, np.array(index["data"], dtype=np.int64).reshape(index["shape"]))


def flatten(tasks: Sequence[Task], *, fused: bool = False, native_rx: bool = False) -> Values:
    """Check the tasks and translate their angles into slot angles.

    Raises:
        BackendError: The angles have a wrong shape, or are complex, not finite or too large; a
            weight is wrong.
    """
    sequences: dict[Isa, list[Floats]] = {}
    which, place, weights, shapes = [], [], [], []
    for number, task in enumerate(tasks):
        angles = _checked_angles(number, task)
        shape = angles.shape[:-1]
        flat = angles.reshape(-1, angles.shape[-1])
        sequence = FUSED if fused else isa(task.circuit, native_rx)
        turns = fused_turns(task.circuit, flat, np) if fused else sequence.turns(flat, np)
        blocks = sequences.setdefault(sequence, [])
        place.append(np.arange(len(flat)) + sum(map(len, blocks)))
        blocks.append(np.remainder(turns, 2 * np.pi))
        which.append(np.full(len(flat), list(sequences).index(sequence)))
        weights.append(_checked_weight(number, task.weight, shape).ravel())
        shapes.append(shape)
    return Values(
        tuple(sequences),
        np.concatenate(which) if which else np.zeros(0, dtype=np.int64),
        tuple(np.concatenate(blocks) for blocks in sequences.values()),
        np.concatenate(place) if place else np.zeros(0, dtype=np.int64),
        np.concatenate(weights) if weights else np.zeros(0),
        tuple(shapes),
    )


def pack(values: Values, wanted: Integers, width: int) -> list[RowBlock]:
    """Pack values into as few rows as possible, with the heaviest ones in the first columns.

    Args:
        values: The values of the call.
        wanted: The numbers of the values to pack.
        width: The number of columns w; the first is the best qubit.

    Example:
        >>> import numpy as np
        >>> from qkan.backends import Task
        >>> from qkan.circuits import RX, Circuit, Encoding
        >>> task = Task(Circuit([RX(Encoding(0))]), np.zeros((5, 1)), weight=np.arange(5.0))
        >>> pack(flatten([task]), np.arange(5), width=2)[0].value_index
        array([[ 4,  1],
               [ 3,  0],
               [ 2, -1]])
    """
    blocks = []
    for number in range(len(values.sequences)):
        mine = wanted[values.sequence[wanted] == number]
        if not mine.size:
            continue
        heaviest_first = mine[np.argsort(-values.weight[mine], kind="stable")]
        rows = -(-mine.size // width)
        index = np.full(rows * width, -1, dtype=np.int64)
        index[: mine.size] = heaviest_first
        blocks.append(RowBlock(number, index.reshape(width, rows).T.copy()))
    return blocks


def into_jobs(blocks: Sequence[RowBlock], rows: int) -> list[list[RowBlock]]:
    """Distribute blocks over jobs with at most `rows` rows of values each, in order."""
    jobs: list[list[RowBlock]] = []
    room = 0
    for block in blocks:
        start = 0
        while start < len(block.value_index):
            if not room:
                jobs.append([])
                room = rows
            part = block.value_index[start : start + room]
            jobs[-1].append(RowBlock(block.sequence, part))
            start += len(part)
            room -= len(part)
    return jobs


def _checked_angles(number: int, task: Task) -> Floats:
    if not isinstance(task.circuit, Circuit):
        raise BackendError(f"Task {number} measures {task.circuit!r}, which is not a Circuit.")
    needed = len(task.circuit.parametric_gates)
    angles = np.asarray(task.angles)
    asked = f"Task {number}: angles of shape {angles.shape} and dtype {angles.dtype}"
    if angles.dtype.kind not in "fiu":
        raise BackendError(asked + "; pass real numbers of radians.")
    if angles.ndim < 1 or angles.shape[-1] != needed:
        raise BackendError(
            asked
            + f", but the circuit has {needed} parametric gates; pass (…, {needed}), one angle for "
            "each gate in time order."
        )
    angles = angles.astype(np.float64)
    bad = ~(np.abs(angles) <= LARGEST_ANGLE)
    if bad.any():
        at = tuple(int(k) for k in np.argwhere(bad)[0])
        raise BackendError(
            f"Task {number}: the angle is {angles[at]} at {at[:-1]}, gate {at[-1]}. Angles must be "
            f"finite and at most {LARGEST_ANGLE:g}; nothing was submitted."
        )
    return angles


def _checked_weight(number: int, weight: Floats | float, shape: tuple[int, ...]) -> Floats:
    array = np.asarray(weight, dtype=np.float64)
    if not (np.isfinite(array).all() and (array >= 0).all()):
        raise BackendError(f"Task {number}: weights must be finite numbers, 0 or more.")
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        raise BackendError(
            f"Task {number}: a weight of shape {array.shape} does not broadcast to {shape}."
        ) from None
