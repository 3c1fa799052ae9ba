"""`QiskitRun`: a run on a backend that packs its circuits, recorded in a store step by step."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .backend import Backend, Floats, Measurement, Run, Task
from .context import RunContext
from .errors import BackendError
from .packing import Values, flatten
from .provider import UnsureError
from .queue import Queue
from .state import JobEntry
from .statistics import Contraction, contractions, read

log = logging.getLogger(__name__)


class QiskitRun(Run):
    """A run on a `QiskitBackend` or a `PennyLaneBackend`, made by its method `open`.

    Attributes:
        path: The store's directory, or None.
        backend: The backend that opened it.
        notes: Sentences about deviations from the plan, which are kept in the store.
    """

    def __init__(self, backend: Backend, context: RunContext, path: Path | None) -> None:
        self.path, self.backend = path, backend
        self._context, self._state = context, context.state
        self._contact, self._options = context.contact, context.options
        self._call, self._cancellations = 0, context.state.cancellations

    def measure(self, tasks: Sequence[Task]) -> list[Measurement]:
        """Measure the tasks together; results in the store are not measured again.

        Raises:
            BackendError: The tasks are wrong, or differ from those in the store for this call; the
                first job exceeds the budget; the service refuses a job.
            KeyboardInterrupt: With the ids of the jobs in the queue, and how to continue.
        """
        fused, native_rx = self._options.mode == "fused", self._contact.provider.native_rx
        values = flatten(tasks, fused=fused, native_rx=native_rx)
        call, self._call = self._call, self._call + 1
        self._open_call(call, values)
        try:
            contraction = self._work(call, values)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(self._how_to_go_on()) from None
        return self._measurements(call, values, contraction)

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about deviations from the plan, in order."""
        return tuple(self._state.notes)

    @property
    def jobs(self) -> tuple[str, ...]:
        """The ids of the jobs submitted so far, in order."""
        return tuple(i for entry in self._state.entries for i in entry.identities)

    @property
    def seconds(self) -> float:
        """The time on the device billed so far, as far as it is final."""
        return self._state.seconds

    @property
    def committed_seconds(self) -> float:
        """The time billed, plus that reserved for jobs whose usage is not final."""
        bills, state = self._contact.provider.bills, self._state
        return sum(map(state.commitment, state.entries)) if bills else 0.0

    def status(self) -> dict[str, str]:
        """Return the state of each job by id; the provider is asked about jobs that may be queued.

        Raises:
            BackendError: The provider does not answer.
        """
        self._state.refresh()
        return {
            identity: self._contact.status(identity).state
            if entry.state == "submitted"
            else entry.state
            for entry in self._state.entries
            for identity in entry.identities
        }

    def cancel(self) -> tuple[str, ...]:
        """Cancel the unfinished jobs and return their ids.

        A process that waits for them submits nothing more. The result of a job that finishes before
        its cancellation arrives is kept for when the run is opened again.

        Raises:
            BackendError: The provider does not answer; the message names the remaining jobs.
        """
        state, contact = self._state, self._contact
        no_answer: list[str] = []

        @contextlib.contextmanager
        def asking(name: str) -> Iterator[None]:
            try:
                yield
            except UnsureError as error:
                log.warning("Cancelling %s: %s", name, error)
                no_answer.append(name)

        with _even_on_a_full_disk():
            state.write("stop")
        # a submission may have been accepted twice, and the store may be an older copy
        found: dict[str, tuple[str, ...]] = {}
        with asking(f"jobs tagged {state.tag}"):
            found = contact.tagged(state.tag)
        for entry in state.entries:
            self._adopt_unanswered(entry, [i for i, tags in found.items() if entry.tag in tags])
        open_jobs = {e.identity: e for e in state.entries if e.identity and e.state == "submitted"}
        others, asked, cancelled = [], [], []
        known = {entry.identity for entry in state.entries}
        for identity in (i for i in found if i not in known):
            with asking(identity):
                if contact.status(identity).state == "queued":
                    others.append(identity)
        for identity in [*open_jobs, *others]:
            with asking(identity):
                contact.cancel(identity)
                asked.append(identity)
        for identity in asked:
            with asking(identity):
                if self._is_cancelled(identity, open_jobs.get(identity)):
                    cancelled.append(identity)
        if no_answer:
            raise BackendError(
                f"Cancelled: {', '.join(cancelled) or 'nothing'}. No answer for "
                f"{', '.join(no_answer)}, which may still run: cancel the run again."
            )
        return tuple(cancelled)

    def _adopt_unanswered(self, entry: JobEntry, found: Sequence[str]) -> None:
        """Adopt the jobs found by tag for a job that was submitted without an answer."""
        if entry.state == "intent" and entry.identity is None and found:
            with _even_on_a_full_disk():
                self._context.adopt(entry, found)

    def _is_cancelled(self, identity: str, entry: JobEntry | None) -> bool:
        """Whether a cancelled job will have no result, according to the provider.

        It may have finished before the cancellation arrived; its result is then kept.
        """
        for look in range(self._options.retries + 1):
            if look:
                time.sleep(self._options.poll_seconds)
            state = self._contact.status(identity).state
            if state == "cancelled" and entry is not None:
                self._record_cancelled(entry)
            if state != "queued":
                return state == "cancelled"
        return True

    def _record_cancelled(self, entry: JobEntry) -> None:
        """Record a cancellation, and release the job's reservation if its cost is known."""
        with _even_on_a_full_disk():
            self._state.write(
                "cancelled", when=lambda: entry.state == "submitted",
                key=entry.key, reason="on request",
            )  # fmt: skip
            self._context.record_usage(entry)

    def resubmit(self) -> tuple[str, ...]:
        """Allow jobs without an answer that were not found to be submitted again; return their
        tags.

        They are looked for once more. Each may have been accepted after all, so its reservation in
        the budget stays; if it is found later, it is cancelled and counted.

        Raises:
            BackendError: The provider does not answer.
        """
        given_up = []
        for entry in self._state.entries:
            if entry.is_unsure and entry.state == "intent":
                self._adopt_unanswered(entry, list(self._contact.tagged(entry.tag)))
                if entry.identity is None:
                    self._state.write("abandoned", key=entry.key)
                    given_up.append(entry.tag)
        return tuple(given_up)

    def keep(self, name: str, content: bytes) -> bytes:
        """Keep bytes with the run, unless some are kept under that name; return the kept ones."""
        kept = self._state.store.get(name)
        if kept is not None:
            return kept
        with self._state.store.transaction() as step:
            self._state.store.put(step, name, content)
        return content

    def copy(self, folder: Path | str) -> None:
        """Copy the run's jobs and results into another directory, even while it is running.

        A run that is opened from an older copy asks its device for the jobs that the copy lacks.
        """
        self._state.store.copy(Path(folder))

    def close(self) -> None:
        """Release the store's lock; jobs in the queue stay there."""
        try:
            self._contact.close()
        finally:
            self._state.store.close()

    def _open_call(self, call: int, values: Values) -> None:
        known = self._state.calls.get(call)
        if known is None:
            self._state.write("call", call=call, digest=values.digest)
        elif known != values.digest:
            raise BackendError(
                f"Call {call} of the run in {self.path} measured other tasks. A run is replayed "
                "in order, with the same tasks; use another directory for others."
            )

    def _work(self, call: int, values: Values) -> dict[int, Contraction]:
        """Run the call until every value comes from a qubit with a usable readout."""
        if not values.size:
            return {}
        queue = Queue(self._context, call, values, self._cancellations)
        while True:
            queue.work()
            found = self._contractions(call)
            dropped = self._state.dropped(call)
            dead = sorted(q for q, c in found.items() if c.is_dead and q not in dropped)
            if not dead:
                return found
            note = f"Qubits {dead} read almost nothing of ⟨Z⟩; other qubits measured their values."
            log.warning("%s", note)
            self._state.add_note(note)
            self._state.write("dropped", call=call, qubits=dead)

    def _contractions(self, call: int) -> dict[int, Contraction]:
        if not self._options.twins:
            return {}
        readings = (
            (entry.layout, self._state.counts(entry)[-1], self._options.row_shots)
            for entry in self._done(call)
        )
        return contractions(readings, self._state.added_shots)

    def _done(self, call: int) -> list[JobEntry]:
        return [entry for entry in self._state.of_call(call) if entry.state == "done"]

    def _measurements(
        self, call: int, values: Values, contraction: dict[int, Contraction]
    ) -> list[Measurement]:
        z, cautious, unbiased, qubit = self._readings(call, values)
        relative = {q: c.relative_error for q, c in contraction.items() if not c.is_dead}
        inverse, shared = np.ones(values.size), np.zeros(values.size)
        for number, found in contraction.items():
            here = qubit == number
            inverse[here], shared[here] = found.inverse, found.relative_error
        z, shot_stderr, unbiased = z * inverse, np.sqrt(cautious) * inverse, unbiased * inverse**2
        outside = int((np.abs(z) > 1).sum())
        if outside:
            log.info(
                "%d of %d estimates are outside [-1, 1], as unbiased ones may be", outside, z.size
            )
        columns: dict[str, NDArray[Any]] = {
            "z": z, "stderr": np.hypot(shot_stderr, z * shared), "shot_stderr": shot_stderr,
            "qubit": qubit, "shot_variance": unbiased,
        }  # fmt: skip
        parts = zip(*map(values.split, columns.values()), strict=True)
        return [
            Measurement(**dict(zip(columns, part, strict=True)), calibration_error=relative)
            for part in parts
        ]

    def _readings(
        self, call: int, values: Values
    ) -> tuple[Floats, Floats, Floats, NDArray[np.int64]]:
        """Uncorrected ⟨Z⟩, its cautious and its unbiased variance, and the qubit of every value.

        Values without a result are NaN, and their qubit is -1.
        """
        z, cautious, unbiased = (np.full(values.size, np.nan) for _ in range(3))
        qubit = np.full(values.size, -1)
        dropped = list(self._state.dropped(call))
        shots, twins = self._options.row_shots, self._options.twins
        for entry in self._done(call):
            counts = iter(self._state.counts(entry))
            layout = np.array(entry.layout)
            good = ~np.isin(layout, dropped)
            for block in entry.blocks:
                found = read(next(counts), shots, twins, self._state.added_shots)
                rows, columns = np.nonzero((block.value_index >= 0) & good)
                at = block.value_index[rows, columns]
                for whole, part in zip((z, cautious, unbiased), found, strict=True):
                    whole[at] = part[rows, columns]
                qubit[at] = layout[columns]
        return z, cautious, unbiased, qubit

    def _how_to_go_on(self) -> str:
        if self.path is None:
            return "Interrupted; an emulator's run without a store keeps nothing."
        waiting = [e.identity for e in self._state.entries if e.state == "submitted"]
        return (
            f"Interrupted. Jobs {waiting} stay in the queue and the run stays in {self.path}. To "
            f"continue, open that store again (qkan.resume({str(self.path)!r})); to give it up, "
            f"qkan.cancel({str(self.path)!r})."
        )


@contextlib.contextmanager
def _even_on_a_full_disk() -> Iterator[None]:
    """Continue even on a full disk, which must not keep jobs running."""
    try:
        yield
    except UnsureError:
        raise
    except BackendError as error:
        log.warning("%s", error)
