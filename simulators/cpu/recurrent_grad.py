"""The derivatives of the compiled steps of `recurrent`."""

from __future__ import annotations

from typing import Any

from .exponential import tanh
from .jit import LANES, add, allocating, bind, get, inline, kernel, put, windows
from .recurrent import (
    COS,
    COS_NOW,
    COS_SUM,
    FIRST,
    FREQUENCY_SUM,
    GRAD,
    SIN,
    SIN_NOW,
    SIN_SUM,
    SLOPE,
    SUM,
    VALUE,
    WAVE,
    Z,
    add_product,
    evaluate,
    rooms_of,
)  # fmt: skip


@inline
def _load(source: Any, at: int, n: int, room: Any) -> None:
    for lane in range(n):
        put(room, Z + lane, get(source, at + lane))


@inline
def _store_sums(room: Any, n: int, count: int, sums: Any, to: int, width: int) -> None:
    """Write the sums of n units of a gate in the order of the terms."""
    for lane in range(n):
        put(sums, to + lane, get(room, SUM + lane))
    for f in range(count):
        at, row = FIRST + f * WAVE, to + (3 * f + 1) * width
        for lane in range(n):
            put(sums, row + lane, get(room, at + FREQUENCY_SUM + lane))
            put(sums, row + width + lane, get(room, at + COS_SUM + lane))
            put(sums, row + 2 * width + lane, get(room, at + SIN_SUM + lane))


@inline
def _add_sums(room: Any, n: int, count: int) -> None:
    """Add what one sample contributes to the sums of a gate whose rows are evaluated."""
    for lane in range(n):
        add(room, SUM + lane, get(room, GRAD + lane))
    for f in range(count):
        at = FIRST + f * WAVE
        for lane in range(n):
            c, s = get(room, at + COS_NOW + lane), get(room, at + SIN_NOW + lane)
            a, b = get(room, at + COS + lane), get(room, at + SIN + lane)
            g = get(room, GRAD + lane)
            add(room, at + FREQUENCY_SUM + lane, get(room, Z + lane) * g * (b * c - a * s))
            add(room, at + COS_SUM + lane, g * c)
            add(room, at + SIN_SUM + lane, g * s)


@inline
def _close(room: Any, n: int, count: int, dz: Any, at: int) -> None:
    """Write the gradient by a gate's input, and add to its sums, from the gradient by its value."""
    for lane in range(n):
        put(dz, at + lane, get(room, GRAD + lane) * get(room, SLOPE + lane))
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
    evaluate(taken, n, count, fastest, False)
    evaluate(remembered, n, count, fastest, False)
    evaluate(new, n, count, fastest, True)
    evaluate(shown, n, count, fastest, False)
    for lane in range(n):
        i, f = get(taken, VALUE + lane), get(remembered, VALUE + lane)
        g, o = get(new, VALUE + lane), get(shown, VALUE + lane)
        before = get(memory, here + lane)
        seen = tanh(f * before + i * g)
        outer = get(dh, state + lane) + get(grad, here + lane)
        inner = get(dc, state + lane) + outer * o * (type(seen)(1) - seen * seen)
        put(shown, GRAD + lane, outer * seen)
        put(remembered, GRAD + lane, inner * before)
        put(taken, GRAD + lane, inner * g)
        put(new, GRAD + lane, inner * i)
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
    evaluate(reset, n, count, fastest, False)
    evaluate(update, n, count, fastest, False)
    evaluate(new, n, count, fastest, True)
    for lane in range(n):
        u, outer = get(update, VALUE + lane), get(dh, state + lane) + get(grad, here + lane)
        put(update, GRAD + lane, outer * (get(hidden, here + lane) - get(new, VALUE + lane)))
        put(new, GRAD + lane, outer - outer * u)
        put(dh, state + lane, outer * u)
    _close(new, n, count, dz, at + 2 * units)
    for lane in range(n):
        inner = get(dz, at + 2 * units + lane)
        put(reset, GRAD + lane, inner * get(recurrent, here + lane))
        put(drecurrent, here + lane, inner * get(reset, VALUE + lane))
    _close(reset, n, count, dz, at)
    _close(update, n, count, dz, at + units)


@allocating
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
        rooms = rooms_of(terms, units, gates, left, n, count)
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
                    add_product(dz, row * width, own, matrix, 0, units, dh, b * units)
                    if gates == 3:
                        add_product(
                            drecurrent, row * units, units, matrix, own, units, dh, b * units
                        )
        to = start // block * (1 + 3 * count) * width + left
        for gate in range(gates):
            _store_sums(rooms[gate], n, count, sums, to + gate * units, width)


@kernel
def backward_task(room: Any, *args: Any) -> Any:
    """Bind `backward` to its arguments."""
    return bind(backward, room, args)
