"""The kernel that makes coefficients of edges: every edge at a few nodes, and at its exceptions.

A layer as a matrix product needs the coefficients of every edge. They follow from its values at
nodes that all edges share. Inputs for which the expansion does not hold, the exceptions, are
evaluated on the same occasion, while the constants of their edges are at hand.

Edges stand along the lanes, the outputs of one input after those of the one before, so that all
results lie in memory as the lanes do. What belongs to the edges of a tile is copied to arrays of
the tile first. A unit of work is a range of inputs.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .edge import affine, prepare
from .edge_lanes import combine, states, trig, value_rows
from .jit import LANES, allocating, bind, get, get_alone, inline, kernel, next_index, put
from .layout import (
    AFFINE,
    DATA_ROWS,
    DONE,
    EDGES_AT,
    INDEX,
    INPUT_ROW,
    LANEWISE,
    OUTPUT_ROW,
    TOP,
    WINDOW,
    EdgeArrays,
    data_kind,
    data_record,
    edge_size,
    sample_size,
    x_at,
)


class Series(NamedTuple):
    """Where edges are evaluated, and what is made of their values.

    Attributes:
        nodes: (n,) the nodes, values of t = (x - middle)/half.
        transform: (terms·n,) from values at the nodes to coefficients, that of the constant first.
        middle: (in,), or empty where nodes are values of x.
        half: (in,), or empty.
        starts: (in + 1,) where the exceptions of each input begin.
        samples: (exceptions,) the sample of each.
        x: (exceptions,) its input.
    """

    nodes: Any
    transform: Any
    middle: Any
    half: Any
    starts: Any
    samples: Any
    x: Any


@inline
def next_tile(counter: Any, index: Any, outs: int, ins: int, block: int) -> int:
    """Write the edges of the next tile to the index; returns their number, 0 after the last tile.

    Args:
        counter: (1,) units taken so far, shared by the threads.
        index: (INDEX,), written; zeros before the first tile. Its first row counts the lanes.
        outs: Outputs.
        ins: Inputs.
        block: Inputs of a unit.
    """
    if index[DONE] >= index[WINDOW]:
        index[TOP] = next_index(counter) * block
        if index[TOP] >= ins:
            return 0
        index[WINDOW] = (min(index[TOP] + block, ins) - index[TOP]) * outs
        index[DONE], index[EDGES_AT] = 0, LANEWISE
    if outs > LANES:
        # the same outputs of one input after the other: their parameters share lines of the cache
        count = index[WINDOW] // outs
        strip = index[DONE] // (count * LANES)
        width = min(LANES, outs - strip * LANES)
        done = index[DONE] - strip * count * LANES
        n, i, o = width, index[TOP] + done // width, strip * LANES
    else:
        n = min(LANES // outs * outs, index[WINDOW] - index[DONE])
        i, o = index[TOP] + index[DONE] // outs, 0
    for lane in range(n):
        put(index, lane, lane)
        put(index, OUTPUT_ROW + lane, o)
        put(index, INPUT_ROW + lane, i)
        o += 1
        if o == outs:
            o = 0
            i += 1
    index[DONE] += n
    return n


@allocating
def room(arrays: Any, series: Any) -> Any:
    """Arrays for the edges of a tile; a scale that all edges share is taken as it is."""
    code, kind = arrays.code, arrays.theta.dtype
    scale = arrays.scale
    # for t every edge has a scale of its own, even where there is one edge
    if scale.size != code[3] or series.half.size > 0:
        scale = np.empty(LANES * code[3], kind)
    return EdgeArrays(
        code, arrays.consts, np.empty(LANES * code[2], kind), scale,
        np.empty(LANES * code[3], kind), np.empty(LANES, kind),
    )  # fmt: skip


@inline
def load(arrays: Any, series: Any, own: Any, index: Any, ins: int, nodes: bool, n: int) -> None:
    """Copy the parameters of a tile's edges; for the nodes scale and shift become those of t."""
    code, _, theta, scale, shift, weight = arrays
    _, _, to_theta, to_scale, to_shift, to_weight = own
    _, _, middle, half, _, _, _ = series
    count, encodings, zero = code[2], code[3], type(get(weight, 0))(0)
    shared = scale.size == encodings and half.size == 0
    moved = nodes and half.size > 0
    for lane in range(n):
        i = get(index, INPUT_ROW + lane)
        edge = get(index, OUTPUT_ROW + lane) * ins + i
        put(to_weight, lane, get(weight, edge))
        for k in range(count):
            put(to_theta, k * LANES + lane, get_alone(theta, edge * count + k))
        m, h = (get(middle, i), get(half, i)) if moved else (zero, zero + 1)
        for u in range(encodings):
            offset = get_alone(shift, edge * encodings + u)
            if not shared:
                factor = get_alone(scale, edge * encodings + u)
                offset += factor * m
                put(to_scale, u * LANES + lane, factor * h)
            put(to_shift, u * LANES + lane, offset)


@inline
def constants_of_x(own: Any, index: Any, edge_rows: Any, n: int) -> None:
    """Write the data rotations' constants anew, for the parameters that `own` has now."""
    code, consts, theta, scale, shift, _ = own
    for step in range(code[0]):
        if data_kind(code, step) == AFFINE:
            record, at = data_record(code, step), DATA_ROWS * step * LANES
            affine(code, consts, record, theta, scale, shift, index, edge_rows, at, n)


@inline
def load_exceptions(series: Any, turn: int, index: Any, sample_rows: Any, at: int, n: int) -> None:
    """Write exception number `turn` of each lane's input to a row, 0 where there are fewer."""
    _, _, _, _, starts, _, x = series
    zero = type(get(sample_rows, at))(0)
    for lane in range(n):
        i = get(index, INPUT_ROW + lane)
        e = get(starts, i) + turn
        put(sample_rows, at + lane, get(x, e) if e < get(starts, i + 1) else zero)


@inline
def most_exceptions(series: Any, index: Any, n: int) -> int:
    """The largest number of exceptions of an input of the tile."""
    _, _, _, _, starts, _, _ = series
    most = 0
    for i in range(index[INPUT_ROW], index[INPUT_ROW + n - 1] + 1):
        most = max(most, starts[i + 1] - starts[i])
    return most


@inline
def run_of(index: Any, lane: int, outs: int, n: int) -> int:
    """How many lanes from this one on have the same input."""
    return min(outs - index[OUTPUT_ROW + lane], n - lane)


@inline
def _emit(
    series: Any, values: Any, own: Any, out: Any, constants: Any, index: Any, sizes: Any,
    row: Any, n: int,
) -> None:  # fmt: skip
    """Write weight·Σ_n D[m, n]·φ_n of all terms; the constant's stay in `row`."""
    outs, _, by_input, by_term = sizes
    points, transform, _, _, _, _, _ = series
    _, _, _, _, _, weight = own
    nodes = points.size
    for m in range(transform.size // nodes - 1, -1, -1):
        combine(values, nodes, transform, m * nodes, 1, row, 0, n)
        for lane in range(n):
            put(row, lane, get(row, lane) * get(weight, lane))
        lane = 0
        while lane < n:
            i, count = index[INPUT_ROW + lane], run_of(index, lane, outs, n)
            if m > 0:
                to = (i * by_input + (m - 1) * by_term) * outs + index[OUTPUT_ROW + lane]
                for j in range(count):
                    put(out, to + j, get(row, lane + j))
            else:
                to = i * outs + index[OUTPUT_ROW + lane]
                for j in range(count):
                    put(constants, to + j, get(row, lane + j))
            lane += count


@inline
def _emit_exceptions(
    series: Any, turn: int, own: Any, values: Any, row: Any, extra: Any, index: Any, outs: int,
    n: int,
) -> None:  # fmt: skip
    """Write weight·φ less the constant, which the product adds for every sample."""
    _, _, _, _, starts, _, _ = series
    _, _, _, _, _, weight = own
    lane = 0
    while lane < n:
        i, count = index[INPUT_ROW + lane], run_of(index, lane, outs, n)
        e = starts[i] + turn
        if e < starts[i + 1]:
            to = e * outs + index[OUTPUT_ROW + lane]
            for j in range(count):
                value = get(values, lane + j) * get(weight, lane + j) - get(row, lane + j)
                put(extra, to + j, value)
        lane += count


@allocating
def forward(
    arrays: Any, series: Any, out: Any, constants: Any, extra: Any, common: bool, sizes: Any,
    block: int, counter: Any,
) -> None:  # fmt: skip
    """Make the coefficients of edges, for as many units of work as this thread gets.

    Args:
        arrays: The `EdgeArrays`; the weights are not empty.
        series: The `Series`.
        out: Written: coefficient m ≥ 1 of edge (o, i) to (i·by_input + (m-1)·by_term)·outs + o.
        constants: (in·out,), written: the coefficients of the constant.
        extra: (exceptions·out,), written: the value of the edges there, times the weight, less the
            constant's coefficient.
        common: Whether all edges have the same data angles at one node.
        sizes: (out, in, by_input, by_term).
        block: Inputs of a unit.
        counter: (1,) units taken so far, shared by the threads.
    """
    code, kind = arrays.code, arrays.theta.dtype
    outs, ins, data, x = sizes[0], sizes[1], code[0], x_at(code[0])
    edge_rows, sample_rows = np.empty(edge_size(code), kind), np.empty(sample_size(data), kind)
    nodes, own, row = series.nodes.size, room(arrays, series), np.empty(LANES, kind)
    index, values = np.zeros(INDEX, np.int64), np.zeros((nodes + 3) // 4 * 4 * LANES, kind)
    n = next_tile(counter, index, outs, ins, block)
    while n > 0:
        load(arrays, series, own, index, ins, True, n)
        prepare(own, index, edge_rows, n)
        most = most_exceptions(series, index, n)
        for step in range(nodes + most):
            if step < nodes:
                node = series.nodes[step]
                for lane in range(n):
                    put(sample_rows, x + lane, node)
            else:
                if step == nodes:
                    _emit(series, values, own, out, constants, index, sizes, row, n)
                    load(arrays, series, own, index, ins, False, n)
                    constants_of_x(own, index, edge_rows, n)
                load_exceptions(series, step - nodes, index, sample_rows, x, n)
            trig(code, common, edge_rows, sample_rows, n)
            states(code, edge_rows, sample_rows, n)
            to = step * LANES if step < nodes else 0
            value_rows(edge_rows, data, sample_rows, values, to, n)
            if step >= nodes:
                _emit_exceptions(series, step - nodes, own, values, row, extra, index, outs, n)
        if most == 0:
            _emit(series, values, own, out, constants, index, sizes, row, n)
        n = next_tile(counter, index, outs, ins, block)


@kernel
def forward_task(room: Any, *args: Any) -> Any:
    """Bind `forward` to its arguments."""
    return bind(forward, room, args)


@inline
def add_rows(extra: Any, samples: Any, out: Any, outs: int, block: int, counter: Any) -> None:
    """Add row e of `extra` to row samples[e] of `out`, both of `outs` numbers, in order."""
    start = next_index(counter) * block
    while start < outs:
        end = min(start + block, outs)
        for e in range(samples.size):
            to, at = samples[e] * outs, e * outs
            for o in range(start, end):
                put(out, to + o, get(out, to + o) + get(extra, at + o))
        start = next_index(counter) * block


@kernel
def add_rows_task(room: Any, *args: Any) -> Any:
    """Bind `add_rows` to its arguments."""
    return bind(add_rows, room, args)
