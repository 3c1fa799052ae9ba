"""An emulator without a simulator: binomial draws from the closed form of the noisy device.

A device with 127 qubits takes milliseconds, and Qiskit is used only to read the calibration.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .backend import Floats
from .in_process import InProcessProvider
from .provider import Counts, Job, RejectedError


class ClosedFormProvider(InProcessProvider):
    """Draws the counts of a device with the given calibration."""

    def start(self, job: Job) -> Callable[[], list[Counts]]:
        """Draw all counts at once."""
        counts = self.draw(job)
        return lambda: counts

    def draw(self, job: Job) -> list[Counts]:
        """Return the counts of every PUB, drawn with the job's own seed."""
        noise = self._calibration.device_noise(job.layout)
        rng = np.random.default_rng(job.seed)
        counts = []
        for pub in job.pubs:
            z = pub.sequence.expectation(pub.turns, np, noise)
            self._require_known(z, job.layout)
            counts.append(rng.binomial(job.shots, np.clip((1 - z) / 2, 0.0, 1.0)))
        return counts

    def _require_known(self, z: Floats, layout: tuple[int, ...]) -> None:
        missing = np.isnan(z).any(0)
        if missing.any():
            qubit = layout[int(np.argmax(missing))]
            raise RejectedError(
                f"The calibration of {self.name} lacks data for emulating qubit {qubit}. Leave it "
                "out of the layout, or use emulator='aer'."
            )
