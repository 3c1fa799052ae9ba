"""Sine and cosine of an angle affine in the data, as straight-line code that vectorises.

Angles are counted in quarter turns: t = 2·angle/π = k + r with k the nearest integer, |r| ≤ 1/2.
Sine and cosine of πr/2 are minimax polynomials in r², and k modulo 4 says whether to swap them and
which signs they get. The angle s·x + a enters as 2s/π and 2a/π, each as a sum of two numbers, so
that the product is never rounded as a whole: the error does not grow with the angle, as that of
sin(fl(s·x + a)) does. This is valid while |2s·x/π| ≤ 2^16 in float32, 2^40 in float64.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from .jit import EXACT, exact, fma, quadrant

_F = np.float32
_PER_QUARTER_32 = (_F(0.6366197466850281), _F(2.5682552973194106e-08))
_PER_QUARTER_64 = (0.6366197723675814, -3.935735335036497e-17)
# Adding 1.5·2^mantissa rounds a number to an integer, whose lowest bits are then those of the sum.
_ROUNDER_32, _ROUNDER_64 = _F(1.5 * 2**23), 1.5 * 2.0**52
_ONE_32, _QUARTER_32, _FOUR_32 = _F(1), _F(0.25), _F(4)
_SIN_32 = tuple(
    _F(c) for c in (1.570796305085123, -0.6459629381609885, 0.07967590293001038,
                    -0.00459228898681)
)  # fmt: skip
_COS_32 = tuple(
    _F(c) for c in (-1.233700543353518, 0.253669244030595, -0.02086028851045237,
                    0.0009040216702155)
)  # fmt: skip
_SIN_64 = (
    1.570796326794896582212, -0.6459640975062407237041, 0.07969262624592807000643,
    -0.004681754130764874608059, 0.0001604411402355091205377, -0.000003598609733323369681972,
    5.629796153247219461158e-8,
)  # fmt: skip
_COS_64 = (
    -1.23370055013615703661, 0.2536695079000529007972, -0.02086348073757365143048,
    0.000919259967757669474956, -0.00002520019241239431880516, 4.656003740993138809209e-7,
)  # fmt: skip


def sincos(s_hi: Any, s_lo: Any, a_hi: Any, a_lo: Any, x: Any) -> Any:
    """(sin, cos) of (π/2)·((s_hi + s_lo)·x + a_hi + a_lo), all of one float type."""
    raise NotImplementedError("compiled code only")


@overload(sincos, jit_options=EXACT)
def _sincos(s_hi: Any, s_lo: Any, a_hi: Any, a_lo: Any, x: Any) -> Any:
    return _sincos32 if x == types.float32 else _sincos64


def _sincos32(s_hi: Any, s_lo: Any, a_hi: Any, a_lo: Any, x: Any) -> Any:
    rounded = fma(s_hi, x, a_hi) + _ROUNDER_32
    r = (fma(s_hi, x, _ROUNDER_32 - rounded) + a_hi) + fma(s_lo, x, a_lo)
    z = r * r
    p = fma(z, _SIN_32[3], _SIN_32[2])
    p = fma(z, p, _SIN_32[1])
    p = fma(z, p, _SIN_32[0])
    q = fma(z, _COS_32[3], _COS_32[2])
    q = fma(z, q, _COS_32[1])
    q = fma(z, q, _COS_32[0])
    return quadrant(r * p, fma(z, q, _ONE_32), rounded)


def _sincos64(s_hi: Any, s_lo: Any, a_hi: Any, a_lo: Any, x: Any) -> Any:
    rounded = fma(s_hi, x, a_hi) + _ROUNDER_64
    r = (fma(s_hi, x, _ROUNDER_64 - rounded) + a_hi) + fma(s_lo, x, a_lo)
    z = r * r
    p = fma(z, _SIN_64[6], _SIN_64[5])
    p = fma(z, p, _SIN_64[4])
    p = fma(z, p, _SIN_64[3])
    p = fma(z, p, _SIN_64[2])
    p = fma(z, p, _SIN_64[1])
    p = fma(z, p, _SIN_64[0])
    q = fma(z, _COS_64[5], _COS_64[4])
    q = fma(z, q, _COS_64[3])
    q = fma(z, q, _COS_64[2])
    q = fma(z, q, _COS_64[1])
    q = fma(z, q, _COS_64[0])
    return quadrant(r * p, fma(z, q, 1.0), rounded)


def quarter_turns(angle: Any) -> Any:
    """2·angle/π modulo 4, within ±2, as a sum of two numbers of one float type."""
    raise NotImplementedError("compiled code only")


@overload(quarter_turns, jit_options=EXACT)
def _quarter_turns(angle: Any) -> Any:
    return _quarter_turns32 if angle == types.float32 else _quarter_turns64


def _quarter_turns32(angle: Any) -> Any:
    hi = angle * _PER_QUARTER_32[0]
    lo = fma(angle, _PER_QUARTER_32[0], -hi) + angle * _PER_QUARTER_32[1]
    hi = fma(-_FOUR_32, np.rint(hi * _QUARTER_32), hi)
    return hi, fma(-_FOUR_32, np.rint(lo * _QUARTER_32), lo)


def _quarter_turns64(angle: Any) -> Any:
    hi = angle * _PER_QUARTER_64[0]
    lo = fma(angle, _PER_QUARTER_64[0], -hi) + angle * _PER_QUARTER_64[1]
    hi = fma(-4.0, np.rint(hi * 0.25), hi)
    return hi, fma(-4.0, np.rint(lo * 0.25), lo)


def per_quarter(scale: Any) -> Any:
    """2·scale/π as a sum of two numbers of one float type."""
    raise NotImplementedError("compiled code only")


@overload(per_quarter, jit_options=EXACT)
def _per_quarter(scale: Any) -> Any:
    hi_part, lo_part = _PER_QUARTER_32 if scale == types.float32 else _PER_QUARTER_64

    def split(scale: Any) -> Any:
        hi = scale * hi_part
        return hi, fma(scale, hi_part, -hi) + scale * lo_part

    return split


def limit4(x: Any) -> Any:
    """Fourth power of the quarter turns up to which `sincos` is valid for x's float type.

    Callers compare it to the sum of a row's fourth powers, which bounds the largest of them and,
    unlike a maximum, vectorises.
    """
    raise NotImplementedError("compiled code only")


@overload(limit4, jit_options=EXACT)
def _limit4(x: Any) -> Any:
    value = _F(2.0**64) if x == types.float32 else 2.0**160

    def power(x: Any) -> Any:
        return value

    return power


@exact
def slow_sincos(scale: float, a_hi: float, a_lo: float, x: float) -> tuple[float, float]:
    """(sin, cos) of scale·x + (π/2)(a_hi + a_lo) in float64, for angles of any size."""
    turns = np.float64(a_hi) + np.float64(a_lo)
    angle = np.float64(scale) * np.float64(x) + 0.5 * math.pi * turns
    return math.sin(angle), math.cos(angle)


@exact
def arccos_sincos(scale: float, shift: float, cosine: float, sine: float, x: float) -> Any:
    """(sin, cos) of arccos e + offset, e = scale·x + shift clamped to ±1, and d arccos e / de.

    `cosine` and `sine` are those of the offset. The derivative is 0 for |e| ≥ 1; NaN stays NaN.
    """
    one, zero = type(x)(1), type(x)(0)
    e = scale * x + shift
    e = one if e > one else e
    e = -one if e < -one else e
    root = np.sqrt((one - e) * (one + e))
    slope = zero if root == zero else -one / root
    return root * cosine + e * sine, e * cosine - root * sine, slope
