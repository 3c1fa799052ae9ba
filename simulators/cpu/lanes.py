"""The kernels with edges along the vector lanes: for few samples, nodes of a series, single edges.

A tile of `LANES` edges meets one sample after the other; the edges' constants are rows, too. Rows
are laid out as in `_samples`. A unit of work is a range of outputs (or of inputs, see
`_lanes_grad`).

What becomes of the values: with a transform D (m, n) the edge's series, out[o, m, i] =
weight·Σ_n D[m, n]·φ(x_n), x a vector of nodes that all edges share; without one, either φ itself,
out[b, o, i], or the layer's output, out[b, o] = Σ_i weight·φ.
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
    INPUT_ROW,
    OUTPUT_ROW,
    SHARED_ROW,
    data_record,
    first_at,
    last_at,
    middle_at,
    prepare,
    record_at,
    row_of,
    workspace_size,
)
from .jit import LANES, bind, exact, get, inline, kernel, next_index, put, spliced
from .samples import STEP, scratch_size, x_at
from .sincos import arccos_sincos, limit4, sincos, slow_sincos

SERIES, EDGES, SUMS = range(3)
"""What is made of the values: transformed over nodes, kept, summed over inputs."""


@inline
def _safe(cw: Any, d: int, w: Any, x: int, n: int) -> bool:
    """Whether all angles of a row are small enough for `sincos`."""
    power = type(get(cw, d))(0)
    for lane in range(n):
        turns = get(cw, d + lane) * get(w, x + lane)
        turns *= turns
        power += turns * turns
    return power < limit4(power)


@exact
def _affine(cw: Any, d: int, w: Any, at: int, x: int, n: int) -> None:
    """Cos and sin of angles affine in x."""
    if _safe(cw, d, w, x, n):
        for lane in range(n):
            s, c = sincos(
                get(cw, d + lane), get(cw, d + LANES + lane),
                get(cw, d + 2 * LANES + lane), get(cw, d + 3 * LANES + lane), get(w, x + lane),
            )  # fmt: skip
            put(w, at + lane, c)
            put(w, at + LANES + lane, s)
    else:
        for lane in range(n):
            a_hi, a_lo = get(cw, d + 2 * LANES + lane), get(cw, d + 3 * LANES + lane)
            sine, cosine = slow_sincos(get(cw, d + 4 * LANES + lane), a_hi, a_lo, get(w, x + lane))
            put(w, at + lane, cosine)
            put(w, at + LANES + lane, sine)


@exact
def _arccos(cw: Any, d: int, w: Any, at: int, x: int, n: int) -> None:
    """Cos and sin of the arccos of an affine e plus an offset; the arccos's derivative."""
    for lane in range(n):
        s, c, slope = arccos_sincos(
            get(cw, d + 4 * LANES + lane), get(cw, d + lane),
            get(cw, d + LANES + lane), get(cw, d + 2 * LANES + lane), get(w, x + lane),
        )  # fmt: skip
        put(w, at + lane, c)
        put(w, at + LANES + lane, s)
        put(w, at + 6 * LANES + lane, slope)


@exact
def _one_angle(cw: Any, d: int, w: Any, at: int, x: int, n: int) -> None:
    """Cos and sin of an angle that all edges have in common."""
    _affine(cw, d, w, at, x, 1)
    c, s = get(w, at), get(w, at + LANES)
    for lane in range(n):
        put(w, at + lane, c)
        put(w, at + LANES + lane, s)


@exact
def trig(code: Any, common: bool, cw: Any, w: Any, n: int) -> None:
    """Cos and sin of all data angles for one sample."""
    data = code[0]
    for step in range(data):
        kind = code[record_at(code, data_record(code, step)) + 1]
        d, at = DATA_ROWS * step * LANES, step * STEP
        if kind == AFFINE and common:
            _one_angle(cw, d, w, at, x_at(data), n)
        elif kind == AFFINE:
            _affine(cw, d, w, at, x_at(data), n)
        elif kind == ARCCOS:
            _arccos(cw, d, w, at, x_at(data), n)
        else:
            for lane in range(n):
                put(w, at + lane, 1.0)
                put(w, at + LANES + lane, 0.0)


@inline
def _state_first(cw: Any, at: int, w: Any, n: int) -> None:
    """v_1 = cos·A + sin·B + C."""
    for lane in range(n):
        c, s, p = get(w, lane), get(w, LANES + lane), at + lane
        x = c * get(cw, p) + s * get(cw, p + 3 * LANES) + get(cw, p + 6 * LANES)
        y = c * get(cw, p + LANES) + s * get(cw, p + 4 * LANES) + get(cw, p + 7 * LANES)
        z = c * get(cw, p + 2 * LANES) + s * get(cw, p + 5 * LANES) + get(cw, p + 8 * LANES)
        put(w, 2 * LANES + lane, x)
        put(w, 3 * LANES + lane, y)
        put(w, 4 * LANES + lane, z)


@inline
def _state_second(w: Any, n: int) -> None:
    """V ← Z_1 v."""
    for lane in range(n):
        c, s = get(w, STEP + lane), get(w, STEP + LANES + lane)
        x, y = get(w, 2 * LANES + lane), get(w, 3 * LANES + lane)
        put(w, STEP + 2 * LANES + lane, c * x - s * y)
        put(w, STEP + 3 * LANES + lane, s * x + c * y)
        put(w, STEP + 4 * LANES + lane, get(w, 4 * LANES + lane))


@inline
def _state_middle(cw: Any, at: int, w: Any, step: int, n: int) -> None:
    """V ← Z_step M_{step−1} v, step ≥ 2."""
    here, before = step * STEP, (step - 1) * STEP + 2 * LANES
    for lane in range(n):
        c, s, p = get(w, here + lane), get(w, here + LANES + lane), at + lane
        x, y = get(w, before + lane), get(w, before + LANES + lane)
        z = get(w, before + 2 * LANES + lane)
        u = get(cw, p) * x + get(cw, p + LANES) * y + get(cw, p + 2 * LANES) * z
        v = get(cw, p + 3 * LANES) * x + get(cw, p + 4 * LANES) * y + get(cw, p + 5 * LANES) * z
        r = get(cw, p + 6 * LANES) * x + get(cw, p + 7 * LANES) * y + get(cw, p + 8 * LANES) * z
        put(w, here + 2 * LANES + lane, c * u - s * v)
        put(w, here + 3 * LANES + lane, s * u + c * v)
        put(w, here + 4 * LANES + lane, r)


@inline
def states(code: Any, cw: Any, w: Any, n: int) -> None:
    """The states that enter the last data rotation's expression."""
    data = code[0]
    _state_first(cw, first_at(data), w, n)
    if data > 2:
        _state_second(w, n)
    for step in range(2, data - 1):
        _state_middle(cw, middle_at(data, step - 1), w, step, n)


@inline
def _values(cw: Any, data: int, w: Any, values: Any, to: int, n: int) -> None:
    """φ = (cos·A' + sin·B' + C')·v into a row of another array."""
    at, here, before = last_at(data), (data - 1) * STEP, max(data - 2, 0) * STEP + 2 * LANES
    for lane in range(n):
        c, s, p = get(w, here + lane), get(w, here + LANES + lane), at + lane
        x = c * get(cw, p) + s * get(cw, p + 3 * LANES) + get(cw, p + 6 * LANES)
        y = c * get(cw, p + LANES) + s * get(cw, p + 4 * LANES) + get(cw, p + 7 * LANES)
        z = c * get(cw, p + 2 * LANES) + s * get(cw, p + 5 * LANES) + get(cw, p + 8 * LANES)
        value = x * get(w, before + lane) + y * get(w, before + LANES + lane)
        put(values, to + lane, value + z * get(w, before + 2 * LANES + lane))


@inline
def locate(index: Any, shape: Any, window: Any, begin: int, n: int) -> None:
    """Fill the index with the edges from `begin` on of a window of rows and inputs.

    Args:
        index: See `_edge`.
        shape: (rows, in, out): a row of edges for each output, of all samples where these have
            parameters of their own, and the outputs of a sample.
        window: The first row, the first input, and how many inputs.
        begin: Counted within the window.
        n: Lanes in use.
    """
    rows, ins, outs = shape
    first, left, width = window
    row, i = first + begin // width, left + begin % width
    sample, o = row // outs, row % outs
    index[EDGES_AT] = rows * ins
    for lane in range(n):
        put(index, lane, row * ins + i)
        put(index, OUTPUT_ROW + lane, row)
        put(index, INPUT_ROW + lane, sample * ins + i)
        put(index, SHARED_ROW + lane, o * ins + i)
        i += 1
        if i == left + width:
            i = left
            row += 1
            o += 1
            if o == outs:
                o = 0
                sample += 1


@inline
def load_x(x: Any, sample: int, ins: int, index: Any, nodes: bool, w: Any, at: int, n: int) -> None:
    """The sample's input of every edge."""
    if nodes:
        node = x[sample]
        for lane in range(n):
            put(w, at + lane, node)
    else:
        for lane in range(n):
            put(w, at + lane, get(x, sample * ins + get(index, INPUT_ROW + lane)))


@inline
def combine(
    source: Any, count: int, d: Any, first: int, stride: int, target: Any, to: int, n: int
) -> None:
    """Target row = Σ_k d[first + k·stride]·source row k, four at a time."""
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
            put(target, to + lane, get(target, to + lane) + total)
        k += 4


@inline
def _emit_series(
    values: Any, transform: Any, nodes: int, weight: Any, out: Any, ins: int, index: Any, w: Any,
    total: Any, n: int,
) -> None:  # fmt: skip
    """out[o, m, i] = weight·Σ_n D[m, n]·φ_n; the first of them summed over i to total[o]."""
    terms = transform.size // nodes
    for m in range(terms):
        combine(values, nodes, transform, m * nodes, 1, w, 0, n)
        for lane in range(n):
            value = get(w, lane) * get(weight, get(index, lane))
            o, i = get(index, OUTPUT_ROW + lane), get(index, INPUT_ROW + lane)
            put(out, (o * terms + m) * ins + i, value)
            if m == 0:
                put(total, o, get(total, o) + value)


@inline
def emit_sums(
    values: Any, sample: int, weight: Any, out: Any, rows: int, ins: int, index: Any, n: int
) -> None:
    """out[b, o] += Σ_i weight·φ over the tile, whose edges follow each other."""
    lane, row_of_weight = 0, row_of(weight, index, 1)
    while lane < n:
        o, edge = get(index, OUTPUT_ROW + lane), get(index, row_of_weight + lane)
        count = min((o + 1) * ins - get(index, lane), n - lane)
        total = type(get(values, 0))(0)
        for j in range(count):
            total += get(values, lane + j) * get(weight, edge + j)
        out[sample * rows + o] += total
        lane += count


@spliced
def _forward_tile(
    code: Any, x: Any, weight: Any, transform: Any, out: Any, mode: int, common: bool, shape: Any,
    total: Any, n: int, cw: Any, w: Any, index: Any, values: Any,
) -> None:  # fmt: skip
    """All samples through a tile of edges."""
    batch, outs, ins = shape
    data = code[0]
    for sample in range(batch):
        load_x(x, sample, ins, index, mode == SERIES, w, x_at(data), n)
        trig(code, common, cw, w, n)
        states(code, cw, w, n)
        row = sample * LANES if mode == SERIES else 0
        _values(cw, data, w, values, row, n)
        if mode == EDGES:
            for lane in range(n):
                put(out, sample * outs * ins + get(index, 0) + lane, get(values, lane))
        elif mode == SUMS:
            emit_sums(values, sample, weight, out, outs, ins, index, n)
    if mode == SERIES:
        _emit_series(values, transform, batch, weight, out, ins, index, w, total, n)


@kernel
def forward(
    code: Any, consts: Any, x: Any, theta: Any, scale: Any, shift: Any, weight: Any, transform: Any,
    out: Any, total: Any, mode: int, common: bool, shape: Any, block: int, counter: Any,
) -> None:  # fmt: skip
    """Values of edges; takes units of work from the counter until none is left.

    Args:
        code: The program's integers.
        consts: The program's numbers.
        x: (batch·in,), or the nodes (batch,) for a series.
        theta: (out·in·num_theta,).
        scale: (out·in·num_encodings,), or (num_encodings,) shared by all edges.
        shift: (out·in·num_encodings,), or empty for zero.
        weight: (out·in,); not used for single edges.
        transform: (terms·batch,) for a series.
        out: Written; zero before when values are summed.
        total: (out,) for a series, zero before: the first terms summed over inputs.
        mode: SERIES, EDGES or SUMS.
        common: Whether at one node all edges have the same data angles.
        shape: (batch, out, in).
        block: Outputs of a unit.
        counter: (1,) units taken so far, shared by the threads.
    """
    batch, outs, ins = shape
    cw = np.empty(workspace_size(code), theta.dtype)
    w = np.empty(scratch_size(code[0]), theta.dtype)
    rows = (batch + 3) // 4 * 4 if mode == SERIES else 1
    index, values = np.empty(INDEX, np.int64), np.zeros(rows * LANES, theta.dtype)
    units = (outs + block - 1) // block
    unit = next_index(counter)
    while unit < units:
        edges = min(block, outs - unit * block) * ins
        for begin in range(0, edges, LANES):
            n = min(LANES, edges - begin)
            locate(index, (outs, ins, outs), (unit * block, 0, ins), begin, n)
            prepare(code, consts, theta, scale, shift, index, cw, n)
            _forward_tile(
                code, x, weight, transform, out, mode, common, shape, total, n, cw, w, index, values
            )  # fmt: skip
        unit = next_index(counter)


@kernel
def forward_task(room: Any, *args: Any) -> Any:
    """`forward` bound to its arguments."""
    return bind(forward, room, args)
