"""Expectation values and their standard errors from counts.

Letters: r rows of values, w width. The rows of a PUB measure the
values first, and then their twins.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from qkan.circuits import shot_estimate, shot_variance

from .backend import Floats
from .provider import Counts

LEAST_CONTRACTION = 0.1
"""A qubit whose readout keeps less of ⟨Z⟩ is not used, since its standard error is too large."""


@dataclass(frozen=True)
class Contraction:
    """The factor by which a qubit's readout shrinks ⟨Z⟩.

    Attributes:
        value: The estimate of 1 - p - q.
        stderr: Its standard error, never 0.
        variance: An unbiased estimate of its variance.
    """

    value: float
    stderr: float
    variance: float = 0.0

    @property
    def is_dead(self) -> bool:
        """Whether the contraction is near 0, or cannot be distinguished from 0."""
        return self.value < max(LEAST_CONTRACTION, 5 * self.stderr)

    @property
    def relative_error(self) -> float:
        """The standard error divided by the value."""
        return self.stderr / self.value

    @property
    def inverse(self) -> float:
        """The factor that turns a reading into ⟨Z⟩.

        The mean of 1/value exceeds 1/(1 - p - q) by the variance over the third power. That bias is
        subtracted, since it would add up over the many edges of a layer.
        """
        return (1 - self.variance / self.value**2) / self.value


def read(
    counts: Counts, shots: int, twins: bool, added: float = 0.0
) -> tuple[Floats, Floats, Floats]:
    """Return ⟨Z⟩ from counts of ones, (r, w), with its cautious and its unbiased variance.

    With twins, whose counts are (2·r, w), ⟨Z⟩ is half the difference of the two, so that anything
    that adds to both, such as the asymmetry of the readout, cancels.

    Args:
        counts: The counts of a PUB.
        shots: The shots of each row.
        twins: Whether the second half of the rows are twins of the first.
        added: The number of shots added to those that were run: ½ in runs of version 0.1.0, which
            are continued as they began.
    """
    ones = counts.astype(np.float64)
    z, stderr = shot_estimate(ones, shots)
    if added:
        z = 1 - 2 * (ones + added) / (shots + 2 * added)
    cautious, unbiased = stderr**2, shot_variance(ones, shots)
    if not twins:
        return z, cautious, unbiased
    half = len(z) // 2
    first, second = (slice(None, half), slice(half, None))
    cautious, unbiased = ((v[first] + v[second]) / 4 for v in (cautious, unbiased))
    return (z[first] - z[second]) / 2, cautious, unbiased


def contractions(
    readings: Iterable[tuple[tuple[int, ...], Counts, int]], added: float = 0.0
) -> dict[int, Contraction]:
    """Return each qubit's contraction from the calibration rows (layout, counts (2, w), shots) of
    jobs.

    The first row prepares ⟨Z⟩ = 1 and the second -1. The counts of a qubit are added over jobs.
    `read` explains `added`.
    """
    ones: dict[int, Counts] = {}
    shots: dict[int, int] = {}
    for layout, counts, number in readings:
        for column, qubit in enumerate(layout):
            ones[qubit] = ones.get(qubit, np.zeros(2, dtype=np.int64)) + counts[:, column]
            shots[qubit] = shots.get(qubit, 0) + number
    found = {}
    for qubit, pair in ones.items():
        value, cautious, unbiased = read(pair[:, None], shots[qubit], twins=True, added=added)
        found[qubit] = Contraction(
            float(value[0, 0]),
            float(cautious[0, 0]) ** 0.5,
            0.0 if added else float(unbiased[0, 0]),
        )
    return found
