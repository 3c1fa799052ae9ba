"""From an edge's sums over samples to the gradients of its parameters.

With v the state and λ the adjoint at one point of the circuit, the derivative by the angle of a
rotation there about a is a·(v × λ). The torque v × λ turns with the state, so one torque, summed
over samples, serves all constant rotations between two data rotations. The kernels provide, with
g the gradient of φ, weight aside for the last,

    Σ cos·λ, Σ sin·λ, Σ λ          at v_1, weighted         (cos, sin of the first data angle)
    Σ cos·g·v, Σ sin·g·v, Σ g·v    where A', B', C' meet v  (cos, sin of the last data angle)
    Σ v × λ                        after Z_l, l = 1 … R−3, weighted
    Σ ∂φ/∂angle, Σ ∂φ/∂e, Σ x·∂φ/∂e   for each data rotation, weighted (the second: arccos only)
"""

from __future__ import annotations

from typing import Any

from .edge import (
    AFFINE,
    ARCCOS,
    data_axis,
    data_record,
    first_at,
    initial_at,
    last_at,
    last_frame,
    record_at,
    row_of,
    sum_rows,
    sums_at,
    trig_at,
    turn_three,
    turn_vector,
)
from .jit import LANES, get, inline, put, spliced


@inline
def torque_sums_at(code: Any, step: int) -> int:
    """Offset of the torque after Z_step, 1 ≤ step ≤ R−3."""
    return sums_at(code) + (15 + 3 * step) * LANES


@inline
def data_sums_at(code: Any, step: int) -> int:
    """Offset of a data rotation's three sums."""
    return sums_at(code) + (18 + 3 * max(code[0] - 3, 0) + 3 * step) * LANES


@inline
def scatter(target: Any, index: Any, stride: int, offset: int, w: Any, at: int, n: int) -> None:
    """target[stride·index + offset] += a row, when the target is wanted."""
    if target.size > 0:
        row = row_of(target, index, stride)
        for lane in range(n):
            where = get(index, row + lane) * stride + offset
            put(target, where, get(target, where) + get(w, at + lane))


@inline
def thetas(code: Any, record: int, dtheta: Any, index: Any, w: Any, at: int, n: int) -> None:
    """Add an angle's gradient to those of its thetas."""
    where = record_at(code, record)
    for k in range(code[where + 3], code[where + 4]):
        scatter(dtheta, index, code[2], code[k], w, at, n)


@inline
def _constant(
    code: Any, record: int, torque: int, frame: int, dtheta: Any, dshift: Any, index: Any, w: Any,
    n: int,
) -> None:  # fmt: skip
    """Gradient of a constant rotation's angle: the torque's component along its axis."""
    where = record_at(code, record)
    row = torque + (code[where] - frame + 2) % 3 * LANES
    thetas(code, record, dtheta, index, w, row, n)
    if code[where + 5] >= 0:
        scatter(dshift, index, code[3], code[where + 5], w, row, n)


@inline
def _cross(w: Any, a: int, b: int, target: int, n: int, begin: bool) -> None:
    """Target (+)= a × b, all by offsets."""
    for m in range(3):
        p, q = (m + 1) % 3 * LANES, (m + 2) % 3 * LANES
        for lane in range(n):
            old = get(w, target + m * LANES + lane)
            new = get(w, a + p + lane) * get(w, b + q + lane)
            new -= get(w, a + q + lane) * get(w, b + p + lane)
            put(w, target + m * LANES + lane, new if begin else old + new)


@inline
def _unswing(w: Any, at: int, frame: int, axis: int, sign: int, n: int) -> None:
    """Transpose of `_swing`, in place: three adjoints at `at` become that of the vector."""
    i = at + (axis - frame) % 3 * LANES
    j = at + (axis - frame + 1) % 3 * LANES
    k = at + (axis - frame + 2) % 3 * LANES
    for lane in range(n):
        qi, qj = get(w, i + 3 * LANES + lane), get(w, j + 3 * LANES + lane)
        put(w, i + lane, get(w, i + lane) + (qj if sign > 0 else -qj))
        put(w, j + lane, get(w, j + lane) - (qi if sign > 0 else -qi))
        put(w, k + lane, get(w, k + 6 * LANES + lane))


@spliced
def _weight(weight: Any, dweight: Any, index: Any, w: Any, vectors: int, sums: int, n: int) -> None:
    """Gradient of the edge weight, then the weight on the last sums."""
    row_of_weight = row_of(weight, index, 1)
    for lane in range(n):
        edge = get(index, row_of_weight + lane)
        value = get(weight, edge)
        total = value - value
        for row in range(9):
            part = get(w, sums + row * LANES + lane)
            total += part * get(w, vectors + row * LANES + lane)
            put(w, sums + row * LANES + lane, value * part)
        if dweight.size > 0:
            put(dweight, edge, get(dweight, edge) + total)


@inline
def _torque(w: Any, vectors: int, sums: int, torque: int, sign: int, n: int) -> None:
    """Sum over three vectors of vector × sum (sign −1: sum × vector)."""
    for vector in range(3):
        a, b = vectors + 3 * vector * LANES, sums + 3 * vector * LANES
        _cross(w, a if sign > 0 else b, b if sign > 0 else a, torque, n, vector == 0)


@spliced
def _last(code: Any, w: Any, dtheta: Any, dshift: Any, index: Any, n: int) -> None:
    """Rotations before the last data rotation, then the closing ones, in time order."""
    data, frame, sums = code[0], last_frame(code), sums_at(code) + 9 * LANES
    torque = sums_at(code) + sum_rows(code) * LANES
    closing = data_record(code, data - 1)
    if data > 2:
        _torque(w, last_at(data), sums, torque, -1, n)
        for record in range(data_record(code, data - 2) + 1, closing):
            _constant(code, record, torque, frame, dtheta, dshift, index, w, n)
            axis, cs = code[record_at(code, record)], trig_at(data, record)
            turn_vector(w, torque, frame, axis, cs, 1, n)
            turn_three(code, w, sums, frame, record, 1, n)
    # The state after the last data rotation is the transpose of how the observable was swung.
    _unswing(w, sums, frame, data_axis(code, data - 1), -1, n)
    _cross(w, sums, initial_at(data) + 3 * LANES, torque, n, True)
    for record in range(closing + 1, code[1]):
        _constant(code, record, torque, frame, dtheta, dshift, index, w, n)
        axis, cs = code[record_at(code, record)], trig_at(data, record)
        turn_vector(w, torque, frame, axis, cs, 1, n)


@spliced
def _middle(code: Any, w: Any, step: int, dtheta: Any, dshift: Any, index: Any, n: int) -> None:
    """Rotations between two data rotations, in time order."""
    torque, frame = torque_sums_at(code, step), data_axis(code, step)
    for record in range(data_record(code, step) + 1, data_record(code, step + 1)):
        _constant(code, record, torque, frame, dtheta, dshift, index, w, n)
        axis, cs = code[record_at(code, record)], trig_at(code[0], record)
        turn_vector(w, torque, frame, axis, cs, 1, n)


@spliced
def _first(code: Any, w: Any, dtheta: Any, dshift: Any, index: Any, n: int) -> None:
    """Rotations after the first data rotation, then the leading ones, against time."""
    data, frame, sums = code[0], data_axis(code, 1), sums_at(code)
    torque = sums + sum_rows(code) * LANES
    leading = data_record(code, 0)
    _torque(w, first_at(data), sums, torque, 1, n)
    for record in range(data_record(code, 1) - 1, leading, -1):
        _constant(code, record, torque, frame, dtheta, dshift, index, w, n)
        axis, cs = code[record_at(code, record)], trig_at(data, record)
        turn_vector(w, torque, frame, axis, cs, -1, n)
        turn_three(code, w, sums, frame, record, -1, n)
    _unswing(w, sums, frame, data_axis(code, 0), 1, n)
    _cross(w, initial_at(data), sums, torque, n, True)
    for record in range(leading - 1, -1, -1):
        _constant(code, record, torque, frame, dtheta, dshift, index, w, n)
        axis, cs = code[record_at(code, record)], trig_at(data, record)
        turn_vector(w, torque, frame, axis, cs, -1, n)


@spliced
def _data(
    code: Any, w: Any, step: int, dtheta: Any, dscale: Any, dshift: Any, index: Any, n: int
) -> None:
    """A data rotation's own thetas, scale and shift."""
    record, sums = data_record(code, step), data_sums_at(code, step)
    where = record_at(code, record)
    kind, u = code[where + 1], code[where + 2]
    thetas(code, record, dtheta, index, w, sums, n)
    if kind == AFFINE or kind == ARCCOS:
        # Where the shift was split off, it is the shift of a constant rotation.
        if kind == ARCCOS or code[where + 5] >= 0:
            scatter(dshift, index, code[3], u, w, sums + (kind == ARCCOS) * LANES, n)
        scatter(dscale, index, code[3], u, w, sums + 2 * LANES, n)


@inline
def finish(
    code: Any, weight: Any, dtheta: Any, dscale: Any, dshift: Any, dweight: Any, index: Any,
    w: Any, n: int,
) -> None:  # fmt: skip
    """Add the gradients of n edges to the parameters'; uses up the sums in the workspace.

    Args:
        code: The program's integers.
        weight: (edges,), or empty for one.
        dtheta: (edges·num_theta,), or of the edges of one sample, or empty when not wanted, as the
            following.
        dscale: (edges·num_encodings,).
        dshift: (edges·num_encodings,).
        dweight: (edges,).
        index: (INDEX,) which edge stands in which lane.
        w: The workspace that `prepare` and the kernel filled.
        n: Lanes in use.
    """
    if weight.size > 0:
        _weight(weight, dweight, index, w, last_at(code[0]), sums_at(code) + 9 * LANES, n)
    _last(code, w, dtheta, dshift, index, n)
    for step in range(1, code[0] - 2):
        _middle(code, w, step, dtheta, dshift, index, n)
    _first(code, w, dtheta, dshift, index, n)
    for step in range(code[0]):
        _data(code, w, step, dtheta, dscale, dshift, index, n)
