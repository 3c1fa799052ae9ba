"""What belongs to an edge and not to the sample: computed once an edge, for a row of edges at once.

Between its R ≥ 2 data rotations Z_0 … Z_{R−1} a circuit only has edge-constant ones. A lowered
program becomes, for every edge,

    v_1 = cos e_0·A + sin e_0·B + C             first data rotation and all constant ones around it
    v ← M_l Z_l v,  l = 1 … R−2                 (M_{R−2} belongs to the last)
    φ  = (cos e_{R−1}·A' + sin e_{R−1}·B' + C')·v   last data rotation, pulled back to meet v

with 3-vectors A, B, C, A', B', C' and matrices M_l. Vectors are stored in the frame of the data
rotation they enter, cyclically permuted so that it acts on components 0 and 1.

Edges lie along rows of `LANES` numbers. An index of `INDEX` integers says which edge stands in
which lane: a row of the edges' numbers, one of their outputs' and one of their inputs', and one of
the edges' numbers among those of one sample, by which parameters are found that all samples share;
then how many edges there are. A workspace `cw` holds, by the offsets below, the data rotations'
constants, the vectors and matrices above, the initial vector after the leading and the
observable before the closing constant rotations, and cos, sin of every constant rotation.
"""

from __future__ import annotations

from typing import Any

from .jit import LANES, exact, get, inline, put, spliced
from .sincos import per_quarter, quarter_turns, sincos

CONSTANT, AFFINE, ARCCOS, IDLE = range(4)
"""Kinds of rotation: edge-constant; angle affine in x; arccos of such; none (pads R to 2)."""

HEADER, RECORD = 6, 6
"""Sizes in the code array: (R, records, num_theta, num_encodings, where records begin, where the
list of data records does); a record is (axis, kind, encoding, where its thetas begin, where they
end, shift or −1)."""

DATA_ROWS = 5
"""Affine: 2·scale/π (hi, lo), 2·offset/π (hi, lo), scale. Arccos: shift, cos and sin of the offset,
nothing, scale."""

OUTPUT_ROW, INPUT_ROW, SHARED_ROW, EDGES_AT = LANES, 2 * LANES, 3 * LANES, 4 * LANES
"""Offsets in the index, whose first row are the edges."""
INDEX = EDGES_AT + 1
"""Size of the index."""


@inline
def first_at(data: int) -> int:
    """Offset of A, B, C."""
    return DATA_ROWS * data * LANES


@inline
def last_at(data: int) -> int:
    """Offset of A', B', C'."""
    return first_at(data) + 9 * LANES


@inline
def middle_at(data: int, step: int) -> int:
    """Offset of M_step, 1 ≤ step ≤ R−3, by rows."""
    return last_at(data) + 9 * step * LANES


@inline
def initial_at(data: int) -> int:
    """Offset of the initial vector; the observable follows, then a spare row."""
    return middle_at(data, max(data - 2, 1))


@inline
def trig_at(data: int, record: int) -> int:
    """Offset of cos, sin of a constant rotation's angle (or of an arccos rotation's offset)."""
    return initial_at(data) + (7 + 2 * record) * LANES


@inline
def sums_at(code: Any) -> int:
    """Offset of the sums over samples that the gradients are made of, see `_edge_grad`."""
    return trig_at(code[0], code[1])


@inline
def sum_rows(code: Any) -> int:
    """Rows of sums: nine for either end, three a middle step, three a data rotation."""
    return 18 + 3 * max(code[0] - 3, 0) + 3 * code[0]


@inline
def workspace_size(code: Any) -> int:
    """Numbers in the workspace; three rows after the sums hold a torque."""
    return sums_at(code) + (sum_rows(code) + 4) * LANES


@inline
def record_at(code: Any, record: int) -> int:
    """Where a record begins."""
    return code[4] + RECORD * record


@inline
def data_record(code: Any, step: int) -> int:
    """Index of the record of a data rotation; the number of records for step = R."""
    return code[code[5] + step]


@inline
def data_axis(code: Any, step: int) -> int:
    """Axis of a data rotation."""
    return code[record_at(code, data_record(code, step))]


@inline
def turn(w: Any, i: int, j: int, cs: int, sign: int, n: int) -> None:
    """(w_i, w_j) ← (c·w_i − s·w_j, s·w_i + c·w_j), or back for sign = −1, with c, s at `cs`."""
    for lane in range(n):
        c, s = get(w, cs + lane), get(w, cs + LANES + lane)
        p, q = get(w, i + lane), get(w, j + lane)
        s = s if sign > 0 else -s
        put(w, i + lane, c * p - s * q)
        put(w, j + lane, s * p + c * q)


@inline
def turn_vector(w: Any, at: int, frame: int, axis: int, cs: int, sign: int, n: int) -> None:
    """Turn a vector stored in the frame of `frame` about `axis`."""
    i, j = (axis - frame) % 3, (axis - frame + 1) % 3
    turn(w, at + i * LANES, at + j * LANES, cs, sign, n)


@inline
def fill(w: Any, at: int, value: float, n: int) -> None:
    """Set a row."""
    for lane in range(n):
        put(w, at + lane, value)


@inline
def copy(w: Any, source: int, target: int, sign: int, n: int) -> None:
    """Copy a row, with a sign."""
    for lane in range(n):
        value = get(w, source + lane)
        put(w, target + lane, value if sign > 0 else -value)


@inline
def row_of(values: Any, index: Any, stride: int) -> int:
    """The row of the index that an array with so many numbers an edge is read by."""
    return 0 if values.size >= index[EDGES_AT] * stride else SHARED_ROW


@inline
def gather(values: Any, index: Any, stride: int, offset: int, w: Any, at: int, n: int) -> None:
    """Add values[stride·index + offset] to a row."""
    row = row_of(values, index, stride)
    for lane in range(n):
        value = get(values, get(index, row + lane) * stride + offset)
        put(w, at + lane, get(w, at + lane) + value)


@exact
def _constant_trig(w: Any, angle: int, at: int, n: int) -> None:
    """Cos and sin of a row of angles."""
    for lane in range(n):
        hi, lo = quarter_turns(get(w, angle + lane))
        s, c = sincos(hi - hi, hi - hi, hi, lo, hi - hi)
        put(w, at + lane, c)
        put(w, at + LANES + lane, s)


@exact
def _split_affine(w: Any, angle: int, at: int, n: int) -> None:
    """A data rotation's scale (in its row) and offset, in quarter turns and two parts each."""
    for lane in range(n):
        s_hi, s_lo = per_quarter(get(w, at + 4 * LANES + lane))
        a_hi, a_lo = quarter_turns(get(w, angle + lane))
        put(w, at + lane, s_hi)
        put(w, at + LANES + lane, s_lo)
        put(w, at + 2 * LANES + lane, a_hi)
        put(w, at + 3 * LANES + lane, a_lo)


@spliced
def _angle(
    code: Any, consts: Any, record: int, theta: Any, index: Any, w: Any, at: int, n: int
) -> None:
    """Constant plus thetas of a rotation, into a row."""
    fill(w, at, consts[6 + record], n)
    where = record_at(code, record)
    for k in range(code[where + 3], code[where + 4]):
        gather(theta, index, code[2], code[k], w, at, n)


@spliced
def angles(
    code: Any, consts: Any, theta: Any, scale: Any, shift: Any, index: Any, w: Any, n: int
) -> None:
    """All angles: constant rotations' cos and sin, data rotations' constants."""
    data, step = code[0], 0
    angle = initial_at(data) + 6 * LANES
    per_edge = 0 if scale.size == code[3] else code[3]
    for record in range(code[1]):
        where = record_at(code, record)
        kind, u = code[where + 1], code[where + 2]
        if kind != IDLE:
            _angle(code, consts, record, theta, index, w, angle, n)
        if code[where + 5] >= 0 and shift.size > 0:
            gather(shift, index, code[3], code[where + 5], w, angle, n)
        at = DATA_ROWS * step * LANES
        if kind == AFFINE or kind == ARCCOS:
            fill(w, at + 4 * LANES, 0.0, n)
            gather(scale, index, per_edge, u, w, at + 4 * LANES, n)
        if kind == AFFINE:
            _split_affine(w, angle, at, n)
        elif kind == CONSTANT:
            _constant_trig(w, angle, trig_at(data, record), n)
        elif kind == ARCCOS:
            _constant_trig(w, angle, at + LANES, n)
            fill(w, at, 0.0, n)
            if shift.size > 0:
                gather(shift, index, code[3], u, w, at, n)
        step += kind != CONSTANT


@inline
def _swing(w: Any, vector: int, at: int, frame: int, axis: int, sign: int, n: int) -> None:
    """Parts of a vector that a rotation about `axis` takes to cos·a + sin·b + c (sign −1: back)."""
    i = (axis - frame) % 3 * LANES
    j = (axis - frame + 1) % 3 * LANES
    k = (axis - frame + 2) % 3 * LANES
    copy(w, vector + i, at + i, 1, n)
    copy(w, vector + j, at + j, 1, n)
    copy(w, vector + j, at + 3 * LANES + i, -sign, n)
    copy(w, vector + i, at + 3 * LANES + j, sign, n)
    copy(w, vector + k, at + 6 * LANES + k, 1, n)
    fill(w, at + k, 0.0, n)
    fill(w, at + 3 * LANES + k, 0.0, n)
    fill(w, at + 6 * LANES + i, 0.0, n)
    fill(w, at + 6 * LANES + j, 0.0, n)


@inline
def turn_three(code: Any, w: Any, at: int, frame: int, record: int, sign: int, n: int) -> None:
    """Turn three consecutive vectors by a constant rotation."""
    axis = code[record_at(code, record)]
    cs = trig_at(code[0], record)
    for vector in range(3):
        turn_vector(w, at + 3 * vector * LANES, frame, axis, cs, sign, n)


@spliced
def _first(code: Any, consts: Any, w: Any, n: int) -> None:
    """The initial vector after the leading rotations, and A, B, C."""
    data, frame = code[0], data_axis(code, 1)
    vector, at = initial_at(data), first_at(data)
    for axis in range(3):
        fill(w, vector + (axis - frame + 2) % 3 * LANES, consts[axis], n)
    for record in range(data_record(code, 0)):
        axis = code[record_at(code, record)]
        turn_vector(w, vector, frame, axis, trig_at(data, record), 1, n)
    _swing(w, vector, at, frame, data_axis(code, 0), 1, n)
    for record in range(data_record(code, 0) + 1, data_record(code, 1)):
        turn_three(code, w, at, frame, record, 1, n)


@inline
def last_frame(code: Any) -> int:
    """Axis of the data rotation in whose frame A', B', C' meet the state."""
    return data_axis(code, max(code[0] - 2, 1))


@spliced
def _last(code: Any, consts: Any, w: Any, n: int) -> None:
    """The observable before the closing rotations, and A', B', C'."""
    data, frame = code[0], last_frame(code)
    vector, at = initial_at(data) + 3 * LANES, last_at(data)
    for axis in range(3):
        fill(w, vector + (axis - frame + 2) % 3 * LANES, consts[3 + axis], n)
    for record in range(code[1] - 1, data_record(code, data - 1), -1):
        axis = code[record_at(code, record)]
        turn_vector(w, vector, frame, axis, trig_at(data, record), -1, n)
    _swing(w, vector, at, frame, data_axis(code, data - 1), -1, n)
    if data > 2:
        begin = data_record(code, data - 2)
        for record in range(data_record(code, data - 1) - 1, begin, -1):
            turn_three(code, w, at, frame, record, -1, n)


@spliced
def _middle(code: Any, w: Any, step: int, n: int) -> None:
    """M_step: its columns in the frame of its data rotation, its rows in that of the next."""
    data, inner, outer = code[0], data_axis(code, step), data_axis(code, step + 1)
    at = middle_at(data, step)
    for axis in range(3):
        row = (axis - outer + 2) % 3
        for column in range(3):
            one = 1.0 if (axis - inner + 2) % 3 == column else 0.0
            fill(w, at + (3 * row + column) * LANES, one, n)
    for record in range(data_record(code, step) + 1, data_record(code, step + 1)):
        axis = code[record_at(code, record)]
        i, j = (axis - outer) % 3, (axis - outer + 1) % 3
        cs = trig_at(data, record)
        for column in range(3):
            turn(w, at + (3 * i + column) * LANES, at + (3 * j + column) * LANES, cs, 1, n)


@inline
def prepare(
    code: Any, consts: Any, theta: Any, scale: Any, shift: Any, index: Any, cw: Any, n: int
) -> None:
    """Fill the workspace for n ≤ LANES edges.

    Args:
        code: The program's integers, see `HEADER`.
        consts: Initial vector, observable, constants of the records.
        theta: (edges·num_theta,), or of the edges of one sample, as the following.
        scale: (edges·num_encodings,), or (num_encodings,) shared by all edges.
        shift: (edges·num_encodings,), or empty for zero.
        index: (INDEX,) which edge stands in which lane.
        cw: The workspace, `workspace_size` numbers.
        n: Lanes in use.
    """
    angles(code, consts, theta, scale, shift, index, cw, n)
    _first(code, consts, cw, n)
    _last(code, consts, cw, n)
    for step in range(1, code[0] - 2):
        _middle(code, cw, step, n)
