"""The backward half of `series`: gradients of the parameters, and of x at the exceptions."""

from __future__ import annotations

from typing import Any

import numpy as np

from .edge import prepare
from .edge_grad import finish
from .edge_lanes import combine, states, trig
from .edge_lanes_grad import adjoint
from .jit import LANES, allocating, bind, get, get_alone, inline, kernel, put
from .layout import (
    AFFINE,
    INDEX,
    INPUT_ROW,
    OUTPUT_ROW,
    data_kind,
    data_sums_at,
    edge_size,
    sample_size,
    sum_rows,
    sums_at,
    x_at,
)
from .series import (
    constants_of_x,
    load,
    load_exceptions,
    most_exceptions,
    next_tile,
    room,
    run_of,
)


@inline
def _load_nodes(
    series: Any, grad: Any, constant: Any, by_sample: Any, index: Any, sizes: Any, terms: Any,
    values: Any, n: int,
) -> None:  # fmt: skip
    """Write Σ_m D[m, n]·(gradient by coefficient m) to row n of `values`.

    The constant of an edge counts for all samples but the exceptions of its input.
    """
    outs, _, by_input, by_term = sizes
    points, transform, _, _, starts, samples, _ = series
    nodes = points.size
    count = transform.size // nodes
    lane = 0
    while lane < n:
        i, o, run = index[INPUT_ROW + lane], index[OUTPUT_ROW + lane], run_of(index, lane, outs, n)
        for m in range(1, count):
            at = (i * by_input + (m - 1) * by_term) * outs + o
            for j in range(run):
                put(terms, m * LANES + lane + j, get(grad, at + j))
        at = o if constant.size == outs else i * outs + o
        for j in range(run):
            put(terms, lane + j, get(constant, at + j))
        for e in range(starts[i], starts[i + 1]):
            at = samples[e] * outs + o
            for j in range(run):
                put(terms, lane + j, get(terms, lane + j) - get(by_sample, at + j))
        lane += run
    for node in range(nodes):
        combine(terms, count, transform, node, nodes, values, node * LANES, n)


@inline
def _load_grad(
    series: Any, turn: int, by_sample: Any, index: Any, outs: int, sample_rows: Any, at: int, n: int
) -> None:
    """Write the output's gradient at exception number `turn`, 0 where there are fewer."""
    _, _, _, _, starts, samples, _ = series
    lane, zero = 0, type(get(sample_rows, at))(0)
    while lane < n:
        i, run = index[INPUT_ROW + lane], run_of(index, lane, outs, n)
        e = starts[i] + turn
        if e < starts[i + 1]:
            source = samples[e] * outs + index[OUTPUT_ROW + lane]
            for j in range(run):
                put(sample_rows, at + lane + j, get(by_sample, source + j))
        else:
            for j in range(run):
                put(sample_rows, at + lane + j, zero)
        lane += run


@inline
def _add_slopes(
    series: Any, turn: int, index: Any, outs: int, sample_rows: Any, at: int, dx: Any, n: int
) -> None:
    """Add the gradient by x at exception number `turn`."""
    _, _, _, _, starts, _, _ = series
    lane = 0
    while lane < n:
        i, run = index[INPUT_ROW + lane], run_of(index, lane, outs, n)
        e = starts[i] + turn
        if e < starts[i + 1]:
            total = type(get(sample_rows, at))(0)
            for j in range(run):
                total += get(sample_rows, at + lane + j)
            dx[e] += total
        lane += run


@inline
def _sums_of_x(code: Any, series: Any, index: Any, edge_rows: Any, n: int) -> None:
    """Make Σ x·∂φ/∂e of Σ t·∂φ/∂e, t = (x - middle)/half."""
    _, _, middle, half, _, _, _ = series
    if half.size > 0:
        for step in range(code[0]):
            if data_kind(code, step) == AFFINE:
                at = data_sums_at(code, step)
                for lane in range(n):
                    i = get(index, INPUT_ROW + lane)
                    total = get(edge_rows, at + 2 * LANES + lane) * get(half, i)
                    total += get(edge_rows, at + lane) * get(middle, i)
                    put(edge_rows, at + 2 * LANES + lane, total)


@inline
def _store(own: Any, target: Any, index: Any, ins: int, n: int) -> None:
    """Copy the gradients of a tile's edges to those of all edges."""
    if target.size > 0:
        stride = own.size // LANES
        for lane in range(n):
            edge = get(index, OUTPUT_ROW + lane) * ins + get(index, INPUT_ROW + lane)
            for k in range(stride):
                put(target, edge * stride + k, get_alone(own, k * LANES + lane))


@allocating
def _own(target: Any, stride: int) -> Any:
    """Room for the gradients of a tile's edges; empty where they are not wanted."""
    return np.empty(LANES * stride if target.size > 0 else 0, target.dtype)


@allocating
def backward(
    arrays: Any, series: Any, grad: Any, constant: Any, by_sample: Any, grads: Any, dx: Any,
    common: bool, sizes: Any, block: int, counter: Any,
) -> None:  # fmt: skip
    """Compute the gradients of `forward`, for as many units of work as this thread gets.

    Args:
        arrays: The `EdgeArrays`; the weights are not empty.
        series: The `Series`.
        grad: The gradient by the coefficients m ≥ 1, in their order.
        constant: That by the constants, (out,) the same for all inputs, or (in·out,); exceptions
            are counted in it.
        by_sample: (batch·out,) the gradient of the output.
        grads: dtheta, dscale, dshift, dweight, written; each may be empty when not wanted.
        dx: (exceptions,), added to.
        common: Whether all edges have the same data angles at one node.
        sizes: (out, in, by_input, by_term).
        block: Inputs of a unit.
        counter: (1,) units taken so far, shared by the threads.
    """
    code, kind = arrays.code, arrays.theta.dtype
    outs, ins, data, x = sizes[0], sizes[1], code[0], x_at(code[0])
    edge_rows, sample_rows = np.empty(edge_size(code), kind), np.empty(sample_size(data), kind)
    nodes, own = series.nodes.size, room(arrays, series)
    count = series.transform.size // nodes
    edge_weight = own.weight
    index, values = np.zeros(INDEX, np.int64), np.empty(nodes * LANES, kind)
    terms = np.zeros((count + 3) // 4 * 4 * LANES, kind)
    theta, scale = _own(grads[0], code[2]), _own(grads[1], code[3])
    shift, weight = _own(grads[2], code[3]), _own(grads[3], 1)
    sums, size = sums_at(code), sum_rows(code) * LANES
    n = next_tile(counter, index, outs, ins, block)
    while n > 0:
        load(arrays, series, own, index, ins, True, n)
        prepare(own, index, edge_rows, n)
        edge_rows[sums : sums + size] = 0
        theta[:], scale[:], shift[:], weight[:] = 0, 0, 0, 0
        _load_nodes(series, grad, constant, by_sample, index, sizes, terms, values, n)
        most = most_exceptions(series, index, n)
        for step in range(nodes + most):
            if step < nodes:
                node = series.nodes[step]
                for lane in range(n):
                    put(sample_rows, x + lane, node)
                    put(sample_rows, x + 2 * LANES + lane, get(values, step * LANES + lane))
            else:
                if step == nodes:
                    _sums_of_x(code, series, index, edge_rows, n)
                    load(arrays, series, own, index, ins, False, n)
                    constants_of_x(own, index, edge_rows, n)
                turn = step - nodes
                load_exceptions(series, turn, index, sample_rows, x, n)
                _load_grad(series, turn, by_sample, index, outs, sample_rows, x + 2 * LANES, n)
            for lane in range(n):
                put(sample_rows, x + 3 * LANES + lane, get(edge_weight, lane))
            trig(code, common, edge_rows, sample_rows, n)
            states(code, edge_rows, sample_rows, n)
            adjoint(code, edge_rows, sample_rows, n)
            if step >= nodes:
                _add_slopes(series, step - nodes, index, outs, sample_rows, x + LANES, dx, n)
        if most == 0:
            _sums_of_x(code, series, index, edge_rows, n)
        finish(code, edge_weight, (theta, scale, shift, weight), index, edge_rows, n)
        _store(theta, grads[0], index, ins, n)
        _store(scale, grads[1], index, ins, n)
        _store(shift, grads[2], index, ins, n)
        _store(weight, grads[3], index, ins, n)
        n = next_tile(counter, index, outs, ins, block)


@kernel
def backward_task(room: Any, *args: Any) -> Any:
    """Bind `backward` to its arguments."""
    return bind(backward, room, args)
