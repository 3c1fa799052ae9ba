"""How the work of a call of the CPU kernels is divided: into units, and among threads.

Letters: b samples, o outputs, i inputs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .jit import LANES
from .program_arrays import ProgramArrays

Array = np.ndarray

# Work, in rotations by data, below which waking a thread costs more than it saves.
_SERIAL = 60_000
# Units that each thread gets, so that a thread that is late delays the others little.
_UNITS = 4
# How many samples an edge meets in the time in which its constants are computed.
_PREPARE = 8

Shape = tuple[int, int, int, int]
"""Samples that an edge meets, outputs of all samples, inputs, outputs of one sample. Where samples
have parameters of their own, each has edges of its own: an edge meets one sample, and there are
b·o outputs."""


def shape(
    x: Array, theta: Array, scale: Array, shift: Array | None, weight: Array | None = None
) -> Shape:
    """The sizes of a call."""
    (batch, ins), outs = x.shape, theta.shape[-3]
    axes = [array.ndim for array in (theta, scale, shift) if array is not None]
    if max(axes) > 3 or (weight is not None and weight.ndim > 2):
        return 1, batch * outs, ins, outs
    return batch, outs, ins, outs


def threads(program: ProgramArrays, shape: Shape, most: int, passes: int = 1) -> int:
    """How many threads are worth their waking, `most` or one; the adjoint has two passes."""
    samples, all_outs, ins, outs = shape
    samples = samples if all_outs == outs else _PREPARE
    return 1 if passes * samples * all_outs * ins * (program.data + 1) < _SERIAL else most


def is_small(program: ProgramArrays, samples: int, edges: int) -> bool:
    """Whether forward and backward of a layer are too little work for more than one thread."""
    return 0 < 2 * samples * edges * (program.data + 1) < _SERIAL


def _wanted(threads: int) -> int:
    """How many units the threads share."""
    return _UNITS * threads if threads > 1 else 1


def blocks(count: int, batch: int, threads: int, most: int) -> tuple[int, int]:
    """Outputs (or inputs) and samples of a unit with samples in lanes.

    There are `count` outputs. The samples are split only where these are too few for the threads to
    share. A unit has at most `most` numbers, or one output.
    """
    units = _wanted(threads)
    if count >= units // 2:
        return max(1, min(count // units, most // max(batch, 1))), max(batch, 1)
    samples = -(-batch * count // units)
    return 1, max(LANES, -(-samples // LANES) * LANES)


def lane_block(outs: int, ins: int, threads: int) -> int:
    """Outputs of a unit with edges in lanes: few enough to share, enough to fill the lanes."""
    return max(1, min(-(-outs // _wanted(threads)), -(-8 * LANES // ins)))


def input_block(ins: int, threads: int) -> int:
    """Inputs of a unit that makes coefficients."""
    return max(1, ins // (2 * _wanted(threads)))


def lane_blocks(
    shape: Shape,
    threads: int,
    like: tuple[Array | None, ...],
    needs: Sequence[bool],
) -> tuple[int, int]:
    """Outputs and inputs of a unit with edges in lanes that owns every gradient that it adds to.

    The gradient by x is a sum over the outputs of a sample, so a unit has all of these. Where
    samples have edges of their own but share some parameter, the gradient by it is a sum over
    samples: a unit then has the outputs of all samples, and a range of inputs.

    Args:
        shape: Of the call.
        threads: That share the work.
        like: X, theta, scale, shift, weight.
        needs: Which of their gradients are wanted.
    """
    _, all_outs, ins, outs = shape
    shared = any(
        need and array is not None and array.ndim == axes
        for array, need, axes in zip(like[1:], needs[1:], (3, 3, 3, 2), strict=False)
    )
    least = all_outs if shared and all_outs > outs else outs if needs[0] else 1
    if least == all_outs:
        return all_outs, max(1, -(-ins // _wanted(threads)))
    return -(-lane_block(all_outs, ins, threads) // least) * least, ins
