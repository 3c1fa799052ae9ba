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

from . import lanes as _lanes
from . import lanes_grad as _lanes_grad
from . import own as _own
from . import samples as _samples
from . import samples_grad as _samples_grad
from . import work as _work
from .small import FEW
from .tables import Tables as Tables
from .tables import tables as tables
from .threads import Task, run
from .work import NOTHING, Gradients, flat, shaped, zeros
from .work import is_small as is_small

Array = np.ndarray


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
    if rows > outs:
        return _own_values(t, shape, (x, theta, scale, shift, weight), threads)
    parameters = flat(theta, dtype), flat(scale, dtype), flat(shift, dtype), flat(weight, dtype)
    counter = np.zeros(1, np.int64)
    if batch < FEW and rows * ins > batch:
        out = np.zeros(size, dtype)
        args: Any = (
            t.code, t.consts[dtype], flat(x, dtype), *parameters, NOTHING[dtype],
            out.reshape(-1), NOTHING[dtype], _lanes.SUMS, False, shape[:3],
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
    batch, rows, ins, outs = shape = _work.shape(x, theta, scale, shift, weight)
    dtype = x.dtype
    like = (x, theta, scale, shift, weight)
    needs = (*needs[:2], needs[2] and scale.ndim > 1, *needs[3:])
    if not (batch and rows and ins):
        return shaped(zeros(like, needs), like, needs)
    threads = _work.threads(t, shape, threads, passes=2)
    if rows > outs:
        return _own_gradients(t, shape, grad, like, needs, threads)
    parameters = flat(theta, dtype), flat(scale, dtype), flat(shift, dtype), flat(weight, dtype)
    counter = np.zeros(1, np.int64)
    if batch < FEW and rows * ins > batch:
        grads = zeros(like, needs)
        args: Any = (
            t.code, t.consts[dtype], flat(x, dtype), flat(grad, dtype), *parameters,
            NOTHING[dtype], tuple(grads), _lanes.SUMS, False, shape[:3],
            _work.lane_blocks(shape, threads, like, needs), counter,
        )  # fmt: skip
        run(Task(_lanes_grad.backward_task, *args), threads)
        return shaped(grads, like, needs)
    blocks = _work.blocks(ins, batch, threads, 1 << 16)
    parts = -(-batch // blocks[1])
    grads = zeros(like[:1], needs[:1]) + zeros(like[1:], needs[1:], parts)
    args = (
        t.code, t.consts[dtype], flat(x, dtype), _transposed(grad), *parameters, tuple(grads),
        shape[:3], blocks, counter,
    )  # fmt: skip
    run(Task(_samples_grad.backward_task, *args), threads)
    return shaped(grads, like, needs)


def _do(kernel: Any, bound: Any, args: Any, threads: int) -> None:
    """Call a kernel, without the microseconds that a task takes where one thread does it."""
    if threads == 1:
        kernel(*args)
    else:
        run(Task(bound, *args), threads)


def _own_values(
    t: Tables, shape: _work.Shape, given: tuple[Array | None, ...], threads: int
) -> Array:
    """Outputs, or the values of edges, where samples have parameters of their own."""
    _, rows, ins, outs = shape
    x, *parameters = (flat(array, given[0].dtype) for array in given)  # type: ignore[union-attr]
    size = (rows // outs, outs, ins) if given[4] is None else (rows // outs, outs)
    out = np.zeros(size, x.dtype)
    args: Any = (
        t.code, t.consts[x.dtype], x, *parameters, out.reshape(-1), shape[1:],
        _work.lane_block(rows, ins, threads), np.zeros(1, np.int64),
    )  # fmt: skip
    _do(_own.forward, _own.forward_task, args, threads)
    return out


def _own_gradients(
    t: Tables,
    shape: _work.Shape,
    grad: Array,
    given: tuple[Array | None, ...],
    needs: Sequence[bool],
    threads: int,
) -> Gradients:
    """Gradients where samples have parameters of their own."""
    dtype = given[0].dtype  # type: ignore[union-attr]
    x, *parameters = (flat(array, dtype) for array in given)
    grads = zeros(given, needs)
    args: Any = (
        t.code, t.consts[dtype], x, flat(grad, dtype), *parameters, tuple(grads), shape[1:],
        _work.lane_blocks(shape, threads, given, needs), np.zeros(1, np.int64),
    )  # fmt: skip
    _do(_own.backward, _own.backward_task, args, threads)
    return shaped(grads, given, needs)


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
    if rows > outs:
        return _own_values(t, shape, (x, theta, scale, shift, None), threads)
    args: Any = (
        t.code, t.consts[dtype], flat(x, dtype), flat(theta, dtype), flat(scale, dtype),
        flat(shift, dtype), NOTHING[dtype], NOTHING[dtype], out.reshape(-1), NOTHING[dtype],
        _lanes.EDGES, False, shape[:3], _work.lane_block(rows, ins, threads),
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
    batch, rows, ins, outs = shape = _work.shape(x, theta, scale, shift)
    dtype = x.dtype
    like = (x, theta, scale, shift)
    needs = (*needs[:2], needs[2] and scale.ndim > 1, needs[3])
    grads = zeros(like, needs)
    if batch and rows and ins:
        threads = _work.threads(t, shape, threads, passes=2)
        if rows > outs:
            given = (*like, None)
            return _own_gradients(t, shape, grad, given, (*needs, False), threads)[:4]
        args: Any = (
            t.code, t.consts[dtype], flat(x, dtype), flat(grad, dtype), flat(theta, dtype),
            flat(scale, dtype), flat(shift, dtype), NOTHING[dtype], NOTHING[dtype],
            (*grads, NOTHING[dtype]), _lanes.EDGES, False, shape[:3],
            _work.lane_blocks(shape, threads, like, needs), np.zeros(1, np.int64),
        )  # fmt: skip
        run(Task(_lanes_grad.backward_task, *args), threads)
    return shaped(grads, like, needs)


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
        code, consts, flat(nodes, dtype), flat(theta, dtype), flat(scale, dtype),
        flat(shift, dtype), flat(weight, dtype), flat(transform, dtype), out.reshape(-1),
        total, _lanes.SERIES, common, shape[:3], _work.lane_block(outs, ins, threads),
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
    grads = zeros(like, needs)
    if outs and ins and len(transform):
        threads = _work.threads(t, shape, threads, passes=2)
        code, consts, common = _program(t, scale, dtype)
        args: Any = (
            code, consts, flat(nodes, dtype), flat(grad, dtype), flat(theta, dtype),
            flat(scale, dtype), flat(shift, dtype), flat(weight, dtype),
            flat(transform, dtype), (NOTHING[dtype], *grads), _lanes.SERIES, common, shape[:3],
            (_work.lane_block(outs, ins, threads), ins), np.zeros(1, np.int64),
        )  # fmt: skip
        run(Task(_lanes_grad.backward_task, *args), threads)
    return shaped(grads, like, needs)
