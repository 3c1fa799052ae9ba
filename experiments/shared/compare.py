"""Compare two kinds of model over many problems: ratios of errors, their mean, and a sign test."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import stats

RESAMPLES = 10_000
TIE = 0.05
"""Errors that differ by less than this share of the smaller one count as equal."""


@dataclass(frozen=True)
class Comparison:
    """Errors of one kind over those of another, problem by problem.

    Attributes:
        ratio: Geometric mean; below 1 the first kind has the smaller errors.
        low: Lower end of its 95 % interval, by resampling the problems.
        high: Upper end.
        lower: Problems on which the first kind's error is the smaller one, ties left out.
        higher: On which it is the larger one.
        ties: What is left.
        p: Of a two-sided sign test over `lower` and `higher`; 1 when both are 0.
    """

    ratio: float
    low: float
    high: float
    lower: int
    higher: int
    ties: int
    p: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def compare(first: Sequence[float], second: Sequence[float], seed: int = 0) -> Comparison:
    """Compare positive errors of two kinds on the same problems, in the same order."""
    logs = np.log(np.asarray(first) / np.asarray(second))
    drawn = np.random.default_rng(seed).integers(len(logs), size=(RESAMPLES, len(logs)))
    low, high = np.exp(np.quantile(logs[drawn].mean(1), (0.025, 0.975))).tolist()
    level = math.log1p(TIE)
    lower, higher = int((logs < -level).sum()), int((logs > level).sum())
    p = float(stats.binomtest(lower, lower + higher).pvalue) if lower + higher else 1.0
    ties = len(logs) - lower - higher
    return Comparison(math.exp(logs.mean()), low, high, lower, higher, ties, p)


def wins(errors: Mapping[str, Sequence[float]]) -> dict[str, int]:
    """On how many problems each kind has the lowest error alone, and "tie" for the others."""
    counts = dict.fromkeys([*errors, "tie"], 0)
    for row in zip(*errors.values(), strict=True):
        close = [kind for kind, e in zip(errors, row, strict=True) if e < min(row) * (1 + TIE)]
        counts[close[0] if len(close) == 1 else "tie"] += 1
    return counts


def geometric_mean(values: Sequence[float]) -> float:
    return math.exp(statistics.fmean(map(math.log, values)))
