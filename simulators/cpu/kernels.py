"""Fused CPU kernels: a program on every edge, its weighted sum over inputs, and all gradients.

Plain functions on numpy arrays of float32 or float64, computed in that precision; they choose which
of the compiled kernels runs and divide its work among threads. Letters: b samples, o outputs,
i inputs, k theta slots, u encodings.

φ_oi(x) = n·R_L ··· R_1 v on edge (o, i); the angle of a rotation is constant, affine in x, or the
arccos of such, plus thetas. Nothing of size b·o·i is stored: beside its results a call holds one
transposed copy of x or of the gradient and, for each thread, some 100 kB and b numbers. Results do
not depend on which thread does what, and are the same from run to run for one number of threads.

Sine and cosine err by less than 1.3e-7 (float32, without an offset) or 2e-16 (float64) whatever the
angle. NaN and ±inf in a sample give NaN in its own outputs only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from . import (
    edge_lanes,
    edge_lanes_grad,
    per_sample,
    sample_lanes,
    sample_lanes_grad,
    series_grad,
    units,
)
from . import series as series_kernel
from .layout import EdgeArrays
from .program_arrays import ProgramArrays
from .program_arrays import program_arrays as program_arrays
from .series import Series
from .small import FEW
from .threads import Task, run

Array = np.ndarray
Gradients = tuple[Array | None, ...]

_NOTHING = {np.dtype(t): np.empty(0, t) for t in (np.float32, np.float64)}
"""The empty array that tells a kernel that something is not there, or not wanted."""


Layout = tuple[int, int]
"""How far apart, in rows of outputs, coefficients are for the next input, and for the next term."""


class Coefficients(NamedTuple):
    """What `series` finds, or the gradients by it.

    Attributes:
        terms: (i·m, o) the coefficients of all terms but the constant, in the order of a layout.
        constants: (i, o).
        extra: (e, o) what each exception adds to the output of its sample: the edges' values less
            the constants.
    """

    terms: Array
    constants: Array
    extra: Array


class Parameters(NamedTuple):
    """The parameters of every edge, in any memory layout.

    Each may have a leading axis b: every sample has numbers of its own then. What has no such axis
    is shared by all samples, and its gradient is summed over them.

    Attributes:
        theta: (o, i, k), radians.
        scale: (o, i, u); or (u,) for the same on every edge, which has no gradient.
        shift: (o, i, u), radians, or None for zero.
        weight: (o, i), or None where the value of each edge is wanted.
    """

    theta: Array
    scale: Array
    shift: Array | None
    weight: Array | None = None


def forward(
    program: ProgramArrays, x: Array, p: Parameters, threads: int = 1, same_state: int = 1
) -> Array:
    """out[b, o] = Σ_i weight[o, i]·φ_oi(x[b, i]), or out[b, o, i] = φ_oi(x[b, i]) without a weight.

    Args:
        program: The program.
        x: (b, i), in any memory layout.
        p: The parameters.
        threads: At most so many work at once.
        same_state: As in `Request`.

    Returns:
        (b, o), or (b, o, i).
    """
    samples, all_outs, ins, outs = shape = units.shape(x, *p)
    dtype, per_edge = x.dtype, p.weight is None
    out = np.empty((len(x), outs, ins), dtype) if per_edge else np.zeros((len(x), outs), dtype)
    if not (samples and all_outs and ins):
        return out
    threads = units.threads(program, shape, threads)
    arrays = _edge_arrays(program.code, program.consts[dtype], p)
    to, block = out.reshape(-1), units.lane_block(all_outs, ins, threads)
    bound: Any
    args: Any
    if all_outs > outs:
        bound, args = per_sample.forward_task, (arrays, _row(x), to, shape[1:], block)
    elif per_edge or _lies_flat(samples, outs * ins):
        mode = edge_lanes.EDGES if per_edge else edge_lanes.SUMS
        bound, args = edge_lanes.forward_task, (arrays, _row(x), to, mode, shape[:3], block)
    else:
        per_o, per_b = units.blocks(outs, min(samples, 4096), threads, 1 << 16)
        # without a second data rotation an idle one stands after all others
        same = same_state if program.data > 1 else 1
        blocks = (-(-per_o // same) * same, per_b)
        args = (arrays, _transposed(x), to, (*shape[:3], same), blocks)
        bound = sample_lanes.forward_task
    _do(bound, args, threads)
    return out


def backward(
    program: ProgramArrays,
    grad: Array,
    x: Array,
    p: Parameters,
    needs: Sequence[bool] = (True, True, True, True, True),
    threads: int = 1,
    same_state: int = 1,
) -> Gradients:
    """The gradients of `forward`; the states are computed again instead of stored.

    Args:
        program: The program.
        grad: The gradient of the output, in its shape.
        x: (b, i), in any memory layout.
        p: The parameters.
        needs: Which of the gradients by x, theta, scale, shift, weight are wanted.
        threads: At most so many work at once.
        same_state: As in `Request`.

    Returns:
        Five gradients in the shapes of what was given, None where not wanted.
    """
    samples, all_outs, ins, outs = shape = units.shape(x, *p)
    dtype, like = x.dtype, (x, *p)
    needs = (*needs[:2], needs[2] and p.scale.ndim > 1, *needs[3:])
    if not (samples and all_outs and ins):
        return _shaped(_zeros(like, needs), like, needs)
    threads = units.threads(program, shape, threads, passes=2)
    arrays = _edge_arrays(program.code, program.consts[dtype], p)
    if all_outs > outs or p.weight is None or _lies_flat(samples, outs * ins):
        grads, blocks = _zeros(like, needs), units.lane_blocks(shape, threads, like, needs)
        args: Any = (arrays, _row(x), _row(grad))
        if all_outs > outs:
            args = (*args, tuple(grads), shape[1:], blocks)
            _do(per_sample.backward_task, args, threads)
        else:
            mode = edge_lanes.EDGES if p.weight is None else edge_lanes.SUMS
            args = (*args, tuple(grads), mode, shape[:3], blocks)
            _do(edge_lanes_grad.backward_task, args, threads)
        return _shaped(grads, like, needs)
    blocks = units.blocks(ins, samples, threads, 1 << 16)
    parts = -(-samples // blocks[1])
    grads = _zeros(like[:1], needs[:1]) + _zeros(like[1:], needs[1:], parts)
    sizes = (*shape[:3], same_state if program.data > 1 else 1)
    args = (arrays, _row(x), _transposed(grad), tuple(grads), sizes, blocks)
    _do(sample_lanes_grad.backward_task, args, threads)
    return _shaped(grads, like, needs)


def series(
    program: ProgramArrays,
    expansion: Series,
    layout: Layout,
    p: Parameters,
    threads: int = 1,
    beside: Task | None = None,
) -> Coefficients:
    """Coefficients of every edge: weight[o, i]·Σ_n transform[m, n]·φ_oi(nodes[n]).

    Args:
        program: The program.
        expansion: The nodes, the transform, and the exceptions.
        layout: The order of the coefficients.
        p: The parameters, shared by all samples, with a weight; a scale (u,) is faster.
        threads: At most so many work at once.
        beside: More work for the same threads.

    Returns:
        The coefficients, and what the exceptions differ by.
    """
    dtype, (outs, ins) = p.theta.dtype, p.theta.shape[:2]
    terms = len(expansion.transform) // max(len(expansion.nodes), 1) - 1
    found = Coefficients(
        np.empty((terms * ins, outs), dtype), np.empty((ins, outs), dtype),
        np.empty((len(expansion.x), outs), dtype),
    )  # fmt: skip
    if outs == 0 or ins == 0:
        if beside is not None:
            run(beside, threads)
        return found
    if beside is None:
        threads = units.threads(program, (len(expansion.nodes), outs, ins, outs), threads)
    code, consts, common = _shared_program(program, p.scale, dtype)
    task = Task(
        series_kernel.forward_task, _edge_arrays(code, consts, p), expansion,
        *(array.reshape(-1) for array in found), common, (outs, ins, *layout),
        units.input_block(ins, threads), np.zeros(1, np.int64),
    )  # fmt: skip
    run(task if beside is None else beside.then(task), threads)
    return found


def series_backward(
    program: ProgramArrays,
    expansion: Series,
    layout: Layout,
    grads: Coefficients,
    p: Parameters,
    needs: Sequence[bool] = (True, True, True, True),
    threads: int = 1,
) -> tuple[Gradients, Array]:
    """The gradients of `series`.

    Args:
        program: The program.
        expansion: The nodes, the transform, and the exceptions.
        layout: The order of the coefficients.
        grads: The gradients by the coefficients; by the constants, (o,) the same for all inputs
            or (i, o); and the gradient of the layer's output, (b, o), of which exceptions are
            samples.
        p: The parameters.
        needs: Which of the gradients by theta, scale, shift, weight are wanted.
        threads: At most so many work at once.

    Returns:
        Four gradients, None where not wanted, and those by x at the exceptions.
    """
    dtype, (outs, ins) = p.theta.dtype, p.theta.shape[:2]
    needs = (needs[0], needs[1] and p.scale.ndim > 1, *needs[2:])
    found, dx = _zeros(p, needs), np.zeros(len(expansion.x), dtype)
    if outs and ins:
        shape = (len(expansion.nodes), outs, ins, outs)
        threads = units.threads(program, shape, threads, passes=2)
        code, consts, common = _shared_program(program, p.scale, dtype)
        args: Any = (
            _edge_arrays(code, consts, p), expansion, *(_row(array) for array in grads),
            tuple(found), dx, common, (outs, ins, *layout), units.input_block(ins, threads),
        )  # fmt: skip
        _do(series_grad.backward_task, args, threads)
    return _shaped(found, p, needs), dx


def add_rows(extra: Array, samples: Array, out: Array, threads: int = 1) -> None:
    """Add the rows of `extra`, (e, o), to the rows `samples` of `out`, (b, o), in place."""
    if extra.size:
        outs = out.shape[1]
        args = (_row(extra), samples, out.reshape(-1), outs, -(-outs // (2 * threads)))
        _do(series_kernel.add_rows_task, args, threads)


def _lies_flat(samples: int, edges: int) -> bool:
    """Whether a layer has so few samples that edges fill the vector lanes better."""
    return samples < FEW and edges > samples


def _shared_program(
    program: ProgramArrays, scale: Array, dtype: np.dtype
) -> tuple[Array, Array, bool]:
    """Code, constants, and whether all edges have the same data angles at a node."""
    if scale.ndim == 1 and program.shared_code is not None:
        return program.shared_code, program.shared_consts[dtype], True
    return program.code, program.consts[dtype], False


def _do(bound: Any, args: tuple[Any, ...], threads: int) -> None:
    """Run a kernel, with a counter of units as its last argument."""
    run(Task(bound, *args, np.zeros(1, np.int64)), threads)


def _row(array: Array) -> Array:
    """An array's numbers as one contiguous row."""
    row = np.ascontiguousarray(array).reshape(-1)
    # numba would compile the kernel once more for an array that must not be written to
    return row if row.flags.writeable else row.copy()


def _edge_arrays(code: Array, consts: Array, p: Parameters) -> EdgeArrays:
    """A program and parameters as the kernels take them; what is None becomes an empty row."""
    nothing = _NOTHING[consts.dtype]
    return EdgeArrays(code, consts, *(nothing if a is None else _row(a) for a in p))


def _transposed(array: Array) -> Array:
    """The transpose of a matrix as one contiguous row."""
    rows, columns = array.shape
    if rows == 1 or columns == 1 or array.T.flags.c_contiguous:
        return _row(array.T)
    result = np.empty(array.size, array.dtype)
    sample_lanes.transpose(_row(array), result, rows, columns)
    return result


def _zeros(like: Sequence[Array | None], needs: Sequence[bool], parts: int = 1) -> list[Array]:
    """Room for `parts` gradients of each array one after the other; empty where not wanted."""
    dtype = next(array.dtype for array in like if array is not None)
    return [
        np.zeros(array.size * parts, dtype) if need and array is not None else _NOTHING[dtype]
        for array, need in zip(like, needs, strict=True)
    ]


def _shaped(
    gradients: list[Array], like: Sequence[Array | None], needs: Sequence[bool]
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
