"""`ImmediateProvider`: the base of emulators whose jobs finish as they are submitted."""

from __future__ import annotations

import uuid
from abc import abstractmethod
from collections.abc import Sequence

from .calibration import Calibration
from .provider import Counts, Job, Provider, Status


class ImmediateProvider(Provider):
    """Counts a job as it is submitted, and keeps the counts until they are asked for.

    Args:
        calibration: What the device says, or what is emulated.
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

    @abstractmethod
    def count(self, job: Job) -> list[Counts]:
        """Of each PUB the number of shots that read 1, (r, w)."""

    def calibration(self, refresh: bool = False) -> Calibration:
        """What the device says, or what is emulated."""
        return self._calibration

    def neighbours(self) -> Sequence[tuple[int, int]]:
        """Pairs of coupled qubits."""
        return self._neighbours

    def submit(self, job: Job) -> str:
        """Count at once."""
        counts = self.count(job)
        identity = f"{self.name}-{uuid.uuid4()}"
        self._results[identity] = counts
        return identity

    def find(self, tag: str) -> Sequence[tuple[str, Sequence[str]]]:
        """Nothing: a job is its result, and what is not recorded was never counted."""
        return []

    def status(self, identity: str) -> Status:
        """Done, or lost with the process that counted it."""
        return Status("done" if identity in self._results else "lost")

    def counts(self, identity: str, job: Job) -> list[Counts]:
        """The counts; they are handed out once."""
        return self._results.pop(identity)

    def usage(self, identity: str) -> float | None:
        """Nothing is billed."""
        return 0.0

    def cancel(self, identity: str) -> None:
        """There is no queue to cancel from."""

    def close(self) -> None:
        """Nothing was opened."""
