"""Few functions for all that is band-limited: the basis of products with trainable scales.

An edge is a function on |t| ≤ 1 whose frequencies are at most z = Ω·L. Such functions have about
2z/π degrees of freedom (Slepian, Landau, Pollak), where their Chebyshev series needs z and more
terms. So the basis of n functions is the constant together with what the first n prolate spheroidal
wave functions of z span beside it, and an edge is interpolated in it at n nodes, the zeros of the
next such function. `interpolation_bound` bounds the error; `WIDEST` has for every n the widest z
whose bound is at rounding level, and a test computes the bound anew.

The functions are even and odd in turn, and are evaluated from tables: [0, 1] is cut into pieces,
and on each piece every function is a polynomial of degree `DEGREE`.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

DEGREE = 7
"""The degree of the polynomials that functions are on a piece of [0, 1]; kernels rely on it."""
LANES = 8
"""Rows of a table are padded to a multiple of that many functions, for vectors of the kernels."""
FEWEST = 4
"""The least number of functions of a basis."""
REACH = 1 / 1.03
"""Data lie in |t| ≤ REACH, for towards ±1 the slopes of the functions grow and magnify rounding."""

WIDEST = {
    "float32": (
        0.08124, 0.2529, 0.5237, 0.9415, 1.409, 2.02, 2.655, 3.42, 4.189, 5.078, 5.955, 6.946,
        7.907, 8.981, 10.03, 11.2, 12.35, 13.58, 14.72, 15.94, 17.12, 18.38, 19.59, 20.88, 22.12,
        23.43, 24.7, 26.02, 27.3, 28.65, 29.96, 31.32, 32.65, 34.04, 35.41, 36.85, 38.27, 39.71,
        41.09, 42.5, 43.89, 45.31, 46.7, 48.13, 49.54, 50.97, 52.38, 53.82, 55.25, 56.69, 58.13,
        59.57, 61.02, 62.46, 63.9, 65.36, 66.81, 68.27, 69.73, 71.2, 72.68,
    ),
    "float64": (
        0.0005396, 0.004566, 0.0185, 0.05375, 0.1153, 0.219, 0.3581, 0.5548, 0.7896, 1.089, 1.425,
        1.832, 2.261, 2.777, 3.319, 3.938, 4.55, 5.23, 5.913, 6.667, 7.415, 8.233, 9.042, 9.918,
        10.78, 11.71, 12.62, 13.61, 14.6, 15.65, 16.64, 17.71, 18.73, 19.82, 20.89, 22.01, 23.11,
        24.24, 25.36, 26.52, 27.68, 28.87, 30.04, 31.24, 32.46, 33.72, 34.98, 36.2, 37.43, 38.67,
        39.91, 41.16, 42.42,
    ),
}  # fmt: skip
"""The widest z for `FEWEST` functions, one more, and so on.

They are given by the dtype whose rounding level the bound is at."""

Array = np.ndarray


def widest_angles(tolerance: float) -> Array:
    """The widest angle z for `FEWEST` functions, one more, and so on, within a tolerance.

    It is empty where the tolerance is below the rounding of float64.
    """
    fitting = [name for name in WIDEST if np.finfo(name).eps <= tolerance]
    return np.array(WIDEST[fitting[0]] if fitting else ())


class Band(NamedTuple):
    """A basis of n functions on [-1, 1]: the constant, and n - 1 others.

    Attributes:
        nodes: (n,) where functions are interpolated.
        series: (n, terms), the functions' coefficients of Legendre polynomials, the constant first.
        transform: (n, n), from values at the nodes to coefficients in the basis.
    """

    nodes: Array
    series: Array
    transform: Array


def prolate(z: float, count: int) -> Array:
    """The prolate spheroidal wave functions of bandwidth z, (count, terms).

    They are given by their coefficients of Legendre polynomials P_0, P_1, … and have norm 1. The
    coefficients are eigenvectors of a tridiagonal matrix (Bouwkamp), one for even functions and one
    for odd ones.
    """
    from scipy.linalg import eigh_tridiagonal

    terms = 2 * (count + int(0.8 * z) + 24)
    found = np.zeros((count, terms))
    for parity in (0, 1):
        k = np.arange(parity, terms, 2, dtype=float)
        main = k * (k + 1) + (2 * k * (k + 1) - 1) / ((2 * k + 3) * (2 * k - 1)) * z * z
        beside = (k + 2) * (k + 1) / ((2 * k + 3) * np.sqrt((2 * k + 1) * (2 * k + 5))) * z * z
        wanted = len(range(parity, count, 2))
        if wanted:
            chosen = (0, wanted - 1)
            _, vectors = eigh_tridiagonal(main, beside[:-1], select="i", select_range=chosen)
            found[parity::2, parity::2] = (vectors * np.sqrt(k + 0.5)[:, None]).T
    return found


@functools.lru_cache(maxsize=64)
def band(count: int, z: float) -> Band:
    """Return the basis of `count` functions for bandwidth z."""
    functions = prolate(z, count + 1)
    series = functions[:count].copy()
    even, size = series[0::2], functions.shape[1]
    # what the even functions span beside the one that is nearest to the constant
    norms = np.sqrt(2 / (2 * np.arange(size) + 1))
    nearest = even[:, :1] * norms[0]
    turned = np.linalg.qr(np.concatenate([nearest, np.eye(len(even))], axis=1))[0]
    series[0::2] = turned.T @ even
    series[0] = 0
    series[0, 0] = 1
    nodes = _zeros(functions[count], count)
    values = np.polynomial.legendre.legval(nodes, series.T)
    return Band(nodes, series, np.linalg.inv(values.T))


class Tables(NamedTuple):
    """The functions of a basis but the constant, and their derivatives, for compiled code.

    Attributes:
        values: (pieces, DEGREE + 1, width), the coefficients of powers of u, where u runs from -1
            to 1 over a piece. The width is a multiple of `LANES`; what is over is zero.
        slopes: The same of the derivatives.
        pieces: A power of two.
    """

    values: Array
    slopes: Array
    pieces: int


def tables(basis: Band, dtype: Any) -> Tables:
    """Return tables of a basis that are exact to rounding in a dtype."""
    legendre = np.polynomial.legendre
    series = basis.series[1:]
    slopes = legendre.legder(series, axis=1)
    pieces, before = 4, np.inf
    while True:
        values, error = _table(series, pieces)
        # rounding of the functions themselves does not fall with the size of pieces
        if error <= np.finfo(dtype).eps / 4 or before / 4 < error < 1e-9:
            derivatives, _ = _table(slopes, pieces)
            return Tables(values.astype(dtype), derivatives.astype(dtype), pieces)
        pieces, before = 2 * pieces, error


def _table(series: Array, pieces: int) -> tuple[Array, float]:
    """A table of Legendre series, (functions, terms), and its largest error within the reach."""
    legval, count = np.polynomial.legendre.legval, len(series)
    u = np.cos(np.pi * (np.arange(DEGREE + 1) + 0.5) / (DEGREE + 1))
    middle = (2 * np.arange(pieces) + 1) / (2 * pieces)
    points = middle[:, None] + u / (2 * pieces)
    values = legval(points, series.T, tensor=True)
    fit = np.linalg.inv(np.vander(u, increasing=True))
    found = np.zeros((pieces, DEGREE + 1, -(-count // LANES) * LANES))
    found[:, :, :count] = np.einsum("dn,fpn->pdf", fit, values)
    between = np.cos(np.pi * np.arange(1, DEGREE + 1) / (DEGREE + 1))
    points = middle[:, None] + between / (2 * pieces)
    powers = np.vander(between, DEGREE + 1, increasing=True)
    error = np.abs(np.einsum("nd,pdf->fpn", powers, found[:, :, :count]) - legval(points, series.T))
    return found, float(error[:, np.abs(points) <= REACH].max())


def _zeros(series: Array, count: int) -> Array:
    """The zeros in (-1, 1) of a Legendre series that has `count` of them, symmetric about 0."""
    legendre = np.polynomial.legendre
    grid = np.cos(np.linspace(np.pi / 2, 0, 64 * count + 1))
    values = legendre.legval(grid, series)
    before = np.flatnonzero(values[1:-1] * values[2:] < 0) + 1
    zeros = (grid[before] + grid[before + 1]) / 2
    slope = legendre.legder(series)
    for _ in range(6):
        zeros = zeros - legendre.legval(zeros, series) / legendre.legval(zeros, slope)
    return np.concatenate([-zeros[::-1], [0.0] * (count % 2), zeros])


def interpolation_bound(basis: Band, z: float, derivative: bool = False) -> float:
    """A bound on |φ - its interpolant| for |t| ≤ REACH and every φ of bandwidth z with |φ| ≤ 1.

    The error at a point t is a linear functional E of φ. Its values c(ω) = E(cos ω·) are an even
    function of ω and s(ω) = E(sin ω·) an odd one. On |ω| ≤ z they are Fourier series, c(ω) = Σ_j
    a_j cos(πjω/z) and s(ω) = Σ_j b_j sin(π(j+½)ω/z). So for φ = Σ_f c_f e^{iω_f t}, |ω_f| ≤ z,

        E(φ) = Σ_j a_j (φ(πj/z) + φ(-πj/z))/2 + Σ_j b_j (φ(τ_j) - φ(-τ_j))/2,  τ_j = π(j+½)/z,

    and |E(φ)| ≤ Σ_j |a_j| + |b_j|, for |φ| ≤ 1 on the whole real line.

    Args:
        basis: The basis and its nodes.
        z: The bandwidth.
        derivative: Whether to bound the error of dφ/dt instead.
    """
    legendre = np.polynomial.legendre
    wide = np.longdouble
    pi = 4 * np.arctan(wide(1))
    steps = 6 * len(basis.nodes)
    t = REACH * np.cos(pi * np.arange(steps + 1, dtype=wide) / steps)
    nodes, series = basis.nodes.astype(wide), basis.series.astype(wide)
    shown = legendre.legder(series, axis=1) if derivative else series
    weights = _solve(legendre.legval(nodes, series.T).astype(wide), legendre.legval(t, shown.T))
    omega = np.arange(129, dtype=wide) / 128 * z
    cosine, sine = np.cos(np.outer(t, omega)), np.sin(np.outer(t, omega))
    if derivative:
        cosine, sine = -omega * sine, omega * cosine
    cosine = cosine - weights.T @ np.cos(np.outer(nodes, omega))
    sine = sine - weights.T @ np.sin(np.outer(nodes, omega))
    folded = np.concatenate([cosine, cosine[:, -2:0:-1]], axis=1).astype(float)
    half = np.concatenate([sine, sine[:, -2:0:-1]], axis=1).astype(float)
    odd = np.concatenate([half, -half], axis=1)
    total = _sum_of_sizes(folded) + _sum_of_sizes(odd)
    return float(total.max())


def _sum_of_sizes(values: Array) -> Array:
    """Σ |coefficients| of the Fourier series of every row."""
    found: Array = np.abs(np.fft.fft(values, axis=1)).sum(1) / values.shape[1]
    return found


def _solve(matrix: Array, right: Array) -> Array:
    """Solve a linear system in extended precision, by elimination with pivots."""
    a = np.concatenate([matrix, right], axis=1)
    n = len(a)
    for k in range(n):
        pivot = k + int(np.argmax(np.abs(a[k:, k])))
        a[[k, pivot]] = a[[pivot, k]]
        a[k] /= a[k, k]
        others = np.arange(n) != k
        a[others] -= np.outer(a[others, k], a[k])
    return a[:, n:]
