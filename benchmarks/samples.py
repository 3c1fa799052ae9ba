"""Interleaved samples: rounds of seconds a candidate, and ratios by pairs of rounds.

A round is one turn of a candidate; round n of all candidates is close in time, so that what
disturbs the machine for longer than a round disturbs both sides of a ratio.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

QUIET = 0.2
"""The quantile that stands for an undisturbed call."""

Rounds = Sequence[Sequence[float]]


@dataclass(frozen=True)
class Summary:
    """Seconds a call over all rounds.

    Attributes:
        median: Of all samples.
        quiet: Their quantile `QUIET`.
        low: Smallest median of a round.
        high: Largest median of a round.
        count: Samples.
    """

    median: float
    quiet: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Ratio:
    """How many times longer the one takes than the other.

    Attributes:
        median: Over pairs of rounds.
        low: Of all pairs.
        high: Of all pairs.
        quiet: Ratio of the two quiet quantiles.
        pairs: Number of pairs.
    """

    median: float
    low: float
    high: float
    quiet: float
    pairs: int


def summary(rounds: Rounds) -> Summary:
    """Median, quiet quantile and spread of a candidate's samples.

    Raises:
        ValueError: There is no sample.
    """
    found = [np.asarray(one, dtype=np.float64) for one in rounds if len(one)]
    if not found:
        raise ValueError("No samples: the candidate never had a turn.")
    everything = np.concatenate(found)
    medians = [float(np.median(one)) for one in found]
    return Summary(
        float(np.median(everything)), float(np.quantile(everything, QUIET)),
        min(medians), max(medians), everything.size,
    )  # fmt: skip


def ratio(slow: Rounds, fast: Rounds) -> Ratio:
    """Return slow over fast, from the medians of rounds that belong together.

    Raises:
        ValueError: The two have different numbers of rounds, or none.
    """
    if len(slow) != len(fast) or not slow:
        raise ValueError(f"{len(slow)} rounds against {len(fast)}: not run interleaved.")
    pairs = [float(np.median(a) / np.median(b)) for a, b in zip(slow, fast, strict=True)]
    quiet = summary(slow).quiet / summary(fast).quiet
    return Ratio(float(np.median(pairs)), min(pairs), max(pairs), quiet, len(pairs))


def measure(
    calls: Mapping[str, Callable[[], object]], rounds: int, seconds: float
) -> dict[str, list[list[float]]]:
    """Seconds of single calls, turn by turn: in each round every candidate has one turn.

    Args:
        calls: The candidates. A call returns when its work is done, also where a GPU does it.
        rounds: How many turns each has.
        seconds: How long a turn is, about; it has one call at least.

    Returns:
        Of each candidate a list of rounds, and of each round the seconds of its calls.
    """
    counts = {}
    for name, call in calls.items():
        # the first calls are slower
        times = sorted(_time(call) for _ in range(8))
        counts[name] = calls_for(seconds, times[len(times) // 2])
    found: dict[str, list[list[float]]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            found[name].append([_time(call) for _ in range(counts[name])])
    return found


def _time(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def calls_for(seconds: float, one: float, most: int = 400) -> int:
    """How many calls of length `one` a turn of that many seconds has: at least one."""
    return int(np.clip(seconds / max(one, 1e-9), 1, most))


def growth(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """Slope of log time over log size, by least squares: 1 is linear growth."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])
