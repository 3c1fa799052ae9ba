"""Where the kernels find every number: in a program's code, in the rows of edges and of samples.

A *row* is `LANES` numbers of a flat array, one for each lane of a tile: for each edge, or for each
sample. The kernels have two scratch arrays of such rows. `edge_rows` holds what belongs to an edge
whatever the sample, `sample_rows` what depends on the sample. Both begin anew with every tile and
are small enough for the first-level cache.

Between its R ≥ 2 data rotations Z_0 … Z_{R−1}, the rotations whose angle depends on x, a circuit
only has constant ones. So every edge becomes

    v_1 = cos e_0·A + sin e_0·B + C               first data rotation and the constant ones around
    v ← M_l Z_l v,  l = 1 … R−2                   (M_{R−2} is part of the last line)
    φ  = (cos e_{R−1}·A' + sin e_{R−1}·B' + C')·v   last data rotation, pulled back to meet v

with 3-vectors A, B, C, A', B', C' and matrices M_l. A vector is stored in the frame of the data
rotation that it enters: its components are permuted cyclically so that this rotation acts on the
first two of them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from .jit import LANES, inline


class EdgeArrays(NamedTuple):
    """What every kernel reads of the edges, each as one contiguous row.

    Where samples have parameters of their own, the edges are those of all samples; a parameter that
    is given for the edges of one sample only is shared by all of them.

    Attributes:
        code: The program's integers, see `HEADER`.
        consts: The program's numbers: initial vector, observable, constants of the records.
        theta: (edges·num_theta,).
        scale: (edges·num_encodings,), or (num_encodings,) shared by all edges.
        shift: (edges·num_encodings,), or empty for zero.
        weight: (edges,), or empty where the values of edges are wanted.
    """

    code: Any
    consts: Any
    theta: Any
    scale: Any
    shift: Any
    weight: Any


CONSTANT, AFFINE, ARCCOS, IDLE = range(4)
"""Kinds of rotation. The angle is the same for all samples; affine in x; the arccos of such; the
last kind turns by 0 and stands in for data rotations where a circuit has fewer than two."""

HEADER, RECORD = 6, 6
"""Sizes in the code array. The header is (R, records, num_theta, num_encodings, where the records
begin, where the list of the data rotations' records begins). A record describes one rotation:
(axis, kind, encoding, where its thetas begin, where they end, index of its shift or −1)."""

DATA_ROWS = 5
"""Edge rows of a data rotation. Affine: 2·scale/π as two numbers that are added, 2·offset/π as two
numbers, scale. Arccos: shift, cosine and sine of the offset, an unused row, scale."""

OUTPUT_ROW, INPUT_ROW, SHARED_ROW, EDGES_AT = LANES, 2 * LANES, 3 * LANES, 4 * LANES
DONE, WINDOW, TOP, LEFT, RIGHT = range(EDGES_AT + 1, EDGES_AT + 6)
INDEX = EDGES_AT + 6
"""Size of the index, an integer array that says which edge stands in which lane. Its rows are the
edges' own numbers, their outputs', their inputs', and the edges' numbers among the edges of one
sample, by which parameters are found that all samples share. Then come the number of all edges,
and the window of edges that a thread works on: how many of its edges are done, how many it has, its
first output, its first input, and the end of its inputs."""

LANEWISE = 0
"""The number of all edges of an index whose parameters are copied to the lanes: number k of lane j
is element k·LANES + j of a copy."""

SIN, STATE, SLOPE, ARCCOS_SLOPE, STEP = LANES, 2 * LANES, 5 * LANES, 6 * LANES, 7 * LANES
"""Offsets in the sample rows of a data rotation, whose first row is the cosine: the sine, the state
after it (three rows), ∂φ/∂angle, ∂angle/∂e (arccos only); then the next data rotation's rows."""


@inline
def adjoint_at(data: int) -> int:
    """Offset in the sample rows of the adjoint λ, three rows."""
    return data * STEP


@inline
def x_at(data: int) -> int:
    """Offset in the sample rows of x; then come rows of ∂/∂x, of the gradient, and a weight."""
    return data * STEP + 3 * LANES


@inline
def sample_size(data: int) -> int:
    """Numbers in the sample rows."""
    return data * STEP + 7 * LANES


@inline
def first_at(data: int) -> int:
    """Offset in the edge rows of A, B, C."""
    return DATA_ROWS * data * LANES


@inline
def last_at(data: int) -> int:
    """Offset in the edge rows of A', B', C'."""
    return first_at(data) + 9 * LANES


@inline
def middle_at(data: int, step: int) -> int:
    """Offset in the edge rows of the matrix M_step by rows, 1 ≤ step ≤ R−3."""
    return last_at(data) + 9 * step * LANES


@inline
def initial_at(data: int) -> int:
    """Offset in the edge rows of the initial vector and the observable, then a spare row.

    The initial vector is the one after the constant rotations before the first data rotation, the
    observable the one pulled back through those after the last.
    """
    return middle_at(data, max(data - 2, 1))


@inline
def trig_at(data: int, record: int) -> int:
    """Offset in the edge rows of cos, sin of a constant rotation's angle, or an arccos's offset."""
    return initial_at(data) + (7 + 2 * record) * LANES


@inline
def sums_at(code: Any) -> int:
    """Offset in the edge rows of the sums over samples that `edge_grad` makes gradients of."""
    return trig_at(code[0], code[1])


@inline
def sum_rows(code: Any) -> int:
    """Rows of sums: nine at either end, three a middle step, three a data rotation."""
    return 18 + 3 * max(code[0] - 3, 0) + 3 * code[0]


@inline
def torque_sums_at(code: Any, step: int) -> int:
    """Offset in the edge rows of the sum of torques after Z_step, 1 ≤ step ≤ R−3."""
    return sums_at(code) + (15 + 3 * step) * LANES


@inline
def data_sums_at(code: Any, step: int) -> int:
    """Offset in the edge rows of the three sums of a data rotation."""
    return sums_at(code) + (18 + 3 * max(code[0] - 3, 0) + 3 * step) * LANES


@inline
def edge_size(code: Any) -> int:
    """Numbers in the edge rows; the last rows, after the sums, hold one torque and a spare row."""
    return sums_at(code) + (sum_rows(code) + 4) * LANES


@inline
def record_at(code: Any, record: int) -> int:
    """Where a record begins in the code."""
    return code[4] + RECORD * record


@inline
def data_record(code: Any, step: int) -> int:
    """The record of data rotation `step`; for step = R the number of records."""
    return code[code[5] + step]


@inline
def data_kind(code: Any, step: int) -> int:
    """The kind of data rotation `step`."""
    return code[record_at(code, data_record(code, step)) + 1]


@inline
def data_axis(code: Any, step: int) -> int:
    """The axis of data rotation `step`."""
    return code[record_at(code, data_record(code, step))]


@inline
def last_frame(code: Any) -> int:
    """The axis of the data rotation in whose frame A', B', C' meet the state."""
    return data_axis(code, max(code[0] - 2, 1))
