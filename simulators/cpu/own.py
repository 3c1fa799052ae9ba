"""The kernels for samples that have parameters of their own: every edge meets one sample.

Nothing is worth computing once an edge then: a tile of `LANES` edges goes through the circuit as
it is, one rotation after the other, and back again with the adjoint. There is a row of edges for
each output of each sample, (b·o). A unit of work owns such rows, whole samples where dx is wanted,
or, where gradients are sums over samples, a range of inputs of all rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .edge import (
    AFFINE,
    ARCCOS,
    CONSTANT,
    DATA_ROWS,
    IDLE,
    INDEX,
    angles,
    data_record,
    fill,
    initial_at,
    record_at,
    row_of,
    trig_at,
    turn,
    workspace_size,
)
from .edge_grad import scatter, thetas
from .jit import LANES, add, bind, get, inline, kernel, next_index, put, spliced
from .lanes import emit_sums, load_x, locate, trig
from .samples import STEP, scratch_size, x_at


@inline
def _component(data: int, axis: int) -> int:
    """Offset of a component of the state; the adjoint's is three rows further."""
    return initial_at(data) + axis % 3 * LANES


@spliced
def _there(
    code: Any, consts: Any, x: Any, theta: Any, scale: Any, shift: Any, index: Any, cw: Any, w: Any,
    n: int,
) -> None:  # fmt: skip
    """Cos and sin of every rotation beside each other in `cw`, and the state after the last one."""
    data = code[0]
    angles(code, consts, theta, scale, shift, index, cw, n)
    load_x(x, 0, 0, index, False, w, x_at(data), n)
    trig(code, False, cw, w, n)
    for step in range(data):
        cs = trig_at(data, data_record(code, step))
        for lane in range(n):
            put(cw, cs + lane, get(w, step * STEP + lane))
            put(cw, cs + LANES + lane, get(w, step * STEP + LANES + lane))
    for axis in range(3):
        fill(cw, _component(data, axis), consts[axis], n)
    for record in range(code[1]):
        axis = code[record_at(code, record)]
        i, j = _component(data, axis + 1), _component(data, axis + 2)
        turn(cw, i, j, trig_at(data, record), 1, n)


@inline
def _value(consts: Any, cw: Any, at: int, values: Any, n: int) -> None:
    """φ, the observable's component of the state."""
    a, b, c = consts[3], consts[4], consts[5]
    for lane in range(n):
        value = a * get(cw, at + lane) + b * get(cw, at + LANES + lane)
        put(values, lane, value + c * get(cw, at + 2 * LANES + lane))


@kernel
def forward(
    code: Any, consts: Any, x: Any, theta: Any, scale: Any, shift: Any, weight: Any, out: Any,
    shape: Any, block: int, counter: Any,
) -> None:  # fmt: skip
    """Values of edges or their weighted sums; takes units from the counter until none is left.

    Args:
        code: The program's integers.
        consts: The program's numbers.
        x: (batch·in,).
        theta: (rows·in·num_theta,), or (out·in·num_theta,) shared by all samples.
        scale: (rows·in·num_encodings,), or (out·in·num_encodings,), or (num_encodings,) shared by
            all edges.
        shift: (rows·in·num_encodings,), or (out·in·num_encodings,), or empty for zero.
        weight: (rows·in,), or (out·in,), or empty for the values of edges.
        out: (rows,), zero before, or (rows·in,).
        shape: (rows, in, out); rows are the outputs of all samples, out those of one.
        block: Rows of a unit.
        counter: (1,) units taken so far, shared by the threads.
    """
    rows, ins, _ = shape
    cw = np.empty(workspace_size(code), theta.dtype)
    w = np.empty(scratch_size(code[0]), theta.dtype)
    index, values = np.empty(INDEX, np.int64), np.empty(LANES, theta.dtype)
    units = (rows + block - 1) // block
    unit = next_index(counter)
    while unit < units:
        edges = min(block, rows - unit * block) * ins
        for begin in range(0, edges, LANES):
            n = min(LANES, edges - begin)
            locate(index, shape, (unit * block, 0, ins), begin, n)
            _there(code, consts, x, theta, scale, shift, index, cw, w, n)
            _value(consts, cw, _component(code[0], 0), values, n)
            if weight.size > 0:
                emit_sums(values, 0, weight, out, rows, ins, index, n)
            else:
                for lane in range(n):
                    put(out, get(index, lane), get(values, lane))
        unit = next_index(counter)


@inline
def _slope(w: Any, i: int, j: int, to: int, n: int) -> None:
    """∂φ/∂angle of a rotation of components i and j, from the state and the adjoint after it."""
    k, m = i + 3 * LANES, j + 3 * LANES
    for lane in range(n):
        p, q = get(w, k + lane), get(w, m + lane)
        put(w, to + lane, get(w, i + lane) * q - get(w, j + lane) * p)


@spliced
def _data(
    code: Any, record: int, step: int, dscale: Any, dshift: Any, index: Any, cw: Any, w: Any,
    slope: int, n: int,
) -> None:  # fmt: skip
    """Gradients of a data rotation's scale and shift, and its part of dx."""
    where, x = record_at(code, record), x_at(code[0])
    kind, u = code[where + 1], code[where + 2]
    if kind == ARCCOS:
        for lane in range(n):
            put(cw, slope + lane, get(cw, slope + lane) * get(w, step * STEP + 6 * LANES + lane))
    if kind == ARCCOS or code[where + 5] >= 0:
        scatter(dshift, index, code[3], u, cw, slope, n)
    at = (DATA_ROWS * step + 4) * LANES
    for lane in range(n):
        d = get(cw, slope + lane)
        add(w, x + LANES + lane, get(cw, at + lane) * d)
        put(cw, slope + lane, get(w, x + lane) * d)
    scatter(dscale, index, code[3], u, cw, slope, n)


@spliced
def _back(
    code: Any, dtheta: Any, dscale: Any, dshift: Any, index: Any, cw: Any, w: Any, slope: int,
    n: int,
) -> None:  # fmt: skip
    """All rotations against time: their gradients, and dx in the row after x."""
    data = code[0]
    step = data
    for record in range(code[1] - 1, -1, -1):
        where = record_at(code, record)
        axis, kind = code[where], code[where + 1]
        i, j = _component(data, axis + 1), _component(data, axis + 2)
        step -= kind != CONSTANT
        if kind != IDLE:
            _slope(cw, i, j, slope, n)
            thetas(code, record, dtheta, index, cw, slope, n)
        if kind == CONSTANT and code[where + 5] >= 0:
            scatter(dshift, index, code[3], code[where + 5], cw, slope, n)
        if kind == AFFINE or kind == ARCCOS:
            _data(code, record, step, dscale, dshift, index, cw, w, slope, n)
        cs = trig_at(data, record)
        turn(cw, i, j, cs, -1, n)
        turn(cw, i + 3 * LANES, j + 3 * LANES, cs, -1, n)


@spliced
def _adjoint(
    code: Any, consts: Any, g: Any, weight: Any, dweight: Any, index: Any, cw: Any, values: Any,
    row: int, n: int,
) -> None:  # fmt: skip
    """The gradient of the weight, and the adjoint after the last rotation."""
    at, of_weight = _component(code[0], 0), row_of(weight, index, 1)
    for lane in range(n):
        put(cw, row + lane, get(g, get(index, LANES + lane if weight.size > 0 else lane)))
    if dweight.size > 0:
        _value(consts, cw, at, values, n)
        for lane in range(n):
            put(values, lane, get(values, lane) * get(cw, row + lane))
        scatter(dweight, index, 1, 0, values, 0, n)
    if weight.size > 0:
        for lane in range(n):
            wt = get(weight, get(index, of_weight + lane))
            put(cw, row + lane, get(cw, row + lane) * wt)
    for axis in range(3):
        for lane in range(n):
            put(cw, at + (3 + axis) * LANES + lane, get(cw, row + lane) * consts[3 + axis])


@kernel
def backward(
    code: Any, consts: Any, x: Any, g: Any, theta: Any, scale: Any, shift: Any, weight: Any,
    grads: Any, shape: Any, blocks: Any, counter: Any,
) -> None:  # fmt: skip
    """Gradients of `forward`; takes units of work from the counter until none is left.

    Args:
        code: The program's integers.
        consts: The program's numbers.
        x: As in `forward`, as the parameters.
        g: The output's gradient, (rows,) or (rows·in,).
        theta: In all rows or one sample's.
        scale: In all rows or one sample's, or (num_encodings,).
        shift: In all rows or one sample's, or empty.
        weight: In all rows or one sample's, or empty for the values of edges.
        grads: dx, dtheta, dscale, dshift, dweight, added to; each may be empty when not wanted.
        shape: As in `forward`.
        blocks: Rows and inputs of a unit.
        counter: (1,) units taken so far, shared by the threads.
    """
    rows, ins, _ = shape
    per_row, per_i = blocks
    dx, dtheta, dscale, dshift, dweight = grads
    cw = np.empty(workspace_size(code) + LANES, theta.dtype)
    w = np.empty(scratch_size(code[0]), theta.dtype)
    index, values = np.empty(INDEX, np.int64), np.empty(LANES, theta.dtype)
    columns = (ins + per_i - 1) // per_i
    units = (rows + per_row - 1) // per_row * columns
    slope, to = workspace_size(code), x_at(code[0]) + LANES
    unit = next_index(counter)
    while unit < units:
        first, i = unit // columns * per_row, unit % columns * per_i
        width = min(per_i, ins - i)
        edges = min(per_row, rows - first) * width
        for begin in range(0, edges, LANES):
            n = min(LANES, edges - begin)
            locate(index, shape, (first, i, width), begin, n)
            _there(code, consts, x, theta, scale, shift, index, cw, w, n)
            _adjoint(code, consts, g, weight, dweight, index, cw, values, slope, n)
            fill(w, to, 0.0, n)
            _back(code, dtheta, dscale, dshift, index, cw, w, slope, n)
            if dx.size > 0:
                for lane in range(n):
                    add(dx, get(index, 2 * LANES + lane), get(w, to + lane))
        unit = next_index(counter)


@kernel
def forward_task(room: Any, *args: Any) -> Any:
    """`forward` bound to its arguments."""
    return bind(forward, room, args)


@kernel
def backward_task(room: Any, *args: Any) -> Any:
    """`backward` bound to its arguments."""
    return bind(backward, room, args)
