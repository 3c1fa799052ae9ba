"""From sums over the samples of an edge to the gradients of its parameters.

With v the state and λ the adjoint at one point of the circuit, the derivative by the angle of a
rotation there about the axis a is a·(v × λ). The torque v × λ turns with the state. So one torque,
summed over the samples, serves all constant rotations between two data rotations. The kernels
provide these sums; g is the gradient of φ, and "weighted" says that the edge's weight is in them:

    Σ cos·λ, Σ sin·λ, Σ λ          at v_1, weighted         (cos, sin of the first data angle)
    Σ cos·g·v, Σ sin·g·v, Σ g·v    where A', B', C' meet v  (cos, sin of the last data angle)
    Σ v × λ                        after Z_l, l = 1 … R−3, weighted
    Σ ∂φ/∂angle, Σ ∂φ/∂e, Σ x·∂φ/∂e   for each data rotation, weighted (the second: arccos only)
"""

from __future__ import annotations

from typing import Any

from .edge import row_of, turn_three, turn_vector
from .jit import LANES, add, get, inline, put, spliced
from .layout import (
    AFFINE,
    ARCCOS,
    EDGES_AT,
    LANEWISE,
    data_axis,
    data_record,
    data_sums_at,
    first_at,
    initial_at,
    last_at,
    last_frame,
    record_at,
    sum_rows,
    sums_at,
    torque_sums_at,
    trig_at,
)


@inline
def scatter(target: Any, index: Any, stride: int, offset: int, rows: Any, at: int, n: int) -> None:
    """Add a row to number `offset` of the `stride` numbers of each edge, unless target is empty."""
    if target.size > 0 and index[EDGES_AT] == LANEWISE:
        for lane in range(n):
            add(target, offset * LANES + lane, get(rows, at + lane))
    elif target.size > 0:
        row = row_of(target, index, stride)
        for lane in range(n):
            add(target, get(index, row + lane) * stride + offset, get(rows, at + lane))


@inline
def thetas(code: Any, record: int, dtheta: Any, index: Any, rows: Any, at: int, n: int) -> None:
    """Add the gradient by a rotation's angle to the gradients by the thetas in it."""
    where = record_at(code, record)
    for k in range(code[where + 3], code[where + 4]):
        scatter(dtheta, index, code[2], code[k], rows, at, n)


@inline
def _constant(
    code: Any, record: int, torque: int, frame: int, sign: int, dtheta: Any, dshift: Any,
    index: Any, rows: Any, n: int,
) -> None:  # fmt: skip
    """Add the gradient by a constant rotation's angle, and turn the torque by the rotation.

    The gradient is the component of the torque along the rotation's axis. For sign −1 the torque is
    turned back.
    """
    where = record_at(code, record)
    row = torque + (code[where] - frame + 2) % 3 * LANES
    thetas(code, record, dtheta, index, rows, row, n)
    if code[where + 5] >= 0:
        scatter(dshift, index, code[3], code[where + 5], rows, row, n)
    turn_vector(rows, torque, frame, code[where], trig_at(code[0], record), sign, n)


@inline
def _cross(rows: Any, a: int, b: int, target: int, n: int, begin: bool) -> None:
    """Set the vector `target` to a × b, or add it unless `begin`; all are offsets."""
    for m in range(3):
        p, q = (m + 1) % 3 * LANES, (m + 2) % 3 * LANES
        for lane in range(n):
            old = get(rows, target + m * LANES + lane)
            new = get(rows, a + p + lane) * get(rows, b + q + lane)
            new -= get(rows, a + q + lane) * get(rows, b + p + lane)
            put(rows, target + m * LANES + lane, new if begin else old + new)


@inline
def _unswing(rows: Any, at: int, frame: int, axis: int, sign: int, n: int) -> None:
    """The transpose of `_swing`, in place: the adjoints of a, b, c become that of the vector."""
    i = at + (axis - frame) % 3 * LANES
    j = at + (axis - frame + 1) % 3 * LANES
    k = at + (axis - frame + 2) % 3 * LANES
    for lane in range(n):
        qi, qj = get(rows, i + 3 * LANES + lane), get(rows, j + 3 * LANES + lane)
        add(rows, i + lane, qj if sign > 0 else -qj)
        add(rows, j + lane, -qi if sign > 0 else qi)
        put(rows, k + lane, get(rows, k + 6 * LANES + lane))


@spliced
def _weight(
    weight: Any, dweight: Any, index: Any, rows: Any, vectors: int, sums: int, n: int
) -> None:
    """Add the gradient by the edge's weight, then multiply the last nine sums by the weight."""
    row_of_weight = row_of(weight, index, 1)
    for lane in range(n):
        edge = get(index, row_of_weight + lane)
        value = get(weight, edge)
        total = value - value
        for row in range(9):
            part = get(rows, sums + row * LANES + lane)
            total += part * get(rows, vectors + row * LANES + lane)
            put(rows, sums + row * LANES + lane, value * part)
        if dweight.size > 0:
            add(dweight, edge, total)


@inline
def _torque(rows: Any, vectors: int, sums: int, torque: int, sign: int, n: int) -> None:
    """Write the torque of three vectors: the sum of vector × its sums (sign −1: sums × vector)."""
    for vector in range(3):
        a, b = vectors + 3 * vector * LANES, sums + 3 * vector * LANES
        _cross(rows, a if sign > 0 else b, b if sign > 0 else a, torque, n, vector == 0)


@spliced
def _last(code: Any, rows: Any, dtheta: Any, dshift: Any, index: Any, n: int) -> None:
    """Constant rotations before the last data rotation, then those after it, in time order."""
    data, frame, sums = code[0], last_frame(code), sums_at(code) + 9 * LANES
    torque = sums_at(code) + sum_rows(code) * LANES
    closing = data_record(code, data - 1)
    if data > 2:
        _torque(rows, last_at(data), sums, torque, -1, n)
        for record in range(data_record(code, data - 2) + 1, closing):
            _constant(code, record, torque, frame, 1, dtheta, dshift, index, rows, n)
            turn_three(code, rows, sums, frame, record, 1, n)
    # A', B', C' came from the observable by `_swing`: its transpose gives the state
    _unswing(rows, sums, frame, data_axis(code, data - 1), -1, n)
    _cross(rows, sums, initial_at(data) + 3 * LANES, torque, n, True)
    for record in range(closing + 1, code[1]):
        _constant(code, record, torque, frame, 1, dtheta, dshift, index, rows, n)


@spliced
def _middle(code: Any, rows: Any, step: int, dtheta: Any, dshift: Any, index: Any, n: int) -> None:
    """Constant rotations between two data rotations, in time order."""
    torque, frame = torque_sums_at(code, step), data_axis(code, step)
    for record in range(data_record(code, step) + 1, data_record(code, step + 1)):
        _constant(code, record, torque, frame, 1, dtheta, dshift, index, rows, n)


@spliced
def _first(code: Any, rows: Any, dtheta: Any, dshift: Any, index: Any, n: int) -> None:
    """Constant rotations after the first data rotation, then those before it, against time."""
    data, frame, sums = code[0], data_axis(code, 1), sums_at(code)
    torque = sums + sum_rows(code) * LANES
    leading = data_record(code, 0)
    _torque(rows, first_at(data), sums, torque, 1, n)
    for record in range(data_record(code, 1) - 1, leading, -1):
        _constant(code, record, torque, frame, -1, dtheta, dshift, index, rows, n)
        turn_three(code, rows, sums, frame, record, -1, n)
    _unswing(rows, sums, frame, data_axis(code, 0), 1, n)
    _cross(rows, initial_at(data), sums, torque, n, True)
    for record in range(leading - 1, -1, -1):
        _constant(code, record, torque, frame, -1, dtheta, dshift, index, rows, n)


@spliced
def _data(
    code: Any, rows: Any, step: int, dtheta: Any, dscale: Any, dshift: Any, index: Any, n: int
) -> None:
    """The thetas, scale and shift of a data rotation."""
    record, sums = data_record(code, step), data_sums_at(code, step)
    where = record_at(code, record)
    kind, u = code[where + 1], code[where + 2]
    thetas(code, record, dtheta, index, rows, sums, n)
    if kind == AFFINE or kind == ARCCOS:
        # in a program whose shifts are split off the shift belongs to a constant rotation
        if kind == ARCCOS or code[where + 5] >= 0:
            scatter(dshift, index, code[3], u, rows, sums + (kind == ARCCOS) * LANES, n)
        scatter(dscale, index, code[3], u, rows, sums + 2 * LANES, n)


@inline
def finish(code: Any, weight: Any, grads: Any, index: Any, rows: Any, n: int) -> None:
    """Add the gradients of n edges to those of the parameters; the sums are overwritten.

    Args:
        code: The program's integers.
        weight: (edges,), or empty for one.
        grads: Of theta, scale, shift and weight, in their sizes; empty where not wanted.
        index: (INDEX,) which edge stands in which lane.
        rows: The edge rows, with the sums.
        n: Lanes in use.
    """
    dtheta, dscale, dshift, dweight = grads
    if weight.size > 0:
        _weight(weight, dweight, index, rows, last_at(code[0]), sums_at(code) + 9 * LANES, n)
    _last(code, rows, dtheta, dshift, index, n)
    for step in range(1, code[0] - 2):
        _middle(code, rows, step, dtheta, dshift, index, n)
    _first(code, rows, dtheta, dshift, index, n)
    for step in range(code[0]):
        _data(code, rows, step, dtheta, dscale, dshift, index, n)
