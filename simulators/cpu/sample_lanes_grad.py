"""The backward half of `sample_lanes`, twin of `edge_lanes_grad`: the adjoint pass over a tile.

The states of a tile are computed again. A unit of work owns some inputs and some samples: their
∂/∂x, and, over all outputs, the parameters' gradients of the edges at these inputs. Where the
samples are split among units, each unit has a part of these gradients for its own samples.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .edge import prepare
from .edge_grad import finish
from .jit import (
    LANES,
    add,
    add3,
    allocating,
    bind,
    get,
    get2,
    get3,
    get9,
    inline,
    kernel,
    put,
    put2,
    put3,
    spliced,
    windows,
)
from .layout import (
    AFFINE,
    ARCCOS,
    DATA_ROWS,
    EDGES_AT,
    INDEX,
    SLOPE,
    STATE,
    STEP,
    adjoint_at,
    data_kind,
    data_sums_at,
    edge_size,
    first_at,
    last_at,
    middle_at,
    sample_size,
    sum_rows,
    sums_at,
    torque_sums_at,
    x_at,
)
from .sample_lanes import load, states, trig, weighted


@inline
def _add_nine(edge_rows: Any, at: int, sums: Any) -> None:
    """Add to nine sums of one edge."""
    for row in range(9):
        add(edge_rows, at + row * LANES, sums[row])


@inline
def _adjoint_last(
    code: Any, edge_rows: Any, lane: int, weight: float, sample_rows: Any, n: int
) -> None:
    """From g: λ where A', B', C' meet v, ∂φ/∂angle of the last data rotation, and its sums."""
    data = code[0]
    a0, a1, a2, b0, b1, b2, c0, c1, c2 = weighted(get9(edge_rows, last_at(data) + lane), weight)
    here, before = (data - 1) * STEP, max(data - 2, 0) * STEP + STATE
    to = adjoint_at(data)
    zero = type(weight)(0)
    p0, p1, p2, q0, q1, q2, r0, r1, r2 = zero, zero, zero, zero, zero, zero, zero, zero, zero
    for b in range(n):
        c, s = get2(sample_rows, here + b)
        g = get(sample_rows, to + 5 * LANES + b)
        x, y, z = get3(sample_rows, before + b)
        x, y, z = g * x, g * y, g * z
        p0, p1, p2 = p0 + c * x, p1 + c * y, p2 + c * z
        q0, q1, q2 = q0 + s * x, q1 + s * y, q2 + s * z
        r0, r1, r2 = r0 + x, r1 + y, r2 + z
        p, q = b0 * x + b1 * y + b2 * z, a0 * x + a1 * y + a2 * z
        put(sample_rows, here + SLOPE + b, c * p - s * q)
        u, v, w = c * a0 + s * b0 + c0, c * a1 + s * b1 + c1, c * a2 + s * b2 + c2
        put3(sample_rows, to + b, g * u, g * v, g * w)
    at = sums_at(code) + 9 * LANES + lane
    _add_nine(edge_rows, at, (p0, p1, p2, q0, q1, q2, r0, r1, r2))


@inline
def adjoint_turn(sample_rows: Any, data: int, step: int, n: int) -> None:
    """∂φ/∂angle of a data rotation between the first and the last, and λ ← Zᵀ λ."""
    here, to = step * STEP, adjoint_at(data)
    for b in range(n):
        c, s = get2(sample_rows, here + b)
        x, y = get2(sample_rows, here + STATE + b)
        p, q = get2(sample_rows, to + b)
        put(sample_rows, here + SLOPE + b, x * q - y * p)
        put2(sample_rows, to + b, c * p + s * q, c * q - s * p)


@inline
def _adjoint_matrix(
    code: Any, edge_rows: Any, lane: int, sample_rows: Any, step: int, n: int
) -> None:
    """λ ← M_stepᵀ λ, and the torque before M_step."""
    data = code[0]
    m00, m01, m02, m10, m11, m12, m20, m21, m22 = get9(edge_rows, middle_at(data, step) + lane)
    here, to = step * STEP + STATE, adjoint_at(data)
    zero = m00 - m00
    t0, t1, t2 = zero, zero, zero
    for b in range(n):
        x, y, z = get3(sample_rows, here + b)
        u, v, w = get3(sample_rows, to + b)
        p = m00 * u + m10 * v + m20 * w
        q = m01 * u + m11 * v + m21 * w
        r = m02 * u + m12 * v + m22 * w
        t0, t1, t2 = t0 + (y * r - z * q), t1 + (z * p - x * r), t2 + (x * q - y * p)
        put3(sample_rows, to + b, p, q, r)
    add3(edge_rows, torque_sums_at(code, step) + lane, t0, t1, t2)


@inline
def _adjoint_first(code: Any, edge_rows: Any, lane: int, sample_rows: Any, n: int) -> None:
    """∂φ/∂angle of the first data rotation and its sums."""
    data = code[0]
    a0, a1, a2, b0, b1, b2, _, _, _ = get9(edge_rows, first_at(data) + lane)
    to = adjoint_at(data)
    zero = type(a0)(0)
    p0, p1, p2, q0, q1, q2, r0, r1, r2 = zero, zero, zero, zero, zero, zero, zero, zero, zero
    for b in range(n):
        c, s = get2(sample_rows, b)
        x, y, z = get3(sample_rows, to + b)
        p0, p1, p2 = p0 + c * x, p1 + c * y, p2 + c * z
        q0, q1, q2 = q0 + s * x, q1 + s * y, q2 + s * z
        r0, r1, r2 = r0 + x, r1 + y, r2 + z
        put(sample_rows, SLOPE + b, c * (b0 * x + b1 * y + b2 * z) - s * (a0 * x + a1 * y + a2 * z))
    _add_nine(edge_rows, sums_at(code) + lane, (p0, p1, p2, q0, q1, q2, r0, r1, r2))


@inline
def _affine(code: Any, edge_rows: Any, lane: int, sample_rows: Any, step: int, n: int) -> None:
    """∂/∂x and the sums of a data rotation affine in x."""
    x, here = x_at(code[0]), step * STEP + SLOPE
    scale = get(edge_rows, (DATA_ROWS * step + 4) * LANES + lane)
    total, moment = type(scale)(0), type(scale)(0)
    for b in range(n):
        d = get(sample_rows, here + b)
        total += d
        moment += d * get(sample_rows, x + b)
        add(sample_rows, x + LANES + b, scale * d)
    at = data_sums_at(code, step) + lane
    add(edge_rows, at, total)
    add(edge_rows, at + 2 * LANES, moment)


@inline
def _arccos(code: Any, edge_rows: Any, lane: int, sample_rows: Any, step: int, n: int) -> None:
    """∂/∂x and the sums of a data rotation by an arccos."""
    x, here = x_at(code[0]), step * STEP + SLOPE
    scale = get(edge_rows, (DATA_ROWS * step + 4) * LANES + lane)
    angle, total, moment = type(scale)(0), type(scale)(0), type(scale)(0)
    for b in range(n):
        d, slope = get2(sample_rows, here + b)
        angle += d
        d *= slope
        total += d
        moment += d * get(sample_rows, x + b)
        add(sample_rows, x + LANES + b, scale * d)
    add3(edge_rows, data_sums_at(code, step) + lane, angle, total, moment)


@spliced
def _adjoint(code: Any, edge_rows: Any, lane: int, weight: float, sample_rows: Any, n: int) -> None:
    """The adjoint pass of one edge over one tile."""
    data = code[0]
    _adjoint_last(code, edge_rows, lane, weight, sample_rows, n)
    for step in range(data - 2, 0, -1):
        if step < data - 2:
            _adjoint_matrix(code, edge_rows, lane, sample_rows, step, n)
        adjoint_turn(sample_rows, data, step, n)
    _adjoint_first(code, edge_rows, lane, sample_rows, n)
    for step in range(data):
        kind = data_kind(code, step)
        if kind == AFFINE:
            _affine(code, edge_rows, lane, sample_rows, step, n)
        elif kind == ARCCOS:
            _arccos(code, edge_rows, lane, sample_rows, step, n)


@spliced
def _tile(
    code: Any, x: Any, gt: Any, weight: Any, shape: Any, begin: int, lanes: int, b: int, n: int,
    edge_rows: Any, sample_rows: Any, index: Any, dx: Any, at: int, span: int,
) -> None:  # fmt: skip
    """A tile of samples through some edges, which are ordered by input and then by output.

    x and ∂/∂x of an input are loaded before its first edge, and ∂/∂x is stored after its last.
    """
    batch, outs, ins, same = shape
    where = x_at(code[0])
    power = load(x, 0, 1, sample_rows, where, 0)
    for lane in range(lanes):
        i, o = index[lane] % ins, index[lane] // ins
        row = at + (begin + lane) // outs * span
        if lane == 0 or o == 0:
            power = load(x, b * ins + i, ins, sample_rows, where, n)
            load(dx, row, 1, sample_rows, where + LANES, n)
        load(gt, o * batch + b, 1, sample_rows, where + 2 * LANES, n)
        if same == 1 or lane == 0 or o % same == 0:
            trig(code, edge_rows, lane, sample_rows, power, n)
            states(code, edge_rows, lane, sample_rows, n)
        _adjoint(code, edge_rows, lane, weight[index[lane]], sample_rows, n)
        if lane == lanes - 1 or o == outs - 1:
            for j in range(n):
                put(dx, row + j, get(sample_rows, where + LANES + j))


@spliced
def _backward_unit(
    arrays: Any, x: Any, gt: Any, dx: Any, grads: Any, shape: Any, window: Any, edge_rows: Any,
    sample_rows: Any, index: Any, dx_sums: Any,
) -> None:  # fmt: skip
    """All edges at some inputs, for some samples."""
    code, weight = arrays.code, arrays.weight
    _, outs, ins, _ = shape
    i_from, i_to, b_from, b_to = window
    span, edges = b_to - b_from, (i_to - i_from) * outs
    dx_sums[: (i_to - i_from) * span] = 0
    sums, size = sums_at(code), sum_rows(code) * LANES
    for begin in range(0, edges, LANES):
        lanes = min(LANES, edges - begin)
        for lane in range(lanes):
            index[lane] = (begin + lane) % outs * ins + i_from + (begin + lane) // outs
        prepare(arrays, index, edge_rows, lanes)
        edge_rows[sums : sums + size] = 0
        for b in range(b_from, b_to, LANES):
            _tile(
                code, x, gt, weight, shape, begin, lanes, b, min(LANES, b_to - b),
                edge_rows, sample_rows, index, dx_sums, b - b_from, span,
            )  # fmt: skip
        finish(code, weight, grads, index, edge_rows, lanes)
    if dx.size > 0:
        for b in range(span):
            for i in range(i_from, i_to):
                dx[(b_from + b) * ins + i] = dx_sums[(i - i_from) * span + b]


@allocating
def _part(values: Any, part: int, parts: int) -> Any:
    """One of equal parts of an array."""
    size = values.size // parts
    return values[part * size : (part + 1) * size]


@allocating
def backward(
    arrays: Any, x: Any, gt: Any, grads: Any, shape: Any, blocks: Any, counter: Any
) -> None:
    """Compute the gradients of `forward`, for as many units of work as this thread gets.

    Args:
        arrays: The `EdgeArrays`.
        x: (batch·in,).
        gt: (out·batch,), the gradient of the output, transposed.
        grads: dx (batch·in,), written; dtheta, dscale, dshift, dweight, added to, as many parts
            one after the other as units split the batch; each may be empty when not wanted.
        shape: (batch, out, in), and how many outputs in a row have the same states.
        blocks: Inputs and samples of a unit.
        counter: (1,) units taken so far, shared by the threads.
    """
    code, kind = arrays.code, arrays.theta.dtype
    batch, outs, ins, _ = shape
    per_i, per_b = blocks
    parts = (batch + per_b - 1) // per_b
    edge_rows, sample_rows = np.empty(edge_size(code), kind), np.empty(sample_size(code[0]), kind)
    index, dx_sums = np.empty(INDEX, np.int64), np.empty(per_i * per_b, kind)
    index[EDGES_AT] = outs * ins
    dx, dtheta, dscale, dshift, dweight = grads
    for window in windows(counter, ins, per_i, batch, per_b):
        part = window[2] // per_b
        mine = (
            _part(dtheta, part, parts), _part(dscale, part, parts),
            _part(dshift, part, parts), _part(dweight, part, parts),
        )  # fmt: skip
        _backward_unit(
            arrays, x, gt, dx, mine, shape, window, edge_rows, sample_rows, index, dx_sums
        )


@kernel
def backward_task(room: Any, *args: Any) -> Any:
    """Bind `backward` to its arguments."""
    return bind(backward, room, args)
