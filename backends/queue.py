"""`Queue`: plans the jobs of one call, submits them within the budget, and brings them home.

Before each step the book is written, so that the process may end anywhere: an intent without an
id is looked for by its tag before it is submitted, and what has an id is never submitted again.
"""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from qkan.circuits import FUSED

from .book import Book, Entry
from .calibration import Calibration
from .errors import BackendError, PendingError
from .options import EXECUTIONS_A_JOB, Options
from .packing import Cells, Piece, Values, halves, into_jobs, pack
from .provider import Job, MalformedError, Provider, Pub, RejectedError, UnsureError

log = logging.getLogger(__name__)

SECONDS_A_JOB, SECONDS_AN_EXECUTION = 2.0, 0.00035
"""IBM's usage of a job is about the one plus the other times rows × shots."""

LOST_CONTACT = 20
"""Looks in a row that may go unanswered before a run gives up waiting."""


def job_seconds(executions: int) -> float:
    """Estimated seconds that a job is billed for."""
    return SECONDS_A_JOB + SECONDS_AN_EXECUTION * executions


def rows_a_job(options: Options) -> int:
    """How many rows of values fit into one job, by executions and by time."""
    in_time = (options.job_seconds - SECONDS_A_JOB) / SECONDS_AN_EXECUTION
    rows_run = int(min(EXECUTIONS_A_JOB, in_time)) // options.row_shots
    rows = (rows_run - options.calibration_rows) // options.copies
    if rows < 1:
        raise BackendError(
            f"job_seconds={options.job_seconds:g}: not even one row of {options.shots} shots fits. "
            "Allow more time a job, or use fewer shots."
        )
    return rows


@dataclass(frozen=True, eq=False)
class Site:
    """Where jobs run: the provider, the options, and what the backend decides for all its runs.

    Attributes:
        layout: The qubits for a calibration, without some.
        seconds_left: Of the budget; None without one.
    """

    provider: Provider
    options: Options
    layout: Callable[[Calibration, frozenset[int]], tuple[int, ...]]
    seconds_left: Callable[[], float | None]


class Queue:
    """The jobs of one call of `measure`.

    Args:
        book: Of the run.
        site: Where they run.
        call: Number of the call.
        values: What it measures.
    """

    def __init__(self, book: Book, site: Site, call: int, values: Values) -> None:
        self._book, self._site, self._call, self._values = book, site, call, values
        self._provider, self._options = site.provider, site.options
        self._given_up: set[str] = set()
        self._silent = 0

    def work(self) -> None:
        """Run what is missing and return when nothing is left that could still come."""
        self._find_intents()
        self._plan_missing()
        while True:
            self._submit_waiting()
            flying = [entry for entry in self._jobs() if entry.state == "submitted"]
            if not flying:
                break
            if any([self._look(entry) for entry in flying]):
                continue
            if not self._options.wait:
                raise PendingError(tuple(e.identity for e in flying if e.identity is not None))
            time.sleep(self._options.poll_seconds)
        self.settle()

    def settle(self) -> None:
        """Write down usage that has become final, and cancel strays."""
        for key, entry in list(self._book.unsettled.items()):
            if entry.state not in ("done", "failed", "cancelled", "replaced"):
                continue
            alone = not entry.unsure or self._collect_strays(entry)
            if self._bill(entry) and alone:
                del self._book.unsettled[key]

    # planning

    def _jobs(self) -> list[Entry]:
        return self._book.of_call(self._call)

    def _plan_missing(self) -> None:
        dropped = frozenset(self._book.dropped.get(self._call, ()))
        covered = np.zeros(self._values.size, dtype=bool)
        for entry in self._jobs():
            # a mistake of ours stays one however often it is submitted
            if entry.is_live or entry.cause == "user":
                keeps = [k for k, qubit in enumerate(entry.layout) if qubit not in dropped]
                for piece in entry.pieces:
                    cells = piece.cells[:, keeps]
                    covered[cells[cells >= 0]] = True
        self._plan_values(np.flatnonzero(~covered))

    def _plan_values(self, wanted: Cells, replaces: Sequence[Entry] = ()) -> None:
        if not wanted.size:
            return
        layout = self._site.layout(
            self._calibration(), frozenset(self._book.dropped.get(self._call, ()))
        )
        pieces = pack(self._values, wanted, len(layout))
        jobs = into_jobs(pieces, rows_a_job(self._options))
        self._plan(jobs, layout, attempt=0, replaces=replaces)

    def _plan(
        self,
        jobs: Sequence[list[Piece]],
        layout: tuple[int, ...],
        attempt: int,
        replaces: Sequence[Entry] = (),
    ) -> None:
        number = len(self._book.calibrations) - 1
        planned = []
        for beyond, pieces in enumerate(jobs):
            key = self._book.next_key(self._call, beyond)
            entry = Entry(key, self._call, pieces, layout, "", 0, attempt, number)
            job = self._request(entry)
            entry.digest = _digest(job)
            entry.reserve = math.ceil(self._options.margin * job_seconds(job.executions))
            planned.append(entry.to_json())
        # one record, so that a process that takes over packs nothing anew
        self._book.write("plan", jobs=planned, replaces=[entry.key for entry in replaces])

    def _calibration(self) -> Calibration:
        """The calibration as of now; where it is news to the run, it is written down."""
        found = self._provider.calibration()
        age = self._hours_since(found)
        if age > self._options.max_age_hours:
            found = self._provider.calibration(refresh=True)
        snapshot = found.to_json()
        kept = self._book.calibrations[-1] if self._book.calibrations else None
        if kept is None or {**kept, "fetched": None} != {**snapshot, "fetched": None}:
            self._book.write("calibration", snapshot=snapshot)
        return found

    def _hours_since(self, calibration: Calibration) -> float:
        if calibration.fetched is None:
            return 0.0
        now = time.time()
        return (now - calibration.fetched.timestamp()) / 3600

    def _request(self, entry: Entry) -> Job:
        """A job as it is submitted; of the same entry always the same."""
        pubs = []
        for piece in entry.pieces:
            sequence = self._values.sequences[piece.sequence]
            turns = piece.turns(self._values)
            if self._options.twins:
                flipped = turns.copy()
                flipped[..., sequence.flip] += np.pi
                turns = np.concatenate([turns, flipped])
            pubs.append(Pub(sequence, turns))
            if self._options.folding:
                pubs.append(Pub(sequence.folded(), turns))
        if self._options.twins:
            poles = np.broadcast_to([[[np.pi]], [[0.0]]], (2, len(entry.layout), 1))
            pubs.append(Pub(FUSED, poles.copy()))
            if self._options.folding:
                pubs.append(Pub(FUSED.folded(), poles.copy()))
        book = self._book
        seed = hashlib.sha256(f"{book.seed}-{entry.key}".encode()).digest()
        return Job(
            pubs, entry.layout, self._options.row_shots, (book.tag, book.job_tag(entry.key)),
            entry.reserve, int.from_bytes(seed[:4], "big"),
        )  # fmt: skip

    # submitting

    def _submit_waiting(self) -> None:
        waiting = [e for e in self._jobs() if e.state in ("planned", "intent")]
        for entry in waiting:
            flying = sum(other.state == "submitted" for other in self._jobs())
            if flying >= self._options.max_pending:
                return
            if entry.key in self._given_up:
                continue
            if entry.state == "planned" and self._is_stale(entry):
                self._replan()
                return self._submit_waiting()
            if not self._fits(entry):
                return
            self._submit(entry)

    def _is_stale(self, entry: Entry) -> bool:
        self._calibration()
        return entry.calibration != len(self._book.calibrations) - 1

    def _replan(self) -> None:
        """Rank the qubits again for all that was planned by an older calibration."""
        stale = [entry for entry in self._jobs() if entry.state == "planned"]
        cells = [piece.cells.ravel() for entry in stale for piece in entry.pieces]
        wanted = np.concatenate(cells)
        self._book.note("The calibration changed after planning; the qubits were ranked again.")
        self._plan_values(np.sort(wanted[wanted >= 0]), replaces=stale)

    def _fits(self, entry: Entry) -> bool:
        left = self._site.seconds_left()
        # what is on its way without an id is counted already
        needed = 0 if entry.state == "intent" else entry.reserve
        if left is None or needed <= left:
            return True
        text = (
            f"Job {entry.key} reserves {entry.reserve} s, but {max(left, 0):.0f} s of the budget "
            f"are left, so it was not submitted."
        )
        if not any(other.identities for other in self._book.jobs.values()):
            raise BackendError(text + " Raise budget_seconds, or use fewer shots or values.")
        if text not in self._book.notes:
            log.warning("%s", text)
            self._book.note(text)
        return False

    def _submit(self, entry: Entry) -> None:
        job = self._request(entry)
        if _digest(job) != entry.digest:
            raise BackendError(
                f"Job {entry.key} of the store was planned for other angles, circuits or a "
                "backend with other instructions. Open its own run, or start a new one."
            )
        if entry.state == "planned":
            self._book.write("intent", key=entry.key)
        for _ in range(self._options.retries + 1):
            try:
                identity = self._provider.submit(job)
            except RejectedError as error:
                self._book.write("failed", key=entry.key, cause="refused", reason=str(error))
                raise
            except UnsureError as error:
                log.warning("Submitting job %s: %s", entry.key, error)
                self._book.write("unsure", key=entry.key, reason=str(error))
                if self._adopt(entry) != "none":
                    return
            else:
                self._book.write("submitted", key=entry.key, id=identity)
                return
        self._give_up(entry)

    def _give_up(self, entry: Entry) -> None:
        """Leave an intent as it is for now: it may have been accepted, so it stays reserved."""
        self._given_up.add(entry.key)
        self._book.note(f"Job {entry.key} was submitted without an answer; open the run again.")

    def _find_intents(self) -> None:
        """Adopt what a process that ended, or an unanswered submission, left in the queue."""
        if self._book.is_new:
            return
        for entry in self._jobs():
            if entry.state == "intent" and entry.identity is None:
                self._adopt(entry)

    def _adopt(self, entry: Entry) -> Literal["found", "none", "unknown"]:
        """Look for an intent by its tag; without an answer nothing may be submitted again."""
        for _ in range(self._options.retries + 1):
            time.sleep(self._options.poll_seconds)
            try:
                found = [i for i, _ in self._provider.find(self._book.job_tag(entry.key))]
            except UnsureError as error:
                log.warning("Looking for job %s: %s", entry.key, error)
                continue
            if not found:
                return "none"
            self._book.write("submitted", key=entry.key, id=found[0], adopted=True)
            self._book.write("unsure", key=entry.key, reason="adopted by its tag")
            self._collect_strays(entry)
            return "found"
        self._give_up(entry)
        return "unknown"

    def _collect_strays(self, entry: Entry) -> bool:
        """Cancel and count what the provider accepted a second time; True if it answered."""
        try:
            for identity, _ in self._provider.find(self._book.job_tag(entry.key)):
                if identity not in entry.identities:
                    self._book.write("stray", key=entry.key, id=identity)
            for identity in entry.strays:
                if identity not in self._book.usage:
                    self._provider.cancel(identity)
        except UnsureError as error:
            log.warning("Looking for duplicates of job %s: %s", entry.key, error)
            return False
        return True

    # bringing home

    def _look(self, entry: Entry) -> bool:
        """Look at a job; True where something changed."""
        assert entry.identity is not None
        try:
            status = self._provider.status(entry.identity)
            if status.state == "queued":
                self._silent = 0
                return False
            if status.state == "done":
                self._book.finish(
                    entry, self._provider.counts(entry.identity, self._request(entry))
                )
            elif status.state == "cancelled":
                self._book.write("cancelled", key=entry.key, reason=status.reason)
            elif status.state == "lost" and not self._provider.durable:
                self._book.write("lost", key=entry.key)
            else:
                self._fail(entry, status.cause, status.reason or "The provider lost it.")
        except UnsureError as error:
            return self._went_silent(error)
        except MalformedError as error:
            self._book.store.keep_text(f"quarantine-{entry.key}.txt", error.raw.encode())
            self._fail(entry, "system", str(error))
        self._silent = 0
        self._bill(entry)
        return True

    def _went_silent(self, error: UnsureError) -> bool:
        self._silent += 1
        if self._silent > LOST_CONTACT:
            raise BackendError(
                f"No answer after {LOST_CONTACT} looks: {error} The jobs stay in the queue; open "
                "the run again to collect them."
            ) from None
        return False

    def _fail(self, entry: Entry, cause: str, reason: str) -> None:
        """Record a failure and plan what may mend it."""
        log.warning("Job %s failed: %s", entry.key, reason)
        self._book.write("failed", key=entry.key, cause=cause, reason=reason)
        if cause == "time" and entry.rows > 1:
            self._plan(halves(entry.pieces), entry.layout, entry.attempt)
        elif cause != "user" and entry.attempt < self._options.retries:
            self._plan([entry.pieces], entry.layout, entry.attempt + 1)
        else:
            self._book.note(f"Job {entry.key} failed for good: {reason}")

    def _bill(self, entry: Entry) -> bool:
        """Write down what was billed; True when all of it is final."""
        for identity in entry.identities:
            if identity in self._book.usage:
                continue
            try:
                seconds = self._provider.usage(identity)
            except UnsureError as error:
                log.warning("Asking for the usage of job %s: %s", entry.key, error)
                continue
            if seconds is not None:
                self._book.write("usage", id=identity, seconds=seconds)
        return all(identity in self._book.usage for identity in entry.identities)


def _digest(job: Job) -> str:
    found = hashlib.sha256(repr((job.layout, job.shots)).encode())
    for pub in job.pubs:
        found.update(repr(pub.sequence).encode())
        found.update(np.ascontiguousarray(pub.turns).tobytes())
    return found.hexdigest()
