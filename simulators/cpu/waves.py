"""A compiled sum of sinusoids of every input, and its derivatives, in one pass each.

The parameters stand in rows as wide as x: `terms[0]` is the constant, and wave f has its frequency
in row 3f + 1, and what its cosine and its sine are multiplied by in rows 3f + 2 and 3f + 3.
"""

from __future__ import annotations

from typing import Any

from .jit import add, bind, get, inline, kernel, put, windows
from .sincos import per_quarter, sincos, slow_sincos


@inline
def _is_large(x: Any, at: int, n: int, fastest: Any) -> bool:
    """Whether an angle of a row may be beyond the range of the fast sine."""
    largest = type(get(x, at))(0)
    for i in range(n):
        largest = max(largest, abs(get(x, at + i)))
    return largest * fastest > 1e4


@inline
def _add_wave(x: Any, at: int, terms: Any, row: int, out: Any, n: int) -> None:
    """Add one wave to a row of outputs."""
    zero = type(get(x, at))(0)
    for i in range(n):
        hi, lo = per_quarter(get(terms, row + i))
        s, c = sincos(hi, lo, zero, zero, get(x, at + i))
        add(out, at + i, get(terms, row + n + i) * c + get(terms, row + 2 * n + i) * s)


@inline
def _add_large_wave(x: Any, at: int, terms: Any, row: int, out: Any, n: int) -> None:
    """Add one wave to a row of outputs, slowly, for angles of any size."""
    kind = type(get(x, at))
    for i in range(n):
        s, c = slow_sincos(get(terms, row + i), 0.0, 0.0, get(x, at + i))
        wave = get(terms, row + n + i) * kind(c) + get(terms, row + 2 * n + i) * kind(s)
        add(out, at + i, wave)


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
        block: Rows of a unit of work.
        counter: (1,) int64, 0, which all threads share.
    """
    rows, width, count = shape
    for start, end, _, _ in windows(counter, rows, block, 1, 1):
        for b in range(start, end):
            at = b * width
            for i in range(width):
                put(out, at + i, get(base, at + i) + get(terms, i))
            if _is_large(x, at, width, fastest):
                for f in range(count):
                    _add_large_wave(x, at, terms, (3 * f + 1) * width, out, width)
            else:
                for f in range(count):
                    _add_wave(x, at, terms, (3 * f + 1) * width, out, width)


@inline
def _wave_slopes(
    grad: Any, x: Any, at: int, terms: Any, row: int, dx: Any, sums: Any, to: int, n: int
) -> None:
    """Add what one wave contributes to dx of a row, and the row's share of its three sums."""
    zero = type(get(x, at))(0)
    for i in range(n):
        frequency, a, b = get(terms, row + i), get(terms, row + n + i), get(terms, row + 2 * n + i)
        hi, lo = per_quarter(frequency)
        value, g = get(x, at + i), get(grad, at + i)
        s, c = sincos(hi, lo, zero, zero, value)
        slope = g * (b * c - a * s)
        add(dx, at + i, frequency * slope)
        add(sums, to + i, value * slope)
        add(sums, to + n + i, g * c)
        add(sums, to + 2 * n + i, g * s)


@inline
def _large_wave_slopes(
    grad: Any, x: Any, at: int, terms: Any, row: int, dx: Any, sums: Any, to: int, n: int
) -> None:
    """Do what `_wave_slopes` does, slowly, for angles of any size."""
    kind = type(get(x, at))
    for i in range(n):
        frequency, a, b = get(terms, row + i), get(terms, row + n + i), get(terms, row + 2 * n + i)
        value, g = get(x, at + i), get(grad, at + i)
        sine, cosine = slow_sincos(frequency, 0.0, 0.0, value)
        s, c = kind(sine), kind(cosine)
        slope = g * (b * c - a * s)
        add(dx, at + i, frequency * slope)
        add(sums, to + i, value * slope)
        add(sums, to + n + i, g * c)
        add(sums, to + 2 * n + i, g * s)


@inline
def waves_backward(
    grad: Any, x: Any, terms: Any, dx: Any, sums: Any, shape: Any, fastest: Any, block: int,
    counter: Any,
) -> None:  # fmt: skip
    """Write dx, and for each unit of work the sums over its rows that make the terms' gradients.

    Args:
        grad: (b·i,), the gradient of the output.
        x: (b·i,).
        terms: ((1 + 3·count)·i,).
        dx: (b·i,), of zeros, written.
        sums: (units·(1 + 3·count)·i,), of zeros, written.
        shape: (b, i, count).
        fastest: The largest |ω|.
        block: Rows of a unit of work.
        counter: (1,) int64, 0, which all threads share.
    """
    rows, width, count = shape
    for start, end, _, _ in windows(counter, rows, block, 1, 1):
        to = start // block * (1 + 3 * count) * width
        for b in range(start, end):
            at = b * width
            for i in range(width):
                add(sums, to + i, get(grad, at + i))
            large = _is_large(x, at, width, fastest)
            for f in range(count):
                row = (3 * f + 1) * width
                if large:
                    _large_wave_slopes(grad, x, at, terms, row, dx, sums, to + row, width)
                else:
                    _wave_slopes(grad, x, at, terms, row, dx, sums, to + row, width)


@kernel
def waves_task(room: Any, *args: Any) -> Any:
    """`waves` bound to its arguments."""
    return bind(waves, room, args)


@kernel
def waves_backward_task(room: Any, *args: Any) -> Any:
    """`waves_backward` bound to its arguments."""
    return bind(waves_backward, room, args)
