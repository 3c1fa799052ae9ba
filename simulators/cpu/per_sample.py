"""The kernels for samples that have parameters of their own, where every edge meets one sample.

Nothing is worth computing once an edge then. A tile of `LANES` edges goes through the circuit as it
is, one rotation after the other, and back again with the adjoint. The outputs are those of all
samples, b·o. A unit of work has whole samples where ∂/∂x is wanted; where gradients are sums over
samples it has the outputs of all samples and a range of inputs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .edge import angles, fill, row_of, turn
from .edge_grad import scatter, thetas
from .edge_lanes import emit_sums, load_x, next_tile, trig
from .jit import LANES, add, allocating, bind, get, get2, get3, inline, kernel, put, put2, spliced
from .layout import (
    AFFINE,
    ARCCOS,
    ARCCOS_SLOPE,
    CONSTANT,
    DATA_ROWS,
    IDLE,
    INDEX,
    INPUT_ROW,
    OUTPUT_ROW,
    STEP,
    data_record,
    edge_size,
    initial_at,
    record_at,
    sample_size,
    trig_at,
    x_at,
)


@inline
def _component(data: int, axis: int) -> int:
    """Offset of a component of the state; the adjoint stands three rows further."""
    return initial_at(data) + axis % 3 * LANES


@spliced
def _there(arrays: Any, x: Any, index: Any, edge_rows: Any, sample_rows: Any, n: int) -> None:
    """Write cosine and sine of every rotation and the state after the last to the edge rows."""
    code, consts, theta, scale, shift, _ = arrays
    data = code[0]
    angles(code, consts, theta, scale, shift, index, edge_rows, n)
    load_x(x, 0, 0, index, sample_rows, x_at(data), n)
    trig(code, False, edge_rows, sample_rows, n)
    for step in range(data):
        cs = trig_at(data, data_record(code, step))
        for lane in range(n):
            c, s = get2(sample_rows, step * STEP + lane)
            put2(edge_rows, cs + lane, c, s)
    for axis in range(3):
        fill(edge_rows, _component(data, axis), consts[axis], n)
    for record in range(code[1]):
        axis = code[record_at(code, record)]
        i, j = _component(data, axis + 1), _component(data, axis + 2)
        turn(edge_rows, i, j, trig_at(data, record), 1, n)


@inline
def _value(consts: Any, edge_rows: Any, at: int, values: Any, n: int) -> None:
    """Write φ, the component of the state along the observable."""
    a, b, c = consts[3], consts[4], consts[5]
    for lane in range(n):
        x, y, z = get3(edge_rows, at + lane)
        put(values, lane, a * x + b * y + c * z)


@allocating
def forward(arrays: Any, x: Any, out: Any, shape: Any, block: int, counter: Any) -> None:
    """Evaluate edges or their weighted sums, for as many units of work as this thread gets.

    Args:
        arrays: The `EdgeArrays`.
        x: (batch·in,).
        out: (all_outs,), zero before, or (all_outs·in,).
        shape: (all_outs, in, out): outputs of all samples, inputs, outputs of one sample.
        block: Outputs of a unit.
        counter: (1,) units taken so far, shared by the threads.
    """
    code, consts, weight, kind = arrays.code, arrays.consts, arrays.weight, arrays.theta.dtype
    all_outs, ins, _ = shape
    edge_rows, sample_rows = np.empty(edge_size(code), kind), np.empty(sample_size(code[0]), kind)
    index, values = np.zeros(INDEX, np.int64), np.empty(LANES, kind)
    n = next_tile(counter, index, shape, (block, ins))
    while n > 0:
        _there(arrays, x, index, edge_rows, sample_rows, n)
        _value(consts, edge_rows, _component(code[0], 0), values, n)
        if weight.size > 0:
            emit_sums(values, 0, weight, out, all_outs, ins, index, n)
        else:
            for lane in range(n):
                put(out, get(index, lane), get(values, lane))
        n = next_tile(counter, index, shape, (block, ins))


@inline
def _slope(sample_rows: Any, i: int, j: int, to: int, n: int) -> None:
    """Write ∂φ/∂angle of a rotation in the plane i, j, from state and adjoint after it."""
    k, m = i + 3 * LANES, j + 3 * LANES
    for lane in range(n):
        p, q = get(sample_rows, k + lane), get(sample_rows, m + lane)
        put(sample_rows, to + lane, get(sample_rows, i + lane) * q - get(sample_rows, j + lane) * p)


@spliced
def _data(
    code: Any, record: int, step: int, dscale: Any, dshift: Any, index: Any,
    edge_rows: Any, sample_rows: Any, slope: int, n: int,
) -> None:  # fmt: skip
    """Add the gradients by a data rotation's scale and shift, and its part of ∂/∂x."""
    where, x = record_at(code, record), x_at(code[0])
    kind, u = code[where + 1], code[where + 2]
    if kind == ARCCOS:
        for lane in range(n):
            inner = get(sample_rows, step * STEP + ARCCOS_SLOPE + lane)
            put(edge_rows, slope + lane, get(edge_rows, slope + lane) * inner)
    if kind == ARCCOS or code[where + 5] >= 0:
        scatter(dshift, index, code[3], u, edge_rows, slope, n)
    at = (DATA_ROWS * step + 4) * LANES
    for lane in range(n):
        d = get(edge_rows, slope + lane)
        add(sample_rows, x + LANES + lane, get(edge_rows, at + lane) * d)
        put(edge_rows, slope + lane, get(sample_rows, x + lane) * d)
    scatter(dscale, index, code[3], u, edge_rows, slope, n)


@spliced
def _back(
    code: Any, dtheta: Any, dscale: Any, dshift: Any, index: Any, edge_rows: Any,
    sample_rows: Any, slope: int, n: int,
) -> None:  # fmt: skip
    """Add the gradients of all rotations, against time; ∂/∂x stands in the row after x."""
    data = code[0]
    step = data
    for record in range(code[1] - 1, -1, -1):
        where = record_at(code, record)
        axis, kind = code[where], code[where + 1]
        i, j = _component(data, axis + 1), _component(data, axis + 2)
        step -= kind != CONSTANT
        if kind != IDLE:
            _slope(edge_rows, i, j, slope, n)
            thetas(code, record, dtheta, index, edge_rows, slope, n)
        if kind == CONSTANT and code[where + 5] >= 0:
            scatter(dshift, index, code[3], code[where + 5], edge_rows, slope, n)
        if kind == AFFINE or kind == ARCCOS:
            _data(code, record, step, dscale, dshift, index, edge_rows, sample_rows, slope, n)
        cs = trig_at(data, record)
        turn(edge_rows, i, j, cs, -1, n)
        turn(edge_rows, i + 3 * LANES, j + 3 * LANES, cs, -1, n)


@spliced
def _adjoint(
    code: Any, consts: Any, g: Any, weight: Any, dweight: Any, index: Any, edge_rows: Any,
    values: Any, row: int, n: int,
) -> None:  # fmt: skip
    """Add the gradient by the weight, and write the adjoint after the last rotation."""
    at, of_weight = _component(code[0], 0), row_of(weight, index, 1)
    of_g = OUTPUT_ROW if weight.size > 0 else 0
    for lane in range(n):
        put(edge_rows, row + lane, get(g, get(index, of_g + lane)))
    if dweight.size > 0:
        _value(consts, edge_rows, at, values, n)
        for lane in range(n):
            put(values, lane, get(values, lane) * get(edge_rows, row + lane))
        scatter(dweight, index, 1, 0, values, 0, n)
    if weight.size > 0:
        for lane in range(n):
            wt = get(weight, get(index, of_weight + lane))
            put(edge_rows, row + lane, get(edge_rows, row + lane) * wt)
    for axis in range(3):
        to = at + (3 + axis) * LANES
        for lane in range(n):
            put(edge_rows, to + lane, get(edge_rows, row + lane) * consts[3 + axis])


@allocating
def backward(
    arrays: Any, x: Any, g: Any, grads: Any, shape: Any, blocks: Any, counter: Any
) -> None:
    """Compute the gradients of `forward`, for as many units of work as this thread gets.

    Args:
        arrays: The `EdgeArrays`.
        x: (batch·in,).
        g: The gradient of the output, (all_outs,) or (all_outs·in,).
        grads: dx, dtheta, dscale, dshift, dweight, added to; each may be empty when not wanted.
        shape: (all_outs, in, out).
        blocks: Outputs and inputs of a unit.
        counter: (1,) units taken so far, shared by the threads.
    """
    dx, dtheta, dscale, dshift, dweight = grads
    code, consts, weight, kind = arrays.code, arrays.consts, arrays.weight, arrays.theta.dtype
    # one more row holds ∂φ/∂angle of the rotation at hand
    edge_rows = np.empty(edge_size(code) + LANES, kind)
    sample_rows = np.empty(sample_size(code[0]), kind)
    index, values = np.zeros(INDEX, np.int64), np.empty(LANES, kind)
    slope, to = edge_size(code), x_at(code[0]) + LANES
    n = next_tile(counter, index, shape, blocks)
    while n > 0:
        _there(arrays, x, index, edge_rows, sample_rows, n)
        _adjoint(code, consts, g, weight, dweight, index, edge_rows, values, slope, n)
        fill(sample_rows, to, 0.0, n)
        _back(code, dtheta, dscale, dshift, index, edge_rows, sample_rows, slope, n)
        if dx.size > 0:
            for lane in range(n):
                add(dx, get(index, INPUT_ROW + lane), get(sample_rows, to + lane))
        n = next_tile(counter, index, shape, blocks)


@kernel
def forward_task(room: Any, *args: Any) -> Any:
    """Bind `forward` to its arguments."""
    return bind(forward, room, args)


@kernel
def backward_task(room: Any, *args: Any) -> Any:
    """Bind `backward` to its arguments."""
    return bind(backward, room, args)
