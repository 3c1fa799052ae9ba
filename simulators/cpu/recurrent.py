"""Compiled steps of LSTM and GRU cells whose gates are base plus waves, and their derivatives.

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
from .jit import LANES, add, bind, get, inline, kernel, put, windows
from .sincos import per_quarter, sincos, slow_sincos

_Z, _VALUE, _SLOPE, _GRAD, _CONSTANT, _SUM = 0, LANES, 2 * LANES, 3 * LANES, 4 * LANES, 5 * LANES
_FIRST = 6 * LANES
"""Rows of a gate: what goes in, its value and slope there, the gradient by the value, the constant
term, and the sum that makes its gradient; then the waves begin."""

_HIGH, _LOW, _FREQUENCY, _COS, _SIN = 0, LANES, 2 * LANES, 3 * LANES, 4 * LANES
_COS_NOW, _SIN_NOW = 5 * LANES, 6 * LANES
_FREQUENCY_SUM, _COS_SUM, _SIN_SUM, _WAVE = 7 * LANES, 8 * LANES, 9 * LANES, 10 * LANES
"""Rows of a wave: the frequency in quarter turns as two numbers that are added, the frequency, the
factors of cosine and sine; cosine and sine at the gate's input; the sums that make the gradients by
frequency and factors. Then the next wave's rows begin."""


@inline
def _load_terms(terms: Any, width: int, left: int, n: int, count: int, room: Any) -> None:
    """Write the terms of n units of a gate to its rows, and zeros to the sums."""
    zero = type(get(room, 0))(0)
    for lane in range(n):
        put(room, _CONSTANT + lane, get(terms, left + lane))
        put(room, _SUM + lane, zero)
    for f in range(count):
        at, source = _FIRST + f * _WAVE, (3 * f + 1) * width + left
        for lane in range(n):
            frequency = get(terms, source + lane)
            hi, lo = per_quarter(frequency)
            put(room, at + _HIGH + lane, hi)
            put(room, at + _LOW + lane, lo)
            put(room, at + _FREQUENCY + lane, frequency)
            put(room, at + _COS + lane, get(terms, source + width + lane))
            put(room, at + _SIN + lane, get(terms, source + 2 * width + lane))
            put(room, at + _FREQUENCY_SUM + lane, zero)
            put(room, at + _COS_SUM + lane, zero)
            put(room, at + _SIN_SUM + lane, zero)


@inline
def _store_sums(room: Any, n: int, count: int, sums: Any, to: int, width: int) -> None:
    """Write the sums of n units of a gate in the order of the terms."""
    for lane in range(n):
        put(sums, to + lane, get(room, _SUM + lane))
    for f in range(count):
        at, row = _FIRST + f * _WAVE, to + (3 * f + 1) * width
        for lane in range(n):
            put(sums, row + lane, get(room, at + _FREQUENCY_SUM + lane))
            put(sums, row + width + lane, get(room, at + _COS_SUM + lane))
            put(sums, row + 2 * width + lane, get(room, at + _SIN_SUM + lane))


@inline
def _turn(room: Any, at: int, n: int, is_large: bool) -> None:
    """Write cosine and sine of a wave at the inputs; slowly where angles may be large."""
    zero, kind = type(get(room, 0))(0), type(get(room, 0))
    if is_large:
        for lane in range(n):
            s, c = slow_sincos(get(room, at + _FREQUENCY + lane), 0.0, 0.0, get(room, _Z + lane))
            put(room, at + _COS_NOW + lane, kind(c))
            put(room, at + _SIN_NOW + lane, kind(s))
    else:
        for lane in range(n):
            hi, lo = get(room, at + _HIGH + lane), get(room, at + _LOW + lane)
            s, c = sincos(hi, lo, zero, zero, get(room, _Z + lane))
            put(room, at + _COS_NOW + lane, c)
            put(room, at + _SIN_NOW + lane, s)


@inline
def _evaluate(room: Any, n: int, count: int, fastest: Any, is_tanh: bool) -> None:
    """Compute value and slope of a gate from its inputs."""
    one = type(get(room, 0))(1)
    largest = type(get(room, 0))(0)
    for lane in range(n):
        largest = max(largest, abs(get(room, _Z + lane)))
    if is_tanh:
        for lane in range(n):
            base = tanh(get(room, _Z + lane))
            put(room, _VALUE + lane, base + get(room, _CONSTANT + lane))
            put(room, _SLOPE + lane, one - base * base)
    else:
        for lane in range(n):
            base = sigmoid(get(room, _Z + lane))
            put(room, _VALUE + lane, base + get(room, _CONSTANT + lane))
            put(room, _SLOPE + lane, base * (one - base))
    for f in range(count):
        at = _FIRST + f * _WAVE
        _turn(room, at, n, largest * fastest > 1e4)
        for lane in range(n):
            c, s = get(room, at + _COS_NOW + lane), get(room, at + _SIN_NOW + lane)
            a, b = get(room, at + _COS + lane), get(room, at + _SIN + lane)
            add(room, _VALUE + lane, a * c + b * s)
            add(room, _SLOPE + lane, get(room, at + _FREQUENCY + lane) * (b * c - a * s))


@inline
def _add_sums(room: Any, n: int, count: int) -> None:
    """Add what one sample contributes to the sums of a gate whose rows are evaluated."""
    for lane in range(n):
        add(room, _SUM + lane, get(room, _GRAD + lane))
    for f in range(count):
        at = _FIRST + f * _WAVE
        for lane in range(n):
            c, s = get(room, at + _COS_NOW + lane), get(room, at + _SIN_NOW + lane)
            a, b = get(room, at + _COS + lane), get(room, at + _SIN + lane)
            g = get(room, _GRAD + lane)
            add(room, at + _FREQUENCY_SUM + lane, get(room, _Z + lane) * g * (b * c - a * s))
            add(room, at + _COS_SUM + lane, g * c)
            add(room, at + _SIN_SUM + lane, g * s)


@inline
def _add_inputs(x: Any, at: int, y: Any, to: int, n: int, z: Any, room: Any) -> None:
    """Write what goes into a gate, x + y, to its rows and to the array that is kept."""
    for lane in range(n):
        value = get(x, at + lane) + get(y, to + lane)
        put(room, _Z + lane, value)
        put(z, at + lane, value)


@inline
def _load(source: Any, at: int, n: int, room: Any) -> None:
    for lane in range(n):
        put(room, _Z + lane, get(source, at + lane))


@inline
def _add_product(
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
    _evaluate(taken, n, count, fastest, False)
    _evaluate(remembered, n, count, fastest, False)
    _evaluate(new, n, count, fastest, True)
    _evaluate(shown, n, count, fastest, False)
    here, state = row * units + left, b * units + left
    for lane in range(n):
        before = get(c, state + lane)
        put(memory, here + lane, before)
        put(hidden, here + lane, get(h, state + lane))
        after = get(remembered, _VALUE + lane) * before + get(taken, _VALUE + lane) * get(
            new, _VALUE + lane
        )
        value = get(shown, _VALUE + lane) * tanh(after)
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
    _evaluate(reset, n, count, fastest, False)
    _evaluate(update, n, count, fastest, False)
    here, state = row * units + left, b * units + left
    for lane in range(n):
        part = get(product, to + 2 * units + lane)
        value = get(x, at + 2 * units + lane) + get(reset, _VALUE + lane) * part
        put(recurrent, here + lane, part)
        put(new, _Z + lane, value)
        put(z, at + 2 * units + lane, value)
    _evaluate(new, n, count, fastest, True)
    for lane in range(n):
        before, value = get(h, state + lane), get(new, _VALUE + lane)
        value += get(update, _VALUE + lane) * (before - value)
        put(hidden, here + lane, before)
        put(h, state + lane, value)
        put(out, here + lane, value)


@inline
def _rooms(terms: Any, units: int, gates: int, left: int, n: int, count: int) -> Any:
    """The scratch arrays of the gates, with their terms."""
    size = _FIRST + count * _WAVE
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


@inline
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
        rooms = _rooms(terms, units, gates, left, n, count)
        for t in range(spans.size // 2):
            first = spans[2 * t]
            for b in range(start, min(end, spans[2 * t + 1])):
                if matrix.size > 0:
                    for j in range(width):
                        put(product, b * width + j, get(bias, j))
                    _add_product(h, b * units, units, matrix, 0, width, product, b * width)
                place = (first + b, b, left, n, units)
                if gates == 4:
                    _lstm_step(x, product, h, c, kept, rooms, place, (count, fastest))
                else:
                    _gru_step(x, product, h, c, kept, rooms, place, (count, fastest))


@inline
def _close(room: Any, n: int, count: int, dz: Any, at: int) -> None:
    """Write the gradient by a gate's input, and add to its sums, from the gradient by its value."""
    for lane in range(n):
        put(dz, at + lane, get(room, _GRAD + lane) * get(room, _SLOPE + lane))
    _add_sums(room, n, count)


@inline
def _lstm_slopes(
    grad: Any, dh: Any, dc: Any, kept: Any, found: Any, rooms: Any, place: Any, limits: Any
) -> None:
    """Compute one sample's gradients of a step of an LSTM."""
    z, memory = kept
    dz, _ = found
    taken, remembered, new, shown = rooms
    row, b, left, n, units = place
    count, fastest = limits
    at, here, state = row * 4 * units + left, row * units + left, b * units + left
    _load(z, at, n, taken)
    _load(z, at + units, n, remembered)
    _load(z, at + 2 * units, n, new)
    _load(z, at + 3 * units, n, shown)
    _evaluate(taken, n, count, fastest, False)
    _evaluate(remembered, n, count, fastest, False)
    _evaluate(new, n, count, fastest, True)
    _evaluate(shown, n, count, fastest, False)
    for lane in range(n):
        i, f = get(taken, _VALUE + lane), get(remembered, _VALUE + lane)
        g, o = get(new, _VALUE + lane), get(shown, _VALUE + lane)
        before = get(memory, here + lane)
        seen = tanh(f * before + i * g)
        outer = get(dh, state + lane) + get(grad, here + lane)
        inner = get(dc, state + lane) + outer * o * (type(seen)(1) - seen * seen)
        put(shown, _GRAD + lane, outer * seen)
        put(remembered, _GRAD + lane, inner * before)
        put(taken, _GRAD + lane, inner * g)
        put(new, _GRAD + lane, inner * i)
        put(dc, state + lane, inner * f)
        put(dh, state + lane, type(seen)(0))
    _close(taken, n, count, dz, at)
    _close(remembered, n, count, dz, at + units)
    _close(new, n, count, dz, at + 2 * units)
    _close(shown, n, count, dz, at + 3 * units)


@inline
def _gru_slopes(
    grad: Any, dh: Any, hidden: Any, kept: Any, found: Any, rooms: Any, place: Any, limits: Any
) -> None:
    """Compute one sample's gradients of a step of a GRU."""
    z, recurrent = kept
    dz, drecurrent = found
    reset, update, new, _ = rooms
    row, b, left, n, units = place
    count, fastest = limits
    at, here, state = row * 3 * units + left, row * units + left, b * units + left
    _load(z, at, n, reset)
    _load(z, at + units, n, update)
    _load(z, at + 2 * units, n, new)
    _evaluate(reset, n, count, fastest, False)
    _evaluate(update, n, count, fastest, False)
    _evaluate(new, n, count, fastest, True)
    for lane in range(n):
        u, outer = get(update, _VALUE + lane), get(dh, state + lane) + get(grad, here + lane)
        put(update, _GRAD + lane, outer * (get(hidden, here + lane) - get(new, _VALUE + lane)))
        put(new, _GRAD + lane, outer - outer * u)
        put(dh, state + lane, outer * u)
    _close(new, n, count, dz, at + 2 * units)
    for lane in range(n):
        inner = get(dz, at + 2 * units + lane)
        put(reset, _GRAD + lane, inner * get(recurrent, here + lane))
        put(drecurrent, here + lane, inner * get(reset, _VALUE + lane))
    _close(reset, n, count, dz, at)
    _close(update, n, count, dz, at + units)


@inline
def backward(
    grad: Any, matrix: Any, states: Any, terms: Any, spans: Any, kept: Any, found: Any, sums: Any,
    shape: Any, fastest: Any, block: int, counter: Any,
) -> None:  # fmt: skip
    """Compute the gradients of `forward`, from the last step to the first.

    Args:
        grad: (n·h,), the gradient by the hidden states of all rows.
        matrix: (m·h·h,), the recurrent weights; empty where torch multiplies by them.
        states: The gradients by the hidden states and the memories after the steps, (b·h,) each,
            which are replaced by those before; where torch multiplies, without the share that goes
            through the weights.
        terms: As in `forward`.
        spans: As in `forward`.
        kept: The first three arrays that `forward` wrote.
        found: Two arrays to write: the gradient by what goes into the gates (n·m·h,), and, for a
            GRU, that by the product's third gate (n·h,).
        sums: (blocks·(1 + 3·count)·m·h,), to which the sums over blocks are written.
        shape: As in `forward`.
        fastest: The largest frequency.
        block: Samples of a unit of work.
        counter: (1,) int64, 0, which all threads share.
    """
    gates, units, samples, count = shape
    width, (dh, dc), (dz, drecurrent) = gates * units, states, found
    z, extra, hidden = kept
    for start, end, left, right in windows(counter, samples, block, units, LANES):
        n = right - left
        rooms = _rooms(terms, units, gates, left, n, count)
        for t in range(spans.size // 2 - 1, -1, -1):
            first = spans[2 * t]
            for b in range(start, min(end, spans[2 * t + 1])):
                row = first + b
                place, limits = (row, b, left, n, units), (count, fastest)
                if gates == 4:
                    _lstm_slopes(grad, dh, dc, (z, extra), found, rooms, place, limits)
                else:
                    _gru_slopes(grad, dh, hidden, (z, extra), found, rooms, place, limits)
                if matrix.size > 0:
                    own = width if gates == 4 else 2 * units
                    _add_product(dz, row * width, own, matrix, 0, units, dh, b * units)
                    if gates == 3:
                        _add_product(
                            drecurrent, row * units, units, matrix, own, units, dh, b * units
                        )
        to = start // block * (1 + 3 * count) * width + left
        for gate in range(gates):
            _store_sums(rooms[gate], n, count, sums, to + gate * units, width)


@kernel
def forward_task(room: Any, *args: Any) -> Any:
    """Bind `forward` to its arguments."""
    return bind(forward, room, args)


@kernel
def backward_task(room: Any, *args: Any) -> Any:
    """Bind `backward` to its arguments."""
    return bind(backward, room, args)
