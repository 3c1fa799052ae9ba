"""A contract test for providers: whatever a service does, a run must not lose or overpay anything.

If you write a `Provider` for jobs that outlive their process, run it as a test:

    from qkan.backends.testing import FAULTS, check_provider

    @pytest.mark.parametrize("name", FAULTS)
    def test_my_provider(name, tmp_path):
        check_provider(lambda: MyProvider(...), tmp_path, FAULTS[name])

`Hostile` is put between the run and the provider, and answers late, twice, in the wrong order, with
nonsense or not at all. A service that misbehaves by itself is checked with `FAULTS["none"]`.
Whatever happens, every value must be measured within its standard error, every job accepted once,
and no more reserved and billed than the budget allows.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np

from qkan.circuits import RX, Circuit, Encoding

from .backend import Task
from .calibration import Calibration
from .errors import BackendError, PendingError
from .options import make_options
from .packed import PackedBackend
from .provider import Counts, Job, Provider, Status

T = TypeVar("T")

VALUES = np.linspace(-0.9, 0.9, 30)
"""The expectation values that are measured."""

JOBS, SHOTS, BUDGET = 5, 64, 40.0


@dataclass(frozen=True)
class Fault:
    """The faults of a service, which occur always or for a number of times.

    Attributes:
        lag: How often a job's tag must be asked for before the job is found by it.
        unanswered: The number of submissions that are accepted without an answer.
        garbled: The number of next answers to "submit", "find", "status", "counts", "usage" or
            "cancel" that are nonsense; a submission is accepted nevertheless.
        duplicated: Whether lists have every job twice.
        reordered: Whether lists are in reverse order.
        slow: For how many requests a finished job seems to be in the queue.
        late_usage: How often the usage of a job must be asked for before it is final; a part of it
            is reported while the job is in the queue.
        forgetful: How often a job must be asked for before the service knows its id.
        interrupted: Whether the process ends after every few calls to the service.
        restored: Whether the store is replaced by an older copy before it is opened again.
        cancelled: Whether the run is cancelled between two openings, and every job finishes before
            its cancellation arrives.
    """

    lag: int = 0
    unanswered: int = 0
    garbled: Mapping[str, int] = field(default_factory=dict)
    duplicated: bool = False
    reordered: bool = False
    slow: int = 0
    late_usage: int = 0
    forgetful: int = 0
    interrupted: bool = False
    restored: bool = False
    cancelled: bool = False


FAULTS: Mapping[str, Fault] = {
    "none": Fault(),
    "late index": Fault(lag=4, unanswered=3),
    "garbled answers": Fault(
        garbled={"submit": 2, "find": 2, "status": 3, "counts": 2, "usage": 2, "cancel": 1}
    ),
    "garbled for long": Fault(garbled={"status": 15, "usage": 9}),
    "duplicated": Fault(duplicated=True, unanswered=2),
    "reordered": Fault(reordered=True, unanswered=2, interrupted=True),
    "slow": Fault(slow=6),
    "late usage": Fault(late_usage=4),
    "forgetful": Fault(forgetful=2),
    "interrupted": Fault(interrupted=True, lag=2),
    "restored": Fault(interrupted=True, restored=True),
    "cancelled too late": Fault(interrupted=True, cancelled=True, slow=4),
    "all at once": Fault(
        lag=3, unanswered=2, duplicated=True, reordered=True, slow=2, late_usage=2, forgetful=1,
        interrupted=True, restored=True, garbled={"status": 2, "usage": 2, "find": 1},
    ),
}  # fmt: skip
"""Faults by name."""

NONSENSE: Mapping[str, Any] = {
    "submit": None, "find": [("?",)], "status": "DONE?", "counts": [[[-1]]], "usage": float("nan"),
    "cancel": ValueError("Expecting value: line 1 column 1 (char 0)"),
}  # fmt: skip


class Ended(BaseException):
    """Ends the process as a signal would, so that nothing after it is run."""


class Hostile(Provider):
    """A provider that adds faults to another provider.

    Args:
        provider: The provider that runs the jobs.
        fault: The faults.

    Attributes:
        accepted: The ids that the provider gave, by the job's own tag.
        ends_after: The number of calls after which the process ends; None lets it continue.
    """

    bills = True
    durable = True

    def __init__(self, provider: Provider, fault: Fault) -> None:
        self._provider, self._fault = provider, fault
        self.name, self.native_rx = provider.name, provider.native_rx
        self.default_width = provider.default_width
        self.accepted: dict[str, list[str]] = {}
        self.ends_after: int | None = None
        self._left = {"unanswered": fault.unanswered, **fault.garbled}
        self._asked: dict[tuple[str, str], int] = {}

    def calibration(self, refresh: bool = False) -> Calibration:
        """Return the provider's calibration."""
        return self._provider.calibration(refresh)

    def neighbours(self) -> Sequence[tuple[int, int]]:
        """Return the provider's pairs of coupled qubits."""
        return self._provider.neighbours()

    def submit(self, job: Job) -> str:
        """Submit, and perhaps lose the answer."""
        self._count()
        identity = self._provider.submit(job)
        self.accepted.setdefault(job.tags[-1], []).append(identity)
        self._count()
        if self._happens("unanswered"):
            raise ConnectionError("The connection was reset.")
        return self._answer("submit", identity)

    def find(self, tag: str) -> Sequence[tuple[str, Sequence[str]]]:
        """Return the jobs with a tag, late, twice or in reverse order."""
        self._count()
        found = list(self._provider.find(tag))
        found = [pair for pair in found if self._times("find", pair[0]) > self._fault.lag]
        if self._fault.reordered:
            found.reverse()
        return self._answer("find", found * 2 if self._fault.duplicated else found)

    def status(self, identity: str) -> Status:
        """Return the state of a job, perhaps an older one."""
        self._count()
        found, times = self._provider.status(identity), self._times("status", identity)
        if times <= self._fault.forgetful:
            found = Status("lost")
        elif found.state == "done" and times <= self._fault.forgetful + self._fault.slow:
            found = Status("queued", seconds=0.5 * (self._fault.late_usage > 0))
        return self._answer("status", found)

    def counts(self, identity: str, job: Job) -> list[Counts]:
        """Return the counts of a job."""
        self._count()
        return self._answer("counts", self._provider.counts(identity, job))

    def usage(self, identity: str) -> float | None:
        """Return the usage of a job, perhaps late."""
        self._count()
        late = self._times("usage", identity) <= self._fault.late_usage
        return self._answer("usage", None if late else self._provider.usage(identity))

    def cancel(self, identity: str) -> None:
        """Cancel a job, perhaps too late."""
        self._count()
        if not self._fault.cancelled:
            self._provider.cancel(identity)
        self._answer("cancel", None)

    def close(self) -> None:
        """Close the provider."""
        self._provider.close()

    def _count(self) -> None:
        if self.ends_after is not None:
            self.ends_after -= 1
            if self.ends_after < 0:
                raise Ended

    def _times(self, what: str, identity: str) -> int:
        """How often something was asked about a job, this time included."""
        self._asked[what, identity] = self._asked.get((what, identity), 0) + 1
        return self._asked[what, identity]

    def _happens(self, what: str) -> bool:
        left = self._left.get(what, 0)
        self._left[what] = max(left - 1, 0)
        return left > 0

    def _answer(self, what: str, found: T) -> T:
        if not self._happens(what):
            return found
        if isinstance(NONSENSE[what], Exception):
            raise NONSENSE[what]
        return cast(T, NONSENSE[what])


def check_provider(make: Callable[[], Provider], folder: Path, fault: Fault) -> None:
    """Run a provider with a fault, and raise unless all promises of a run hold.

    Args:
        make: A function that returns a provider of the same service and device each time, as a new
            process would.
        folder: An empty folder.
        fault: The faults.

    Raises:
        AssertionError: A promise is broken.
    """
    hostile = Hostile(make(), fault)
    store, copies = folder / "run", itertools.count()
    found, run = None, None
    for attempt in range(80):
        hostile._provider = make()
        hostile.ends_after = 7 + attempt if fault.interrupted else None
        try:
            with _backend(hostile).open(store) as run:
                if attempt % 3 == 0:
                    run.copy(folder / f"copy-{next(copies)}")
                found = run.measure([_task()])[0]
            if run.seconds == run.committed_seconds and np.isfinite(found.z).all():
                break
        except (Ended, PendingError):
            pass
        except BackendError as error:
            assert "No answer" in str(error) or "does not say" in str(error), error
        if fault.cancelled and attempt < 5:
            hostile.ends_after = None
            with _backend(hostile).watch(store) as seen:
                seen.cancel()
                assert "cancelled" not in seen.status().values(), "cancelled without a word of it"
        if fault.restored and attempt % 5 == 4:
            copy = folder / f"copy-{(attempt // 3) - 1}" / "run.sqlite"
            if copy.exists():
                (store / "run.sqlite").write_bytes(copy.read_bytes())
    assert found is not None and run is not None and np.isfinite(found.z).all(), "values lack"
    assert (np.abs(found.z - VALUES) < 6 * found.stderr).all(), "values are wrong"
    doubles = {tag: ids for tag, ids in hostile.accepted.items() if len(ids) > 1}
    assert not doubles and len(hostile.accepted) == JOBS, f"paid twice: {doubles or 'other jobs'}"
    assert set(run.jobs) == {ids[0] for ids in hostile.accepted.values()}, "jobs are not known"
    assert 0 < run.seconds == run.committed_seconds <= BUDGET, "costs are not final or too high"
    hostile.ends_after, before = None, len(hostile.accepted)
    with _backend(hostile).open(store) as again:
        (same,) = again.measure([_task()])
    assert (same.z == found.z).all() and (same.stderr == found.stderr).all(), "read otherwise"
    assert len(hostile.accepted) == before, "a finished run submitted something"


def _task() -> Task:
    return Task(Circuit((RX(Encoding(0)),)), np.arccos(VALUES)[:, None])


def _backend(provider: Provider) -> PackedBackend:
    # six values a job: a row of two on each of two qubits, and its twin, and two of calibration
    qubits = [int(qubit) for qubit in provider.calibration().qubits[:2]]
    seconds = 2.0 + 0.00035 * (2 * 3 + 2) * (SHOTS // 2) + 1e-9
    options = {
        "shots": SHOTS, "layout": qubits, "force": True, "job_seconds": seconds,
        "budget_seconds": BUDGET, "poll_seconds": 0.0, "search_seconds": 60.0, "max_age_hours": 1e6,
    }  # fmt: skip
    return PackedBackend(provider, make_options(options))
