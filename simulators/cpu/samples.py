"""The fused kernels with samples along the vector lanes: for batches of more than a few samples.

A tile of `LANES` samples goes through one edge at a time. Its rows (cos and sin of every data
angle, the state after every step) live in a scratch array `w` that stays in the first-level cache;
the edge's constants are scalars in registers. A unit of work owns its outputs: outputs × samples
going forward, inputs (× samples) going backward, so nothing is ever added by two threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .edge import (
    AFFINE,
    ARCCOS,
    DATA_ROWS,
    EDGES_AT,
    INDEX,
    data_record,
    first_at,
    last_at,
    middle_at,
    prepare,
    record_at,
    workspace_size,
)
from .jit import LANES, bind, exact, get, inline, kernel, next_index, put, spliced
from .sincos import arccos_sincos, limit4, sincos, slow_sincos

STEP = 7 * LANES
"""A data rotation's rows in the scratch: cos, sin, state (3), ∂φ/∂angle, ∂angle/∂e."""


@inline
def adjoint_at(data: int) -> int:
    """Offset of λ (3 rows), then x, dx, g."""
    return data * STEP


@inline
def x_at(data: int) -> int:
    """Offset of the samples' inputs."""
    return data * STEP + 3 * LANES


@inline
def scratch_size(data: int) -> int:
    """Numbers in the scratch."""
    return data * STEP + 6 * LANES


@exact
def _affine(cw: Any, d: int, w: Any, at: int, x: int, power: float, n: int) -> None:
    """Cos and sin of an angle affine in x."""
    s_hi, s_lo = get(cw, d), get(cw, d + LANES)
    a_hi, a_lo = get(cw, d + 2 * LANES), get(cw, d + 3 * LANES)
    square = s_hi * s_hi
    if square * square * power < limit4(s_hi):
        for b in range(n):
            s, c = sincos(s_hi, s_lo, a_hi, a_lo, get(w, x + b))
            put(w, at + b, c)
            put(w, at + LANES + b, s)
    else:
        scale = get(cw, d + 4 * LANES)
        for b in range(n):
            sine, cosine = slow_sincos(scale, a_hi, a_lo, get(w, x + b))
            put(w, at + b, cosine)
            put(w, at + LANES + b, sine)


@exact
def _arccos(cw: Any, d: int, w: Any, at: int, x: int, n: int) -> None:
    """Cos and sin of the arccos of an affine e plus an offset; the arccos's derivative."""
    shift, scale = get(cw, d), get(cw, d + 4 * LANES)
    cosine, sine = get(cw, d + LANES), get(cw, d + 2 * LANES)
    for b in range(n):
        s, c, slope = arccos_sincos(scale, shift, cosine, sine, get(w, x + b))
        put(w, at + b, c)
        put(w, at + LANES + b, s)
        put(w, at + 6 * LANES + b, slope)


@exact
def trig(code: Any, cw: Any, lane: int, w: Any, power: float, n: int) -> None:
    """Cos and sin of all data angles of an edge."""
    data = code[0]
    for step in range(data):
        kind = code[record_at(code, data_record(code, step)) + 1]
        d, at = DATA_ROWS * step * LANES + lane, step * STEP
        if kind == AFFINE:
            _affine(cw, d, w, at, x_at(data), power, n)
        elif kind == ARCCOS:
            _arccos(cw, d, w, at, x_at(data), n)
        else:
            for b in range(n):
                put(w, at + b, 1.0)
                put(w, at + LANES + b, 0.0)


@inline
def load(source: Any, begin: int, stride: int, w: Any, at: int, n: int) -> Any:
    """Copy values to a row; returns the sum of their fourth powers."""
    power = type(get(w, at))(0)
    for b in range(n):
        value = get(source, begin + stride * b)
        put(w, at + b, value)
        power += value * value * (value * value)
    return power


@inline
def _state_first(cw: Any, at: int, lane: int, w: Any, n: int) -> None:
    """v_1 = cos·A + sin·B + C."""
    at += lane
    a0, a1, a2 = get(cw, at), get(cw, at + LANES), get(cw, at + 2 * LANES)
    b0, b1, b2 = get(cw, at + 3 * LANES), get(cw, at + 4 * LANES), get(cw, at + 5 * LANES)
    c0, c1, c2 = get(cw, at + 6 * LANES), get(cw, at + 7 * LANES), get(cw, at + 8 * LANES)
    for b in range(n):
        c, s = get(w, b), get(w, LANES + b)
        put(w, 2 * LANES + b, c * a0 + s * b0 + c0)
        put(w, 3 * LANES + b, c * a1 + s * b1 + c1)
        put(w, 4 * LANES + b, c * a2 + s * b2 + c2)


@inline
def _state_second(w: Any, n: int) -> None:
    """V ← Z_1 v."""
    for b in range(n):
        c, s = get(w, STEP + b), get(w, STEP + LANES + b)
        x, y = get(w, 2 * LANES + b), get(w, 3 * LANES + b)
        put(w, STEP + 2 * LANES + b, c * x - s * y)
        put(w, STEP + 3 * LANES + b, s * x + c * y)
        put(w, STEP + 4 * LANES + b, get(w, 4 * LANES + b))


@inline
def matrix(cw: Any, at: int) -> Any:
    """The nine numbers of a matrix, or of three vectors."""
    return (
        get(cw, at), get(cw, at + LANES), get(cw, at + 2 * LANES),
        get(cw, at + 3 * LANES), get(cw, at + 4 * LANES), get(cw, at + 5 * LANES),
        get(cw, at + 6 * LANES), get(cw, at + 7 * LANES), get(cw, at + 8 * LANES),
    )  # fmt: skip


@inline
def _state_middle(cw: Any, at: int, lane: int, w: Any, step: int, n: int) -> None:
    """V ← Z_step M_{step−1} v, step ≥ 2."""
    m00, m01, m02, m10, m11, m12, m20, m21, m22 = matrix(cw, at + lane)
    here, before = step * STEP, (step - 1) * STEP + 2 * LANES
    for b in range(n):
        c, s = get(w, here + b), get(w, here + LANES + b)
        x, y, z = get(w, before + b), get(w, before + LANES + b), get(w, before + 2 * LANES + b)
        u, v = m00 * x + m01 * y + m02 * z, m10 * x + m11 * y + m12 * z
        put(w, here + 2 * LANES + b, c * u - s * v)
        put(w, here + 3 * LANES + b, s * u + c * v)
        put(w, here + 4 * LANES + b, m20 * x + m21 * y + m22 * z)


@inline
def states(code: Any, cw: Any, lane: int, w: Any, n: int) -> None:
    """The states that enter the last data rotation's expression."""
    data = code[0]
    _state_first(cw, first_at(data), lane, w, n)
    if data > 2:
        _state_second(w, n)
    for step in range(2, data - 1):
        _state_middle(cw, middle_at(data, step - 1), lane, w, step, n)


@inline
def _read(cw: Any, data: int, lane: int, wt: float, w: Any, out: Any, at: int, n: int) -> None:
    """Out += weight·(cos·A' + sin·B' + C')·v."""
    a0, a1, a2, b0, b1, b2, c0, c1, c2 = matrix(cw, last_at(data) + lane)
    a0, a1, a2, b0, b1, b2 = a0 * wt, a1 * wt, a2 * wt, b0 * wt, b1 * wt, b2 * wt
    c0, c1, c2 = c0 * wt, c1 * wt, c2 * wt
    here, before = (data - 1) * STEP, max(data - 2, 0) * STEP + 2 * LANES
    for b in range(n):
        c, s = get(w, here + b), get(w, here + LANES + b)
        x, y, z = get(w, before + b), get(w, before + LANES + b), get(w, before + 2 * LANES + b)
        value = (c * a0 + s * b0 + c0) * x + (c * a1 + s * b1 + c1) * y
        put(out, at + b, get(out, at + b) + value + (c * a2 + s * b2 + c2) * z)


@spliced
def _forward_unit(
    code: Any, consts: Any, xt: Any, theta: Any, scale: Any, shift: Any, weight: Any, out: Any,
    shape: Any, window: Any, cw: Any, w: Any, index: Any, acc: Any,
) -> None:  # fmt: skip
    """All edges of some outputs, for some samples."""
    batch, outs, ins = shape
    o_from, o_to, b_from, b_to = window
    data, span = code[0], b_to - b_from
    acc[: (o_to - o_from) * span] = 0
    for begin in range(o_from * ins, o_to * ins, LANES):
        lanes = min(LANES, o_to * ins - begin)
        for lane in range(lanes):
            index[lane] = begin + lane
        prepare(code, consts, theta, scale, shift, index, cw, lanes)
        for b in range(b_from, b_to, LANES):
            n = min(LANES, b_to - b)
            for lane in range(lanes):
                o, i = (begin + lane) // ins, (begin + lane) % ins
                power = load(xt, i * batch + b, 1, w, x_at(data), n)
                trig(code, cw, lane, w, power, n)
                states(code, cw, lane, w, n)
                at = (o - o_from) * span + b - b_from
                _read(cw, data, lane, weight[begin + lane], w, acc, at, n)
    for b in range(span):
        for o in range(o_from, o_to):
            out[(b_from + b) * outs + o] = acc[(o - o_from) * span + b]


@kernel
def forward(
    code: Any, consts: Any, xt: Any, theta: Any, scale: Any, shift: Any, weight: Any, out: Any,
    shape: Any, blocks: Any, counter: Any,
) -> None:  # fmt: skip
    """out[b, o] = Σ_i weight·φ; takes units of work from the counter until none is left.

    Args:
        code: The program's integers.
        consts: The program's numbers.
        xt: (in·batch,), transposed.
        theta: (out·in·num_theta,).
        scale: (out·in·num_encodings,), or (num_encodings,) shared by all edges.
        shift: (out·in·num_encodings,), or empty for zero.
        weight: (out·in,).
        out: (batch·out,), written.
        shape: (batch, out, in).
        blocks: Outputs and samples of a unit.
        counter: (1,) units taken so far, shared by the threads.
    """
    batch, outs, ins = shape
    per_o, per_b = blocks
    columns = (batch + per_b - 1) // per_b
    units = (outs + per_o - 1) // per_o * columns
    cw = np.empty(workspace_size(code), theta.dtype)
    w = np.empty(scratch_size(code[0]), theta.dtype)
    index, acc = np.empty(INDEX, np.int64), np.empty(per_o * per_b, theta.dtype)
    index[EDGES_AT] = outs * ins
    unit = next_index(counter)
    while unit < units:
        o, b = unit // columns * per_o, unit % columns * per_b
        window = (o, min(o + per_o, outs), b, min(b + per_b, batch))
        _forward_unit(
            code, consts, xt, theta, scale, shift, weight, out, shape, window, cw, w, index, acc
        )
        unit = next_index(counter)


@kernel
def transpose(source: Any, target: Any, rows: int, columns: int) -> None:
    """Target = sourceᵀ, both contiguous, block by block."""
    for top in range(0, rows, 32):
        for left in range(0, columns, 32):
            for column in range(left, min(left + 32, columns)):
                for row in range(top, min(top + 32, rows)):
                    put(target, column * rows + row, get(source, row * columns + column))


@kernel
def forward_task(room: Any, *args: Any) -> Any:
    """`forward` bound to its arguments."""
    return bind(forward, room, args)
