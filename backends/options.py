"""`Options`: all options of a backend, checked in one place."""

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
"""With so many shots, a qubit that misreads 5 % of either state seems dead once in 80,000 times."""

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
    """The options of a backend.

    Attributes:
        shots: The number of shots for each value; with readout mitigation each twin gets half of
            them, rounded up.
        layout: The physical qubits to use, the best first; None ranks them by calibration.
        width: The number of qubits to use at once. None takes all within `max_error` on a device
            and in closed form, and 8 on an Aer emulator, whose cost is exponential in it.
        mitigation: With "readout", every row has a twin with ⟨Z⟩ flipped, and two calibration rows
            give each qubit's contraction. With "none" or None, values are not corrected.
        mode: "faithful" runs every gate. "fused" runs one rotation whose angle is computed
            classically from the exact expectation value, which tests a device, not a circuit.
        store: The folder for the directories of runs. With None a device uses `~/.qkan/runs`, and
            an emulator keeps nothing.
        budget_seconds: The most seconds that may be billed; required for a real device. The budget
            applies to all runs whose jobs are entered in one ledger, `budget.sqlite`, including
            earlier runs and those of other threads, processes and devices; and to all runs that
            this backend has opened. The ledger is in the folder `store` if that is given, or in
            `~/.qkan/runs` for the runs that are made there. For a run with its own directory, it is
            beside that directory if there is a ledger, and otherwise in it.
        seed: The seed of an emulator's draws; None draws a new one.
        emulator: How a fake device is emulated: "aer" by the runtime's own primitive in local mode,
            or "closed_form" by binomial draws from the closed form of the noisy device.
        instance: The IBM Cloud instance, by name or CRN. None takes that of the account, or
            otherwise the one that the runtime chooses.
        channel: The IBM channel; None takes that of the account.
        use_fractional_gates: Whether to use a native RX(angle) if the device has one.
        execution: "job", or "batch" or "session" if the account allows them.
        spacing: The least distance of two qubits in use, in steps of the coupling map: 0 allows
            neighbours, and 2 leaves one qubit between.
        max_error: Qubits with a larger predicted rms error of ⟨Z⟩ are left out.
        force: Whether to use the qubits of `layout` even if they are faulty or exceed `max_error`.
        margin: A job reserves ⌈margin × its estimated seconds⌉ of the budget, its time limit.
        retries: How often a job is submitted again if it failed by a fault of the service.
        job_seconds: The most seconds that a job should take; larger ones are split.
        max_pending: The most jobs in the queue at once.
        max_age_hours: An older calibration is fetched again before submission.
        poll_seconds: The seconds between two requests for the state of a job in the queue.
        search_seconds: How long to look, by its tag, for a job that was submitted without an
            answer. If it is not found, it keeps its share of the budget; when the run is opened
            again, it is looked for once more, and is submitted again only by `resubmit`.
        wait: Whether to wait for jobs in the queue. Otherwise all jobs that are ready are
            submitted, and a `PendingError` names them; the run, opened again, collects their
            results.
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
                raise BackendError(f"Unknown {name}={value!r}. {did_you_mean(value, choices)}")
        if self.twins and self.row_shots < LEAST_ROW_SHOTS:
            raise BackendError(
                f"shots={self.shots}: readout mitigation calibrates each qubit with half of the "
                f"shots, and below {LEAST_ROW_SHOTS} it cannot tell a good qubit from a dead one. "
                f"Use at least {2 * LEAST_ROW_SHOTS} shots, or mitigation='none'."
            )
        if self.row_shots * 8 > EXECUTIONS_A_JOB:
            raise BackendError(
                f"shots={self.shots}: a job runs at most {EXECUTIONS_A_JOB:,} executions, which is "
                f"not enough for one row with its twins. Use at most {EXECUTIONS_A_JOB // 8:,} "
                "shots."
            )

    @property
    def twins(self) -> bool:
        """Whether every row has a twin with ⟨Z⟩ flipped."""
        return self.mitigation == "readout"

    @property
    def copies(self) -> int:
        """The number of rows that are run for one row of values."""
        return 2 if self.twins else 1

    @property
    def row_shots(self) -> int:
        """The number of shots of each row that is run."""
        return -(-self.shots // self.copies)

    @property
    def calibration_rows(self) -> int:
        """The number of rows of a job that measure no value."""
        return 2 if self.twins else 0

    def of_results(self) -> dict[str, Any]:
        """The options on which a run's results depend, as JSON values."""
        names = ("shots", "mitigation", "mode", "emulator")
        return {name: getattr(self, name) for name in names}


def make_options(given: Mapping[str, Any]) -> Options:
    """Make options from keywords; for a misspelt name, an error names the nearest one."""
    names = [field.name for field in dataclasses.fields(Options)]
    for name in given:
        if name in GONE:
            raise BackendError(f"{name}: {GONE[name]}")
        if name not in names:
            raise BackendError(f"QiskitBackend has no option {name!r}. {did_you_mean(name, names)}")
    return Options(**given)


def describe_options(options: Options) -> dict[str, Any]:
    """Return all options of a run, as JSON values from which `restore_options` makes them again."""
    described = dataclasses.asdict(options)
    # each process that opens a run decides whether it waits, so this does not belong to the run
    del described["wait"]
    if options.store is not None:
        # the budget stays there, in whatever folder the run is opened again
        described["store"] = str(Path(options.store).expanduser().resolve())
    return described


def restore_options(described: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that `describe_options` of this or an earlier version described.

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
    "folding": "it no longer exists, since it hardly ever helped. Leave it out.",
    "symmetric_readout": "it no longer exists, since qubits read as calibrated. Leave it out.",
}
"""Options of version 0.1.0 that no longer exist, with what to do."""


def refuse_gone(described: Mapping[str, Any]) -> None:
    """Raise for options of a run of version 0.1.0 that no longer exist.

    Raises:
        BackendError: The run used one.
    """
    for name in GONE:
        if described.get(name):
            raise BackendError(
                f"The run was made with {name}=True, which qkan no longer has. Continue it with "
                "qkan 0.1.0, or start a new run without that option."
            )


def whole(value: Any) -> Any:
    """Return a whole number of any type as an int, and anything else unchanged."""
    if isinstance(value, bool | np.bool_):
        return value
    try:
        return operator.index(value)
    except TypeError:
        return value


def count(name: str, value: Any, least: int = 1) -> int:
    """Return a whole number of any type as an int.

    Raises:
        BackendError: It is not a whole number, or less than `least`.
    """
    found = whole(value)
    if not isinstance(found, int) or isinstance(found, bool) or found < least:
        raise BackendError(f"{name}={value!r}; wanted a whole number, {least} or more.")
    return found


def finite(value: object) -> float | None:
    """Return a finite real number of any type as a float, and None for anything else."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def _number(name: str, value: Any, least: float | None = None) -> float:
    """Return a finite number as a float: at least `least`, or above 0 without it."""
    found = finite(value)
    if found is None or not (found > 0 if least is None else found >= least):
        bound = "above 0" if least is None else f"{least:g} or more"
        raise BackendError(f"{name}={value!r}; wanted a finite number {bound}.")
    return found


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise BackendError(
            f"{name}={value!r}; wanted True or False (true or false in the terminal)."
        )
    return bool(value)


def _text(name: str, value: Any) -> str:
    if not (isinstance(value, str) and value):
        raise BackendError(f"{name}={value!r}; wanted a name, or None for that of the account.")
    return value


def _folder(name: str, value: Any) -> Path | str:
    if not (isinstance(value, str | Path) and str(value)):
        raise BackendError(f"{name}={value!r}; wanted the path of a folder.")
    return value


def _qubits(name: str, value: Any) -> tuple[int, ...]:
    try:
        qubits = tuple(whole(qubit) for qubit in value)
    except TypeError:
        raise BackendError(f"{name}={value!r}; wanted a list of qubits.") from None
    if not all(isinstance(q, int) and not isinstance(q, bool) for q in qubits):
        raise BackendError(f"{name}={list(qubits)}; wanted whole numbers for physical qubits.")
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
"""The checks of options without fixed choices, which also convert values to Python's types."""
