"""Activations as sums of sinusoids: compiled code that finds the sums and that evaluates them.

The terms of g activations are rows of g numbers: row 0 is the constant, and wave w has its
frequency in row 3w + 1, and what its cosine and its sine are multiplied by in rows 3w + 2 and
3w + 3.

`find_terms` evaluates the circuits at a few phases, in float64. `waves_task` goes through the
inputs by tiles of at most `LANES` numbers that share one activation. The cosine and the sine of a
wave stand in rows of one scratch array. Where a wave's frequency is the sum or the difference of
two others', a product of theirs gives them, as the recipe says.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .jit import LANES, add, allocating, bind, exact, get, inline, kernel, put, windows
from .layout import CONSTANT, RECORD
from .sincos import per_quarter, sincos, slow_sincos

_X, _G, _OUT, _FIRST, _WAVE = 0, LANES, 2 * LANES, 3 * LANES, 2 * LANES
"""Rows of the scratch array: inputs, gradients, results, where the waves begin, and the two rows of
a wave, its cosine and its sine."""

_COEFFICIENTS = 5
"""Numbers of a wave of one activation: its frequency in quarter turns as two numbers that are
added, the frequency, and the factors of cosine and sine."""


@exact
def _turns(code: Any, consts: Any, theta: Any, shift: Any, turns: Any) -> None:
    """Write cosine and sine of each rotation's angle at phase 0, for one activation."""
    for n in range(code[1]):
        at = code[4] + n * RECORD
        angle = np.float64(consts[6 + n])
        for slot in range(code[at + 3], code[at + 4]):
            angle += np.float64(theta[code[slot]])
        if code[at + 1] != CONSTANT and code[at + 5] >= 0:
            angle += np.float64(shift[code[at + 2]])
        turns[n, 0], turns[n, 1] = np.cos(angle), np.sin(angle)


@exact
def _turn_of(code: Any, turns: Any, phases: Any, p: int, n: int) -> Any:
    """The axis, the cosine and the sine of rotation n at phase p."""
    at = code[4] + n * RECORD
    c, s = turns[n, 0], turns[n, 1]
    if code[at + 1] != CONSTANT and code[at + 5] >= 0:
        pc, ps = phases[p, code[at + 2], 0], phases[p, code[at + 2], 1]
        return code[at], c * pc - s * ps, s * pc + c * ps
    return code[at], c, s


@exact
def _rotate(v: Any, axis: int, c: float, s: float) -> None:
    """Turn a vector about an axis, in place."""
    p, q = (axis + 1) % 3, (axis + 2) % 3
    v[p], v[q] = c * v[p] - s * v[q], s * v[p] + c * v[q]


@exact
def _evaluate(code: Any, consts: Any, turns: Any, phases: Any, p: int, v: Any) -> float:
    """The expectation value at phase p; leaves the last vector in v."""
    v[0], v[1], v[2] = consts[0], consts[1], consts[2]
    for n in range(code[1]):
        axis, c, s = _turn_of(code, turns, phases, p, n)
        _rotate(v, axis, c, s)
    return consts[3] * v[0] + consts[4] * v[1] + consts[5] * v[2]


@kernel
def find_terms(
    program: Any, plan: Any, theta: Any, scale: Any, shift: Any, amplitude: Any, terms: Any
) -> None:
    """Write the terms of every activation.

    Args:
        program: Integers and float64 numbers of the program, as `program_arrays` makes them.
        plan: Cosine and sine of the phases (n, u, 2), analysis (1 + 2·count, n) and numbers
            (count, u) of a `WavePlan`.
        theta: (g, k) radians.
        scale: (g, u).
        shift: (g, u) radians.
        amplitude: (g,).
        terms: (1 + 3·count, g), written.
    """
    code, consts = program
    phases, analysis, numbers = plan
    turns, v, values = np.empty((code[1], 2)), np.empty(3), np.empty(len(phases))
    for g in range(len(amplitude)):
        _turns(code, consts, theta[g], shift[g], turns)
        for p in range(len(phases)):
            values[p] = _evaluate(code, consts, turns, phases, p, v)
        for row in range(len(analysis)):
            total = 0.0
            for p in range(len(phases)):
                total += analysis[row, p] * values[p]
            terms[row + (row + 1) // 2, g] = total * amplitude[g]
        for w in range(len(numbers)):
            total = 0.0
            for u in range(numbers.shape[1]):
                total += numbers[w, u] * scale[g, u]
            terms[3 * w + 1, g] = total


@exact
def _adjoint(
    code: Any, consts: Any, turns: Any, phases: Any, p: int, v: Any, vector: Any, grad: float,
    slopes: Any,
) -> None:  # fmt: skip
    """Add grad times the derivatives of the value at phase p by all angles, from the last v."""
    vector[0], vector[1], vector[2] = consts[3], consts[4], consts[5]
    for n in range(code[1] - 1, -1, -1):
        axis, c, s = _turn_of(code, turns, phases, p, n)
        i, j = (axis + 1) % 3, (axis + 2) % 3
        slopes[n] += grad * (vector[j] * v[i] - vector[i] * v[j])
        _rotate(v, axis, c, -s)
        _rotate(vector, axis, c, -s)


@kernel
def find_terms_backward(
    program: Any, plan: Any, parameters: Any, grad: Any, dtheta: Any, dscale: Any, dshift: Any,
    damplitude: Any,
) -> None:  # fmt: skip
    """Write the gradients of `find_terms` by its four parameters.

    Args:
        program: As in `find_terms`.
        plan: As in `find_terms`.
        parameters: Theta, scale, shift and amplitude.
        grad: (1 + 3·count, g), the gradient of the terms.
        dtheta: (g, k), written.
        dscale: (g, u), written.
        dshift: (g, u), written.
        damplitude: (g,), written.
    """
    code, consts = program
    phases, analysis, numbers = plan
    theta, _, shift, amplitude = parameters
    turns, v, vector, slopes = np.empty((code[1], 2)), np.empty(3), np.empty(3), np.empty(code[1])
    dtheta[:], dscale[:], dshift[:] = 0, 0, 0
    for g in range(len(amplitude)):
        _turns(code, consts, theta[g], shift[g], turns)
        slopes[:] = 0
        by_amplitude = 0.0
        for p in range(len(phases)):
            by_value = 0.0
            for row in range(len(analysis)):
                by_value += analysis[row, p] * grad[row + (row + 1) // 2, g]
            by_amplitude += by_value * _evaluate(code, consts, turns, phases, p, v)
            by_value *= amplitude[g]
            _adjoint(code, consts, turns, phases, p, v, vector, by_value, slopes)
        damplitude[g] = by_amplitude
        for n in range(code[1]):
            at = code[4] + n * RECORD
            for slot in range(code[at + 3], code[at + 4]):
                dtheta[g, code[slot]] += slopes[n]
            if code[at + 1] != CONSTANT and code[at + 5] >= 0:
                dshift[g, code[at + 2]] += slopes[n]
        for w in range(len(numbers)):
            for u in range(numbers.shape[1]):
                dscale[g, u] += numbers[w, u] * grad[3 * w + 1, g]


@allocating
def _coefficients(terms: Any, groups: int, count: int) -> Any:
    """The coefficients of every wave of every activation, (g·count·`_COEFFICIENTS`,)."""
    found = np.empty(groups * count * _COEFFICIENTS, terms.dtype)
    for g in range(groups):
        for w in range(count):
            at, source = (g * count + w) * _COEFFICIENTS, (3 * w + 1) * groups + g
            frequency = get(terms, source)
            hi, lo = per_quarter(frequency)
            put(found, at, hi)
            put(found, at + 1, lo)
            put(found, at + 2, frequency)
            put(found, at + 3, get(terms, source + groups))
            put(found, at + 4, get(terms, source + 2 * groups))
    return found


@inline
def _gather(source: Any, at: int, tile: Any, room: Any, to: int) -> Any:
    """Copy a tile to a scratch row, and zeros behind it; returns the sum of its squares."""
    high, wide, width = tile
    total = type(get(room, 0))(0)
    for row in range(high):
        for lane in range(wide):
            value = get(source, at + row * width + lane)
            put(room, to + row * wide + lane, value)
            total += value * value
    for lane in range(high * wide, LANES):
        put(room, to + lane, type(total)(0))
    return total


@inline
def _scatter(room: Any, tile: Any, target: Any, at: int) -> None:
    """Copy the results of a tile to where they belong."""
    high, wide, width = tile
    for row in range(high):
        for lane in range(wide):
            put(target, at + row * width + lane, get(room, _OUT + row * wide + lane))


@inline
def _wave(room: Any, to: int, hi: Any, lo: Any) -> None:
    """Write cosine and sine of one wave."""
    zero = type(get(room, 0))(0)
    for lane in range(LANES):
        s, c = sincos(hi, lo, zero, zero, get(room, _X + lane))
        put(room, to + lane, c)
        put(room, to + LANES + lane, s)


@inline
def _large_wave(room: Any, to: int, frequency: Any) -> None:
    """Write cosine and sine of one wave, slowly, for angles of any size."""
    kind = type(get(room, 0))
    for lane in range(LANES):
        s, c = slow_sincos(frequency, 0.0, 0.0, get(room, _X + lane))
        put(room, to + lane, kind(c))
        put(room, to + LANES + lane, kind(s))


@inline
def _product(room: Any, to: int, a: int, b: int, sign: Any) -> None:
    """Write cosine and sine of the sum of two waves' angles, or of their difference."""
    for lane in range(LANES):
        ca, sa = get(room, a + lane), get(room, a + LANES + lane)
        cb, sb = get(room, b + lane), sign * get(room, b + LANES + lane)
        put(room, to + lane, ca * cb - sa * sb)
        put(room, to + LANES + lane, sa * cb + ca * sb)


@inline
def _all_waves(room: Any, found: Any, at: int, recipe: Any, count: int, squares: Any) -> None:
    """Write cosine and sine of all waves of a tile, whose inputs have this sum of squares."""
    kind = type(get(room, 0))
    for step in range(count):
        w, a, b = get(recipe, 4 * step), get(recipe, 4 * step + 1), get(recipe, 4 * step + 2)
        to, own = _FIRST + w * _WAVE, at + w * _COEFFICIENTS
        frequency = get(found, own + 2)
        if a >= 0:
            sign = kind(get(recipe, 4 * step + 3))
            _product(room, to, _FIRST + a * _WAVE, _FIRST + b * _WAVE, sign)
        elif squares * frequency * frequency <= 1e8:
            _wave(room, to, get(found, own), get(found, own + 1))
        else:
            _large_wave(room, to, frequency)


@allocating
def waves(
    x: Any, out: Any, adds: int, terms: Any, recipe: Any, starts: Any, shape: Any, block: int,
    counter: Any,
) -> None:  # fmt: skip
    """out[b, i] (+)= terms[0, g] + Σ_w A_gw·cos ω_gw·x[b, i] + B_gw·sin ω_gw·x[b, i].

    Args:
        x: (b·i,).
        out: (b·i,), written.
        adds: Whether the sum is added to what stands in `out`.
        terms: ((1 + 3·count)·g,), the rows that the module's docstring describes.
        recipe: (count·4,) for each wave, in an order in which all can be computed: its number, the
            numbers of the two waves that it is a product of, or -1, and whether the angle is the
            sum of theirs, 1, or their difference, -1.
        starts: (g + 1,), the first input of each activation, and the end.
        shape: (b, i, g, count).
        block: Samples of a unit of work.
        counter: (1,) int64, 0, which all threads share.
    """
    rows, width, groups, count = shape
    found = _coefficients(terms, groups, count)
    room = np.empty(_FIRST + count * _WAVE, x.dtype)
    per = max(1, LANES // ((width + groups - 1) // groups))
    for start, end, _left, _right in windows(counter, rows, block, 1, 1):
        for top in range(start, end, per):
            for g in range(groups):
                constant = get(terms, g)
                for left in range(starts[g], starts[g + 1], LANES):
                    tile = min(per, end - top), min(LANES, starts[g + 1] - left), width
                    at = top * width + left
                    squares = _gather(x, at, tile, room, _X)
                    if adds:
                        _gather(out, at, tile, room, _OUT)
                        for lane in range(LANES):
                            add(room, _OUT + lane, constant)
                    else:
                        for lane in range(LANES):
                            put(room, _OUT + lane, constant)
                    first = g * count * _COEFFICIENTS
                    _all_waves(room, found, first, recipe, count, squares)
                    for w in range(count):
                        own, here = first + w * _COEFFICIENTS, _FIRST + w * _WAVE
                        cosine, sine = get(found, own + 3), get(found, own + 4)
                        for lane in range(LANES):
                            c, s = get(room, here + lane), get(room, here + LANES + lane)
                            add(room, _OUT + lane, cosine * c + sine * s)
                    _scatter(room, tile, out, at)


@inline
def _slopes(room: Any, found: Any, own: int, here: int, sums: Any, to: int, step: int) -> None:
    """Add what one wave contributes to the gradient by x and to its own three sums."""
    frequency, cosine, sine = get(found, own + 2), get(found, own + 3), get(found, own + 4)
    zero = type(get(room, 0))(0)
    by_frequency, by_cosine, by_sine = zero, zero, zero
    for lane in range(LANES):
        c, s = get(room, here + lane), get(room, here + LANES + lane)
        g = get(room, _G + lane)
        slope = g * (sine * c - cosine * s)
        add(room, _OUT + lane, frequency * slope)
        by_frequency += get(room, _X + lane) * slope
        by_cosine += g * c
        by_sine += g * s
    add(sums, to, by_frequency)
    add(sums, to + step, by_cosine)
    add(sums, to + 2 * step, by_sine)


@allocating
def waves_backward(
    grad: Any, x: Any, dx: Any, adds: int, terms: Any, recipe: Any, sums: Any, starts: Any,
    shape: Any, block: int, counter: Any,
) -> None:  # fmt: skip
    """Write dx, and for each block of samples the sums over it that make the terms' gradients.

    Args:
        grad: (b·i,), the gradient of the output.
        x: (b·i,).
        dx: (b·i,), written.
        adds: Whether the gradient by x is added to what stands in `dx`.
        terms: As in `waves`.
        recipe: As in `waves`.
        sums: (blocks·(1 + 3·count)·g,), written.
        starts: As in `waves`.
        shape: (b, i, g, count).
        block: Samples of a unit of work.
        counter: (1,) int64, 0, which all threads share.
    """
    rows, width, groups, count = shape
    found = _coefficients(terms, groups, count)
    room = np.empty(_FIRST + count * _WAVE, x.dtype)
    zero = type(get(room, 0))(0)
    per = max(1, LANES // ((width + groups - 1) // groups))
    for start, end, _left, _right in windows(counter, rows, block, 1, 1):
        to = start // block * (1 + 3 * count) * groups
        for n in range((1 + 3 * count) * groups):
            put(sums, to + n, zero)
        for top in range(start, end, per):
            for g in range(groups):
                for left in range(starts[g], starts[g + 1], LANES):
                    tile = min(per, end - top), min(LANES, starts[g + 1] - left), width
                    at = top * width + left
                    squares = _gather(x, at, tile, room, _X)
                    _gather(grad, at, tile, room, _G)
                    if adds:
                        _gather(dx, at, tile, room, _OUT)
                    else:
                        for lane in range(LANES):
                            put(room, _OUT + lane, zero)
                    total = zero
                    for lane in range(LANES):
                        total += get(room, _G + lane)
                    add(sums, to + g, total)
                    first = g * count * _COEFFICIENTS
                    _all_waves(room, found, first, recipe, count, squares)
                    for w in range(count):
                        own, here = first + w * _COEFFICIENTS, _FIRST + w * _WAVE
                        row = to + (3 * w + 1) * groups + g
                        _slopes(room, found, own, here, sums, row, groups)
                    _scatter(room, tile, dx, at)


@kernel
def waves_task(room: Any, *args: Any) -> Any:
    """Bind `waves` to its arguments."""
    return bind(waves, room, args)


@kernel
def waves_backward_task(room: Any, *args: Any) -> Any:
    """Bind `waves_backward` to its arguments."""
    return bind(waves_backward, room, args)
