"""`InProcessProvider`: the base of emulators, whose jobs end with this process."""

from __future__ import annotations

import uuid
from abc import abstractmethod
from collections.abc import Callable, Sequence

from .calibration import Calibration
from .provider import Counts, Job, Provider, Status


class InProcessProvider(Provider):
    """Starts each job when it is submitted, bills nothing, and keeps nothing for later processes.

    Args:
        calibration: The calibration of the device, or the emulated one.
        neighbours: The pairs of coupled qubits.
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
        self._running: dict[str, Callable[[], list[Counts]]] = {}

    @abstractmethod
    def start(self, job: Job) -> Callable[[], list[Counts]]:
        """Start a job; return a function that waits for its counts, (r, w) for each PUB."""

    def calibration(self, refresh: bool = False) -> Calibration:
        """Return the calibration with which the provider was made."""
        return self._calibration

    def neighbours(self) -> Sequence[tuple[int, int]]:
        """Return the pairs of coupled qubits."""
        return self._neighbours

    def submit(self, job: Job) -> str:
        """Start the job in this process."""
        running = self.start(job)
        identity = f"{self.name}-{uuid.uuid4()}"
        self._running[identity] = running
        return identity

    def find(self, tag: str) -> Sequence[tuple[str, Sequence[str]]]:
        """Return nothing, since no job outlives the process that knows its id."""
        return []

    def status(self, identity: str) -> Status:
        """Return "done" for a job of this process, and "lost" for any other."""
        return Status("done" if identity in self._running else "lost")

    def counts(self, identity: str, job: Job) -> list[Counts]:
        """Return the counts of a job, once only; a failure of the emulator is raised."""
        return self._running.pop(identity)()

    def usage(self, identity: str) -> float | None:
        """Return 0, since nothing is billed."""
        return 0.0

    def cancel(self, identity: str) -> None:
        """Do nothing, since there is no queue."""

    def close(self) -> None:
        """Do nothing, since nothing was opened."""
