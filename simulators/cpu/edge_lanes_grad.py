"""The backward half of `edge_lanes`, twin of `sample_lanes_grad`: the adjoint pass over a tile.

A unit of work is a range of outputs and inputs such that it owns every gradient that it adds to.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .edge import prepare
from .edge_grad import finish
from .edge_lanes import EDGES, load_x, next_tile, states, swung, trig
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
    put3,
    spliced,
)
from .layout import (
    AFFINE,
    ARCCOS,
    DATA_ROWS,
    INDEX,
    INPUT_ROW,
    OUTPUT_ROW,
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
from .sample_lanes_grad import adjoint_turn


@inline
def _add_nine(edge_rows: Any, at: int, sample_rows: Any, angle: int, vector: int, n: int) -> None:
    """Add cos·u, sin·u, u to nine rows of sums, u the vector at `vector`."""
    for m in range(3):
        row = at + m * LANES
        for lane in range(n):
            u = get(sample_rows, vector + m * LANES + lane)
            c, s = get2(sample_rows, angle + lane)
            add(edge_rows, row + lane, c * u)
            add(edge_rows, row + 3 * LANES + lane, s * u)
            add(edge_rows, row + 6 * LANES + lane, u)


@inline
def _slope(edge_rows: Any, at: int, sample_rows: Any, angle: int, vector: int, n: int) -> None:
    """Write ∂φ/∂angle = (cos·b − sin·a)·u for the vectors a, b at `at` and u at `vector`."""
    for lane in range(n):
        a0, a1, a2, b0, b1, b2, _, _, _ = get9(edge_rows, at + lane)
        c, s = get2(sample_rows, angle + lane)
        x, y, z = get3(sample_rows, vector + lane)
        slope = c * (b0 * x + b1 * y + b2 * z) - s * (a0 * x + a1 * y + a2 * z)
        put(sample_rows, angle + SLOPE + lane, slope)


@inline
def _adjoint_last(code: Any, edge_rows: Any, sample_rows: Any, n: int) -> None:
    """From g: λ where A', B', C' meet v, ∂φ/∂angle of the last data rotation, and its sums.

    The sums are without the weight. λ and ∂φ/∂angle are with it; its row is the one after g.
    """
    data = code[0]
    here, before = (data - 1) * STEP, max(data - 2, 0) * STEP + STATE
    to, at = adjoint_at(data), last_at(data)
    g_at = to + 5 * LANES
    for lane in range(n):
        g = get(sample_rows, g_at + lane)
        x, y, z = get3(sample_rows, before + lane)
        put3(sample_rows, to + lane, g * x, g * y, g * z)
    _add_nine(edge_rows, sums_at(code) + 9 * LANES, sample_rows, here, to, n)
    _slope(edge_rows, at, sample_rows, here, to, n)
    for lane in range(n):
        g, weight = get2(sample_rows, g_at + lane)
        put(sample_rows, here + SLOPE + lane, get(sample_rows, here + SLOPE + lane) * weight)
        c, s = get2(sample_rows, here + lane)
        x, y, z = swung(edge_rows, at + lane, c, s)
        g *= weight
        put3(sample_rows, to + lane, x * g, y * g, z * g)


@inline
def _adjoint_matrix(code: Any, edge_rows: Any, sample_rows: Any, step: int, n: int) -> None:
    """λ ← M_stepᵀ λ, and the torque before M_step."""
    data = code[0]
    at, torque = middle_at(data, step), torque_sums_at(code, step)
    here, to = step * STEP + STATE, adjoint_at(data)
    for lane in range(n):
        m00, m01, m02, m10, m11, m12, m20, m21, m22 = get9(edge_rows, at + lane)
        u, v, w = get3(sample_rows, to + lane)
        p, q = m00 * u + m10 * v + m20 * w, m01 * u + m11 * v + m21 * w
        put3(sample_rows, to + lane, p, q, m02 * u + m12 * v + m22 * w)
    for lane in range(n):
        p, q, r = get3(sample_rows, to + lane)
        x, y, z = get3(sample_rows, here + lane)
        add3(edge_rows, torque + lane, y * r - z * q, z * p - x * r, x * q - y * p)


@inline
def _data_sums(code: Any, kind: int, edge_rows: Any, sample_rows: Any, step: int, n: int) -> None:
    """A data rotation's sums and its part of ∂/∂x."""
    at, here, x = data_sums_at(code, step), step * STEP + SLOPE, x_at(code[0])
    scale = (DATA_ROWS * step + 4) * LANES
    for lane in range(n):
        add(edge_rows, at + lane, get(sample_rows, here + lane))
    if kind == ARCCOS:
        for lane in range(n):
            d, slope = get2(sample_rows, here + lane)
            put(sample_rows, here + lane, d * slope)
            add(edge_rows, at + LANES + lane, d * slope)
    for lane in range(n):
        d = get(sample_rows, here + lane)
        add(edge_rows, at + 2 * LANES + lane, d * get(sample_rows, x + lane))
        add(sample_rows, x + LANES + lane, get(edge_rows, scale + lane) * d)


@inline
def adjoint(code: Any, edge_rows: Any, sample_rows: Any, n: int) -> None:
    """The adjoint pass of one sample over a tile of edges."""
    data = code[0]
    to = adjoint_at(data)
    _adjoint_last(code, edge_rows, sample_rows, n)
    for step in range(data - 2, 0, -1):
        if step < data - 2:
            _adjoint_matrix(code, edge_rows, sample_rows, step, n)
        adjoint_turn(sample_rows, data, step, n)
    _add_nine(edge_rows, sums_at(code), sample_rows, 0, to, n)
    _slope(edge_rows, first_at(data), sample_rows, 0, to, n)
    for lane in range(n):
        put(sample_rows, to + 4 * LANES + lane, 0.0)
    for step in range(data):
        kind = data_kind(code, step)
        if kind == AFFINE or kind == ARCCOS:
            _data_sums(code, kind, edge_rows, sample_rows, step, n)


@inline
def _load_g(
    g: Any,
    mode: int,
    sample: int,
    shape: Any,
    index: Any,
    sample_rows: Any,
    at: int,
    n: int,
) -> None:
    """Write the gradient of every edge's value for one sample, without the weight."""
    outs, ins = shape[1], shape[2]
    if mode == EDGES:
        for lane in range(n):
            put(sample_rows, at + lane, get(g, sample * outs * ins + get(index, lane)))
    else:
        for lane in range(n):
            put(sample_rows, at + lane, get(g, sample * outs + get(index, OUTPUT_ROW + lane)))


@spliced
def _backward_tile(
    code: Any, x: Any, g: Any, weight: Any, mode: int, dx: Any, shape: Any, n: int,
    edge_rows: Any, sample_rows: Any, index: Any,
) -> None:  # fmt: skip
    """All samples through a tile of edges."""
    batch, _, ins = shape
    data = code[0]
    at = x_at(data)
    for sample in range(batch):
        load_x(x, sample, ins, index, sample_rows, at, n)
        trig(code, False, edge_rows, sample_rows, n)
        states(code, edge_rows, sample_rows, n)
        _load_g(g, mode, sample, shape, index, sample_rows, at + 2 * LANES, n)
        for lane in range(n):
            put(
                sample_rows,
                at + 3 * LANES + lane,
                get(weight, get(index, lane)) if weight.size > 0 else 1.0,
            )
        adjoint(code, edge_rows, sample_rows, n)
        if dx.size > 0:
            for lane in range(n):
                add(
                    dx,
                    sample * ins + get(index, INPUT_ROW + lane),
                    get(sample_rows, at + LANES + lane),
                )


@allocating
def backward(
    arrays: Any, x: Any, g: Any, grads: Any, mode: int, shape: Any, blocks: Any, counter: Any
) -> None:
    """Compute the gradients of `forward`, for as many units of work as this thread gets.

    Args:
        arrays: The `EdgeArrays`.
        x: (batch·in,).
        g: The gradient of the output: (batch·out·in,) or (batch·out,).
        grads: dx, dtheta, dscale, dshift, dweight, added to; each may be empty when not wanted.
        mode: EDGES or SUMS.
        shape: (batch, out, in).
        blocks: Outputs and inputs of a unit.
        counter: (1,) units taken so far, shared by the threads.
    """
    _, outs, ins = shape
    dx, dtheta, dscale, dshift, dweight = grads
    code, weight, kind = arrays.code, arrays.weight, arrays.theta.dtype
    edge_rows, sample_rows = np.empty(edge_size(code), kind), np.empty(sample_size(code[0]), kind)
    index = np.zeros(INDEX, np.int64)
    sums, size = sums_at(code), sum_rows(code) * LANES
    n = next_tile(counter, index, (outs, ins, outs), blocks)
    while n > 0:
        prepare(arrays, index, edge_rows, n)
        edge_rows[sums : sums + size] = 0
        _backward_tile(code, x, g, weight, mode, dx, shape, n, edge_rows, sample_rows, index)
        finish(code, weight, (dtheta, dscale, dshift, dweight), index, edge_rows, n)
        n = next_tile(counter, index, (outs, ins, outs), blocks)


@kernel
def backward_task(room: Any, *args: Any) -> Any:
    """Bind `backward` to its arguments."""
    return bind(backward, room, args)
