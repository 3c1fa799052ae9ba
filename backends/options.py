"""`Options`: everything that may be chosen of a `QiskitBackend`, checked in one place."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from qkan.circuits import did_you_mean

from .errors import BackendError

EXECUTIONS_A_JOB = 10_000_000
"""IBM's limit on rows × shots of one job."""

CHOICES: Mapping[str, tuple[str, ...]] = {
    "mitigation": ("readout", "none"),
    "mode": ("faithful", "fused"),
    "emulator": ("aer", "closed_form"),
    "execution": ("job", "batch", "session"),
}


class OptionNames(TypedDict, total=False):
    """The keyword options of `QiskitBackend`; `Options` says what they mean."""

    shots: int
    layout: Sequence[int] | None
    width: int | None
    mitigation: str | None
    mode: str
    folding: bool
    store: Path | str | None
    budget_seconds: float | None
    seed: int | None
    emulator: str
    symmetric_readout: bool
    instance: str | None
    channel: str | None
    use_fractional_gates: bool
    execution: str
    spacing: int
    max_error: float
    force: bool
    margin: float
    retries: int
    job_seconds: float
    max_pending: int
    max_age_hours: float
    poll_seconds: float
    wait: bool


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a backend measures.

    Attributes:
        shots: Shots a value; with readout mitigation half of them for each twin, rounded up.
        layout: Physical qubits to use, the best first; None ranks them by calibration.
        width: Qubits to use at once. None: all that pass `max_error` on a device and in closed
            form, 8 on an Aer emulator, whose cost is exponential in it.
        mitigation: "readout": every row has a twin with ⟨Z⟩ flipped, and two calibration rows
            give each qubit's contraction. "none" or None: as read.
        mode: "faithful" runs every gate; "fused" runs one rotation whose angle is computed
            classically from the exact expectation value, so it tests a device, not a circuit.
        folding: Run each row also with every SX tripled and extrapolate linearly to no noise.
            Refused where it would not help.
        store: Folder for the directories of runs. None: `~/.qkan/runs` for a device, nothing for
            an emulator.
        budget_seconds: The most that may be billed, over all runs of this backend; required for
            a real device.
        seed: Of an emulator's draws; None draws a fresh one.
        emulator: How a fake device runs: "aer" through the runtime's own primitive in local
            mode, "closed_form" from binomial draws of the closed-form noisy device.
        symmetric_readout: An emulator reads both states with the mean of both errors, as
            qiskit-aer does, instead of with the two that the calibration lists.
        instance: IBM Cloud instance; None as the account says.
        channel: IBM channel; None as the account says.
        use_fractional_gates: Use a native RX(angle) where the device has one.
        execution: "job", or "batch" or "session" where the account allows them.
        spacing: Leave out qubits nearer than this to one in use, in steps of the coupling map; 0
            uses neighbours, 2 leaves one qubit between.
        max_error: Leave out qubits whose predicted rms error of ⟨Z⟩ exceeds it.
        force: Use the qubits of `layout` even where they are faulty or exceed `max_error`.
        margin: A job reserves ⌈margin × its estimated seconds⌉ of the budget, its time limit.
        retries: How often a job that failed for no fault of ours is submitted again.
        job_seconds: The most a job should take; larger ones are split.
        max_pending: Jobs in the queue at once.
        max_age_hours: A calibration fetched longer ago is fetched again before submitting.
        poll_seconds: Between looks at a job in the queue.
        wait: Wait for jobs in the queue. Without, all is submitted that can be, and then a
            `PendingError` names the jobs; the run, opened again, goes on with what they brought.
    """

    shots: int = 4096
    layout: Sequence[int] | None = None
    width: int | None = None
    mitigation: str | None = "readout"
    mode: str = "faithful"
    folding: bool = False
    store: Path | str | None = None
    budget_seconds: float | None = None
    seed: int | None = None
    emulator: str = "aer"
    symmetric_readout: bool = False
    instance: str | None = None
    channel: str | None = None
    use_fractional_gates: bool = False
    execution: str = "job"
    spacing: int = 0
    max_error: float = 0.05
    force: bool = False
    margin: float = 1.5
    retries: int = 2
    job_seconds: float = 600.0
    max_pending: int = 3
    max_age_hours: float = 1.0
    poll_seconds: float = 5.0
    wait: bool = True

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            value = getattr(self, name)
            if value not in choices and not (name == "mitigation" and value is None):
                raise BackendError(f"{name}={value!r}: {did_you_mean(value, choices)}")
        for name, least in (
            ("shots", 1), ("retries", 0), ("max_pending", 1), ("spacing", 0),
        ):  # fmt: skip
            _require_count(name, getattr(self, name), least)
        for name in ("width", "seed"):
            if getattr(self, name) is not None:
                _require_count(name, getattr(self, name), 1 if name == "width" else 0)
        for name in ("max_error", "job_seconds", "max_age_hours", "budget_seconds"):
            if getattr(self, name) is not None:
                _require_positive(name, getattr(self, name))
        _require_positive("margin", self.margin, least=1.0)
        _require_positive("poll_seconds", self.poll_seconds, least=0.0)
        if self.folding and self.use_fractional_gates:
            raise BackendError(
                "folding=True triples SX pulses and use_fractional_gates=True replaces them: "
                "choose one."
            )
        if self.row_shots * 8 > EXECUTIONS_A_JOB:
            raise BackendError(
                f"shots={self.shots}: a job runs at most {EXECUTIONS_A_JOB:,} executions, and not "
                f"even one row with its twins fits. Use at most {EXECUTIONS_A_JOB // 8:,}."
            )

    @property
    def twins(self) -> bool:
        """Whether every row has a twin with ⟨Z⟩ flipped."""
        return self.mitigation == "readout"

    @property
    def copies(self) -> int:
        """Rows that are run for one row of values."""
        return (2 if self.twins else 1) * (2 if self.folding else 1)

    @property
    def row_shots(self) -> int:
        """Shots of each row that is run."""
        return -(-self.shots // self.copies)

    @property
    def calibration_rows(self) -> int:
        """Rows of a job that measure no value."""
        return (4 if self.folding else 2) if self.twins else 0

    def describe(self) -> dict[str, Any]:
        """What a run's results depend on, as JSON values."""
        names = ("shots", "mitigation", "mode", "folding", "emulator", "symmetric_readout")
        return {name: getattr(self, name) for name in names}


def make_options(given: Mapping[str, Any]) -> Options:
    """Options from keywords; a misspelt name is an error that names the nearest one."""
    names = [field.name for field in dataclasses.fields(Options)]
    for name in given:
        if name not in names:
            raise BackendError(f"QiskitBackend has no option {name!r}. {did_you_mean(name, names)}")
    return Options(**given)


def _require_count(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise BackendError(f"{name}={value!r}: a whole number, {least} or more.")


def _require_positive(name: str, value: object, least: float | None = None) -> None:
    if (
        not isinstance(value, int | float)
        or isinstance(value, bool)
        or not math.isfinite(value)
        or (value <= 0 if least is None else value < least)
    ):
        bound = "above 0" if least is None else f"{least:g} or more"
        raise BackendError(f"{name}={value!r}: a finite number {bound}.")
