"""Fused CPU kernels: a program on every edge, its weighted sum over inputs, and all gradients.

Plain functions on numpy arrays, float32 or float64 (computed in that precision; sums over the
batch are made of tiles). Letters: b samples, o outputs, i inputs, k theta slots, u encodings.

Any of theta, scale, shift and weight may have a leading axis b: each sample has numbers of its own
then, and what has no such axis is shared by all samples, its gradient being summed over them.

φ_oi(x) = n·R_L ··· R_1 v on edge (o, i), the angle of a rotation being affine in x or the arccos of
such, plus thetas. Nothing of size b·o·i is stored: beside its results a call holds one transposed
copy of x or of the gradient and, for each thread, some 100 kB and b numbers. Results do not
depend on which thread does what and are the same from run to run for one number of threads.

Sine and cosine err by less than 1.3e-7 (float32, angle's offset zero) or 2e-16 (float64) whatever
the angle. NaN and ±inf in a sample give NaN in its own outputs only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from . import _lanes, _lanes_grad, _samples, _samples_grad, _work
from ._small import FEW
from ._tables import Tables as Tables
from ._tables import tables as tables
from ._threads import Task, run
from ._work import is_small as is_small

Array = np.ndarray
Gradients = tuple[Array | None, ...]

_NOTHING = {np.dtype(t): np.empty(0, t) for t in (np.float32, np.float64)}


def _flat(array: Array | None, dtype: np.dtype) -> Array:
    """A contiguous array as one row; empty for None."""
    if array is None:
        return _NOTHING[dtype]
    return np.ascontiguousarray(array).reshape(-1)


def _program(t: Tables, scale: Array, dtype: np.dtype) -> tuple[Array, Array, bool]:
    """Code, constants, and whether the data angles at a node are common to all edges."""
    if scale.ndim == 1 and t.shared_code is not None:
        return t.shared_code, t.shared_consts[dtype], True
    return t.code, t.consts[dtype], False


def forward(
    t: Tables,
    x: Array,
    theta: Array,
    scale: Array,
    shift: Array | None,
    weight: Array,
    threads: int = 1,
) -> Array:
    """out[b, o] = Σ_i weight[o, i]·φ_oi(x[b, i]).

    Args:
        t: The program.
        x: (b, i), any memory layout, as all arrays.
        theta: (o, i, k) or (b, o, i, k), radians.
        scale: (o, i, u) or (b, o, i, u), or (u,) for the same on every edge.
        shift: (o, i, u) or (b, o, i, u), or None for zero.
        weight: (o, i) or (b, o, i).
        threads: At most so many work at once.

    Returns:
        (b, o).
    """
    batch, rows, ins, outs = shape = _work.shape(x, theta, scale, shift, weight)
    dtype, size = x.dtype, (len(x), outs)
    if not (batch and rows and ins):
        return np.zeros(size, dtype)
    threads = _work.threads(t, shape, threads)
    parameters = _flat(theta, dtype), _flat(scale, dtype), _flat(shift, dtype), _flat(weight, dtype)
    counter = np.zeros(1, np.int64)
    if batch < FEW and rows * ins > batch:
        out = np.zeros(size, dtype)
        args: Any = (
            t.code, t.consts[dtype], _flat(x, dtype), *parameters, _NOTHING[dtype],
            out.reshape(-1), _NOTHING[dtype], _lanes.SUMS, False, shape,
            _work.lane_block(rows, ins, threads), counter,
        )  # fmt: skip
        run(Task(_lanes.forward_task, *args), threads)
        return out
    out = np.empty(size, dtype)
    blocks = _work.blocks(outs, min(batch, 4096), threads, 1 << 16)
    args = (
        t.code, t.consts[dtype], _transposed(x), *parameters, out.reshape(-1), shape[:3],
        blocks, counter,
    )  # fmt: skip
    run(Task(_samples.forward_task, *args), threads)
    return out


def _transposed(array: Array) -> Array:
    """A matrix by columns, as one row."""
    rows, columns = array.shape
    if rows == 1 or columns == 1:
        return np.ascontiguousarray(array).reshape(-1)
    if array.T.flags.c_contiguous:
        return array.T.reshape(-1)
    result = np.empty(array.size, array.dtype)
    _samples.transpose(np.ascontiguousarray(array).reshape(-1), result, rows, columns)
    return result


def _zeros(like: tuple[Array | None, ...], needs: Sequence[bool], parts: int = 1) -> list[Array]:
    """Room for `parts` gradients of each array one after the other; empty where not wanted."""
    dtype = next(array.dtype for array in like if array is not None)
    return [
        np.zeros(array.size * parts, dtype) if need and array is not None else _NOTHING[dtype]
        for array, need in zip(like, needs, strict=True)
    ]


def _shaped(
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


def backward(
    t: Tables,
    grad: Array,
    x: Array,
    theta: Array,
    scale: Array,
    shift: Array | None,
    weight: Array,
    needs: Sequence[bool] = (True, True, True, True, True),
    threads: int = 1,
) -> Gradients:
    """Gradients of `forward`; recomputes the states instead of storing them.

    Args:
        t: The program.
        grad: (b, o), the gradient of the output.
        x: As in `forward`, as the following.
        theta: (o, i, k) or (b, o, i, k).
        scale: (o, i, u) or (b, o, i, u), or (u,), whose gradient cannot be asked for.
        shift: (o, i, u) or (b, o, i, u), or None.
        weight: (o, i) or (b, o, i).
        needs: Which of dx, dtheta, dscale, dshift, dweight are wanted.
        threads: At most so many work at once.

    Returns:
        dx, dtheta, dscale, dshift, dweight in the shapes of what was given, None where not wanted.
    """
    batch, rows, ins, _ = shape = _work.shape(x, theta, scale, shift, weight)
    dtype = x.dtype
    like = (x, theta, scale, shift, weight)
    needs = (*needs[:2], needs[2] and scale.ndim > 1, *needs[3:])
    if not (batch and rows and ins):
        return _shaped(_zeros(like, needs), like, needs)
    threads = _work.threads(t, shape, threads, passes=2)
    parameters = _flat(theta, dtype), _flat(scale, dtype), _flat(shift, dtype), _flat(weight, dtype)
    counter = np.zeros(1, np.int64)
    if batch < FEW and rows * ins > batch:
        grads = _zeros(like, needs)
        args: Any = (
            t.code, t.consts[dtype], _flat(x, dtype), _flat(grad, dtype), *parameters,
            _NOTHING[dtype], tuple(grads), _lanes.SUMS, False, shape,
            _work.lane_blocks(shape, threads, like, needs), counter,
        )  # fmt: skip
        run(Task(_lanes_grad.backward_task, *args), threads)
        return _shaped(grads, like, needs)
    blocks = _work.blocks(ins, batch, threads, 1 << 16)
    parts = -(-batch // blocks[1])
    grads = _zeros(like[:1], needs[:1]) + _zeros(like[1:], needs[1:], parts)
    args = (
        t.code, t.consts[dtype], _flat(x, dtype), _transposed(grad), *parameters, tuple(grads),
        shape[:3], blocks, counter,
    )  # fmt: skip
    run(Task(_samples_grad.backward_task, *args), threads)
    return _shaped(grads, like, needs)


def edges(
    t: Tables, x: Array, theta: Array, scale: Array, shift: Array | None, threads: int = 1
) -> Array:
    """φ on every edge, for plots, pruning and shared activations.

    Args:
        t: The program.
        x: As in `forward`, as the following.
        theta: (o, i, k) or (b, o, i, k).
        scale: (o, i, u) or (b, o, i, u), or (u,).
        shift: (o, i, u) or (b, o, i, u), or None.
        threads: At most so many work at once.

    Returns:
        (b, o, i).
    """
    _, rows, ins, outs = shape = _work.shape(x, theta, scale, shift)
    dtype = x.dtype
    out = np.empty((len(x), outs, ins), dtype)
    if not out.size:
        return out
    threads = _work.threads(t, shape, threads)
    args: Any = (
        t.code, t.consts[dtype], _flat(x, dtype), _flat(theta, dtype), _flat(scale, dtype),
        _flat(shift, dtype), _NOTHING[dtype], _NOTHING[dtype], out.reshape(-1), _NOTHING[dtype],
        _lanes.EDGES, False, shape, _work.lane_block(rows, ins, threads),
        np.zeros(1, np.int64),
    )  # fmt: skip
    run(Task(_lanes.forward_task, *args), threads)
    return out


def edges_backward(
    t: Tables,
    grad: Array,
    x: Array,
    theta: Array,
    scale: Array,
    shift: Array | None,
    needs: Sequence[bool] = (True, True, True, True),
    threads: int = 1,
) -> Gradients:
    """Gradients of `edges`.

    Args:
        t: The program.
        grad: (b, o, i).
        x: As in `forward`, as the following.
        theta: (o, i, k) or (b, o, i, k).
        scale: (o, i, u) or (b, o, i, u), or (u,).
        shift: (o, i, u) or (b, o, i, u), or None.
        needs: Which of dx, dtheta, dscale, dshift are wanted.
        threads: At most so many work at once.

    Returns:
        dx, dtheta, dscale, dshift in the shapes of what was given, None where not wanted.
    """
    batch, rows, ins, _ = shape = _work.shape(x, theta, scale, shift)
    dtype = x.dtype
    like = (x, theta, scale, shift)
    needs = (*needs[:2], needs[2] and scale.ndim > 1, needs[3])
    grads = _zeros(like, needs)
    if batch and rows and ins:
        threads = _work.threads(t, shape, threads, passes=2)
        args: Any = (
            t.code, t.consts[dtype], _flat(x, dtype), _flat(grad, dtype), _flat(theta, dtype),
            _flat(scale, dtype), _flat(shift, dtype), _NOTHING[dtype], _NOTHING[dtype],
            (*grads, _NOTHING[dtype]), _lanes.EDGES, False, shape,
            _work.lane_blocks(shape, threads, like, needs), np.zeros(1, np.int64),
        )  # fmt: skip
        run(Task(_lanes_grad.backward_task, *args), threads)
    return _shaped(grads, like, needs)


def series(
    t: Tables,
    nodes: Array,
    transform: Array,
    theta: Array,
    scale: Array,
    shift: Array | None,
    weight: Array,
    threads: int = 1,
    beside: Task | None = None,
) -> tuple[Array, Array]:
    """Coefficients of every edge: out[o, m, i] = weight[o, i]·Σ_n transform[m, n]·φ_oi(nodes[n]).

    With features (b, m, i) the layer is features.view(b, m·i) @ out.view(o, m·i).T.

    Args:
        t: The program.
        nodes: (n,), shared by all edges.
        transform: (m, n).
        theta: (o, i, k).
        scale: (o, i, u); (u,), the same on every edge, is faster.
        shift: (o, i, u) or None.
        weight: (o, i).
        threads: At most so many work at once.
        beside: More work for the same threads.

    Returns:
        (o, m, i), and (o,), its first terms summed over inputs.
    """
    dtype = theta.dtype
    outs, ins = theta.shape[:2]
    shape = (len(nodes), outs, ins, outs)
    out, total = np.empty((outs, len(transform), ins), dtype), np.zeros(outs, dtype)
    if not out.size:
        if beside is not None:
            run(beside, threads)
        return out, total
    if beside is None:
        threads = _work.threads(t, shape, threads)
    code, consts, common = _program(t, scale, dtype)
    args: Any = (
        code, consts, _flat(nodes, dtype), _flat(theta, dtype), _flat(scale, dtype),
        _flat(shift, dtype), _flat(weight, dtype), _flat(transform, dtype), out.reshape(-1),
        total, _lanes.SERIES, common, shape, _work.lane_block(outs, ins, threads),
        np.zeros(1, np.int64),
    )  # fmt: skip
    task = Task(_lanes.forward_task, *args)
    run(task if beside is None else beside.then(task), threads)
    return out, total


def series_backward(
    t: Tables,
    grad: Array,
    nodes: Array,
    transform: Array,
    theta: Array,
    scale: Array,
    shift: Array | None,
    weight: Array,
    needs: Sequence[bool] = (True, True, True, True),
    threads: int = 1,
) -> Gradients:
    """Gradients of `series` by the parameters.

    Args:
        t: The program.
        grad: (o, m, i).
        nodes: (n,).
        transform: (m, n).
        theta: (o, i, k).
        scale: (o, i, u) or (u,).
        shift: (o, i, u) or None.
        weight: (o, i).
        needs: Which of dtheta, dscale, dshift, dweight are wanted.
        threads: At most so many work at once.

    Returns:
        dtheta, dscale, dshift, dweight, None where not wanted.
    """
    dtype = theta.dtype
    outs, ins = theta.shape[:2]
    shape = (len(nodes), outs, ins, outs)
    like = (theta, scale, shift, weight)
    needs = (needs[0], needs[1] and scale.ndim > 1, *needs[2:])
    grads = _zeros(like, needs)
    if outs and ins and len(transform):
        threads = _work.threads(t, shape, threads, passes=2)
        code, consts, common = _program(t, scale, dtype)
        args: Any = (
            code, consts, _flat(nodes, dtype), _flat(grad, dtype), _flat(theta, dtype),
            _flat(scale, dtype), _flat(shift, dtype), _flat(weight, dtype),
            _flat(transform, dtype), (_NOTHING[dtype], *grads), _lanes.SERIES, common, shape,
            (_work.lane_block(outs, ins, threads), ins), np.zeros(1, np.int64),
        )  # fmt: skip
        run(Task(_lanes_grad.backward_task, *args), threads)
    return _shaped(grads, like, needs)
