"""`Options`: everything that may be chosen for a backend, checked in one place."""

from __future__ import annotations

import dataclasses
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from qkan.circuits import did_you_mean

from .errors import BackendError

EXECUTIONS_A_JOB = 10_000_000
"""IBM's limit on rows × shots of one job."""

LEAST_ROW_SHOTS = 27
"""With so many shots a qubit that misreads 5 % of either state is taken for dead once in 80,000."""

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
        shots: Shots for each value; readout mitigation gives half of them to each twin, rounded
            up.
        layout: Physical qubits to use, the best first; None ranks them by calibration.
        width: Qubits to use at once. None takes all that pass `max_error` on a device and in closed
            form, and 8 on an Aer emulator, whose cost is exponential in it.
        mitigation: With "readout" every row has a twin with ⟨Z⟩ flipped, and two calibration rows
            give each qubit's contraction. With "none" or None values stay as they are read.
        mode: "faithful" runs every gate; "fused" runs one rotation whose angle is computed
            classically from the exact expectation value, so it tests a device, not a circuit.
        store: The folder for the directories of runs. For None a device uses `~/.qkan/runs`, and
            an emulator keeps nothing.
        budget_seconds: The most that may be billed; required for a real device. It holds over all
            runs whose jobs are entered in one ledger, `budget.sqlite`, earlier runs and those of
            other threads and processes included, whatever their device; and over all runs that
            this backend has opened. The ledger is in the folder `store` if that is given; else in
            `~/.qkan/runs` for the runs that are made there; else, for a run with a directory of
            its own, beside that directory if a ledger is there, or in it.
        seed: The seed of an emulator's draws; None draws a fresh one.
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
        retries: How often a job is submitted again that failed by a fault of the service.
        job_seconds: The most a job should take; larger ones are split.
        max_pending: The most jobs that are in the queue at once.
        max_age_hours: A calibration fetched longer ago is fetched again before submitting.
        poll_seconds: Seconds between two looks at a job in the queue.
        search_seconds: How long a job that was submitted without an answer is looked for by its
            tag. Then it is left alone, and its share of the budget with it, until the run is
            opened again: it is looked for once more, and submitted anew only by `resubmit`.
        wait: Whether to wait for jobs in the queue. Otherwise everything is submitted that can be,
            and then a `PendingError` names the jobs; the run, opened again, collects their results.
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
        for name, convert in _CONVERT.items():
            object.__setattr__(self, name, convert(name, getattr(self, name)))
        for name, choices in CHOICES.items():
            value = getattr(self, name)
            is_none = name == "mitigation" and value is None
            if not is_none and not (isinstance(value, str) and value in choices):
                raise BackendError(f"{name}={value!r}: {did_you_mean(value, choices)}")
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

    def of_results(self) -> dict[str, Any]:
        """The options that a run's results depend on, as JSON values."""
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


def describe_options(options: Options) -> dict[str, Any]:
    """All options of a run, as JSON values from which `restore_options` makes them again."""
    described = dataclasses.asdict(options)
    # each process that opens a run decides whether it waits, so this is no property of the run
    del described["wait"]
    if options.store is not None:
        # the budget is kept there, in whatever folder the run is opened again
        described["store"] = str(Path(options.store).expanduser().resolve())
    return described


def restore_options(described: Mapping[str, Any]) -> dict[str, Any]:
    """The options that `describe_options` described, in this version or in an earlier one.

    Raises:
        BackendError: This version lacks an option that was used.
    """
    names = {field.name for field in dataclasses.fields(Options)}
    for name in described.keys() - names - GONE.keys():
        raise BackendError(
            f"a newer version of qkan wrote the run, with the option {name!r}. Update qkan."
        )
    refuse_gone(described)
    return {name: value for name, value in described.items() if name in names}


GONE = {
    "folding": "it no longer exists, for it hardly ever helped. Leave it out.",
    "symmetric_readout": "it no longer exists: each qubit reads as calibrated. Leave it out.",
}
"""Options of version 0.1.0 that no longer exist, and what to do."""


def refuse_gone(described: Mapping[str, Any]) -> None:
    """Refuse the options of a run of version 0.1.0 that no longer exist.

    Raises:
        BackendError: The run used one.
    """
    for name in GONE:
        if described.get(name):
            raise BackendError(
                f"The run was made with {name}=True, which qkan no longer has. Go on with it with "
                "qkan 0.1.0, or start a new run without that option."
            )


def whole(value: Any) -> Any:
    """A whole number of any kind as an int; anything else as it is."""
    if isinstance(value, bool | np.bool_):
        return value
    try:
        return operator.index(value)
    except TypeError:
        return value


def count(name: str, value: Any, least: int = 1) -> int:
    """A whole number of any kind as an int.

    Raises:
        BackendError: It is none, or less than `least`.
    """
    found = whole(value)
    if not isinstance(found, int) or isinstance(found, bool) or found < least:
        raise BackendError(f"{name}={value!r}: a whole number, {least} or more.")
    return found


def finite(value: object) -> float | None:
    """A finite real number of any kind as a float; None for anything else."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def _number(name: str, value: Any, least: float | None = None) -> float:
    """A finite number as a float: at least `least`, or above 0 without one."""
    found = finite(value)
    if found is None or not (found > 0 if least is None else found >= least):
        bound = "above 0" if least is None else f"{least:g} or more"
        raise BackendError(f"{name}={value!r}: a finite number {bound}.")
    return found


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise BackendError(
            f"{name}={value!r}: wanted True or False (true or false in the terminal)."
        )
    return bool(value)


def _text(name: str, value: Any) -> str:
    if not (isinstance(value, str) and value):
        raise BackendError(f"{name}={value!r}: wanted its name, or None for the account's.")
    return value


def _folder(name: str, value: Any) -> Path | str:
    if not (isinstance(value, str | Path) and str(value)):
        raise BackendError(f"{name}={value!r}: wanted the path of a folder.")
    return value


def _qubits(name: str, value: Any) -> tuple[int, ...]:
    try:
        qubits = tuple(whole(qubit) for qubit in value)
    except TypeError:
        raise BackendError(f"{name}={value!r}: wanted a list of qubits.") from None
    if not all(isinstance(q, int) and not isinstance(q, bool) for q in qubits):
        raise BackendError(f"{name}={list(qubits)}: physical qubits are whole numbers.")
    return qubits


Convert = Callable[[str, Any], Any]


def _or_none(convert: Convert) -> Convert:
    return lambda name, value: None if value is None else convert(name, value)


_CONVERT: Mapping[str, Convert] = {
    **dict.fromkeys(("shots", "max_pending"), count),
    **dict.fromkeys(("retries", "spacing"), partial(count, least=0)),
    "width": _or_none(count),
    "seed": _or_none(partial(count, least=0)),
    **dict.fromkeys(("max_error", "job_seconds", "max_age_hours"), _number),
    "budget_seconds": _or_none(_number),
    "margin": partial(_number, least=1.0),
    **dict.fromkeys(("poll_seconds", "search_seconds"), partial(_number, least=0.0)),
    **dict.fromkeys(("use_fractional_gates", "force", "wait"), _flag),
    **dict.fromkeys(("instance", "channel"), _or_none(_text)),
    "store": _or_none(_folder),
    "layout": _or_none(_qubits),
}
"""For each option that has no fixed choices the check that also gives its value Python's type."""
