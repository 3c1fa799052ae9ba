"""The backward half of `_samples`: adjoint pass over a tile, recomputing its states.

A unit of work owns some inputs and some samples: their dx, and, over all outputs, the parameters'
gradients of the edges at these inputs (of its samples only, where the samples are split as well).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .edge import (
    AFFINE,
    ARCCOS,
    EDGES_AT,
    INDEX,
    data_record,
    first_at,
    last_at,
    middle_at,
    prepare,
    record_at,
    sum_rows,
    sums_at,
    workspace_size,
)
from .edge_grad import data_sums_at, finish, torque_sums_at
from .jit import LANES, add, bind, get, inline, kernel, next_index, put, spliced
from .samples import STEP, adjoint_at, load, matrix, scratch_size, states, trig, x_at


@inline
def _add_nine(cw: Any, at: int, sums: Any) -> None:
    """Add to nine sums of one edge."""
    for row in range(9):
        add(cw, at + row * LANES, sums[row])


@inline
def _adjoint_last(code: Any, cw: Any, lane: int, wt: float, w: Any, n: int) -> None:
    """From g: λ where A', B', C' meet v, ∂φ/∂angle of the last data rotation, and its sums."""
    data = code[0]
    a0, a1, a2, b0, b1, b2, c0, c1, c2 = matrix(cw, last_at(data) + lane)
    a0, a1, a2, b0, b1, b2 = a0 * wt, a1 * wt, a2 * wt, b0 * wt, b1 * wt, b2 * wt
    c0, c1, c2 = c0 * wt, c1 * wt, c2 * wt
    here, before = (data - 1) * STEP, max(data - 2, 0) * STEP + 2 * LANES
    to = adjoint_at(data)
    zero = type(wt)(0)
    p0, p1, p2, q0, q1, q2, r0, r1, r2 = zero, zero, zero, zero, zero, zero, zero, zero, zero
    for b in range(n):
        c, s, g = get(w, here + b), get(w, here + LANES + b), get(w, to + 5 * LANES + b)
        x, y = g * get(w, before + b), g * get(w, before + LANES + b)
        z = g * get(w, before + 2 * LANES + b)
        p0, p1, p2 = p0 + c * x, p1 + c * y, p2 + c * z
        q0, q1, q2 = q0 + s * x, q1 + s * y, q2 + s * z
        r0, r1, r2 = r0 + x, r1 + y, r2 + z
        p, q = b0 * x + b1 * y + b2 * z, a0 * x + a1 * y + a2 * z
        put(w, here + 5 * LANES + b, c * p - s * q)
        put(w, to + b, g * (c * a0 + s * b0 + c0))
        put(w, to + LANES + b, g * (c * a1 + s * b1 + c1))
        put(w, to + 2 * LANES + b, g * (c * a2 + s * b2 + c2))
    _add_nine(cw, sums_at(code) + 9 * LANES + lane, (p0, p1, p2, q0, q1, q2, r0, r1, r2))


@inline
def _adjoint_turn(w: Any, data: int, step: int, n: int) -> None:
    """∂φ/∂angle of a data rotation between, and λ ← Zᵀ λ."""
    here, to = step * STEP, adjoint_at(data)
    for b in range(n):
        c, s = get(w, here + b), get(w, here + LANES + b)
        x, y = get(w, here + 2 * LANES + b), get(w, here + 3 * LANES + b)
        p, q = get(w, to + b), get(w, to + LANES + b)
        put(w, here + 5 * LANES + b, x * q - y * p)
        put(w, to + b, c * p + s * q)
        put(w, to + LANES + b, c * q - s * p)


@inline
def _adjoint_matrix(code: Any, cw: Any, lane: int, w: Any, step: int, n: int) -> None:
    """λ ← M_stepᵀ λ and the torque there."""
    data = code[0]
    m00, m01, m02, m10, m11, m12, m20, m21, m22 = matrix(cw, middle_at(data, step) + lane)
    here, to = step * STEP + 2 * LANES, adjoint_at(data)
    zero = m00 - m00
    t0, t1, t2 = zero, zero, zero
    for b in range(n):
        x, y, z = get(w, here + b), get(w, here + LANES + b), get(w, here + 2 * LANES + b)
        u, v, r = get(w, to + b), get(w, to + LANES + b), get(w, to + 2 * LANES + b)
        p = m00 * u + m10 * v + m20 * r
        q = m01 * u + m11 * v + m21 * r
        r = m02 * u + m12 * v + m22 * r
        t0, t1, t2 = t0 + (y * r - z * q), t1 + (z * p - x * r), t2 + (x * q - y * p)
        put(w, to + b, p)
        put(w, to + LANES + b, q)
        put(w, to + 2 * LANES + b, r)
    at = torque_sums_at(code, step) + lane
    add(cw, at, t0)
    add(cw, at + LANES, t1)
    add(cw, at + 2 * LANES, t2)


@inline
def _adjoint_first(code: Any, cw: Any, lane: int, w: Any, n: int) -> None:
    """∂φ/∂angle of the first data rotation and its sums."""
    data = code[0]
    a0, a1, a2, b0, b1, b2, _, _, _ = matrix(cw, first_at(data) + lane)
    to = adjoint_at(data)
    zero = type(a0)(0)
    p0, p1, p2, q0, q1, q2, r0, r1, r2 = zero, zero, zero, zero, zero, zero, zero, zero, zero
    for b in range(n):
        c, s = get(w, b), get(w, LANES + b)
        x, y, z = get(w, to + b), get(w, to + LANES + b), get(w, to + 2 * LANES + b)
        p0, p1, p2 = p0 + c * x, p1 + c * y, p2 + c * z
        q0, q1, q2 = q0 + s * x, q1 + s * y, q2 + s * z
        r0, r1, r2 = r0 + x, r1 + y, r2 + z
        put(w, 5 * LANES + b, c * (b0 * x + b1 * y + b2 * z) - s * (a0 * x + a1 * y + a2 * z))
    _add_nine(cw, sums_at(code) + lane, (p0, p1, p2, q0, q1, q2, r0, r1, r2))


@inline
def _affine(code: Any, cw: Any, lane: int, w: Any, step: int, n: int) -> None:
    """Dx and the sums of a data rotation affine in x."""
    x, here = x_at(code[0]), step * STEP + 5 * LANES
    scale = get(cw, (5 * step + 4) * LANES + lane)
    total, moment = type(scale)(0), type(scale)(0)
    for b in range(n):
        d = get(w, here + b)
        total += d
        moment += d * get(w, x + b)
        put(w, x + LANES + b, get(w, x + LANES + b) + scale * d)
    at = data_sums_at(code, step) + lane
    add(cw, at, total)
    add(cw, at + 2 * LANES, moment)


@inline
def _arccos(code: Any, cw: Any, lane: int, w: Any, step: int, n: int) -> None:
    """Dx and the sums of a data rotation by an arccos."""
    x, here = x_at(code[0]), step * STEP + 5 * LANES
    scale = get(cw, (5 * step + 4) * LANES + lane)
    angle, total, moment = type(scale)(0), type(scale)(0), type(scale)(0)
    for b in range(n):
        d = get(w, here + b)
        angle += d
        d *= get(w, here + LANES + b)
        total += d
        moment += d * get(w, x + b)
        put(w, x + LANES + b, get(w, x + LANES + b) + scale * d)
    at = data_sums_at(code, step) + lane
    add(cw, at, angle)
    add(cw, at + LANES, total)
    add(cw, at + 2 * LANES, moment)


@spliced
def _adjoint(code: Any, cw: Any, lane: int, wt: float, w: Any, n: int) -> None:
    """The adjoint pass of one edge over one tile."""
    data = code[0]
    _adjoint_last(code, cw, lane, wt, w, n)
    for step in range(data - 2, 0, -1):
        if step < data - 2:
            _adjoint_matrix(code, cw, lane, w, step, n)
        _adjoint_turn(w, data, step, n)
    _adjoint_first(code, cw, lane, w, n)
    for step in range(data):
        kind = code[record_at(code, data_record(code, step)) + 1]
        if kind == AFFINE:
            _affine(code, cw, lane, w, step, n)
        elif kind == ARCCOS:
            _arccos(code, cw, lane, w, step, n)


@spliced
def _tile(
    code: Any, x: Any, gt: Any, weight: Any, shape: Any, begin: int, lanes: int, b: int, n: int,
    cw: Any, w: Any, index: Any, dx: Any, at: int, span: int,
) -> None:  # fmt: skip
    """A tile of samples through some edges; edge e of the unit is output e mod O at an input."""
    batch, outs, ins = shape
    where = x_at(code[0])
    power = load(x, 0, 1, w, where, 0)
    for lane in range(lanes):
        i, o = index[lane] % ins, index[lane] // ins
        row = at + (begin + lane) // outs * span
        if lane == 0 or o == 0:
            power = load(x, b * ins + i, ins, w, where, n)
            load(dx, row, 1, w, where + LANES, n)
        load(gt, o * batch + b, 1, w, where + 2 * LANES, n)
        trig(code, cw, lane, w, power, n)
        states(code, cw, lane, w, n)
        _adjoint(code, cw, lane, weight[index[lane]], w, n)
        if lane == lanes - 1 or o == outs - 1:
            for j in range(n):
                put(dx, row + j, get(w, where + LANES + j))


@spliced
def _backward_unit(
    code: Any, consts: Any, x: Any, gt: Any, theta: Any, scale: Any, shift: Any, weight: Any,
    grads: Any, shape: Any, window: Any, cw: Any, w: Any, index: Any, acc: Any,
) -> None:  # fmt: skip
    """All edges at some inputs, for some samples."""
    _, outs, ins = shape
    i_from, i_to, b_from, b_to = window
    dx, dtheta, dscale, dshift, dweight = grads
    span, edges = b_to - b_from, (i_to - i_from) * outs
    acc[: (i_to - i_from) * span] = 0
    sums, size = sums_at(code), sum_rows(code) * LANES
    for begin in range(0, edges, LANES):
        lanes = min(LANES, edges - begin)
        for lane in range(lanes):
            index[lane] = (begin + lane) % outs * ins + i_from + (begin + lane) // outs
        prepare(code, consts, theta, scale, shift, index, cw, lanes)
        cw[sums : sums + size] = 0
        for b in range(b_from, b_to, LANES):
            n = min(LANES, b_to - b)
            _tile(
                code, x, gt, weight, shape, begin, lanes, b, n, cw, w, index, acc, b - b_from, span
            )
        finish(code, weight, dtheta, dscale, dshift, dweight, index, cw, lanes)
    if dx.size > 0:
        for b in range(span):
            for i in range(i_from, i_to):
                dx[(b_from + b) * ins + i] = acc[(i - i_from) * span + b]


@inline
def _part(values: Any, part: int, parts: int) -> Any:
    """One of equal parts of an array."""
    size = values.size // parts
    return values[part * size : (part + 1) * size]


@kernel
def backward(
    code: Any, consts: Any, x: Any, gt: Any, theta: Any, scale: Any, shift: Any, weight: Any,
    grads: Any, shape: Any, blocks: Any, counter: Any,
) -> None:  # fmt: skip
    """Gradients of the fused layer; takes units of work from the counter until none is left.

    Args:
        code: The program's integers.
        consts: The program's numbers.
        x: (batch·in,).
        gt: (out·batch,), the output's gradient, transposed.
        theta: (out·in·num_theta,).
        scale: (out·in·num_encodings,), or (num_encodings,) shared by all edges.
        shift: (out·in·num_encodings,), or empty for zero.
        weight: (out·in,).
        grads: dx (batch·in,), written; dtheta, dscale, dshift, dweight, added to, as many parts
            one after the other as units split the batch; each may be empty when not wanted.
        shape: (batch, out, in).
        blocks: Inputs and samples of a unit.
        counter: (1,) units taken so far, shared by the threads.
    """
    batch, outs, ins = shape
    per_i, per_b = blocks
    columns = (batch + per_b - 1) // per_b
    units = (ins + per_i - 1) // per_i * columns
    cw = np.empty(workspace_size(code), theta.dtype)
    w = np.empty(scratch_size(code[0]), theta.dtype)
    index, acc = np.empty(INDEX, np.int64), np.empty(per_i * per_b, theta.dtype)
    index[EDGES_AT] = outs * ins
    dx, dtheta, dscale, dshift, dweight = grads
    unit = next_index(counter)
    while unit < units:
        i, part = unit // columns * per_i, unit % columns
        window = (i, min(i + per_i, ins), part * per_b, min(part * per_b + per_b, batch))
        own = (
            dx, _part(dtheta, part, columns), _part(dscale, part, columns),
            _part(dshift, part, columns), _part(dweight, part, columns),
        )  # fmt: skip
        _backward_unit(
            code, consts, x, gt, theta, scale, shift, weight, own, shape, window, cw, w, index, acc
        )
        unit = next_index(counter)


@kernel
def backward_task(room: Any, *args: Any) -> Any:
    """`backward` bound to its arguments."""
    return bind(backward, room, args)
