"""`InProcessProvider`: the base of emulators, whose jobs live and end with this process."""

from __future__ import annotations

import uuid
from abc import abstractmethod
from collections.abc import Callable, Sequence

from .calibration import Calibration
from .provider import Counts, Job, Provider, Status


class InProcessProvider(Provider):
    """Starts each job when it is submitted, bills nothing, and keeps nothing for later processes.

    Args:
        calibration: What the device says of itself, or what is emulated.
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
        self._running: dict[str, Callable[[], list[Counts]]] = {}

    @abstractmethod
    def start(self, job: Job) -> Callable[[], list[Counts]]:
        """Start a job and return a function that waits for its counts, one array (r, w) a PUB."""

    def calibration(self, refresh: bool = False) -> Calibration:
        """The calibration that the provider was made with."""
        return self._calibration

    def neighbours(self) -> Sequence[tuple[int, int]]:
        """Pairs of coupled qubits."""
        return self._neighbours

    def submit(self, job: Job) -> str:
        """Start the job in this process."""
        running = self.start(job)
        identity = f"{self.name}-{uuid.uuid4()}"
        self._running[identity] = running
        return identity

    def find(self, tag: str) -> Sequence[tuple[str, Sequence[str]]]:
        """No job is ever found by its tag, because none outlives the process that knows its id."""
        return []

    def status(self, identity: str) -> Status:
        """A job of this process counts as done, and any other is lost."""
        return Status("done" if identity in self._running else "lost")

    def counts(self, identity: str, job: Job) -> list[Counts]:
        """The counts of a job; they are handed out once, and an emulator's failure is raised."""
        return self._running.pop(identity)()

    def usage(self, identity: str) -> float | None:
        """Nothing is billed."""
        return 0.0

    def cancel(self, identity: str) -> None:
        """Nothing happens, because there is no queue."""

    def close(self) -> None:
        """Nothing happens, because nothing was opened."""
