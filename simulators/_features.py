"""Compiled features of the inputs for the engines that are matrix products, and their derivatives.

Layout (b, m, i): feature m of input i. The constant feature is left out; it needs no product.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ._jit import get, inline, kernel, next_index, put
from ._sincos import per_quarter, sincos, slow_sincos

_LARGE = 1e4


@inline
def _first_harmonic(x: Any, at: int, out: Any, cos: int, sin: int, n: int) -> None:
    """Cos x and sin x of a row."""
    one, zero = type(get(x, at))(1), type(get(x, at))(0)
    hi, lo = per_quarter(one)
    largest = zero
    for i in range(n):
        value = get(x, at + i)
        s, c = sincos(hi, lo, zero, zero, value)
        put(out, cos + i, c)
        put(out, sin + i, s)
        largest = max(largest, abs(value))
    if largest > _LARGE:
        for i in range(n):
            s64, c64 = slow_sincos(1.0, 0.0, 0.0, get(x, at + i))
            put(out, cos + i, c64)
            put(out, sin + i, s64)


@inline
def _next_harmonic(out: Any, a: int, b: int, to: int, ins: int) -> None:
    """Cos and sin of the sum of two angles; each pair of rows is cos, then sin."""
    for i in range(ins):
        ca, sa = get(out, a + i), get(out, a + ins + i)
        cb, sb = get(out, b + i), get(out, b + ins + i)
        put(out, to + i, ca * cb - sa * sb)
        put(out, to + ins + i, sa * cb + ca * sb)


@kernel
def harmonics(x: Any, out: Any, shape: Any, block: int, counter: Any) -> None:
    """out[b, 2k-2, i], out[b, 2k-1, i] = cos k·x, sin k·x for k = 1 … count, by angle addition."""
    rows, ins, count = shape
    while True:
        start = next_index(counter) * block
        if start >= rows:
            break
        for b in range(start, min(start + block, rows)):
            base = b * 2 * count * ins
            _first_harmonic(x, b * ins, out, base, base + ins, ins)
            for k in range(2, count + 1):
                half, rest = k // 2 - 1, k - k // 2 - 1
                _next_harmonic(
                    out, base + 2 * half * ins, base + 2 * rest * ins,
                    base + 2 * (k - 1) * ins, ins,
                )  # fmt: skip


@kernel
def harmonics_backward(
    grad: Any, features: Any, dx: Any, shape: Any, block: int, counter: Any
) -> None:
    """dx[b, i] = Σ_k k·(cos k·x · grad_sin - sin k·x · grad_cos)."""
    rows, ins, count = shape
    while True:
        start = next_index(counter) * block
        if start >= rows:
            break
        for b in range(start, min(start + block, rows)):
            base, to = b * 2 * count * ins, b * ins
            for i in range(ins):
                put(dx, to + i, type(get(dx, to))(0))
            for k in range(1, count + 1):
                c = base + 2 * (k - 1) * ins
                factor = type(get(dx, to))(k)
                for i in range(ins):
                    slope = get(features, c + i) * get(grad, c + ins + i) - get(
                        features, c + ins + i
                    ) * get(grad, c + i)
                    put(dx, to + i, get(dx, to + i) + factor * slope)


@kernel
def chebyshev(
    x: Any, out: Any, middle: Any, half: Any, shape: Any, block: int, counter: Any
) -> None:
    """out[b, k-1, i] = T_k(t), t = (x - middle[i])/half[i], for k = 1 … count."""
    rows, ins, count = shape
    while True:
        start = next_index(counter) * block
        if start >= rows:
            break
        for b in range(start, min(start + block, rows)):
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


@kernel
def chebyshev_backward(
    grad: Any, features: Any, dx: Any, scratch: Any, half: Any, shape: Any, block: int,
    counter: Any,
) -> None:  # fmt: skip
    """dx[b, i] = Σ_k k·U_{k-1}(t)·grad[b, k-1, i] / half[i], with U_k = T_k + t·U_{k-1}."""
    rows, ins, count = shape
    while True:
        unit = next_index(counter)
        start = unit * block
        if start >= rows:
            break
        u = unit * ins
        for b in range(start, min(start + block, rows)):
            base, to = b * count * ins, b * ins
            for i in range(ins):
                put(scratch, u + i, type(get(dx, to))(1))
                put(dx, to + i, get(grad, base + i))
            for k in range(2, count + 1):
                row = base + (k - 1) * ins
                factor = type(get(dx, to))(k)
                for i in range(ins):
                    t = get(features, base + i)
                    value = get(features, row - ins + i) + t * get(scratch, u + i)
                    put(scratch, u + i, value)
                    put(dx, to + i, get(dx, to + i) + factor * value * get(grad, row + i))
            for i in range(ins):
                put(dx, to + i, get(dx, to + i) / get(half, i))


def blocks(shape: tuple[int, ...], count: int, threads: int) -> tuple[int, int]:
    """Rows of a unit of work, and the number of units, for inputs (b, i)."""
    rows, ins = shape
    work = max(1, ins * count)
    block = max(1, min(-(-rows // (4 * threads)), -(-(1 << 16) // work)))
    return block, -(-rows // block)


def counter() -> np.ndarray:
    """A fresh shared counter of units."""
    return np.zeros(1, np.int64)
