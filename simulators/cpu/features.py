"""Compiled features of the inputs for the engines that are matrix products, and their derivatives.

Features are stored as (b, m, i): feature m of input i of sample b. The constant feature is left
out, for it needs no product.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .jit import add, bind, get, inline, kernel, put, windows
from .sincos import per_quarter, sincos, slow_sincos

_LARGE = 1e4
"""Inputs above it are beyond the range of the fast sine."""


@inline
def _sincos(x: Any, at: int, out: Any, base: int, n: int) -> None:
    """Write cosine and sine of the inputs of a sample."""
    one, zero = type(get(x, at))(1), type(get(x, at))(0)
    hi, lo = per_quarter(one)
    largest = zero
    for i in range(n):
        largest = max(largest, abs(get(x, at + i)))
    if largest > _LARGE:
        for i in range(n):
            s, c = slow_sincos(1.0, 0.0, 0.0, get(x, at + i))
            put(out, base + i, c)
            put(out, base + n + i, s)
    else:
        for i in range(n):
            s, c = sincos(hi, lo, zero, zero, get(x, at + i))
            put(out, base + i, c)
            put(out, base + n + i, s)


@inline
def _multiple(out: Any, base: int, k: int, n: int) -> None:
    """Write cos kx, sin kx of a sample from those of x and of (k - 1)·x."""
    before, to = base + 2 * (k - 2) * n, base + 2 * (k - 1) * n
    for i in range(n):
        c, s = get(out, base + i), get(out, base + n + i)
        p, q = get(out, before + i), get(out, before + n + i)
        put(out, to + i, p * c - q * s)
        put(out, to + n + i, q * c + p * s)


@inline
def harmonics(x: Any, out: Any, shape: Any, block: int, counter: Any) -> None:
    """Write cos k·x to out[b, 2k-2, i] and sin k·x to out[b, 2k-1, i] for k = 1 … count."""
    rows, ins, count = shape
    for start, end, _, _ in windows(counter, rows, block, 1, 1):
        for b in range(start, end):
            base = b * 2 * count * ins
            _sincos(x, b * ins, out, base, ins)
            for k in range(2, count + 1):
                _multiple(out, base, k, ins)


@inline
def harmonics_backward(
    grad: Any, features: Any, dx: Any, shape: Any, block: int, counter: Any
) -> None:
    """Write dx[b, i] = Σ_k k·(cos k·x · grad_sin - sin k·x · grad_cos)."""
    rows, ins, count = shape
    for start, end, _, _ in windows(counter, rows, block, 1, 1):
        for b in range(start, end):
            to, zero = b * ins, type(get(dx, 0))(0)
            for i in range(ins):
                put(dx, to + i, zero)
            for k in range(1, count + 1):
                cos, sin = (2 * (b * count + k) - 2) * ins, (2 * (b * count + k) - 1) * ins
                for i in range(ins):
                    slope = get(features, cos + i) * get(grad, sin + i)
                    slope -= get(features, sin + i) * get(grad, cos + i)
                    add(dx, to + i, type(slope)(k) * slope)


@inline
def _ranges(x: Any, rows: int, ins: int, low: Any, high: Any) -> Any:
    """Write least and greatest value of each input; returns 0, or NaN where one is not finite."""
    bad = type(get(x, 0))(0)
    for i in range(ins):
        low[i], high[i] = x[i], x[i]
    for b in range(rows):
        for i in range(ins):
            value = get(x, b * ins + i)
            bad += value * 0
            put(low, i, min(get(low, i), value))
            put(high, i, max(get(high, i), value))
    return bad


@kernel
def extent(
    x: Any, scale: Any, uses: Any, fixed: float, shape: Any, limits: Any, middle: Any, half: Any
) -> Any:
    """Write every input's range, and return the widest angle max_oi half_i·Σ_u uses_u·|scale_oiu|.

    The degree of an expansion follows from the widest angle alone. So all ranges are made as wide
    as it allows: a slope divides the rounding of the coefficients by the width of its range.

    Args:
        x: (batch·in,), at least one sample.
        scale: (out·in·num_encodings,), or empty where `fixed` is the bandwidth of every edge.
        uses: (num_encodings,) how often each encoding occurs.
        fixed: The bandwidth of every edge where the scales are fixed.
        shape: (batch, in).
        limits: A factor by which ranges are wider than the data; the least value of the widest
            angle; the least bandwidth, at which edges of a lower one are counted.
        middle: (in,), written.
        half: (in,), written.

    Returns:
        The widest angle; NaN where an input or a scale is not finite.
    """
    rows, ins = shape
    margin, narrowest, flat = limits
    zero = type(get(x, 0))(0)
    bad = _ranges(x, rows, ins, middle, half)
    count, band = uses.size, np.empty(ins, x.dtype)
    band[:] = fixed
    for o in range(scale.size // max(count * ins, 1)):
        for i in range(ins):
            one, edge = zero, o * ins + i
            for u in range(count):
                one += abs(get(scale, edge * count + u)) * get(uses, u)
            bad += one * 0
            put(band, i, max(get(band, i), one))
    worst = narrowest
    for i in range(ins):
        low, high = middle[i], half[i]
        middle[i] = (low + high) / 2
        half[i] = (high - low) / 2 * margin
        worst = max(worst, half[i] * band[i])
    for i in range(ins):
        half[i] = max(half[i], worst / max(band[i], flat))
    return worst + bad


@inline
def chebyshev(
    x: Any, out: Any, middle: Any, half: Any, shape: Any, block: int, counter: Any
) -> None:
    """Write out[b, k-1, i] = T_k(t), t = (x - middle[i])/half[i], for k = 1 … count."""
    rows, ins, count = shape
    for start, end, _, _ in windows(counter, rows, block, 1, 1):
        for b in range(start, end):
            base = b * count * ins
            for i in range(ins):
                put(out, base + i, (get(x, b * ins + i) - get(middle, i)) / get(half, i))
            if count > 1:
                for i in range(ins):
                    t = get(out, base + i)
                    put(out, base + ins + i, 2 * t * t - 1)
            for k in range(3, count + 1):
                to = base + (k - 1) * ins
                for i in range(ins):
                    t = get(out, base + i)
                    put(out, to + i, 2 * t * get(out, to - ins + i) - get(out, to - 2 * ins + i))


@inline
def chebyshev_backward(
    grad: Any, features: Any, dx: Any, half: Any, shape: Any, block: int, counter: Any,
) -> None:  # fmt: skip
    """Write dx[b, i] = Σ_k k·U_{k-1}(t)·grad[b, k-1, i] / half[i], with U_k = T_k + t·U_{k-1}."""
    rows, ins, count = shape
    u = np.empty(ins, dx.dtype)
    for start, end, _, _ in windows(counter, rows, block, 1, 1):
        for b in range(start, end):
            base, to = b * count * ins, b * ins
            for i in range(ins):
                put(u, i, type(get(dx, to))(1))
                put(dx, to + i, get(grad, base + i))
            for k in range(2, count + 1):
                row = base + (k - 1) * ins
                factor = type(get(dx, to))(k)
                for i in range(ins):
                    t = get(features, base + i)
                    value = get(features, row - ins + i) + t * get(u, i)
                    put(u, i, value)
                    add(dx, to + i, factor * value * get(grad, row + i))
            for i in range(ins):
                put(dx, to + i, get(dx, to + i) / get(half, i))


def block(shape: tuple[int, ...], count: int, threads: int) -> int:
    """Samples of a unit of work, for inputs (b, i) with `count` features each."""
    rows, ins = shape
    work = max(1, ins * count)
    return max(1, min(-(-rows // (4 * threads)), -(-(1 << 16) // work)))


def counter() -> np.ndarray:
    """A fresh counter of units, which the threads of a task share."""
    return np.zeros(1, np.int64)


@kernel
def harmonics_task(room: Any, *args: Any) -> Any:
    """Bind `harmonics` to its arguments."""
    return bind(harmonics, room, args)


@kernel
def harmonics_backward_task(room: Any, *args: Any) -> Any:
    """Bind `harmonics_backward` to its arguments."""
    return bind(harmonics_backward, room, args)


@kernel
def chebyshev_task(room: Any, *args: Any) -> Any:
    """Bind `chebyshev` to its arguments."""
    return bind(chebyshev, room, args)


@kernel
def chebyshev_backward_task(room: Any, *args: Any) -> Any:
    """Bind `chebyshev_backward` to its arguments."""
    return bind(chebyshev_backward, room, args)
