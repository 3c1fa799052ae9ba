"""Compiled steps of LSTM and GRU cells whose gates are base plus waves.

A unit of work is a block of samples, through all steps, where the kernel multiplies by the
recurrent weights itself; or a block of samples and at most `LANES` hidden units of one step, where
torch has done so before. What belongs to a gate stands in rows of one scratch array at distances
that the compiler knows, so that it sees that no two rows overlap and vectorises the loops over
them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .exponential import sigmoid, tanh
from .jit import LANES, add, allocating, bind, get, inline, kernel, put, windows
from .sincos import per_quarter, sincos, slow_sincos

Z, VALUE, SLOPE, GRAD, _CONSTANT, SUM = 0, LANES, 2 * LANES, 3 * LANES, 4 * LANES, 5 * LANES
FIRST = 6 * LANES
"""Rows of a gate: what goes in, its value and slope there, the gradient by the value, the constant
term, and the sum that makes its gradient; then the waves begin."""

_HIGH, _LOW, _FREQUENCY, COS, SIN = 0, LANES, 2 * LANES, 3 * LANES, 4 * LANES
COS_NOW, SIN_NOW = 5 * LANES, 6 * LANES
FREQUENCY_SUM, COS_SUM, SIN_SUM, WAVE = 7 * LANES, 8 * LANES, 9 * LANES, 10 * LANES
"""Rows of a wave: the frequency in quarter turns as two numbers that are added, the frequency, the
factors of cosine and sine; cosine and sine at the gate's input; the sums that make the gradients by
frequency and factors. Then the next wave's rows begin."""


@inline
def _load_terms(terms: Any, width: int, left: int, n: int, count: int, room: Any) -> None:
    """Write the terms of n units of a gate to its rows, and zeros to the sums."""
    zero = type(get(room, 0))(0)
    for lane in range(n):
        put(room, _CONSTANT + lane, get(terms, left + lane))
        put(room, SUM + lane, zero)
    for f in range(count):
        at, source = FIRST + f * WAVE, (3 * f + 1) * width + left
        for lane in range(n):
            frequency = get(terms, source + lane)
            hi, lo = per_quarter(frequency)
            put(room, at + _HIGH + lane, hi)
            put(room, at + _LOW + lane, lo)
            put(room, at + _FREQUENCY + lane, frequency)
            put(room, at + COS + lane, get(terms, source + width + lane))
            put(room, at + SIN + lane, get(terms, source + 2 * width + lane))
            put(room, at + FREQUENCY_SUM + lane, zero)
            put(room, at + COS_SUM + lane, zero)
            put(room, at + SIN_SUM + lane, zero)


@inline
def _turn(room: Any, at: int, n: int, is_large: bool) -> None:
    """Write cosine and sine of a wave at the inputs; slowly where angles may be large."""
    zero, kind = type(get(room, 0))(0), type(get(room, 0))
    if is_large:
        for lane in range(n):
            s, c = slow_sincos(get(room, at + _FREQUENCY + lane), 0.0, 0.0, get(room, Z + lane))
            put(room, at + COS_NOW + lane, kind(c))
            put(room, at + SIN_NOW + lane, kind(s))
    else:
        for lane in range(n):
            hi, lo = get(room, at + _HIGH + lane), get(room, at + _LOW + lane)
            s, c = sincos(hi, lo, zero, zero, get(room, Z + lane))
            put(room, at + COS_NOW + lane, c)
            put(room, at + SIN_NOW + lane, s)


@inline
def evaluate(room: Any, n: int, count: int, fastest: Any, is_tanh: bool) -> None:
    """Compute value and slope of a gate from its inputs."""
    one = type(get(room, 0))(1)
    largest = type(get(room, 0))(0)
    for lane in range(n):
        largest = max(largest, abs(get(room, Z + lane)))
    if is_tanh:
        for lane in range(n):
            base = tanh(get(room, Z + lane))
            put(room, VALUE + lane, base + get(room, _CONSTANT + lane))
            put(room, SLOPE + lane, one - base * base)
    else:
        for lane in range(n):
            base = sigmoid(get(room, Z + lane))
            put(room, VALUE + lane, base + get(room, _CONSTANT + lane))
            put(room, SLOPE + lane, base * (one - base))
    for f in range(count):
        at = FIRST + f * WAVE
        _turn(room, at, n, largest * fastest > 1e4)
        for lane in range(n):
            c, s = get(room, at + COS_NOW + lane), get(room, at + SIN_NOW + lane)
            a, b = get(room, at + COS + lane), get(room, at + SIN + lane)
            add(room, VALUE + lane, a * c + b * s)
            add(room, SLOPE + lane, get(room, at + _FREQUENCY + lane) * (b * c - a * s))


@inline
def _add_inputs(x: Any, at: int, y: Any, to: int, n: int, z: Any, room: Any) -> None:
    """Write what goes into a gate, x + y, to its rows and to the array that is kept."""
    for lane in range(n):
        value = get(x, at + lane) + get(y, to + lane)
        put(room, Z + lane, value)
        put(z, at + lane, value)


@inline
def add_product(
    factors: Any, at: int, count: int, matrix: Any, row: int, n: int, target: Any, to: int
) -> None:
    """Add a vector times rows of a matrix, from a given one on, to n numbers of the target."""
    last = count - count % 4
    for k in range(0, last, 4):
        a, b = get(factors, at + k), get(factors, at + k + 1)
        c, d = get(factors, at + k + 2), get(factors, at + k + 3)
        here = (row + k) * n
        for j in range(n):
            low = a * get(matrix, here + j) + b * get(matrix, here + n + j)
            high = c * get(matrix, here + 2 * n + j) + d * get(matrix, here + 3 * n + j)
            add(target, to + j, low + high)
    for k in range(last, count):
        a, here = get(factors, at + k), (row + k) * n
        for j in range(n):
            add(target, to + j, a * get(matrix, here + j))


@inline
def _lstm_step(
    x: Any, product: Any, h: Any, c: Any, kept: Any, rooms: Any, place: Any, limits: Any
) -> None:
    """Compute one sample's units of a step of an LSTM."""
    z, memory, hidden, out = kept
    taken, remembered, new, shown = rooms
    row, b, left, n, units = place
    count, fastest = limits
    at, to = row * 4 * units + left, b * 4 * units + left
    _add_inputs(x, at, product, to, n, z, taken)
    _add_inputs(x, at + units, product, to + units, n, z, remembered)
    _add_inputs(x, at + 2 * units, product, to + 2 * units, n, z, new)
    _add_inputs(x, at + 3 * units, product, to + 3 * units, n, z, shown)
    evaluate(taken, n, count, fastest, False)
    evaluate(remembered, n, count, fastest, False)
    evaluate(new, n, count, fastest, True)
    evaluate(shown, n, count, fastest, False)
    here, state = row * units + left, b * units + left
    for lane in range(n):
        before = get(c, state + lane)
        put(memory, here + lane, before)
        put(hidden, here + lane, get(h, state + lane))
        after = get(remembered, VALUE + lane) * before + get(taken, VALUE + lane) * get(
            new, VALUE + lane
        )
        value = get(shown, VALUE + lane) * tanh(after)
        put(c, state + lane, after)
        put(h, state + lane, value)
        put(out, here + lane, value)


@inline
def _gru_step(
    x: Any, product: Any, h: Any, c: Any, kept: Any, rooms: Any, place: Any, limits: Any
) -> None:
    """Compute one sample's units of a step of a GRU."""
    z, recurrent, hidden, out = kept
    reset, update, new, _ = rooms
    row, b, left, n, units = place
    count, fastest = limits
    at, to = row * 3 * units + left, b * 3 * units + left
    _add_inputs(x, at, product, to, n, z, reset)
    _add_inputs(x, at + units, product, to + units, n, z, update)
    evaluate(reset, n, count, fastest, False)
    evaluate(update, n, count, fastest, False)
    here, state = row * units + left, b * units + left
    for lane in range(n):
        part = get(product, to + 2 * units + lane)
        value = get(x, at + 2 * units + lane) + get(reset, VALUE + lane) * part
        put(recurrent, here + lane, part)
        put(new, Z + lane, value)
        put(z, at + 2 * units + lane, value)
    evaluate(new, n, count, fastest, True)
    for lane in range(n):
        before, value = get(h, state + lane), get(new, VALUE + lane)
        value += get(update, VALUE + lane) * (before - value)
        put(hidden, here + lane, before)
        put(h, state + lane, value)
        put(out, here + lane, value)


@allocating
def rooms_of(terms: Any, units: int, gates: int, left: int, n: int, count: int) -> Any:
    """The scratch arrays of the gates, with their terms."""
    size = FIRST + count * WAVE
    rooms = (
        np.empty(size, terms.dtype), np.empty(size, terms.dtype), np.empty(size, terms.dtype),
        np.empty(size if gates == 4 else 0, terms.dtype),
    )  # fmt: skip
    _load_terms(terms, gates * units, left, n, count, rooms[0])
    _load_terms(terms, gates * units, units + left, n, count, rooms[1])
    _load_terms(terms, gates * units, 2 * units + left, n, count, rooms[2])
    if gates == 4:
        _load_terms(terms, gates * units, 3 * units + left, n, count, rooms[3])
    return rooms


@allocating
def forward(
    x: Any, matrix: Any, bias: Any, product: Any, states: Any, terms: Any, spans: Any, kept: Any,
    shape: Any, fastest: Any, block: int, counter: Any,
) -> None:  # fmt: skip
    """Compute steps of a sequence.

    Args:
        x: (n·m·h,), what the inputs contribute to the gates.
        matrix: (h·m·h,), the transposed recurrent weights; empty where `product` is given.
        bias: (m·h,) that is added to the product with the weights.
        product: (b·m·h,), the hidden states times the weights, plus bias; else scratch.
        states: Hidden states (b·h,) and memories (b·h,), which are replaced by those after.
        terms: ((1 + 3·count)·m·h,), as `waves` describes them.
        spans: (2·t,) int64, the first row and the number of rows of each step.
        kept: Four arrays to write: what goes into the gates (n·m·h,); the memory before a step, or
            for a GRU the product's third gate (n·h,); the hidden state before (n·h,), and after.
        shape: (m, h, b, count).
        fastest: The largest frequency.
        block: Samples of a unit of work.
        counter: (1,) int64, 0, which all threads share.
    """
    gates, units, samples, count = shape
    width, (h, c) = gates * units, states
    for start, end, left, right in windows(counter, samples, block, units, LANES):
        n = right - left
        rooms = rooms_of(terms, units, gates, left, n, count)
        for t in range(spans.size // 2):
            first = spans[2 * t]
            for b in range(start, min(end, spans[2 * t + 1])):
                if matrix.size > 0:
                    for j in range(width):
                        put(product, b * width + j, get(bias, j))
                    add_product(h, b * units, units, matrix, 0, width, product, b * width)
                place = (first + b, b, left, n, units)
                if gates == 4:
                    _lstm_step(x, product, h, c, kept, rooms, place, (count, fastest))
                else:
                    _gru_step(x, product, h, c, kept, rooms, place, (count, fastest))


@kernel
def forward_task(room: Any, *args: Any) -> Any:
    """Bind `forward` to its arguments."""
    return bind(forward, room, args)
