"""`Provider`: executes the jobs of runs, such as IBM's service or an emulator.

A run does not depend on Qiskit: it submits rows of bound sequences and gets counts of ones.
Letters: r rows of a PUB, w width, s slots.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from qkan.circuits import Isa

from .backend import Floats
from .calibration import Calibration
from .errors import BackendError

Counts = NDArray[np.int64]
State = Literal["queued", "done", "failed", "cancelled", "lost"]


@dataclass(frozen=True, eq=False)
class Pub:
    """A sequence that every qubit of the layout runs, with all sets of angles.

    Attributes:
        sequence: The pulses of each qubit.
        turns: (r, w, s) radians.
    """

    sequence: Isa
    turns: Floats


@dataclass(frozen=True, eq=False)
class Job:
    """The measurements that are submitted at once.

    Attributes:
        pubs: The PUBs, at least one.
        layout: (w,) physical qubits.
        shots: The number of shots of every row.
        tags: The tags; the last one is the job's own, by which it is found again.
        seconds: The most seconds that it may take on the device.
        seed: The seed of an emulator's draws.
    """

    pubs: Sequence[Pub]
    layout: tuple[int, ...]
    shots: int
    tags: tuple[str, ...]
    seconds: int
    seed: int

    @property
    def executions(self) -> int:
        """Rows × shots."""
        return self.shots * sum(len(pub.turns) for pub in self.pubs)


@dataclass(frozen=True)
class Status:
    """The state of a job.

    Attributes:
        state: "queued" until it is final; "lost" if the provider no longer knows the job.
        reason: Why the job failed, in words.
        cause: "time" if the job reached its time limit, "user" if this package made a mistake, so
            that it is not tried again, or "system".
        seconds: The seconds billed so far for a running job, if the provider says so.
    """

    state: State
    reason: str = ""
    cause: Literal["time", "user", "system"] = "system"
    seconds: float = 0.0


class RejectedError(BackendError):
    """The provider refused a job, and would refuse it again."""


class UnsureError(BackendError):
    """The provider did not answer, so the job may have been accepted or not."""


class MalformedError(BackendError):
    """A result does not fit what was submitted.

    Attributes:
        raw: The result as text, which is kept.
    """

    def __init__(self, message: str, raw: str) -> None:
        super().__init__(message)
        self.raw = raw


class Provider(ABC):
    """A device or emulator that runs jobs.

    Attributes:
        name: The name of the device.
        bills: Whether its time is billed.
        durable: Whether a job outlives the process that submitted it.
        native_rx: Whether RX(angle) is one pulse.
        default_width: The default number of qubits to use at once; None for all usable ones.
    """

    name: str
    bills: bool = False
    durable: bool = False
    native_rx: bool = False
    default_width: int | None = None

    @abstractmethod
    def calibration(self, refresh: bool = False) -> Calibration:
        """Return the device's calibration; `refresh` fetches it again."""

    @abstractmethod
    def neighbours(self) -> Sequence[tuple[int, int]]:
        """Return the pairs of coupled qubits."""

    @abstractmethod
    def submit(self, job: Job) -> str:
        """Submit a job and return its id.

        Raises:
            RejectedError: The job was refused, and nothing is in the queue.
            UnsureError: No answer came.
        """

    @abstractmethod
    def find(self, tag: str) -> Sequence[tuple[str, Sequence[str]]]:
        """Return ids and tags of the jobs with a tag, the oldest first."""

    @abstractmethod
    def status(self, identity: str) -> Status:
        """Return the state of a job."""

    @abstractmethod
    def counts(self, identity: str, job: Job) -> list[Counts]:
        """Return for each PUB the numbers of shots that read 1, (r, w).

        Raises:
            MalformedError: The result has another shape or number of shots.
        """

    @abstractmethod
    def usage(self, identity: str) -> float | None:
        """Return the seconds billed for a job; None while they are not final."""

    def dry_run(self, job: Job) -> float | None:
        """Return the seconds that the service would bill for a job; nothing is run.

        None if no service can be asked.
        """
        return None

    def seconds_left(self) -> float | None:
        """Return the seconds that the account may still use; None without a known limit."""
        return None

    @abstractmethod
    def cancel(self, identity: str) -> None:
        """Cancel a job; a finished job is not affected."""

    @abstractmethod
    def close(self) -> None:
        """Close a batch or session, if any; jobs in the queue stay there."""
