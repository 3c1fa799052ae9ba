"""The kernels with edges along the lanes: for few samples, and for single edges.

This file and `sample_lanes` are twins on purpose: they compute the same steps, one with edges along
the vector lanes and the other with samples, because which way is faster depends on the sizes.

A tile of `LANES` edges meets one sample after the other. A unit of work is a range of outputs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .edge import prepare, row_of
from .jit import (
    LANES,
    add,
    allocating,
    bind,
    exact,
    get,
    get2,
    get3,
    get9,
    inline,
    kernel,
    next_index,
    put,
    put2,
    put3,
    spliced,
)
from .layout import (
    AFFINE,
    ARCCOS,
    ARCCOS_SLOPE,
    DATA_ROWS,
    DONE,
    EDGES_AT,
    INDEX,
    INPUT_ROW,
    LEFT,
    OUTPUT_ROW,
    RIGHT,
    SHARED_ROW,
    STATE,
    STEP,
    TOP,
    WINDOW,
    data_kind,
    edge_size,
    first_at,
    last_at,
    middle_at,
    sample_size,
    x_at,
)
from .sincos import arccos_sincos, limit4, sincos, slow_sincos

EDGES, SUMS = range(2)
"""What is made of the values φ. EDGES: they are the output, out[b, o, i] = φ. SUMS: they are summed
to a layer, out[b, o] = Σ_i weight·φ."""


@inline
def _safe(edge_rows: Any, d: int, sample_rows: Any, x: int, n: int) -> bool:
    """Whether all angles of a row are small enough for `sincos`."""
    power = type(get(edge_rows, d))(0)
    for lane in range(n):
        turns = get(edge_rows, d + lane) * get(sample_rows, x + lane)
        turns *= turns
        power += turns * turns
    return power < limit4(power)


@exact
def _affine(edge_rows: Any, d: int, sample_rows: Any, at: int, x: int, n: int) -> None:
    """Write cosine and sine of angles affine in x."""
    if _safe(edge_rows, d, sample_rows, x, n):
        for lane in range(n):
            s_hi, s_lo = get2(edge_rows, d + lane)
            a_hi, a_lo = get2(edge_rows, d + 2 * LANES + lane)
            s, c = sincos(s_hi, s_lo, a_hi, a_lo, get(sample_rows, x + lane))
            put2(sample_rows, at + lane, c, s)
    else:
        for lane in range(n):
            a_hi, a_lo = get2(edge_rows, d + 2 * LANES + lane)
            scale = get(edge_rows, d + 4 * LANES + lane)
            sine, cosine = slow_sincos(scale, a_hi, a_lo, get(sample_rows, x + lane))
            put2(sample_rows, at + lane, cosine, sine)


@exact
def _arccos(edge_rows: Any, d: int, sample_rows: Any, at: int, x: int, n: int) -> None:
    """Write cosine and sine of arccos e plus an offset, e affine in x, and the arccos's slope."""
    for lane in range(n):
        shift, cosine, sine = get3(edge_rows, d + lane)
        scale = get(edge_rows, d + 4 * LANES + lane)
        s, c, slope = arccos_sincos(scale, shift, cosine, sine, get(sample_rows, x + lane))
        put2(sample_rows, at + lane, c, s)
        put(sample_rows, at + ARCCOS_SLOPE + lane, slope)


@exact
def _one_angle(edge_rows: Any, d: int, sample_rows: Any, at: int, x: int, n: int) -> None:
    """Write cosine and sine of an angle that all edges have in common."""
    _affine(edge_rows, d, sample_rows, at, x, 1)
    c, s = get2(sample_rows, at)
    for lane in range(n):
        put2(sample_rows, at + lane, c, s)


@exact
def trig(code: Any, common: bool, edge_rows: Any, sample_rows: Any, n: int) -> None:
    """Write cosine and sine of all data angles for one sample."""
    data = code[0]
    for step in range(data):
        kind = data_kind(code, step)
        d, at = DATA_ROWS * step * LANES, step * STEP
        if kind == AFFINE and common:
            _one_angle(edge_rows, d, sample_rows, at, x_at(data), n)
        elif kind == AFFINE:
            _affine(edge_rows, d, sample_rows, at, x_at(data), n)
        elif kind == ARCCOS:
            _arccos(edge_rows, d, sample_rows, at, x_at(data), n)
        else:
            for lane in range(n):
                put2(sample_rows, at + lane, 1.0, 0.0)


@inline
def swung(edge_rows: Any, at: int, c: Any, s: Any) -> Any:
    """The vector cos·A + sin·B + C of one lane, for the three vectors at `at`."""
    a0, a1, a2, b0, b1, b2, c0, c1, c2 = get9(edge_rows, at)
    return c * a0 + s * b0 + c0, c * a1 + s * b1 + c1, c * a2 + s * b2 + c2


@inline
def _state_first(edge_rows: Any, at: int, sample_rows: Any, n: int) -> None:
    """Write v_1 = cos·A + sin·B + C."""
    for lane in range(n):
        c, s = get2(sample_rows, lane)
        x, y, z = swung(edge_rows, at + lane, c, s)
        put3(sample_rows, STATE + lane, x, y, z)


@inline
def _state_second(sample_rows: Any, n: int) -> None:
    """Write Z_1 v_1."""
    for lane in range(n):
        c, s = get2(sample_rows, STEP + lane)
        x, y, z = get3(sample_rows, STATE + lane)
        put3(sample_rows, STEP + STATE + lane, c * x - s * y, s * x + c * y, z)


@inline
def _state_middle(edge_rows: Any, at: int, sample_rows: Any, step: int, n: int) -> None:
    """Write Z_step M_{step−1} v, step ≥ 2."""
    here, before = step * STEP, (step - 1) * STEP + STATE
    for lane in range(n):
        m00, m01, m02, m10, m11, m12, m20, m21, m22 = get9(edge_rows, at + lane)
        c, s = get2(sample_rows, here + lane)
        x, y, z = get3(sample_rows, before + lane)
        u, v = m00 * x + m01 * y + m02 * z, m10 * x + m11 * y + m12 * z
        r = m20 * x + m21 * y + m22 * z
        put3(sample_rows, here + STATE + lane, c * u - s * v, s * u + c * v, r)


@inline
def states(code: Any, edge_rows: Any, sample_rows: Any, n: int) -> None:
    """Write the states after all data rotations but the last."""
    data = code[0]
    _state_first(edge_rows, first_at(data), sample_rows, n)
    if data > 2:
        _state_second(sample_rows, n)
    for step in range(2, data - 1):
        _state_middle(edge_rows, middle_at(data, step - 1), sample_rows, step, n)


@inline
def value_rows(edge_rows: Any, data: int, sample_rows: Any, values: Any, to: int, n: int) -> None:
    """Write φ = (cos·A' + sin·B' + C')·v to a row of another array."""
    at, here, before = last_at(data), (data - 1) * STEP, max(data - 2, 0) * STEP + STATE
    for lane in range(n):
        c, s = get2(sample_rows, here + lane)
        x, y, z = get3(sample_rows, before + lane)
        u, v, r = swung(edge_rows, at + lane, c, s)
        put(values, to + lane, u * x + v * y + r * z)


@inline
def locate(index: Any, shape: Any, window: Any, begin: int, n: int) -> None:
    """Write to the index the edges from `begin` on of a window of outputs and inputs.

    Args:
        index: (INDEX,), see `layout`.
        shape: (outputs of all samples, inputs, outputs of one sample). The first differs from the
            last where samples have parameters of their own, and so edges of their own.
        window: First output, first input, end of the inputs.
        begin: Counted within the window, output by output.
        n: Lanes in use.
    """
    all_outs, ins, outs = shape
    top, left, right = window
    output, i = top + begin // (right - left), left + begin % (right - left)
    sample, o = output // outs, output % outs
    index[EDGES_AT] = all_outs * ins
    for lane in range(n):
        put(index, lane, output * ins + i)
        put(index, OUTPUT_ROW + lane, output)
        put(index, INPUT_ROW + lane, sample * ins + i)
        put(index, SHARED_ROW + lane, o * ins + i)
        i += 1
        if i == right:
            i = left
            output += 1
            o += 1
            if o == outs:
                o = 0
                sample += 1


@inline
def next_tile(counter: Any, index: Any, shape: Any, blocks: Any) -> int:
    """Write the edges of the next tile to the index; returns their number, 0 after the last tile.

    A thread takes a window of edges and goes through it tile by tile before it takes the next. It
    is no generator, for numba keeps a generator's state in memory, which costs microseconds.

    Args:
        counter: (1,) windows taken so far, shared by the threads.
        index: (INDEX,), written; zeros before the first tile.
        shape: (outputs of all samples, inputs, outputs of one sample).
        blocks: Outputs and inputs of a window.
    """
    all_outs, ins, _ = shape
    if index[DONE] >= index[WINDOW]:
        across = (ins + blocks[1] - 1) // blocks[1]
        unit = next_index(counter)
        index[TOP], index[LEFT] = unit // across * blocks[0], unit % across * blocks[1]
        if index[TOP] >= all_outs:
            return 0
        bottom = min(index[TOP] + blocks[0], all_outs)
        index[RIGHT] = min(index[LEFT] + blocks[1], ins)
        index[WINDOW] = (bottom - index[TOP]) * (index[RIGHT] - index[LEFT])
        index[DONE] = 0
    n = min(LANES, index[WINDOW] - index[DONE])
    locate(index, shape, (index[TOP], index[LEFT], index[RIGHT]), index[DONE], n)
    index[DONE] += n
    return n


@inline
def load_x(x: Any, sample: int, ins: int, index: Any, sample_rows: Any, at: int, n: int) -> None:
    """Write the sample's input of every edge."""
    for lane in range(n):
        put(sample_rows, at + lane, get(x, sample * ins + get(index, INPUT_ROW + lane)))


@inline
def combine(
    source: Any, count: int, d: Any, first: int, stride: int, target: Any, to: int, n: int
) -> None:
    """Write Σ_k d[first + k·stride]·source row k to a row of `target`, four rows at a time."""
    zero = type(d[0])(0)
    for lane in range(n):
        put(target, to + lane, zero)
    k = 0
    while k < count:
        d0 = d[first + k * stride]
        d1 = d[first + (k + 1) * stride] if k + 1 < count else zero
        d2 = d[first + (k + 2) * stride] if k + 2 < count else zero
        d3 = d[first + (k + 3) * stride] if k + 3 < count else zero
        at = k * LANES
        for lane in range(n):
            row = at + lane
            total = d0 * get(source, row) + d1 * get(source, row + LANES)
            total += d2 * get(source, row + 2 * LANES) + d3 * get(source, row + 3 * LANES)
            add(target, to + lane, total)
        k += 4


@inline
def emit_sums(
    values: Any, sample: int, weight: Any, out: Any, outs: int, ins: int, index: Any, n: int
) -> None:
    """Add Σ_i weight·φ over the tile to out[b, o]; the tile's edges follow each other."""
    lane, row_of_weight = 0, row_of(weight, index, 1)
    while lane < n:
        o, edge = get(index, OUTPUT_ROW + lane), get(index, row_of_weight + lane)
        count = min((o + 1) * ins - get(index, lane), n - lane)
        total = type(get(values, 0))(0)
        for j in range(count):
            total += get(values, lane + j) * get(weight, edge + j)
        out[sample * outs + o] += total
        lane += count


@spliced
def _forward_tile(
    code: Any, x: Any, weight: Any, out: Any, mode: int, shape: Any, n: int, edge_rows: Any,
    sample_rows: Any, index: Any, values: Any,
) -> None:  # fmt: skip
    """All samples through a tile of edges."""
    batch, outs, ins = shape
    data = code[0]
    for sample in range(batch):
        load_x(x, sample, ins, index, sample_rows, x_at(data), n)
        trig(code, False, edge_rows, sample_rows, n)
        states(code, edge_rows, sample_rows, n)
        value_rows(edge_rows, data, sample_rows, values, 0, n)
        if mode == EDGES:
            for lane in range(n):
                put(out, sample * outs * ins + get(index, 0) + lane, get(values, lane))
        else:
            emit_sums(values, sample, weight, out, outs, ins, index, n)


@allocating
def forward(arrays: Any, x: Any, out: Any, mode: int, shape: Any, block: int, counter: Any) -> None:
    """Evaluate edges, for as many units of work as this thread gets.

    Args:
        arrays: The `EdgeArrays`.
        x: (batch·in,).
        out: Written; zero before when values are summed.
        mode: EDGES or SUMS.
        shape: (batch, out, in).
        block: Outputs of a unit.
        counter: (1,) units taken so far, shared by the threads.
    """
    code, kind = arrays.code, arrays.theta.dtype
    _, outs, ins = shape
    edge_rows, sample_rows = np.empty(edge_size(code), kind), np.empty(sample_size(code[0]), kind)
    index, values = np.zeros(INDEX, np.int64), np.zeros(LANES, kind)
    n = next_tile(counter, index, (outs, ins, outs), (block, ins))
    while n > 0:
        prepare(arrays, index, edge_rows, n)
        _forward_tile(
            code, x, arrays.weight, out, mode, shape, n, edge_rows, sample_rows, index, values
        )
        n = next_tile(counter, index, (outs, ins, outs), (block, ins))


@kernel
def forward_task(room: Any, *args: Any) -> Any:
    """Bind `forward` to its arguments."""
    return bind(forward, room, args)
