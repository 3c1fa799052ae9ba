"""A compiled sum of sinusoids of every input, and its derivatives, in one pass each.

The parameters stand in rows as wide as x: `terms[0]` is the constant, and wave f has its frequency
in row 3f + 1, and what its cosine and its sine are multiplied by in rows 3f + 2 and 3f + 3.

A unit of work is a block of samples and at most `LANES` inputs. What belongs to its inputs stands
in rows of one scratch array at distances that the compiler knows, so that it sees that no two rows
overlap and vectorises the loops over them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .jit import LANES, add, bind, get, inline, kernel, put, windows
from .sincos import per_quarter, sincos, slow_sincos

_X, _G, _OUT, _CONSTANT, _FIRST = 0, LANES, 2 * LANES, 3 * LANES, 4 * LANES
"""Rows of the scratch array: inputs, gradients, results, constants, and where the waves begin."""

_HIGH, _LOW, _COS, _SIN, _FREQUENCY = 0, LANES, 2 * LANES, 3 * LANES, 4 * LANES
_FREQUENCY_SUM, _COS_SUM, _SIN_SUM, _WAVE = 5 * LANES, 6 * LANES, 7 * LANES, 8 * LANES
"""Rows of a wave: the frequency in quarter turns as two numbers that are added, the factors of
cosine and sine, the frequency; the sums that make the gradients by the last three; then the next
wave's rows begin."""


@inline
def _load_terms(terms: Any, width: int, left: int, n: int, count: int, room: Any) -> None:
    """Write the terms of n inputs to the scratch array, and zeros to the sums."""
    zero = type(get(room, 0))(0)
    for lane in range(n):
        put(room, _CONSTANT + lane, get(terms, left + lane))
        put(room, _G + lane, zero)
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
def _load(source: Any, at: int, n: int, room: Any, to: int) -> Any:
    """Write n numbers to a row; returns the largest size among them."""
    largest = type(get(room, 0))(0)
    for lane in range(n):
        value = get(source, at + lane)
        put(room, to + lane, value)
        largest = max(largest, abs(value))
    return largest


@inline
def _add_wave(room: Any, at: int, n: int) -> None:
    """Add one wave to the results."""
    zero = type(get(room, 0))(0)
    for lane in range(n):
        hi, lo = get(room, at + _HIGH + lane), get(room, at + _LOW + lane)
        s, c = sincos(hi, lo, zero, zero, get(room, _X + lane))
        wave = get(room, at + _COS + lane) * c + get(room, at + _SIN + lane) * s
        add(room, _OUT + lane, wave)


@inline
def _add_large_wave(room: Any, at: int, n: int) -> None:
    """Add one wave to the results, slowly, for angles of any size."""
    kind = type(get(room, 0))
    for lane in range(n):
        frequency, x = get(room, at + _FREQUENCY + lane), get(room, _X + lane)
        s, c = slow_sincos(frequency, 0.0, 0.0, x)
        wave = get(room, at + _COS + lane) * kind(c) + get(room, at + _SIN + lane) * kind(s)
        add(room, _OUT + lane, wave)


@inline
def waves(
    x: Any, base: Any, terms: Any, out: Any, shape: Any, fastest: Any, block: int, counter: Any
) -> None:
    """out[b, i] = base[b, i] + terms[0, i] + Σ_f A_fi·cos ω_fi·x[b, i] + B_fi·sin ω_fi·x[b, i].

    Args:
        x: (b·i,).
        base: (b·i,).
        terms: ((1 + 3·count)·i,), the rows that the module's docstring describes.
        out: (b·i,), written.
        shape: (b, i, count).
        fastest: The largest |ω|.
        block: Samples of a unit of work.
        counter: (1,) int64, 0, which all threads share.
    """
    rows, width, count = shape
    room = np.empty(_FIRST + count * _WAVE, x.dtype)
    for start, end, left, right in windows(counter, rows, block, width, LANES):
        n = right - left
        _load_terms(terms, width, left, n, count, room)
        for b in range(start, end):
            at = b * width + left
            large = _load(x, at, n, room, _X) * fastest > 1e4
            for lane in range(n):
                put(room, _OUT + lane, get(base, at + lane) + get(room, _CONSTANT + lane))
            for f in range(count):
                if large:
                    _add_large_wave(room, _FIRST + f * _WAVE, n)
                else:
                    _add_wave(room, _FIRST + f * _WAVE, n)
            for lane in range(n):
                put(out, at + lane, get(room, _OUT + lane))


@inline
def _wave_slopes(room: Any, at: int, n: int) -> None:
    """Add what one wave contributes to dx and to its three sums."""
    zero = type(get(room, 0))(0)
    for lane in range(n):
        hi, lo = get(room, at + _HIGH + lane), get(room, at + _LOW + lane)
        x, g = get(room, _X + lane), get(room, _G + lane)
        s, c = sincos(hi, lo, zero, zero, x)
        slope = g * (get(room, at + _SIN + lane) * c - get(room, at + _COS + lane) * s)
        add(room, _OUT + lane, get(room, at + _FREQUENCY + lane) * slope)
        add(room, at + _FREQUENCY_SUM + lane, x * slope)
        add(room, at + _COS_SUM + lane, g * c)
        add(room, at + _SIN_SUM + lane, g * s)


@inline
def _large_wave_slopes(room: Any, at: int, n: int) -> None:
    """Do what `_wave_slopes` does, slowly, for angles of any size."""
    kind = type(get(room, 0))
    for lane in range(n):
        x, g = get(room, _X + lane), get(room, _G + lane)
        sine, cosine = slow_sincos(get(room, at + _FREQUENCY + lane), 0.0, 0.0, x)
        s, c = kind(sine), kind(cosine)
        slope = g * (get(room, at + _SIN + lane) * c - get(room, at + _COS + lane) * s)
        add(room, _OUT + lane, get(room, at + _FREQUENCY + lane) * slope)
        add(room, at + _FREQUENCY_SUM + lane, x * slope)
        add(room, at + _COS_SUM + lane, g * c)
        add(room, at + _SIN_SUM + lane, g * s)


@inline
def _store_sums(room: Any, n: int, count: int, sums: Any, to: int, width: int) -> None:
    """Write the sums of n inputs in the order of the terms."""
    for lane in range(n):
        put(sums, to + lane, get(room, _CONSTANT + lane))
    for f in range(count):
        at, row = _FIRST + f * _WAVE, to + (3 * f + 1) * width
        for lane in range(n):
            put(sums, row + lane, get(room, at + _FREQUENCY_SUM + lane))
            put(sums, row + width + lane, get(room, at + _COS_SUM + lane))
            put(sums, row + 2 * width + lane, get(room, at + _SIN_SUM + lane))


@inline
def waves_backward(
    grad: Any, x: Any, terms: Any, dx: Any, sums: Any, shape: Any, fastest: Any, block: int,
    counter: Any,
) -> None:  # fmt: skip
    """Write dx, and for each block of samples the sums over it that make the terms' gradients.

    Args:
        grad: (b·i,), the gradient of the output.
        x: (b·i,).
        terms: ((1 + 3·count)·i,).
        dx: (b·i,), written.
        sums: (blocks·(1 + 3·count)·i,), written.
        shape: (b, i, count).
        fastest: The largest |ω|.
        block: Samples of a unit of work.
        counter: (1,) int64, 0, which all threads share.
    """
    rows, width, count = shape
    room = np.empty(_FIRST + count * _WAVE, x.dtype)
    zero = type(get(room, 0))(0)
    for start, end, left, right in windows(counter, rows, block, width, LANES):
        n = right - left
        _load_terms(terms, width, left, n, count, room)
        # the constants are not needed here, and their gradients are sums, too
        for lane in range(n):
            put(room, _CONSTANT + lane, zero)
        for b in range(start, end):
            at = b * width + left
            large = _load(x, at, n, room, _X) * fastest > 1e4
            for lane in range(n):
                g = get(grad, at + lane)
                put(room, _G + lane, g)
                put(room, _OUT + lane, zero)
                add(room, _CONSTANT + lane, g)
            for f in range(count):
                if large:
                    _large_wave_slopes(room, _FIRST + f * _WAVE, n)
                else:
                    _wave_slopes(room, _FIRST + f * _WAVE, n)
            for lane in range(n):
                put(dx, at + lane, get(room, _OUT + lane))
        to = start // block * (1 + 3 * count) * width + left
        _store_sums(room, n, count, sums, to, width)


@kernel
def waves_task(room: Any, *args: Any) -> Any:
    """Bind `waves` to its arguments."""
    return bind(waves, room, args)


@kernel
def waves_backward_task(room: Any, *args: Any) -> Any:
    """Bind `waves_backward` to its arguments."""
    return bind(waves_backward, room, args)
