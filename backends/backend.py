"""`Backend` measures circuits; `Run` is a piece of work on it that survives its process.

A backend knows circuits and angles; `qkan.devices` knows models. Letters: v values, each of which
is one circuit with bound angles; p parametric gates of the circuit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from qkan.circuits import Circuit

from .calibration import Calibration
from .errors import BackendError

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Task:
    """Values of one circuit to measure.

    Attributes:
        circuit: Any circuit.
        angles: (…, p) radians, one for each of `circuit.parametric_gates`, in time order. The angle
            of an encoding is that of its rotation, after an arccos if it has one.
        weight: How much each value counts, broadcasting to (…). Heavier values go to better qubits.
    """

    circuit: Circuit
    angles: Floats
    weight: Floats | float = 1.0


@dataclass(frozen=True, eq=False)
class Measurement:
    """Estimated expectation values (…), in the shape of the task's angles without the last axis.

    Attributes:
        z: Estimates of ⟨M⟩; NaN where no result came back. Mitigated estimates may leave [-1, 1].
        stderr: Standard errors from all causes, shots and calibration.
        shot_stderr: The part that is independent from value to value.
        qubit: The physical qubit that measured each value; -1 if none did. The values of one qubit
            in one call of `measure` share its calibration error: Cov(z_a, z_b) = z_a·z_b·r², where
            r is the qubit's entry in `calibration_error`. Each call has its own calibration rows.
        calibration_error: The relative standard error of the contraction by physical qubit; empty
            without mitigation.
        shot_variance: An unbiased estimate of the variance of that independent part. It may be 0,
            which is too small for a single value, but the sum over many values is right. None if
            there is no such estimate.
    """

    z: Floats
    stderr: Floats
    shot_stderr: Floats
    qubit: NDArray[np.int64]
    calibration_error: Mapping[int, float]
    shot_variance: Floats | None = None


@dataclass(frozen=True)
class Cost:
    """The cost of a piece of work, computed before anything is submitted.

    Attributes:
        rows: The number of sets of angles, each of which measures up to `width` values at once.
        jobs: The number of jobs.
        executions: Rows × shots, including those of calibration.
        seconds: The estimated time on the device that is billed.
        seconds_left: The seconds left of the budget before this work; None on an emulator.
        width: The number of qubits used at once.
        account_seconds_left: The seconds left on the account's instance; None without one, or
            without a limit.
        chip: For an emulator that uses fewer qubits than its device has, the cost with all of them.
    """

    rows: int
    jobs: int
    executions: int
    seconds: float
    seconds_left: float | None
    width: int
    account_seconds_left: float | None = None
    chip: Cost | None = None


class Backend(ABC):
    """A device or an emulator.

    A subclass that can be made again from its description names its kind, as in
    `class MyBackend(Backend, kind="mine")`, and implements `describe_options` and `from_options`.

    Attributes:
        name: The name of the device.
        shots: The number of shots for each value.
    """

    name: str
    shots: int
    kind: ClassVar[str | None] = None
    _kinds: ClassVar[dict[str, type[Backend]]] = {}

    def __init_subclass__(cls, kind: str | None = None) -> None:
        super().__init_subclass__()
        if kind is not None:
            cls.kind = kind
            cls._kinds[kind] = cls

    def describe(self) -> dict[str, Any]:
        """Return the kind, the name and the options as JSON values, without any account.

        If the options are None, `made_again` cannot make the backend from its description.
        """
        return {"kind": self.kind, "name": self.name, "options": self.describe_options()}

    def describe_options(self) -> dict[str, Any] | None:
        """Return the JSON values for `from_options`, or None if they cannot make the backend."""
        return None

    @classmethod
    def from_options(cls, name: str, options: Mapping[str, Any], *, wait: bool) -> Backend:
        """Make the backend of a description; `wait` says whether it waits for jobs in the queue."""
        raise NotImplementedError

    @classmethod
    def made_again(cls, described: Mapping[str, Any], *, wait: bool = True) -> Backend:
        """Make a backend from the result of `describe`, even in another process.

        Args:
            described: The description of a backend of any kind whose class is imported.
            wait: Whether the backend waits for jobs in the queue.

        Raises:
            BackendError: The description is not enough, or this version lacks one of its options.
        """
        # runs of version 0.1.0 have no kind
        found = cls._kinds.get(described.get("kind", "qiskit"))
        if found is None or described["options"] is None:
            raise BackendError("its description does not say how to make it.")
        return found.from_options(described["name"], described["options"], wait=wait)

    @abstractmethod
    def cost(self, values: int) -> Cost:
        """Return the cost of measuring that many values; nothing is submitted."""

    @abstractmethod
    def open(self, store: Path | str | None = None, about: Mapping[str, Any] | None = None) -> Run:
        """Open a new run, or the run that `store` has already.

        Args:
            store: The run's directory. None takes a new one in the default place; an emulator then
                keeps nothing.
            about: JSON values that describe the run and are kept with it. A store with another
                description is refused.
        """

    def dry_run(self, tasks: Sequence[Task]) -> float | None:
        """Return the seconds that the service would bill for the tasks; nothing is run.

        None if the backend has no service to ask.
        """
        return None

    def watch(self, store: Path | str, about: Mapping[str, Any] | None = None) -> Run:
        """Open a run on which another process may be working, to see its status or cancel it.

        Args:
            store: The run's directory.
            about: As in `open`.
        """
        return self.open(store, about)

    @abstractmethod
    def calibration(self) -> Calibration:
        """Return the device's current calibration; missing entries are NaN."""

    @property
    def corrects_readout(self) -> bool:
        """Whether the readout's bias is removed from measured values."""
        return False

    @property
    def fused(self) -> bool:
        """Whether a circuit runs as one rotation, whose angle is computed classically."""
        return False

    @property
    def layout(self) -> tuple[int, ...]:
        """The physical qubits in use, the best first."""
        return tuple(int(qubit) for qubit in self.calibration().qubits)

    def measure(self, circuit: Circuit, angles: Floats) -> tuple[Floats, Floats]:
        """Measure a circuit: map angles (…, p) → estimates z (…) and their standard errors (…)."""
        with self.open() as run:
            (found,) = run.measure([Task(circuit, np.asarray(angles))])
        return found.z, found.stderr


class Run(ABC):
    """Work on a backend with kept results, so that a run opened again does not pay twice.

    Calls of `measure` are replayed in order: results for the same tasks are read from the store,
    and only missing ones are submitted.

    Attributes:
        path: The store's directory, or None if nothing is kept.
        backend: The backend of the run.
    """

    path: Path | None
    backend: Backend

    @abstractmethod
    def measure(self, tasks: Sequence[Task]) -> list[Measurement]:
        """Measure the tasks together, packed into as few jobs as possible.

        The values of a job that fails permanently are NaN; other jobs are not affected.
        """

    @property
    @abstractmethod
    def jobs(self) -> tuple[str, ...]:
        """The ids of the jobs submitted so far, in order."""

    @property
    @abstractmethod
    def seconds(self) -> float:
        """The time on the device billed so far."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about deviations from the plan, in order."""
        return ()

    @abstractmethod
    def status(self) -> dict[str, str]:
        """Return the state of each job by id: "queued", "done", "failed", "cancelled" or "lost"."""

    @abstractmethod
    def cancel(self) -> tuple[str, ...]:
        """Cancel the unfinished jobs and return their ids."""

    def resubmit(self) -> tuple[str, ...]:
        """Allow jobs without an answer that were not found to be submitted again; return their
        tags.

        Each may have been accepted after all, so its reservation in the budget stays.
        """
        return ()

    def keep(self, name: str, content: bytes) -> bytes:
        """Keep bytes with the run, unless some are kept under that name; return the kept ones."""
        if self.path is None:
            return content
        file = self.path / name
        if not file.exists():
            draft = file.with_name(f".{name}.tmp")
            draft.write_bytes(content)
            draft.replace(file)
        return file.read_bytes()

    @abstractmethod
    def close(self) -> None:
        """Release the store's lock; jobs in the queue stay there."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
