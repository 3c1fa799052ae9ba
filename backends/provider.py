"""`Provider`: what executes the jobs of runs, such as IBM's service or an emulator.

A run knows nothing of Qiskit: it submits rows of bound sequences and gets counts of ones.
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
    """One sequence that every qubit of the layout runs, with all its sets of angles.

    Attributes:
        sequence: The pulses of each qubit.
        turns: (r, w, s) radians.
    """

    sequence: Isa
    turns: Floats


@dataclass(frozen=True, eq=False)
class Job:
    """Everything that is submitted at once.

    Attributes:
        pubs: At least one.
        layout: (w,) physical qubits.
        shots: The shots of every row.
        tags: The last one is the job's own, by which it is found again.
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
    """How a job stands.

    Attributes:
        state: "queued" until it is final; "lost" where the provider no longer knows it.
        reason: Why the job failed, in words.
        cause: "time" if the job reached its limit, "user" if this package made a mistake, which is
            never tried again, or "system".
        seconds: Seconds billed so far for a job that still runs, where the provider says so.
    """

    state: State
    reason: str = ""
    cause: Literal["time", "user", "system"] = "system"
    seconds: float = 0.0


class RejectedError(BackendError):
    """The provider refused a job, and would refuse it again."""


class UnsureError(BackendError):
    """The provider did not answer: the job may have been accepted or not."""


class MalformedError(BackendError):
    """A result does not fit what was submitted.

    Attributes:
        raw: The result as text, to be kept.
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
        default_width: Qubits to use at once unless the user says; None for all usable ones.
    """

    name: str
    bills: bool = False
    durable: bool = False
    native_rx: bool = False
    default_width: int | None = None

    @abstractmethod
    def calibration(self, refresh: bool = False) -> Calibration:
        """The device's calibration; fetched again where it may have changed."""

    @abstractmethod
    def neighbours(self) -> Sequence[tuple[int, int]]:
        """Pairs of coupled qubits."""

    @abstractmethod
    def submit(self, job: Job) -> str:
        """Submit a job and return its id.

        Raises:
            RejectedError: It was refused; nothing is in the queue.
            UnsureError: No answer came.
        """

    @abstractmethod
    def find(self, tag: str) -> Sequence[tuple[str, Sequence[str]]]:
        """Ids and tags of the jobs with a tag, oldest first."""

    @abstractmethod
    def status(self, identity: str) -> Status:
        """How a job stands."""

    @abstractmethod
    def counts(self, identity: str, job: Job) -> list[Counts]:
        """For each PUB the number of shots that read 1, (r, w).

        Raises:
            MalformedError: The result has another shape or number of shots.
        """

    @abstractmethod
    def usage(self, identity: str) -> float | None:
        """Seconds billed for a job; None while that is not final."""

    def dry_run(self, job: Job) -> float | None:
        """Seconds that the service says a job would be billed for; nothing is run.

        None where no service can be asked.
        """
        return None

    def seconds_left(self) -> float | None:
        """Seconds that the account may still use; None where there is no limit, or none known."""
        return None

    @abstractmethod
    def cancel(self, identity: str) -> None:
        """Cancel a job; one that has finished stays as it is."""

    @abstractmethod
    def close(self) -> None:
        """End what was opened for the sake of jobs; jobs in the queue stay there."""
