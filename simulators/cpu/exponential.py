"""Sigmoid and hyperbolic tangent as straight-line code that vectorises.

e^y = 2^k·e^r with k the integer nearest to y/ln 2, so |r| ≤ ln 2 / 2. The series of e^r - 1 ends
where the next term is below rounding. Beyond the limits that y is held to, both functions have
their final values.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from .jit import EXACT, fma

_F = np.float32
_LOG2E = 1 / math.log(2)
# the leading bits of ln 2, so that the product with k is exact, and the rest
_LN2_32 = (_F(0.693359375), _F(math.log(2) - 0.693359375))
_LN2_64 = (0.6931471803691238, 1.9082149292705877e-10)
_ROUNDER_32, _ROUNDER_64 = _F(1.5 * 2**23), 1.5 * 2.0**52
_LIMIT_32, _LIMIT_64 = _F(80), 700.0
_T32 = tuple(_F(1 / math.factorial(n)) for n in range(8))
_T64 = tuple(1 / math.factorial(n) for n in range(15))
_LOG2E_32, _ONE_32, _TWO_32 = _F(_LOG2E), _F(1), _F(2)


@intrinsic
def _power2(typingctx: Any, rounded: Any) -> Any:
    """2^k, where k stands in the low bits of `rounded`."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        width = signature.args[0].bitwidth
        word, mantissa = ir.IntType(width), 23 if width == 32 else 52
        bits = builder.shl(builder.bitcast(args[0], word), word(mantissa))
        one = word((127 if width == 32 else 1023) << mantissa)
        return builder.bitcast(builder.add(bits, one), args[0].type)

    return rounded(rounded), codegen


def expm1(y: Any) -> Any:
    """e^y - 1 for y within the limits, and that of the nearer limit beyond; NaN stays NaN."""
    raise NotImplementedError("compiled code only")


@overload(expm1, jit_options=EXACT)
def _expm1(y: Any) -> Any:
    return _expm1_32 if y == types.float32 else _expm1_64


def _expm1_32(y: Any) -> Any:
    y = _LIMIT_32 if y > _LIMIT_32 else y
    y = -_LIMIT_32 if y < -_LIMIT_32 else y
    rounded = fma(y, _LOG2E_32, _ROUNDER_32)
    k = rounded - _ROUNDER_32
    r = fma(-k, _LN2_32[1], fma(-k, _LN2_32[0], y))
    p = fma(r, _T32[7], _T32[6])
    p = fma(r, p, _T32[5])
    p = fma(r, p, _T32[4])
    p = fma(r, p, _T32[3])
    p = fma(r, p, _T32[2])
    power = _power2(rounded)
    return fma(power, fma(r * r, p, r), power - _ONE_32)


def _expm1_64(y: Any) -> Any:
    y = _LIMIT_64 if y > _LIMIT_64 else y
    y = -_LIMIT_64 if y < -_LIMIT_64 else y
    rounded = fma(y, _LOG2E, _ROUNDER_64)
    k = rounded - _ROUNDER_64
    r = fma(-k, _LN2_64[1], fma(-k, _LN2_64[0], y))
    p = fma(r, _T64[14], _T64[13])
    p = fma(r, p, _T64[12])
    p = fma(r, p, _T64[11])
    p = fma(r, p, _T64[10])
    p = fma(r, p, _T64[9])
    p = fma(r, p, _T64[8])
    p = fma(r, p, _T64[7])
    p = fma(r, p, _T64[6])
    p = fma(r, p, _T64[5])
    p = fma(r, p, _T64[4])
    p = fma(r, p, _T64[3])
    p = fma(r, p, _T64[2])
    power = _power2(rounded)
    return fma(power, fma(r * r, p, r), power - 1.0)


def sigmoid(x: Any) -> Any:
    """1 / (1 + e^-x)."""
    raise NotImplementedError("compiled code only")


@overload(sigmoid, jit_options=EXACT)
def _sigmoid(x: Any) -> Any:
    one = _ONE_32 if x == types.float32 else 1.0
    two = _TWO_32 if x == types.float32 else 2.0

    def of_power(x: Any) -> Any:
        return one / (two + expm1(-x))

    return of_power


def tanh(x: Any) -> Any:
    """The hyperbolic tangent."""
    raise NotImplementedError("compiled code only")


@overload(tanh, jit_options=EXACT)
def _tanh(x: Any) -> Any:
    two = _TWO_32 if x == types.float32 else 2.0

    def of_power(x: Any) -> Any:
        power = expm1(x + x)
        return power / (power + two)

    return of_power
