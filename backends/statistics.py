"""From counts to expectation values and their standard errors.

Letters: r rows of values, w width. A PUB's rows are those of the values, then their twins.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from qkan.circuits import DeviceNoise, shot_estimate

from .backend import Floats
from .provider import Counts

LEAST_CONTRACTION = 0.1
"""A qubit whose readout keeps less of ⟨Z⟩ than this tells nothing that is worth its error bar."""


@dataclass(frozen=True)
class Contraction:
    """How much of ⟨Z⟩ a qubit's readout keeps: 1 - p - q, and its standard error."""

    value: float
    stderr: float

    @property
    def is_dead(self) -> bool:
        """Whether it is near 0, or cannot be told from it."""
        return self.value < max(LEAST_CONTRACTION, 5 * self.stderr)

    def extrapolated(self, folded: Contraction) -> Contraction:
        """At no gate noise, from this one and that at three times the noise."""
        value = 1.5 * self.value - 0.5 * folded.value
        return Contraction(value, float(np.hypot(1.5 * self.stderr, 0.5 * folded.stderr)))

    @property
    def relative_error(self) -> float:
        """Standard error over value."""
        return self.stderr / self.value


def read(counts: Counts, shots: int, twins: bool) -> tuple[Floats, Floats]:
    """⟨Z⟩ and its variance from counts of ones, (r, w).

    With twins, counts (2·r, w), half the difference of the two: what adds to both, such as the
    asymmetry of the readout, cancels.
    """
    z, stderr = shot_estimate(counts.astype(np.float64), shots)
    if not twins:
        return z, stderr**2
    half = len(z) // 2
    return (z[:half] - z[half:]) / 2, (stderr[:half] ** 2 + stderr[half:] ** 2) / 4


def extrapolated(
    plain: tuple[Floats, Floats], folded: tuple[Floats, Floats]
) -> tuple[Floats, Floats]:
    """Values and variances at no noise, linearly from those at one and at three times the noise."""
    return 1.5 * plain[0] - 0.5 * folded[0], 2.25 * plain[1] + 0.25 * folded[1]


def break_even_shots(pulses: int, noise: DeviceNoise) -> float:
    """Shots a value from which folding pays, on the mean qubit.

    Gates contract ⟨Z⟩ by B, an error of up to B; extrapolating takes it away and costs a variance
    of 5/N instead of 1/N with the same N shots split in two: N = 4/B².

    Args:
        pulses: SX of the circuit.
        noise: Of the qubits in use.
    """
    lost = 1 - float(np.mean((noise.sx.xy * noise.sx.z) ** (pulses / 2)))
    return 4 / lost**2 if lost > 0 else float("inf")


def contractions(
    readings: Iterable[tuple[tuple[int, ...], Counts, int]],
) -> dict[int, Contraction]:
    """Each qubit's contraction from calibration rows, (layout, counts (2, w), shots) a job.

    The first row prepared ⟨Z⟩ = 1 and the second -1. A qubit's rows in several jobs add up.
    """
    ones: dict[int, Counts] = {}
    shots: dict[int, int] = {}
    for layout, counts, number in readings:
        for column, qubit in enumerate(layout):
            ones[qubit] = ones.get(qubit, np.zeros(2, dtype=np.int64)) + counts[:, column]
            shots[qubit] = shots.get(qubit, 0) + number
    found = {}
    for qubit, pair in ones.items():
        value, variance = read(pair[:, None], shots[qubit], twins=True)
        found[qubit] = Contraction(float(value[0, 0]), float(variance[0, 0]) ** 0.5)
    return found
