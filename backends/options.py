"""`Options`: everything that may be chosen of a `QiskitBackend`, checked in one place."""

from __future__ import annotations

import dataclasses
import operator
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from qkan.circuits import did_you_mean

from .errors import BackendError

EXECUTIONS_A_JOB = 10_000_000
"""IBM's limit on rows × shots of one job."""

LEAST_ROW_SHOTS = 27
"""A qubit that reads 5 % of either state wrongly is then taken for dead once in 80,000 times."""

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
    store: Path | str | None
    budget_seconds: float | None
    seed: int | None
    emulator: str
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
    search_seconds: float
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
        store: Folder for the directories of runs. None: `~/.qkan/runs` for a device, nothing for
            an emulator.
        budget_seconds: The most that may be billed; required for a real device. It holds over all
            runs whose jobs are entered in one ledger, `budget.sqlite`, earlier runs and those of
            other threads and processes included, whatever their device; and over all runs that
            this backend has opened. The ledger is in the folder `store` if that is given; else in
            `~/.qkan/runs` for the runs that are made there; else, for a run with a directory of
            its own, beside that directory if a ledger is there, or in it.
        seed: Of an emulator's draws; None draws a fresh one.
        emulator: How a fake device runs: "aer" through the runtime's own primitive in local
            mode, "closed_form" from binomial draws of the closed-form noisy device.
        instance: IBM Cloud instance, by name or CRN; None as the account says, and where it says
            nothing the one that the runtime chooses.
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
        search_seconds: How long a job that was submitted without an answer is looked for by its
            tag. Then it is left alone, and its share of the budget with it, until the run is
            opened again: it is looked for once more, and submitted anew only by `resubmit`.
        wait: Wait for jobs in the queue. Without, all is submitted that can be, and then a
            `PendingError` names the jobs; the run, opened again, goes on with what they brought.
    """

    shots: int = 4096
    layout: Sequence[int] | None = None
    width: int | None = None
    mitigation: str | None = "readout"
    mode: str = "faithful"
    store: Path | str | None = None
    budget_seconds: float | None = None
    seed: int | None = None
    emulator: str = "aer"
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
    search_seconds: float = 120.0
    wait: bool = True

    def __post_init__(self) -> None:
        self._take_numbers()
        for name, choices in CHOICES.items():
            value = getattr(self, name)
            is_none = name == "mitigation" and value is None
            if not is_none and not (isinstance(value, str) and value in choices):
                raise BackendError(f"{name}={value!r}: {did_you_mean(value, choices)}")
        for name, least in (
            ("shots", 1), ("retries", 0), ("max_pending", 1), ("spacing", 0),
        ):  # fmt: skip
            _require_count(name, getattr(self, name), least)
        for name in ("width", "seed"):
            if getattr(self, name) is not None:
                _require_count(name, getattr(self, name), 1 if name == "width" else 0)
        for name in ("max_error", "job_seconds", "max_age_hours", "budget_seconds"):
            if name != "budget_seconds" or self.budget_seconds is not None:
                _require_positive(name, getattr(self, name))
        _require_positive("margin", self.margin, least=1.0)
        for name in ("poll_seconds", "search_seconds"):
            _require_positive(name, getattr(self, name), least=0.0)
        self._require_kinds()
        if self.twins and self.row_shots < LEAST_ROW_SHOTS:
            raise BackendError(
                f"shots={self.shots}: readout mitigation measures how each qubit reads with as "
                f"many shots as a twin has, half of them, and below {LEAST_ROW_SHOTS} it cannot "
                f"tell a good qubit from a dead one. Use at least {2 * LEAST_ROW_SHOTS}, or "
                "mitigation='none'."
            )
        if self.row_shots * 8 > EXECUTIONS_A_JOB:
            raise BackendError(
                f"shots={self.shots}: a job runs at most {EXECUTIONS_A_JOB:,} executions, and not "
                f"even one row with its twins fits. Use at most {EXECUTIONS_A_JOB // 8:,}."
            )

    def _take_numbers(self) -> None:
        """Take whole numbers of numpy, and any sequence of them, for Python's own."""
        for name in ("shots", "width", "seed", "spacing", "retries", "max_pending"):
            object.__setattr__(self, name, whole(getattr(self, name)))
        for name in ("max_error", "job_seconds", "max_age_hours", "budget_seconds", "margin",
                     "poll_seconds", "search_seconds"):  # fmt: skip
            value = getattr(self, name)
            if isinstance(value, np.floating | np.integer):
                object.__setattr__(self, name, float(value))
        if self.layout is not None:
            try:
                qubits = tuple(whole(qubit) for qubit in self.layout)
            except TypeError:
                raise BackendError(f"layout={self.layout!r}: wanted a list of qubits.") from None
            object.__setattr__(self, "layout", qubits)

    def _require_kinds(self) -> None:
        for name in ("use_fractional_gates", "force", "wait"):
            value = getattr(self, name)
            if isinstance(value, np.bool_):
                object.__setattr__(self, name, bool(value))
            elif not isinstance(value, bool):
                raise BackendError(
                    f"{name}={value!r}: wanted True or False (true or false in the terminal)."
                )
        for name in ("instance", "channel"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, str) and value):
                raise BackendError(f"{name}={value!r}: wanted its name, or None for the account's.")
        if self.store is not None and not (isinstance(self.store, str | Path) and str(self.store)):
            raise BackendError(f"store={self.store!r}: wanted the path of a folder.")

    @property
    def twins(self) -> bool:
        """Whether every row has a twin with ⟨Z⟩ flipped."""
        return self.mitigation == "readout"

    @property
    def copies(self) -> int:
        """Rows that are run for one row of values."""
        return 2 if self.twins else 1

    @property
    def row_shots(self) -> int:
        """Shots of each row that is run."""
        return -(-self.shots // self.copies)

    @property
    def calibration_rows(self) -> int:
        """Rows of a job that measure no value."""
        return 2 if self.twins else 0

    def describe(self) -> dict[str, Any]:
        """What a run's results depend on, as JSON values."""
        names = ("shots", "mitigation", "mode", "emulator")
        return {name: getattr(self, name) for name in names}


def make_options(given: Mapping[str, Any]) -> Options:
    """Options from keywords; a misspelt name is an error that names the nearest one."""
    names = [field.name for field in dataclasses.fields(Options)]
    for name in given:
        if name in GONE:
            raise BackendError(f"{name}: {GONE[name]}")
        if name not in names:
            raise BackendError(f"QiskitBackend has no option {name!r}. {did_you_mean(name, names)}")
    return Options(**given)


GONE = {
    "folding": "it no longer exists, for it hardly ever helped. Leave it out.",
    "symmetric_readout": "it no longer exists: each qubit reads as calibrated. Leave it out.",
}
"""Options of version 0.1.0 that no longer exist, and what to do."""


def whole(value: Any) -> Any:
    """A whole number of any kind as an int; anything else as it is."""
    if isinstance(value, bool | np.bool_):
        return value
    try:
        return operator.index(value)
    except TypeError:
        return value


def _require_count(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise BackendError(f"{name}={value!r}: a whole number, {least} or more.")


def _require_positive(name: str, value: object, least: float | None = None) -> None:
    if (
        not isinstance(value, int | float)
        or isinstance(value, bool)
        # a whole number may be larger than any float
        or not abs(value) <= sys.float_info.max
        or (value <= 0 if least is None else value < least)
    ):
        bound = "above 0" if least is None else f"{least:g} or more"
        raise BackendError(f"{name}={value!r}: a finite number {bound}.")
