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
