"""The fused kernels with samples along the lanes, for batches of more than a few samples.

This file and `edge_lanes` are twins on purpose: they compute the same steps, one with samples along
the vector lanes and the other with edges, because which way is faster depends on the sizes.

A tile of `LANES` samples goes through one edge at a time. What depends on the sample stands in
`sample_rows`; the numbers of the edge are scalars in registers. A unit of work owns its outputs:
outputs × samples going forward, inputs (× samples) going backward. So nothing is ever added to by
two threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .edge import prepare
from .jit import (
    LANES,
    allocating,
    bind,
    exact,
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
    ARCCOS_SLOPE,
    DATA_ROWS,
    EDGES_AT,
    INDEX,
    STATE,
    STEP,
    data_kind,
    edge_size,
    first_at,
    last_at,
    middle_at,
    sample_size,
    x_at,
)
from .sincos import arccos_sincos, limit4, sincos, slow_sincos


@exact
def _affine(
    edge_rows: Any, d: int, sample_rows: Any, at: int, x: int, power: float, n: int
) -> None:
    """Write cosine and sine of an angle affine in x; `power` bounds the fourth powers of x."""
    s_hi, s_lo = get2(edge_rows, d)
    a_hi, a_lo = get2(edge_rows, d + 2 * LANES)
    square = s_hi * s_hi
    if square * square * power < limit4(s_hi):
        for b in range(n):
            s, c = sincos(s_hi, s_lo, a_hi, a_lo, get(sample_rows, x + b))
            put2(sample_rows, at + b, c, s)
    else:
        scale = get(edge_rows, d + 4 * LANES)
        for b in range(n):
            sine, cosine = slow_sincos(scale, a_hi, a_lo, get(sample_rows, x + b))
            put2(sample_rows, at + b, cosine, sine)


@exact
def _arccos(edge_rows: Any, d: int, sample_rows: Any, at: int, x: int, n: int) -> None:
    """Write cosine and sine of arccos e plus an offset, e affine in x, and the arccos's slope."""
    shift, cosine, sine = get3(edge_rows, d)
    scale = get(edge_rows, d + 4 * LANES)
    for b in range(n):
        s, c, slope = arccos_sincos(scale, shift, cosine, sine, get(sample_rows, x + b))
        put2(sample_rows, at + b, c, s)
        put(sample_rows, at + ARCCOS_SLOPE + b, slope)


@exact
def trig(code: Any, edge_rows: Any, lane: int, sample_rows: Any, power: float, n: int) -> None:
    """Write cosine and sine of all data angles of an edge."""
    data = code[0]
    for step in range(data):
        kind = data_kind(code, step)
        d, at = DATA_ROWS * step * LANES + lane, step * STEP
        if kind == AFFINE:
            _affine(edge_rows, d, sample_rows, at, x_at(data), power, n)
        elif kind == ARCCOS:
            _arccos(edge_rows, d, sample_rows, at, x_at(data), n)
        else:
            for b in range(n):
                put2(sample_rows, at + b, 1.0, 0.0)


@inline
def load(source: Any, begin: int, stride: int, sample_rows: Any, at: int, n: int) -> Any:
    """Copy values to a row; returns the sum of their fourth powers."""
    power = type(get(sample_rows, at))(0)
    for b in range(n):
        value = get(source, begin + stride * b)
        put(sample_rows, at + b, value)
        power += value * value * (value * value)
    return power


@inline
def _state_first(edge_rows: Any, at: int, sample_rows: Any, n: int) -> None:
    """Write v_1 = cos·A + sin·B + C."""
    a0, a1, a2, b0, b1, b2, c0, c1, c2 = get9(edge_rows, at)
    for b in range(n):
        c, s = get2(sample_rows, b)
        put3(
            sample_rows, STATE + b, c * a0 + s * b0 + c0, c * a1 + s * b1 + c1, c * a2 + s * b2 + c2
        )


@inline
def _state_second(sample_rows: Any, n: int) -> None:
    """Write Z_1 v_1."""
    for b in range(n):
        c, s = get2(sample_rows, STEP + b)
        x, y, z = get3(sample_rows, STATE + b)
        put3(sample_rows, STEP + STATE + b, c * x - s * y, s * x + c * y, z)


@inline
def _state_middle(edge_rows: Any, at: int, sample_rows: Any, step: int, n: int) -> None:
    """Write Z_step M_{step−1} v, step ≥ 2."""
    m00, m01, m02, m10, m11, m12, m20, m21, m22 = get9(edge_rows, at)
    here, before = step * STEP, (step - 1) * STEP + STATE
    for b in range(n):
        c, s = get2(sample_rows, here + b)
        x, y, z = get3(sample_rows, before + b)
        u, v = m00 * x + m01 * y + m02 * z, m10 * x + m11 * y + m12 * z
        put3(
            sample_rows, here + STATE + b, c * u - s * v, s * u + c * v, m20 * x + m21 * y + m22 * z
        )


@inline
def states(code: Any, edge_rows: Any, lane: int, sample_rows: Any, n: int) -> None:
    """Write the states after all data rotations but the last."""
    data = code[0]
    _state_first(edge_rows, first_at(data) + lane, sample_rows, n)
    if data > 2:
        _state_second(sample_rows, n)
    for step in range(2, data - 1):
        _state_middle(edge_rows, middle_at(data, step - 1) + lane, sample_rows, step, n)


@inline
def weighted(nine: Any, weight: float) -> Any:
    """Nine numbers, each times the weight."""
    a0, a1, a2, b0, b1, b2, c0, c1, c2 = nine
    return (
        a0 * weight, a1 * weight, a2 * weight, b0 * weight, b1 * weight, b2 * weight,
        c0 * weight, c1 * weight, c2 * weight,
    )  # fmt: skip


@inline
def _add_values(
    edge_rows: Any, data: int, lane: int, weight: float, sample_rows: Any, out: Any, at: int, n: int
) -> None:
    """Add weight·φ = weight·(cos·A' + sin·B' + C')·v to the output."""
    a0, a1, a2, b0, b1, b2, c0, c1, c2 = weighted(get9(edge_rows, last_at(data) + lane), weight)
    here, before = (data - 1) * STEP, max(data - 2, 0) * STEP + STATE
    for b in range(n):
        c, s = get2(sample_rows, here + b)
        x, y, z = get3(sample_rows, before + b)
        value = (c * a0 + s * b0 + c0) * x + (c * a1 + s * b1 + c1) * y
        put(out, at + b, get(out, at + b) + value + (c * a2 + s * b2 + c2) * z)


@spliced
def _forward_unit(
    arrays: Any, xt: Any, out: Any, shape: Any, window: Any, edge_rows: Any, sample_rows: Any,
    index: Any, sums: Any,
) -> None:  # fmt: skip
    """Some outputs of some samples, over all their edges."""
    code, weight = arrays.code, arrays.weight
    batch, outs, ins, same = shape
    o_from, o_to, b_from, b_to = window
    data, span = code[0], b_to - b_from
    sums[: (o_to - o_from) * span] = 0
    for begin in range(o_from * ins, o_to * ins, LANES):
        lanes = min(LANES, o_to * ins - begin)
        for lane in range(lanes):
            # outputs of the same state follow one another
            place = begin + lane - o_from * ins
            o, i = o_from + place // (same * ins) * same + place % same, place // same % ins
            index[lane] = o * ins + i
        prepare(arrays, index, edge_rows, lanes)
        for b in range(b_from, b_to, LANES):
            n = min(LANES, b_to - b)
            for lane in range(lanes):
                o, i = index[lane] // ins, index[lane] % ins
                if same == 1 or lane == 0 or o % same == 0:
                    power = load(xt, i * batch + b, 1, sample_rows, x_at(data), n)
                    trig(code, edge_rows, lane, sample_rows, power, n)
                    states(code, edge_rows, lane, sample_rows, n)
                at = (o - o_from) * span + b - b_from
                _add_values(edge_rows, data, lane, weight[index[lane]], sample_rows, sums, at, n)
    for b in range(span):
        for o in range(o_from, o_to):
            out[(b_from + b) * outs + o] = sums[(o - o_from) * span + b]


@allocating
def forward(arrays: Any, xt: Any, out: Any, shape: Any, blocks: Any, counter: Any) -> None:
    """Write out[b, o] = Σ_i weight·φ, for as many units of work as this thread gets.

    Args:
        arrays: The `EdgeArrays`.
        xt: (in·batch,), transposed.
        out: (batch·out,), written.
        shape: (batch, out, in), and how many outputs in a row have the same states.
        blocks: Outputs and samples of a unit.
        counter: (1,) units taken so far, shared by the threads.
    """
    code, kind = arrays.code, arrays.theta.dtype
    batch, outs, ins, _ = shape
    per_o, per_b = blocks
    edge_rows, sample_rows = np.empty(edge_size(code), kind), np.empty(sample_size(code[0]), kind)
    index, sums = np.empty(INDEX, np.int64), np.empty(per_o * per_b, kind)
    index[EDGES_AT] = outs * ins
    for window in windows(counter, outs, per_o, batch, per_b):
        _forward_unit(arrays, xt, out, shape, window, edge_rows, sample_rows, index, sums)


@inline
def turn_over(source: Any, target: Any, rows: int, columns: int) -> None:
    """Write the transpose of a contiguous matrix, block by block."""
    for top in range(0, rows, 32):
        for left in range(0, columns, 32):
            for column in range(left, min(left + 32, columns)):
                for row in range(top, min(top + 32, rows)):
                    put(target, column * rows + row, get(source, row * columns + column))


@kernel
def transpose(source: Any, target: Any, rows: int, columns: int) -> None:
    """Write the transpose of a contiguous matrix."""
    turn_over(source, target, rows, columns)


@kernel
def forward_task(room: Any, *args: Any) -> Any:
    """Bind `forward` to its arguments."""
    return bind(forward, room, args)
