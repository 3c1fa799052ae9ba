"""The backward half of `_lanes`: adjoint pass with edges along the lanes.

A unit of work owns a range of outputs; where dx is wanted it owns a range of inputs instead, and
all outputs of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .edge import (
    AFFINE,
    ARCCOS,
    INDEX,
    INPUT_ROW,
    OUTPUT_ROW,
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
from .lanes import EDGES, SERIES, combine, load_x, locate, states, trig
from .samples import STEP, adjoint_at, scratch_size, x_at


@inline
def _sums_of_nine(cw: Any, at: int, w: Any, angle: int, vector: int, n: int) -> None:
    """Add cos·u, sin·u, u to nine rows of sums."""
    for m in range(3):
        row = at + m * LANES
        for lane in range(n):
            u = get(w, vector + m * LANES + lane)
            add(cw, row + lane, get(w, angle + lane) * u)
            add(cw, row + 3 * LANES + lane, get(w, angle + LANES + lane) * u)
            add(cw, row + 6 * LANES + lane, u)


@inline
def _slope(cw: Any, at: int, w: Any, angle: int, vector: int, n: int) -> None:
    """∂φ/∂angle = (cos·b − sin·a)·u for the vectors a, b at `at`."""
    for lane in range(n):
        c, s, p = get(w, angle + lane), get(w, angle + LANES + lane), at + lane
        x, y = get(w, vector + lane), get(w, vector + LANES + lane)
        z = get(w, vector + 2 * LANES + lane)
        b = get(cw, p + 3 * LANES) * x + get(cw, p + 4 * LANES) * y + get(cw, p + 5 * LANES) * z
        a = get(cw, p) * x + get(cw, p + LANES) * y + get(cw, p + 2 * LANES) * z
        put(w, angle + 5 * LANES + lane, c * b - s * a)


@inline
def _adjoint_last(code: Any, cw: Any, w: Any, n: int) -> None:
    """From g: λ where A', B', C' meet v, ∂φ/∂angle of the last data rotation, and its sums.

    The weight is not in these sums: λ and ∂φ/∂angle get it through g·weight, in the next row.
    """
    data = code[0]
    here, before = (data - 1) * STEP, max(data - 2, 0) * STEP + 2 * LANES
    to, at = adjoint_at(data), last_at(data)
    g = to + 5 * LANES
    for m in range(3):
        for lane in range(n):
            put(w, to + m * LANES + lane, get(w, g + lane) * get(w, before + m * LANES + lane))
    _sums_of_nine(cw, sums_at(code) + 9 * LANES, w, here, to, n)
    _slope(cw, at, w, here, to, n)
    for lane in range(n):
        put(w, here + 5 * LANES + lane, get(w, here + 5 * LANES + lane) * get(w, g + LANES + lane))
    for m in range(3):
        for lane in range(n):
            c, s, p = get(w, here + lane), get(w, here + LANES + lane), at + m * LANES + lane
            value = c * get(cw, p) + s * get(cw, p + 3 * LANES) + get(cw, p + 6 * LANES)
            wt = get(w, g + LANES + lane)
            put(w, to + m * LANES + lane, value * (get(w, g + lane) * wt))


@inline
def _adjoint_turn(w: Any, data: int, step: int, n: int) -> None:
    """∂φ/∂angle of a data rotation between, and λ ← Zᵀ λ."""
    here, to = step * STEP, adjoint_at(data)
    for lane in range(n):
        c, s = get(w, here + lane), get(w, here + LANES + lane)
        x, y = get(w, here + 2 * LANES + lane), get(w, here + 3 * LANES + lane)
        p, q = get(w, to + lane), get(w, to + LANES + lane)
        put(w, here + 5 * LANES + lane, x * q - y * p)
        put(w, to + lane, c * p + s * q)
        put(w, to + LANES + lane, c * q - s * p)


@inline
def _adjoint_matrix(code: Any, cw: Any, w: Any, step: int, n: int) -> None:
    """λ ← M_stepᵀ λ and the torque there."""
    data = code[0]
    at, torque = middle_at(data, step), torque_sums_at(code, step)
    here, to = step * STEP + 2 * LANES, adjoint_at(data)
    for lane in range(n):
        u, v, t = get(w, to + lane), get(w, to + LANES + lane), get(w, to + 2 * LANES + lane)
        m = at + lane
        p = get(cw, m) * u + get(cw, m + 3 * LANES) * v + get(cw, m + 6 * LANES) * t
        q = get(cw, m + LANES) * u + get(cw, m + 4 * LANES) * v + get(cw, m + 7 * LANES) * t
        r = get(cw, m + 2 * LANES) * u + get(cw, m + 5 * LANES) * v + get(cw, m + 8 * LANES) * t
        put(w, to + lane, p)
        put(w, to + LANES + lane, q)
        put(w, to + 2 * LANES + lane, r)
    for lane in range(n):
        p, q, r = get(w, to + lane), get(w, to + LANES + lane), get(w, to + 2 * LANES + lane)
        x, y, z = get(w, here + lane), get(w, here + LANES + lane), get(w, here + 2 * LANES + lane)
        add(cw, torque + lane, y * r - z * q)
        add(cw, torque + LANES + lane, z * p - x * r)
        add(cw, torque + 2 * LANES + lane, x * q - y * p)


@inline
def _data_sums(code: Any, kind: int, cw: Any, w: Any, step: int, n: int) -> None:
    """A data rotation's sums and its part of dx."""
    at, here, x = data_sums_at(code, step), step * STEP + 5 * LANES, x_at(code[0])
    scale = (5 * step + 4) * LANES
    if kind == ARCCOS:
        for lane in range(n):
            d = get(w, here + lane)
            add(cw, at + lane, d)
            d *= get(w, here + LANES + lane)
            put(w, here + lane, d)
            add(cw, at + LANES + lane, d)
    else:
        for lane in range(n):
            add(cw, at + lane, get(w, here + lane))
    for lane in range(n):
        d = get(w, here + lane)
        add(cw, at + 2 * LANES + lane, d * get(w, x + lane))
        add(w, x + LANES + lane, get(cw, scale + lane) * d)


@spliced
def _adjoint(code: Any, cw: Any, w: Any, n: int) -> None:
    """The adjoint pass of one sample over a tile of edges."""
    data = code[0]
    to = adjoint_at(data)
    _adjoint_last(code, cw, w, n)
    for step in range(data - 2, 0, -1):
        if step < data - 2:
            _adjoint_matrix(code, cw, w, step, n)
        _adjoint_turn(w, data, step, n)
    _sums_of_nine(cw, sums_at(code), w, 0, to, n)
    _slope(cw, first_at(data), w, 0, to, n)
    for lane in range(n):
        put(w, to + 4 * LANES + lane, 0.0)
    for step in range(data):
        kind = code[record_at(code, data_record(code, step)) + 1]
        if kind == AFFINE or kind == ARCCOS:
            _data_sums(code, kind, cw, w, step, n)


@inline
def _load_series(
    g: Any, transform: Any, nodes: int, ins: int, index: Any, rows: Any, values: Any, n: int
) -> None:
    """Row n of values: Σ_m D[m, n]·g[o, m, i]."""
    terms = transform.size // nodes
    for m in range(terms):
        for lane in range(n):
            o, i = get(index, OUTPUT_ROW + lane), get(index, INPUT_ROW + lane)
            put(rows, m * LANES + lane, get(g, (o * terms + m) * ins + i))
    for node in range(nodes):
        combine(rows, terms, transform, node, nodes, values, node * LANES, n)


@inline
def _load_g(
    g: Any, mode: int, sample: int, shape: Any, index: Any, values: Any, w: Any, at: int, n: int
) -> None:
    """The gradient of every edge's value for one sample, weight aside."""
    outs, ins = shape[1], shape[2]
    if mode == SERIES:
        for lane in range(n):
            put(w, at + lane, get(values, sample * LANES + lane))
    elif mode == EDGES:
        for lane in range(n):
            put(w, at + lane, get(g, sample * outs * ins + get(index, lane)))
    else:
        for lane in range(n):
            put(w, at + lane, get(g, sample * outs + get(index, OUTPUT_ROW + lane)))


@spliced
def _backward_tile(
    code: Any, x: Any, g: Any, weight: Any, transform: Any, mode: int, common: bool, dx: Any,
    shape: Any, n: int, cw: Any, w: Any, index: Any, rows: Any, values: Any,
) -> None:  # fmt: skip
    """All samples through a tile of edges."""
    batch, _, ins = shape
    data = code[0]
    at = x_at(data)
    if mode == SERIES:
        _load_series(g, transform, batch, ins, index, rows, values, n)
    for sample in range(batch):
        load_x(x, sample, ins, index, mode == SERIES, w, at, n)
        trig(code, common, cw, w, n)
        states(code, cw, w, n)
        _load_g(g, mode, sample, shape, index, values, w, at + 2 * LANES, n)
        for lane in range(n):
            put(w, at + 3 * LANES + lane, get(weight, get(index, lane)) if weight.size > 0 else 1.0)
        _adjoint(code, cw, w, n)
        if dx.size > 0:
            for lane in range(n):
                where = sample * ins + get(index, INPUT_ROW + lane)
                put(dx, where, get(dx, where) + get(w, at + LANES + lane))


@kernel
def backward(
    code: Any, consts: Any, x: Any, g: Any, theta: Any, scale: Any, shift: Any, weight: Any,
    transform: Any, grads: Any, mode: int, common: bool, shape: Any, blocks: Any, counter: Any,
) -> None:  # fmt: skip
    """Gradients of `_lanes.forward`; takes units of work from the counter until none is left.

    Args:
        code: The program's integers.
        consts: The program's numbers.
        x: (batch·in,), or the nodes (batch,) for a series.
        g: The output's gradient: (out·terms·in,), (batch·out·in,) or (batch·out,).
        theta: (out·in·num_theta,).
        scale: (out·in·num_encodings,), or (num_encodings,) shared by all edges.
        shift: (out·in·num_encodings,), or empty for zero.
        weight: (out·in,), or empty for one.
        transform: (terms·batch,) for a series.
        grads: dx, dtheta, dscale, dshift, dweight, added to; each may be empty when not wanted.
        mode: SERIES, EDGES or SUMS.
        common: Whether at one node all edges have the same data angles.
        shape: (batch, out, in).
        blocks: Outputs and inputs of a unit.
        counter: (1,) units taken so far, shared by the threads.
    """
    batch, outs, ins = shape
    per_o, per_i = blocks
    dx, dtheta, dscale, dshift, dweight = grads
    cw = np.empty(workspace_size(code), theta.dtype)
    w = np.empty(scratch_size(code[0]) + LANES, theta.dtype)
    terms = transform.size // max(batch, 1)
    rows = np.zeros((terms + 3) // 4 * 4 * LANES, theta.dtype)
    values = np.empty((batch if mode == SERIES else 0) * LANES, theta.dtype)
    index = np.empty(INDEX, np.int64)
    columns = (ins + per_i - 1) // per_i
    units = (outs + per_o - 1) // per_o * columns
    sums, size = sums_at(code), sum_rows(code) * LANES
    unit = next_index(counter)
    while unit < units:
        o, i = unit // columns * per_o, unit % columns * per_i
        width = min(per_i, ins - i)
        edges = min(per_o, outs - o) * width
        for begin in range(0, edges, LANES):
            n = min(LANES, edges - begin)
            locate(index, (outs, ins, outs), (o, i, width), begin, n)
            prepare(code, consts, theta, scale, shift, index, cw, n)
            cw[sums : sums + size] = 0
            _backward_tile(
                code, x, g, weight, transform, mode, common, dx, shape, n,
                cw, w, index, rows, values,
            )  # fmt: skip
            finish(code, weight, dtheta, dscale, dshift, dweight, index, cw, n)
        unit = next_index(counter)


@kernel
def backward_task(room: Any, *args: Any) -> Any:
    """`backward` bound to its arguments."""
    return bind(backward, room, args)
