"""An emulator without a simulator: binomial draws of the closed-form noisy device.

127 qubits take milliseconds, and nothing of Qiskit is run beyond reading the calibration.
"""

from __future__ import annotations

import numpy as np

from .backend import Floats
from .immediate import ImmediateProvider
from .provider import Counts, Job, RejectedError


class ClosedFormProvider(ImmediateProvider):
    """Draws what a device of that calibration would count."""

    def count(self, job: Job) -> list[Counts]:
        """Draw all counts at once."""
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
                f"The calibration of {self.name} says too little of qubit {qubit} to emulate it. "
                "Leave it out of the layout, or use emulator='aer'."
            )
