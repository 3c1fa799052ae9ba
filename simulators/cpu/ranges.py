"""Compiled code that finds the ranges of a layer's inputs, and the inputs that are out of them.

The more angle a range spans, the more functions a product needs. So a range holds all but the most
extreme values of its input where that is cheaper: those few are the exceptions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .jit import add, allocating, get, inline, kernel, put

GROUPS = 16
"""Groups of samples, of whose least and greatest values the middle of a range is made."""


@inline
def _extremes(x: Any, rows: int, ins: int, groups: int, low: Any, high: Any) -> Any:
    """Write least and greatest value of each group of samples, (groups·in,), for every input.

    Returns 0, or NaN where a number is not finite; a NaN is passed over.
    """
    bad = type(get(x, 0))(0)
    for group in range(groups):
        at = group * ins
        for b in range(rows * group // groups, rows * (group + 1) // groups):
            for i in range(ins):
                value, least, most = get(x, b * ins + i), get(low, at + i), get(high, at + i)
                bad += value * 0
                put(low, at + i, value if value < least else least)
                put(high, at + i, value if value > most else most)
    return bad


@inline
def _bands(scale: Any, uses: Any, ins: int, band: Any) -> Any:
    """Write max_o Σ_u uses_u·|scale_oiu| of every input; returns 0, or NaN for one not finite."""
    count, zero = uses.size, type(get(band, 0))(0)
    bad = zero
    for o in range(scale.size // max(count * ins, 1)):
        for i in range(ins):
            one, edge = zero, o * ins + i
            for u in range(count):
                one += abs(get(scale, edge * count + u)) * get(uses, u)
            bad += one * 0
            put(band, i, max(get(band, i), one))
    return bad


@inline
def _median(values: Any, at: int, step: int, count: int, room: Any) -> Any:
    """The middle one of `count` numbers, or the mean of the middle two."""
    for k in range(count):
        value, j = get(values, at + k * step), k
        while j > 0 and get(room, j - 1) > value:
            put(room, j, get(room, j - 1))
            j -= 1
        put(room, j, value)
    return (get(room, (count - 1) // 2) + get(room, count // 2)) / 2


@allocating
def _count(x: Any, rows: int, ins: int, middle: Any, factor: Any, limits: Any, found: Any) -> None:
    """Add to found[k] about how many of |x - middle|·factor are over limits[k], or not finite.

    Of many samples only some are looked at.
    """
    room, step = np.empty(ins, x.dtype), max(1, rows // 256)
    for b in range(0, rows, step):
        for i in range(ins):
            put(room, i, abs(get(x, b * ins + i) - get(middle, i)) * get(factor, i))
        for k in range(limits.size):
            limit, over = limits[k], 0
            for i in range(ins):
                over += 0 if get(room, i) <= limit else 1
            found[k] += over * step


@kernel
def choose(
    x: Any, scale: Any, uses: Any, fixed: float, shape: Any, limits: Any, widest: Any,
    costs: Any, middle: Any, half: Any,
) -> Any:  # fmt: skip
    """Write every input's range, and return how wide an angle it spans.

    All ranges span the same angle, for the widest decides how many functions are needed, and a
    slope divides the rounding of coefficients by the width of its range.

    Args:
        x: (batch·in,), at least one sample.
        scale: (out·in·num_encodings,), or empty where `fixed` is the bandwidth of every edge.
        uses: (num_encodings,) how often each encoding occurs.
        fixed: The bandwidth of every edge where the scales are fixed.
        shape: (batch, in).
        limits: A factor by which ranges are wider than the data; the least angle; the least
            bandwidth, at which edges of a lower one are counted.
        widest: (n,), rising: the angles that a range may span.
        costs: The cost of each, less that of exceptions; then the cost of an exception, and the
            largest number of them.
        middle: (in,), written.
        half: (in,), written.

    Returns:
        The number of an angle; that of angles where none is wide enough; or -1 where a scale is
        not finite. The second result says whether there may be exceptions.
    """
    rows, ins = shape
    margin, narrowest, flat = limits
    count, groups = widest.size, min(GROUPS, (rows + 15) // 16)
    low, high = np.empty(groups * ins, x.dtype), np.empty(groups * ins, x.dtype)
    band, room = np.empty(ins, x.dtype), np.empty(GROUPS, x.dtype)
    for i in range(ins):
        put(band, i, fixed)
    for at in range(groups * ins):
        put(low, at, np.inf)
        put(high, at, -np.inf)
    odd = _extremes(x, rows, ins, groups, low, high)
    if not _bands(scale, uses, ins, band) == 0:
        return -1, False
    worst = narrowest
    for i in range(ins):
        least, most = low[i], high[i]
        for group in range(1, groups):
            least = min(least, low[group * ins + i])
            most = max(most, high[group * ins + i])
        middle[i] = least + (most - least) / 2
        worst = max(worst, (most - least) / 2 * margin * band[i])
        band[i] = max(band[i], flat)
    whole = 0
    while whole < count and not widest[whole] >= worst:
        whole += 1
    best, cost = whole, np.inf
    if odd == 0 and whole < count:
        cost = costs[whole]
    exceptions = False
    if costs[count + 1] > 0 and not cost <= costs[0]:
        center, factor = np.empty(ins, x.dtype), np.empty(ins, x.dtype)
        for i in range(ins):
            least = _median(low, i, ins, groups, room)
            center[i] = least + (_median(high, i, ins, groups, room) - least) / 2
            factor[i] = band[i] * margin
        found = np.zeros(min(whole, count), np.int64)
        _count(x, rows, ins, center, factor, widest[: found.size], found)
        for k in range(found.size):
            total = costs[k] + found[k] * costs[count]
            if total < cost and found[k] <= costs[count + 1] and widest[k] >= narrowest:
                best, cost, exceptions = k, total, True
        if exceptions:
            for i in range(ins):
                middle[i] = center[i]
    if best < count:
        for i in range(ins):
            half[i] = widest[best] / band[i]
    if odd != 0 and not exceptions:
        best = count
    return best, exceptions


@inline
def _over(x: Any, at: int, i: int, middle: Any, half: Any, reach: float) -> bool:
    return not abs(get(x, at + i) - get(middle, i)) <= get(half, i) * reach


@kernel
def exceptions(
    x: Any, middle: Any, half: Any, reach: float, shape: Any, starts: Any, samples: Any, found: Any
) -> None:
    """List the inputs that are out of their ranges, input by input.

    Args:
        x: (batch·in,).
        middle: (in,).
        half: (in,).
        reach: The largest |x - middle|/half within a range.
        shape: (batch, in).
        starts: (in + 1,), zeros before: written, where each input's exceptions begin. With the
            next two empty that is all.
        samples: (exceptions,), written: the sample of each.
        found: (exceptions,), written: x.
    """
    rows, ins = shape
    if samples.size == 0:
        for b in range(rows):
            for i in range(ins):
                add(starts, i + 1, 1 if _over(x, b * ins, i, middle, half, reach) else 0)
        for i in range(ins):
            starts[i + 1] += starts[i]
        return
    at = starts.copy()
    for b in range(rows):
        for i in range(ins):
            if _over(x, b * ins, i, middle, half, reach):
                samples[at[i]] = b
                found[at[i]] = get(x, b * ins + i)
                at[i] += 1
