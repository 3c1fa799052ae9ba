"""What belongs to an edge and not to the sample, computed once an edge, for a row of edges at once.

`layout` says what is computed and where it stands.
"""

from __future__ import annotations

from typing import Any

from .jit import LANES, add, exact, get, get2, inline, put, put2, spliced
from .layout import (
    AFFINE,
    ARCCOS,
    CONSTANT,
    DATA_ROWS,
    EDGES_AT,
    IDLE,
    LANEWISE,
    SHARED_ROW,
    data_axis,
    data_record,
    first_at,
    initial_at,
    last_at,
    last_frame,
    middle_at,
    record_at,
    trig_at,
)
from .sincos import per_quarter, quarter_turns, sincos


@inline
def turn(rows: Any, i: int, j: int, cs: int, sign: int, n: int) -> None:
    """Turn the rows at i and j by an angle with cosine and sine at `cs`, or back for sign −1."""
    for lane in range(n):
        c, s = get2(rows, cs + lane)
        p, q = get(rows, i + lane), get(rows, j + lane)
        s = s if sign > 0 else -s
        put(rows, i + lane, c * p - s * q)
        put(rows, j + lane, s * p + c * q)


@inline
def turn_vector(rows: Any, at: int, frame: int, axis: int, cs: int, sign: int, n: int) -> None:
    """Turn a vector about `axis`; it is stored in the frame of the axis `frame`."""
    i, j = (axis - frame) % 3, (axis - frame + 1) % 3
    turn(rows, at + i * LANES, at + j * LANES, cs, sign, n)


@inline
def fill(rows: Any, at: int, value: float, n: int) -> None:
    """Set a row."""
    for lane in range(n):
        put(rows, at + lane, value)


@inline
def copy(rows: Any, source: int, target: int, sign: int, n: int) -> None:
    """Copy a row, with a sign."""
    for lane in range(n):
        value = get(rows, source + lane)
        put(rows, target + lane, value if sign > 0 else -value)


@inline
def row_of(values: Any, index: Any, stride: int) -> int:
    """The row of the index by which an array of `stride` numbers an edge is read."""
    return 0 if values.size >= index[EDGES_AT] * stride else SHARED_ROW


@inline
def gather(values: Any, index: Any, stride: int, offset: int, rows: Any, at: int, n: int) -> None:
    """Add to a row the number `offset` of the `stride` numbers that each of its edges has.

    Where the numbers belong to the lanes (`LANEWISE`) those of all lanes follow each other.
    """
    if index[EDGES_AT] == LANEWISE and stride > 0:
        for lane in range(n):
            add(rows, at + lane, get(values, offset * LANES + lane))
        return
    row = row_of(values, index, stride)
    for lane in range(n):
        add(rows, at + lane, get(values, get(index, row + lane) * stride + offset))


@exact
def _constant_trig(rows: Any, angle: int, at: int, n: int) -> None:
    """Write cosine and sine of a row of angles."""
    for lane in range(n):
        hi, lo = quarter_turns(get(rows, angle + lane))
        s, c = sincos(hi - hi, hi - hi, hi, lo, hi - hi)
        put2(rows, at + lane, c, s)


@exact
def _split_affine(rows: Any, angle: int, at: int, n: int) -> None:
    """Write a data rotation's scale and offset in quarter turns, each as a sum of two numbers."""
    for lane in range(n):
        s_hi, s_lo = per_quarter(get(rows, at + 4 * LANES + lane))
        a_hi, a_lo = quarter_turns(get(rows, angle + lane))
        put2(rows, at + lane, s_hi, s_lo)
        put2(rows, at + 2 * LANES + lane, a_hi, a_lo)


@spliced
def _angle(
    code: Any, consts: Any, record: int, theta: Any, index: Any, rows: Any, at: int, n: int
) -> None:
    """Write constant plus thetas of a rotation to a row."""
    fill(rows, at, consts[6 + record], n)
    where = record_at(code, record)
    for k in range(code[where + 3], code[where + 4]):
        gather(theta, index, code[2], code[k], rows, at, n)


@inline
def affine(
    code: Any, consts: Any, record: int, theta: Any, scale: Any, shift: Any, index: Any, rows: Any,
    at: int, n: int,
) -> None:  # fmt: skip
    """Write the constants of a data rotation whose angle is affine in x to the rows at `at`."""
    where, angle = record_at(code, record), initial_at(code[0]) + 6 * LANES
    _angle(code, consts, record, theta, index, rows, angle, n)
    if code[where + 5] >= 0 and shift.size > 0:
        gather(shift, index, code[3], code[where + 5], rows, angle, n)
    fill(rows, at + 4 * LANES, 0.0, n)
    per_edge = 0 if scale.size == code[3] else code[3]
    gather(scale, index, per_edge, code[where + 2], rows, at + 4 * LANES, n)
    _split_affine(rows, angle, at, n)


@spliced
def angles(
    code: Any, consts: Any, theta: Any, scale: Any, shift: Any, index: Any, rows: Any, n: int
) -> None:
    """Write cosine and sine of constant rotations, and the constants of data rotations."""
    data, step = code[0], 0
    angle = initial_at(data) + 6 * LANES
    per_edge = 0 if scale.size == code[3] else code[3]
    for record in range(code[1]):
        where = record_at(code, record)
        kind, u = code[where + 1], code[where + 2]
        at = DATA_ROWS * step * LANES
        if kind == AFFINE:
            affine(code, consts, record, theta, scale, shift, index, rows, at, n)
        elif kind != IDLE:
            _angle(code, consts, record, theta, index, rows, angle, n)
        if kind == CONSTANT:
            if code[where + 5] >= 0 and shift.size > 0:
                gather(shift, index, code[3], code[where + 5], rows, angle, n)
            _constant_trig(rows, angle, trig_at(data, record), n)
        elif kind == ARCCOS:
            fill(rows, at + 4 * LANES, 0.0, n)
            gather(scale, index, per_edge, u, rows, at + 4 * LANES, n)
            _constant_trig(rows, angle, at + LANES, n)
            fill(rows, at, 0.0, n)
            if shift.size > 0:
                gather(shift, index, code[3], u, rows, at, n)
        step += kind != CONSTANT


@inline
def _swing(rows: Any, vector: int, at: int, frame: int, axis: int, sign: int, n: int) -> None:
    """Write the vectors a, b, c at `at`: rotated about `axis` the vector is cos·a + sin·b + c.

    For sign −1 it is rotated back.
    """
    i = (axis - frame) % 3 * LANES
    j = (axis - frame + 1) % 3 * LANES
    k = (axis - frame + 2) % 3 * LANES
    copy(rows, vector + i, at + i, 1, n)
    copy(rows, vector + j, at + j, 1, n)
    copy(rows, vector + j, at + 3 * LANES + i, -sign, n)
    copy(rows, vector + i, at + 3 * LANES + j, sign, n)
    copy(rows, vector + k, at + 6 * LANES + k, 1, n)
    fill(rows, at + k, 0.0, n)
    fill(rows, at + 3 * LANES + k, 0.0, n)
    fill(rows, at + 6 * LANES + i, 0.0, n)
    fill(rows, at + 6 * LANES + j, 0.0, n)


@inline
def turn_three(code: Any, rows: Any, at: int, frame: int, record: int, sign: int, n: int) -> None:
    """Turn three consecutive vectors by a constant rotation."""
    axis = code[record_at(code, record)]
    cs = trig_at(code[0], record)
    for vector in range(3):
        turn_vector(rows, at + 3 * vector * LANES, frame, axis, cs, sign, n)


@spliced
def _first(code: Any, consts: Any, rows: Any, n: int) -> None:
    """Write the initial vector, after the constant rotations at the beginning, and A, B, C."""
    data, frame = code[0], data_axis(code, 1)
    vector, at = initial_at(data), first_at(data)
    for axis in range(3):
        fill(rows, vector + (axis - frame + 2) % 3 * LANES, consts[axis], n)
    for record in range(data_record(code, 0)):
        axis = code[record_at(code, record)]
        turn_vector(rows, vector, frame, axis, trig_at(data, record), 1, n)
    _swing(rows, vector, at, frame, data_axis(code, 0), 1, n)
    for record in range(data_record(code, 0) + 1, data_record(code, 1)):
        turn_three(code, rows, at, frame, record, 1, n)


@spliced
def _last(code: Any, consts: Any, rows: Any, n: int) -> None:
    """Write the observable, pulled back through the constant rotations at the end, A', B', C'."""
    data, frame = code[0], last_frame(code)
    vector, at = initial_at(data) + 3 * LANES, last_at(data)
    for axis in range(3):
        fill(rows, vector + (axis - frame + 2) % 3 * LANES, consts[3 + axis], n)
    for record in range(code[1] - 1, data_record(code, data - 1), -1):
        axis = code[record_at(code, record)]
        turn_vector(rows, vector, frame, axis, trig_at(data, record), -1, n)
    _swing(rows, vector, at, frame, data_axis(code, data - 1), -1, n)
    if data > 2:
        begin = data_record(code, data - 2)
        for record in range(data_record(code, data - 1) - 1, begin, -1):
            turn_three(code, rows, at, frame, record, -1, n)


@spliced
def _middle(code: Any, rows: Any, step: int, n: int) -> None:
    """Write M_step: its columns in the frame of its data rotation, its rows in that of the next."""
    data, inner, outer = code[0], data_axis(code, step), data_axis(code, step + 1)
    at = middle_at(data, step)
    for axis in range(3):
        row = (axis - outer + 2) % 3
        for column in range(3):
            one = 1.0 if (axis - inner + 2) % 3 == column else 0.0
            fill(rows, at + (3 * row + column) * LANES, one, n)
    for record in range(data_record(code, step) + 1, data_record(code, step + 1)):
        axis = code[record_at(code, record)]
        i, j = (axis - outer) % 3, (axis - outer + 1) % 3
        cs = trig_at(data, record)
        for column in range(3):
            turn(rows, at + (3 * i + column) * LANES, at + (3 * j + column) * LANES, cs, 1, n)


@inline
def prepare(arrays: Any, index: Any, edge_rows: Any, n: int) -> None:
    """Compute the edge rows of n ≤ LANES edges.

    Args:
        arrays: The `EdgeArrays`.
        index: (INDEX,) which edge stands in which lane.
        edge_rows: `edge_size` numbers, written.
        n: Lanes in use.
    """
    code, consts, theta, scale, shift, _ = arrays
    angles(code, consts, theta, scale, shift, index, edge_rows, n)
    _first(code, consts, edge_rows, n)
    _last(code, consts, edge_rows, n)
    for step in range(1, code[0] - 2):
        _middle(code, edge_rows, step, n)
