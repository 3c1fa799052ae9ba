"""`Planner`: which rows of a call become which jobs, on which qubits.

A plan is recorded before anything of it is submitted, and from the same store it is made again to
the bit, so that a process that takes over knows what was paid for.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from qkan.circuits import FUSED

from .book import Book, Entry
from .budget import Budget, Ledger
from .calibration import Calibration
from .contact import Contact
from .errors import BackendError
from .options import EXECUTIONS_A_JOB, Options
from .packing import Cells, Piece, Values, into_jobs, pack
from .provider import Job, Pub

SECONDS_A_JOB, SECONDS_AN_EXECUTION = 2.0, 0.00035
"""IBM's usage of a job is about the one plus the other times rows × shots."""


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
    """Where the jobs of a run go, and what the backend decides for all its runs.

    Attributes:
        contact: The provider, whatever it answers.
        options: Of the backend.
        layout: The qubits for a calibration, without some.
        budget: Of the backend; None without one.
        ledger: Where the run's jobs are entered; None without a budget.
    """

    contact: Contact
    options: Options
    layout: Callable[[Calibration, frozenset[int]], tuple[int, ...]]
    budget: Budget | None = None
    ledger: Ledger | None = None


class Planner:
    """The plan of one call of `measure`.

    Args:
        book: Of the run.
        site: Where its jobs run.
        call: Number of the call.
        values: What it measures.
    """

    def __init__(self, book: Book, site: Site, call: int, values: Values) -> None:
        self._book, self._site, self._call, self._values = book, site, call, values
        self._options = site.options

    def jobs(self) -> list[Entry]:
        """The jobs of the call, in the order they were planned."""
        return self._book.of_call(self._call)

    def missing(self) -> Cells:
        """Numbers of the values that no job brings."""
        dropped = frozenset(self._book.dropped.get(self._call, ()))
        covered = np.zeros(self._values.size, dtype=bool)
        for entry in self.jobs():
            # a mistake of ours stays one however often it is submitted
            if entry.is_live or entry.cause == "user":
                keeps = [k for k, qubit in enumerate(entry.layout) if qubit not in dropped]
                for piece in entry.pieces:
                    cells = piece.cells[:, keeps]
                    covered[cells[cells >= 0]] = True
        return np.flatnonzero(~covered)

    def plan_values(self, wanted: Cells, replaces: Sequence[Entry] = ()) -> None:
        """Plan jobs for some values, in place of others that were never submitted."""
        if not wanted.size:
            return
        layout = self._site.layout(
            self._calibration(), frozenset(self._book.dropped.get(self._call, ()))
        )
        pieces = pack(self._values, wanted, len(layout))
        jobs = into_jobs(pieces, rows_a_job(self._options))
        self.plan(jobs, layout, attempt=0, replaces=replaces)

    def plan(
        self,
        jobs: Sequence[list[Piece]],
        layout: tuple[int, ...],
        attempt: int,
        replaces: Sequence[Entry] = (),
    ) -> None:
        """Record a plan of jobs.

        Args:
            jobs: The rows of each.
            layout: Their physical qubits.
            attempt: How often their rows failed before.
            replaces: Planned jobs that they stand for.
        """
        number = len(self._book.calibrations) - 1
        planned = []
        for beyond, pieces in enumerate(jobs):
            key = f"{self._call}.{len(self.jobs()) + beyond}"
            entry = Entry(key, self._call, pieces, layout, "", 0, attempt, number)
            job = self.request(entry)
            entry.digest = digest_of(job)
            entry.tag = f"{self._book.tag}-{key}-{entry.digest[:12]}"
            entry.reserve = math.ceil(self._options.margin * job_seconds(job.executions))
            planned.append(entry.to_json())
        # one record, so that a process that takes over packs nothing anew
        self._book.write("plan", jobs=planned, replaces=[entry.key for entry in replaces])

    def _calibration(self) -> Calibration:
        """The calibration as of now; where it is news to the run, it is written down."""
        found = self._site.contact.provider.calibration()
        age = self._hours_since(found)
        if age > self._options.max_age_hours:
            found = self._site.contact.provider.calibration(refresh=True)
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

    def request(self, entry: Entry) -> Job:
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
        if self._options.twins:
            poles = np.broadcast_to([[[np.pi]], [[0.0]]], (2, len(entry.layout), 1))
            pubs.append(Pub(FUSED, poles.copy()))
        seed = hashlib.sha256(f"{self._book.seed}-{entry.key}".encode()).digest()
        return Job(
            pubs, entry.layout, self._options.row_shots, (self._book.tag, entry.tag),
            entry.reserve, int.from_bytes(seed[:4], "big"),
        )  # fmt: skip

    def is_stale(self, entry: Entry) -> bool:
        """Whether the device was calibrated since a job was planned."""
        self._calibration()
        return entry.calibration != len(self._book.calibrations) - 1

    def replan(self) -> None:
        """Rank the qubits again for all that was planned by an older calibration."""
        stale = [entry for entry in self.jobs() if entry.state == "planned"]
        cells = [piece.cells.ravel() for entry in stale for piece in entry.pieces]
        wanted = np.concatenate(cells)
        self._book.note("The calibration changed after planning; the qubits were ranked again.")
        self.plan_values(np.sort(wanted[wanted >= 0]), replaces=stale)


def digest_of(job: Job) -> str:
    """A hash of all that a job runs."""
    found = hashlib.sha256(repr((job.layout, job.shots)).encode())
    for pub in job.pubs:
        found.update(repr(pub.sequence).encode())
        found.update(np.ascontiguousarray(pub.turns).tobytes())
    return found.hexdigest()
