"""`Backend`: what measures circuits, and `Run`: one piece of work on it that survives its process.

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
        angles: (…, p) radians, one for each of `circuit.parametric_gates`, in time order. An
            encoding's angle is what its rotation turns by, arccos already taken.
        weight: Broadcasts to (…); how much each value counts. Heavier ones go to better qubits.
    """

    circuit: Circuit
    angles: Floats
    weight: Floats | float = 1.0


@dataclass(frozen=True, eq=False)
class Measurement:
    """Estimated expectation values, shaped (…) like the task's angles without their last axis.

    Attributes:
        z: Estimates of ⟨M⟩; NaN where nothing came back. Mitigated ones may leave [-1, 1].
        stderr: Standard errors of all causes, shots and calibration.
        shot_stderr: The part that is independent from value to value.
        qubit: The physical qubit that measured each value; -1 where none did. Values of one qubit
            in one call of `measure` share its calibration's error: Cov(z_a, z_b) = z_a·z_b·r² with
            r that qubit's entry in `calibration_error`. Each call has calibration rows of its own.
        calibration_error: Relative standard error of the contraction by physical qubit; empty
            without mitigation.
        shot_variance: The variance of that independent part, estimated without bias: it may be 0
            and says too little of one value, but those of many add up rightly. None where there is
            no such estimate.
    """

    z: Floats
    stderr: Floats
    shot_stderr: Floats
    qubit: NDArray[np.int64]
    calibration_error: Mapping[int, float]
    shot_variance: Floats | None = None


@dataclass(frozen=True)
class Cost:
    """What a piece of work needs, computed before anything is submitted.

    Attributes:
        rows: Bound parameter sets, each measuring up to `width` values at once.
        jobs: Jobs that they are split into.
        executions: rows × shots, those of calibration included.
        seconds: Estimated time on the device that is billed.
        seconds_left: Of the budget, before this work; None on an emulator.
        width: Qubits used at once.
        account_seconds_left: On the account's instance; None where there is none, or no limit.
        chip: Of an emulator that uses fewer qubits than its device has: the cost with all of them.
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
        name: As its maker calls it.
        shots: Shots a value.
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
        """The kind, the name and the options as JSON values; no account is among them.

        Where the options are None, `made_again` cannot make the backend from its description.
        """
        return {"kind": self.kind, "name": self.name, "options": self.describe_options()}

    def describe_options(self) -> dict[str, Any] | None:
        """What `from_options` needs, as JSON values; None where nothing makes the backend again."""
        return None

    @classmethod
    def from_options(cls, name: str, options: Mapping[str, Any], *, wait: bool) -> Backend:
        """The backend of a description; `wait` says whether it waits for jobs in the queue."""
        raise NotImplementedError

    @classmethod
    def made_again(cls, described: Mapping[str, Any], *, wait: bool = True) -> Backend:
        """A backend from what `describe` said of it, maybe in another process.

        Args:
            described: The description of a backend of any kind whose class is imported.
            wait: Whether the backend waits for jobs in the queue.

        Raises:
            BackendError: Its description is not enough, or this version lacks one of its options.
        """
        # runs of version 0.1.0 name no kind
        found = cls._kinds.get(described.get("kind", "qiskit"))
        if found is None or described["options"] is None:
            raise BackendError("nothing says how to make it.")
        return found.from_options(described["name"], described["options"], wait=wait)

    @abstractmethod
    def cost(self, values: int) -> Cost:
        """The cost of measuring that many values; nothing is submitted."""

    @abstractmethod
    def open(self, store: Path | str | None = None, about: Mapping[str, Any] | None = None) -> Run:
        """Open a run: a new one, or, where `store` holds one already, that one again.

        Args:
            store: The run's directory. None: a new one in the default place; an emulator then
                keeps nothing.
            about: JSON values that describe the run, kept with it. A store that was opened with
                another description is refused.
        """

    def dry_run(self, tasks: Sequence[Task]) -> float | None:
        """Seconds that the service says the tasks would be billed for; nothing is run.

        None where the backend has no service to ask.
        """
        return None

    def watch(self, store: Path | str, about: Mapping[str, Any] | None = None) -> Run:
        """Open a run that another process may be working on, to ask for its status or cancel it.

        Args:
            store: The run's directory.
            about: As in `open`.
        """
        return self.open(store, about)

    @abstractmethod
    def calibration(self) -> Calibration:
        """The device's calibration as of now; entries that are missing are NaN."""

    @property
    def corrects_readout(self) -> bool:
        """Whether measured values are free of the readout's bias."""
        return False

    @property
    def fused(self) -> bool:
        """Whether a circuit runs as one rotation, whose angle is computed classically."""
        return False

    @property
    def layout(self) -> tuple[int, ...]:
        """The physical qubits that are used, the best first."""
        return tuple(int(qubit) for qubit in self.calibration().qubits)

    def measure(self, circuit: Circuit, angles: Floats) -> tuple[Floats, Floats]:
        """Measure a circuit: angles (…, p) → estimates z (…) and their standard errors (…)."""
        with self.open() as run:
            (found,) = run.measure([Task(circuit, np.asarray(angles))])
        return found.z, found.stderr


class Run(ABC):
    """Work on a backend whose results are kept: opened again, what is paid for is not run twice.

    Calls of `measure` are replayed in order: the same tasks again are read from the store, and
    only what is missing is submitted.

    Attributes:
        path: The store's directory, or None where nothing is kept.
        backend: Whose run it is.
    """

    path: Path | None
    backend: Backend

    @abstractmethod
    def measure(self, tasks: Sequence[Task]) -> list[Measurement]:
        """Measure the tasks together, packed into as few jobs as hold them.

        A job that fails for good leaves NaN in its values, and the others keep theirs.
        """

    @property
    @abstractmethod
    def jobs(self) -> tuple[str, ...]:
        """Ids of the jobs submitted so far, in order."""

    @property
    @abstractmethod
    def seconds(self) -> float:
        """Time on the device that is billed so far."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on what went otherwise than planned, in order."""
        return ()

    @abstractmethod
    def status(self) -> dict[str, str]:
        """How each job stands now, by id: "queued", "done", "failed", "cancelled" or "lost"."""

    @abstractmethod
    def cancel(self) -> tuple[str, ...]:
        """Cancel the jobs that have not finished and return their ids."""

    def resubmit(self) -> tuple[str, ...]:
        """Let jobs that went unanswered and were not found be submitted anew; return their tags.

        Each may have been accepted all the same, so it stays reserved for in the budget.
        """
        return ()

    def keep(self, name: str, content: bytes) -> bytes:
        """Keep bytes with the run, unless there are some under that name; return the kept ones."""
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
