"""What a call of the CPU kernels begins with: arrays as rows, units of work, threads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .jit import LANES
from .tables import Tables

Array = np.ndarray

# Work, in rotations by data, below which waking a thread costs more than it saves.
_SERIAL = 60_000
_UNITS = 4
# How many samples an edge meets in the time in which its constants are computed.
_PREPARE = 8

Gradients = tuple[Array | None, ...]
Shape = tuple[int, int, int, int]

NOTHING = {np.dtype(t): np.empty(0, t) for t in (np.float32, np.float64)}
"""The row that stands for an array that is not there."""


def flat(array: Array | None, dtype: np.dtype) -> Array:
    """A contiguous array as one row; empty for None."""
    if array is None:
        return NOTHING[dtype]
    return np.ascontiguousarray(array).reshape(-1)


def zeros(like: tuple[Array | None, ...], needs: Sequence[bool], parts: int = 1) -> list[Array]:
    """Room for `parts` gradients of each array one after the other; empty where not wanted."""
    dtype = next(array.dtype for array in like if array is not None)
    return [
        np.zeros(array.size * parts, dtype) if need and array is not None else NOTHING[dtype]
        for array, need in zip(like, needs, strict=True)
    ]


def shaped(
    gradients: list[Array], like: tuple[Array | None, ...], needs: Sequence[bool]
) -> Gradients:
    """Gradients in their arrays' shapes, parts summed in order; None where not wanted."""
    shaped: list[Array | None] = []
    for gradient, array, need in zip(gradients, like, needs, strict=True):
        if array is None or not need:
            shaped.append(None)
        elif gradient.size > array.size:
            shaped.append(gradient.reshape(-1, *array.shape).sum(0))
        else:
            shaped.append(gradient.reshape(array.shape))
    return tuple(shaped)


def shape(
    x: Array, theta: Array, scale: Array, shift: Array | None, weight: Array | None = None
) -> Shape:
    """Samples that a row of edges meets, such rows, inputs, and outputs of a sample.

    Where the samples have parameters of their own there is a row for each output of each sample.
    """
    (batch, ins), outs = x.shape, theta.shape[-3]
    edges = [array.ndim for array in (theta, scale, shift) if array is not None]
    if max(edges) > 3 or (weight is not None and weight.ndim > 2):
        return 1, batch * outs, ins, outs
    return batch, outs, ins, outs


def threads(t: Tables, shape: Shape, most: int, passes: int = 1) -> int:
    """How many threads are worth their waking, `most` or one; the adjoint has two passes."""
    samples, rows, ins, outs = shape
    samples = samples if rows == outs else _PREPARE
    return 1 if passes * samples * rows * ins * (t.data + 1) < _SERIAL else most


def is_small(t: Tables, samples: int, edges: int) -> bool:
    """Whether forward and backward of a layer are too little work for more than one thread."""
    return 0 < 2 * samples * edges * (t.data + 1) < _SERIAL


def blocks(count: int, batch: int, threads: int, rows: int) -> tuple[int, int]:
    """How many of `count` things and how many samples make a unit of work.

    Enough units for the threads to share evenly; samples are split where the things are too few.
    """
    units = _UNITS * threads if threads > 1 else 1
    if count >= units // 2:
        return max(1, min(count // units, rows // max(batch, 1))), max(batch, 1)
    per = -(-batch * count // units)
    return 1, max(LANES, -(-per // LANES) * LANES)


def lane_block(outs: int, ins: int, threads: int) -> int:
    """Outputs of a unit: enough edges to fill the lanes, enough units for the threads."""
    units = _UNITS * threads if threads > 1 else 1
    return max(1, min(-(-outs // units), -(-8 * LANES // ins)))


def lane_blocks(
    shape: Shape,
    threads: int,
    like: tuple[Array | None, ...],
    needs: Sequence[bool],
) -> tuple[int, int]:
    """Rows and inputs of a unit, which owns every number that it adds to.

    The gradient by x is a sum over outputs. That by a parameter is one over samples where these
    share it, so that a unit then has the rows of all samples and a range of inputs.
    """
    _, rows, ins, outs = shape
    shared = any(
        need and array is not None and array.ndim == axes
        for array, need, axes in zip(like[1:], needs[1:], (3, 3, 3, 2), strict=False)
    )
    whole = rows if shared and rows > outs else outs if needs[0] else 1
    if whole == rows:
        units = _UNITS * threads if threads > 1 else 1
        return rows, max(1, -(-ins // units))
    return -(-lane_block(rows, ins, threads) // whole) * whole, ins
