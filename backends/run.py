"""`QiskitRun`: one piece of work on a backend, written down as it goes."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from .backend import Floats, Measurement, Run, Task
from .book import Book, Entry
from .errors import BackendError
from .packing import Values, flatten
from .planner import Site
from .provider import UnsureError
from .queue import Queue
from .statistics import Contraction, contractions, read

if TYPE_CHECKING:
    from .qiskit_backend import QiskitBackend

log = logging.getLogger(__name__)


class QiskitRun(Run):
    """A run of a `QiskitBackend`; made by its `open`.

    Attributes:
        path: The store's directory, or None.
        backend: Whose run it is.
        notes: Sentences on what went otherwise than planned, kept in the store.
    """

    def __init__(self, backend: QiskitBackend, site: Site, book: Book, path: Path | None) -> None:
        self.path, self.backend = path, backend
        self._site, self._book = site, book
        self._call, self._stops = 0, book.stops

    def measure(self, tasks: Sequence[Task]) -> list[Measurement]:
        """Measure the tasks together; what the store has is not run again.

        Raises:
            BackendError: Wrong tasks, other tasks than the store has for this call, a first job
                beyond the budget, a job that the service refuses.
            KeyboardInterrupt: With the ids of the jobs in the queue and how to go on.
        """
        options = self._site.options
        fused = options.mode == "fused"
        values = flatten(tasks, fused=fused, native_rx=self._site.contact.provider.native_rx)
        call, self._call = self._call, self._call + 1
        self._open_call(call, values)
        try:
            contraction = self._work(call, values)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(self._how_to_go_on()) from None
        return self._measurements(call, values, contraction)

    @property
    def notes(self) -> tuple[str, ...]:
        """What went otherwise than planned, in order."""
        return tuple(self._book.notes)

    @property
    def jobs(self) -> tuple[str, ...]:
        """Ids of the jobs submitted so far, in order."""
        return tuple(i for entry in self._book.entries for i in entry.identities)

    @property
    def seconds(self) -> float:
        """Time on the device that is billed so far, as far as that is final."""
        return self._book.seconds

    @property
    def committed_seconds(self) -> float:
        """Time billed, and reserved for jobs whose usage is not final."""
        return self._book.committed if self._site.contact.provider.bills else 0.0

    def status(self) -> dict[str, str]:
        """How each job stands, by id; the provider is asked for those that may be in its queue.

        Raises:
            BackendError: The provider does not answer.
        """
        self._book.look()
        return {
            identity: self._site.contact.status(identity).state
            if entry.state == "submitted"
            else entry.state
            for entry in self._book.entries
            for identity in entry.identities
        }

    def cancel(self) -> tuple[str, ...]:
        """Cancel the jobs that have not finished and return their ids.

        A process that waits for them submits nothing more. What finishes while the cancellation
        travels is kept, for whoever opens the run again.

        Raises:
            BackendError: The provider does not answer; the message names the jobs left.
        """
        with _where_it_can_be_written():
            self._book.write("stop")
        asked, left = [], []
        for entry in self._book.entries:
            try:
                self._adopt_unanswered(entry)
                if entry.state == "submitted" and entry.identity is not None:
                    self._site.contact.cancel(entry.identity)
                    asked.append(entry)
            except UnsureError as error:
                log.warning("Cancelling job %s: %s", entry.key, error)
                left.append(entry.identity or entry.tag)
        cancelled = []
        for entry in asked:
            try:
                cancelled += [str(entry.identity)] * self._is_cancelled(entry)
            except UnsureError as error:
                log.warning("Cancelling job %s: %s", entry.key, error)
                left.append(str(entry.identity))
        try:
            cancelled += self._cancel_others()
        except UnsureError as error:
            log.warning("Looking for the jobs of the run: %s", error)
            left.append(f"jobs tagged {self._book.tag}")
        if left:
            raise BackendError(
                f"Cancelled: {', '.join(cancelled) or 'nothing'}. No answer for "
                f"{', '.join(left)}, which may still run: cancel the run again."
            )
        return tuple(cancelled)

    def _cancel_others(self) -> list[str]:
        """Cancel jobs of the run that no entry stands for; the ids of those that are cancelled.

        A submission may have been accepted twice, and the store may be an older copy.
        """
        contact = self._site.contact
        known = {entry.identity for entry in self._book.entries}
        others = [identity for identity in contact.jobs(self._book.tag) if identity not in known]
        waiting = [identity for identity in others if contact.status(identity).state == "queued"]
        for identity in waiting:
            contact.cancel(identity)
        return [identity for identity in waiting if contact.status(identity).state == "cancelled"]

    def _adopt_unanswered(self, entry: Entry) -> bool:
        """Look for a job that was submitted without an answer; whether it was found."""
        if entry.state != "intent" or entry.identity is not None:
            return False
        found = self._site.contact.jobs(entry.tag)
        if found:
            with _where_it_can_be_written():
                self._book.write("submitted", key=entry.key, id=found[0], adopted=True)
                self._book.write("unsure", key=entry.key, reason="adopted by its tag")
        return bool(found)

    def _is_cancelled(self, entry: Entry) -> bool:
        """Whether a job that was cancelled will bring nothing, as the provider has it.

        It may have finished while the cancellation travelled; its result is then kept.
        """
        for look in range(self._site.options.retries + 1):
            if look:
                time.sleep(self._site.options.poll_seconds)
            state = self._site.contact.status(str(entry.identity)).state
            if state == "cancelled":
                still = partial(lambda e: e.state == "submitted", entry)
                with _where_it_can_be_written():
                    self._book.write("cancelled", when=still, key=entry.key, reason="on request")
                    self._settle(entry)
            if state != "queued":
                return state == "cancelled"
        return True

    def _settle(self, entry: Entry) -> None:
        """Give back what a cancelled job held of the budget, if the provider says what it cost."""
        seconds = self._site.contact.usage(str(entry.identity))
        if seconds is not None and self._site.ledger is not None:
            self._book.write("usage", id=entry.identity, seconds=seconds)
            held = self._book.commitment(entry)
            self._site.ledger.settle(self._book.run, entry.key, held)

    def resubmit(self) -> tuple[str, ...]:
        """Let jobs that went unanswered and were not found be submitted anew; return their tags.

        They are looked for once more. Each may have been accepted all the same, so it stays
        reserved for in the budget; should it turn up, it is cancelled and counted.

        Raises:
            BackendError: The provider does not answer.
        """
        given_up = []
        for entry in self._book.entries:
            if entry.is_unsure and entry.state == "intent" and not self._adopt_unanswered(entry):
                self._book.write("abandoned", key=entry.key)
                given_up.append(entry.tag)
        return tuple(given_up)

    def keep(self, name: str, content: bytes) -> bytes:
        """Keep bytes with the run, unless there are some under that name; return the kept ones."""
        kept = self._book.store.get(name)
        if kept is not None:
            return kept
        with self._book.store.transaction() as step:
            self._book.store.put(step, name, content)
        return content

    def copy(self, folder: Path | str) -> None:
        """Copy the run's jobs and results into another directory, also while it goes on.

        Opened again from an older copy, a run asks its device for the jobs that it lacks.
        """
        self._book.store.copy(Path(folder))

    def close(self) -> None:
        """Release the store's lock; jobs in the queue stay there."""
        try:
            self._site.contact.close()
        finally:
            self._book.store.close()

    def _open_call(self, call: int, values: Values) -> None:
        known = self._book.calls.get(call)
        if known is None:
            self._book.write("call", call=call, digest=values.digest)
        elif known != values.digest:
            raise BackendError(
                f"Call {call} of the run in {self.path} measured other tasks. A run is replayed "
                "in order, with the same tasks; use another directory for others."
            )

    def _work(self, call: int, values: Values) -> dict[int, Contraction]:
        """Run the call until every value came from a qubit that can be read."""
        if not values.size:
            return {}
        queue = Queue(self._book, self._site, call, values, self._stops)
        while True:
            queue.work()
            found = self._contractions(call)
            done = self._book.dropped.get(call, set())
            dead = sorted(q for q, c in found.items() if c.is_dead and q not in done)
            if not dead:
                return found
            note = f"Qubits {dead} read almost nothing of ⟨Z⟩; their values were run elsewhere."
            log.warning("%s", note)
            self._book.note(note)
            self._book.write("dropped", call=call, qubits=dead)

    def _contractions(self, call: int) -> dict[int, Contraction]:
        options = self._site.options
        if not options.twins:
            return {}
        done = [(entry.layout, self._book.counts(entry)) for entry in self._done(call)]
        readings = ((layout, counts[-1], options.row_shots) for layout, counts in done)
        return contractions(readings, self._book.added_shots)

    def _done(self, call: int) -> list[Entry]:
        return [entry for entry in self._book.of_call(call) if entry.state == "done"]

    def _measurements(
        self, call: int, values: Values, contraction: dict[int, Contraction]
    ) -> list[Measurement]:
        z, cautious, unbiased, qubit = self._readings(call, values)
        relative = {q: c.relative_error for q, c in contraction.items() if not c.is_dead}
        inverse, shared = np.ones(values.size), np.zeros(values.size)
        for q, found in contraction.items():
            here = qubit == q
            inverse[here], shared[here] = found.inverse, found.relative_error
        z, shot_stderr, unbiased = z * inverse, np.sqrt(cautious) * inverse, unbiased * inverse**2
        stderr = np.hypot(shot_stderr, z * shared)
        outside = int((np.abs(z) > 1).sum())
        if outside:
            log.info(
                "%d of %d estimates are outside [-1, 1], as unbiased ones may", outside, z.size
            )
        columns = (values.split(array) for array in (z, stderr, shot_stderr, qubit, unbiased))
        return [
            Measurement(
                cast(Floats, a), cast(Floats, b), cast(Floats, c), cast(NDArray[np.int64], d),
                relative, cast(Floats, e),
            )
            for a, b, c, d, e in zip(*columns, strict=True)
        ]  # fmt: skip

    def _readings(
        self, call: int, values: Values
    ) -> tuple[Floats, Floats, Floats, NDArray[np.int64]]:
        """Unscaled ⟨Z⟩, its cautious and unbiased variance and the qubit of every value.

        NaN and -1 stand where none came.
        """
        options = self._site.options
        z, cautious, unbiased = (np.full(values.size, np.nan) for _ in range(3))
        qubit = np.full(values.size, -1)
        dropped = self._book.dropped.get(call, set())
        for entry in self._done(call):
            counts = iter(self._book.counts(entry))
            layout = np.array(entry.layout)
            good = ~np.isin(layout, list(dropped))
            for piece in entry.pieces:
                found = read(next(counts), options.row_shots, options.twins, self._book.added_shots)
                rows, columns = np.nonzero((piece.cells >= 0) & good)
                at = piece.cells[rows, columns]
                for whole, part in zip((z, cautious, unbiased), found, strict=True):
                    whole[at] = part[rows, columns]
                qubit[at] = layout[columns]
        return z, cautious, unbiased, qubit

    def _how_to_go_on(self) -> str:
        waiting = [e.identity for e in self._book.entries if e.state == "submitted"]
        if self.path is None:
            return "Interrupted; an emulator's run without a store keeps nothing."
        return (
            f"Interrupted. Jobs {waiting} stay in the queue and the run stays in {self.path}. To "
            f"go on, open that store again (qkan.resume({str(self.path)!r})); to give it up, "
            f"qkan.cancel({str(self.path)!r})."
        )


@contextlib.contextmanager
def _where_it_can_be_written() -> Iterator[None]:
    """Go on where the store cannot be written: a full disk must keep no job from its end."""
    try:
        yield
    except UnsureError:
        raise
    except BackendError as error:
        log.warning("%s", error)
