"""An emulator without a simulator: binomial draws of the closed-form noisy device.

127 qubits take milliseconds, and nothing of Qiskit is run beyond reading the calibration.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import numpy as np

from .backend import Floats
from .calibration import Calibration
from .provider import Counts, Job, Provider, RejectedError, Status


class ClosedFormProvider(Provider):
    """Draws what a device of that calibration would count; jobs finish as they are submitted.

    Args:
        calibration: Whose qubits are emulated.
        neighbours: Pairs of coupled qubits.
        native_rx: Whether RX(angle) is one pulse.
    """

    def __init__(
        self,
        calibration: Calibration,
        neighbours: Sequence[tuple[int, int]] = (),
        native_rx: bool = False,
    ) -> None:
        self.name = calibration.name
        self.native_rx = native_rx
        self._calibration = calibration
        self._neighbours = neighbours
        self._results: dict[str, list[Counts]] = {}

    def calibration(self, refresh: bool = False) -> Calibration:
        """The calibration that is emulated."""
        return self._calibration

    def neighbours(self) -> Sequence[tuple[int, int]]:
        """Pairs of coupled qubits."""
        return self._neighbours

    def submit(self, job: Job) -> str:
        """Draw all counts at once."""
        noise = self._calibration.device_noise(job.layout)
        rng = np.random.default_rng(job.seed)
        counts = []
        for pub in job.pubs:
            z = pub.sequence.expectation(pub.turns, np, noise)
            self._require_known(z, job.layout)
            counts.append(rng.binomial(job.shots, np.clip((1 - z) / 2, 0.0, 1.0)))
        identity = f"closed-form-{uuid.uuid4()}"
        self._results[identity] = counts
        return identity

    def find(self, tag: str) -> Sequence[tuple[str, Sequence[str]]]:
        """Nothing: a job is its result, and what is not recorded was never drawn."""
        return []

    def status(self, identity: str) -> Status:
        """Done, or lost with the process that drew it."""
        return Status("done" if identity in self._results else "lost")

    def counts(self, identity: str, job: Job) -> list[Counts]:
        """The counts that were drawn; they are handed out once."""
        return self._results.pop(identity)

    def usage(self, identity: str) -> float | None:
        """Nothing is billed."""
        return 0.0

    def cancel(self, identity: str) -> None:
        """There is no queue to cancel from."""

    def close(self) -> None:
        """Nothing was opened."""

    def _require_known(self, z: Floats, layout: tuple[int, ...]) -> None:
        missing = np.isnan(z).any(0)
        if missing.any():
            qubit = layout[int(np.argmax(missing))]
            raise RejectedError(
                f"The calibration of {self.name} says too little of qubit {qubit} to emulate it. "
                "Leave it out of the layout, or use emulator='aer'."
            )
