"""`Planner`: assigns the rows of a call to jobs and qubits.

A plan is recorded before any of it is submitted. From the same store the same plan follows, to the
bit, so that a process that continues a run knows what was paid for.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Sequence

import numpy as np

from qkan.circuits import FUSED

from .calibration import Calibration
from .context import RunContext
from .errors import BackendError
from .options import EXECUTIONS_A_JOB, Options
from .packing import Integers, RowBlock, Values, into_jobs, pack
from .provider import Job, Pub
from .state import JobEntry

SECONDS_A_JOB, SECONDS_AN_EXECUTION = 2.0, 0.00035
"""IBM bills a job for about the first number plus the second times rows × shots."""


def job_seconds(executions: int) -> float:
    """Return the estimated seconds that a job is billed for."""
    return SECONDS_A_JOB + SECONDS_AN_EXECUTION * executions


def rows_a_job(options: Options) -> int:
    """Return how many rows of values fit into one job, by executions and by time."""
    in_time = (options.job_seconds - SECONDS_A_JOB) / SECONDS_AN_EXECUTION
    rows_run = int(min(EXECUTIONS_A_JOB, in_time)) // options.row_shots
    rows = (rows_run - options.calibration_rows) // options.copies
    if rows < 1:
        raise BackendError(
            f"job_seconds={options.job_seconds:g} is not enough for one row of {options.shots} "
            "shots. Allow more time for a job, or use fewer shots."
        )
    return rows


class Planner:
    """The plan of one call of `measure`.

    Args:
        context: The context of the run.
        call: The number of the call.
        values: The values that it measures.
    """

    def __init__(self, context: RunContext, call: int, values: Values) -> None:
        self._context, self._call, self._values = context, call, values
        self._state, self._options = context.state, context.options

    def jobs(self) -> list[JobEntry]:
        """The jobs of the call, in the order in which they were planned."""
        return self._state.of_call(self._call)

    def missing(self) -> Integers:
        """The numbers of the values that no job measures."""
        dropped = self._state.dropped(self._call)
        covered = np.zeros(self._values.size, dtype=bool)
        for entry in self.jobs():
            # submitting a mistake of this package again would not help
            if entry.is_live or entry.cause == "user":
                keeps = [k for k, qubit in enumerate(entry.layout) if qubit not in dropped]
                for block in entry.blocks:
                    index = block.value_index[:, keeps]
                    covered[index[index >= 0]] = True
        return np.flatnonzero(~covered)

    def plan_values(self, wanted: Integers, replaces: Sequence[JobEntry] = ()) -> None:
        """Plan jobs for some values, in place of other jobs that were never submitted."""
        if wanted.size:
            layout = self._context.layout(self._calibration(), self._state.dropped(self._call))
            blocks = pack(self._values, wanted, len(layout))
            jobs = into_jobs(blocks, rows_a_job(self._options))
            self.plan(jobs, layout, attempt=0, replaces=replaces)

    def plan(
        self,
        jobs: Sequence[list[RowBlock]],
        layout: tuple[int, ...],
        attempt: int,
        replaces: Sequence[JobEntry] = (),
    ) -> None:
        """Record a plan of jobs.

        Args:
            jobs: The rows of each job.
            layout: Their physical qubits.
            attempt: How often the rows failed before.
            replaces: The planned jobs that they replace.
        """
        calibration, first = len(self._state.calibrations) - 1, len(self.jobs())
        planned = []
        for number, blocks in enumerate(jobs, start=first):
            key = f"{self._call}.{number}"
            entry = JobEntry(key, self._call, blocks, layout, "", 0, attempt, calibration)
            job = self.request(entry)
            entry.digest = digest_of(job)
            entry.tag = f"{self._state.tag}-{key}-{entry.digest[:12]}"
            entry.reserve = math.ceil(self._options.margin * job_seconds(job.executions))
            planned.append(entry.to_json())
        # one record, so that a process that continues the run need not pack again
        self._state.write("plan", jobs=planned, replaces=[entry.key for entry in replaces])

    def _calibration(self) -> Calibration:
        """The current calibration, which is recorded if the run does not know it yet."""
        provider = self._context.contact.provider
        found = provider.calibration()
        if found.fetched is not None:
            hours = (time.time() - found.fetched.timestamp()) / 3600
            if hours > self._options.max_age_hours:
                found = provider.calibration(refresh=True)
        snapshot, known = found.to_json(), self._state.calibrations
        if not known or {**known[-1], "fetched": None} != {**snapshot, "fetched": None}:
            self._state.write("calibration", snapshot=snapshot)
        return found

    def request(self, entry: JobEntry) -> Job:
        """Return the job for submission, which is always the same for the same entry."""
        pubs = []
        for block in entry.blocks:
            sequence = self._values.sequences[block.sequence]
            turns = block.turns(self._values)
            if self._options.twins:
                flipped = turns.copy()
                flipped[..., sequence.flip] += np.pi
                turns = np.concatenate([turns, flipped])
            pubs.append(Pub(sequence, turns))
        if self._options.twins:
            poles = np.broadcast_to([[[np.pi]], [[0.0]]], (2, len(entry.layout), 1))
            pubs.append(Pub(FUSED, poles.copy()))
        seed = hashlib.sha256(f"{self._state.seed}-{entry.key}".encode()).digest()
        return Job(
            pubs, entry.layout, self._options.row_shots, (self._state.tag, entry.tag),
            entry.reserve, int.from_bytes(seed[:4], "big"),
        )  # fmt: skip

    def is_stale(self, entry: JobEntry) -> bool:
        """Whether the device was calibrated after a job was planned."""
        self._calibration()
        return entry.calibration != len(self._state.calibrations) - 1

    def replan(self) -> None:
        """Rank the qubits again for everything that was planned but not yet submitted."""
        stale = [entry for entry in self.jobs() if entry.state == "planned"]
        wanted = np.concatenate([b.value_index.ravel() for e in stale for b in e.blocks])
        self._state.add_note(
            "The calibration changed after planning; the qubits were ranked again."
        )
        self.plan_values(np.sort(wanted[wanted >= 0]), replaces=stale)


def digest_of(job: Job) -> str:
    """Return a hash of everything that a job runs."""
    found = hashlib.sha256(repr((job.layout, job.shots)).encode())
    for pub in job.pubs:
        found.update(repr(pub.sequence).encode())
        found.update(np.ascontiguousarray(pub.turns).tobytes())
    return found.hexdigest()
