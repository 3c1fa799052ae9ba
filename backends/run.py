"""`QiskitRun`: one piece of work on a backend, written down as it goes."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from .backend import Floats, Measurement, Run, Task
from .book import Book, Entry
from .errors import BackendError
from .packing import Values, flatten
from .provider import Counts
from .queue import Queue, Site
from .statistics import Contraction, break_even_shots, contractions, extrapolated, read

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
        self._call = 0

    def measure(self, tasks: Sequence[Task]) -> list[Measurement]:
        """Measure the tasks together; what the store has is not run again.

        Raises:
            BackendError: Wrong tasks, other tasks than the store has for this call, a first job
                beyond the budget, a job that the service refuses.
            KeyboardInterrupt: With the ids of the jobs in the queue and how to go on.
        """
        options = self._site.options
        fused = options.mode == "fused"
        values = flatten(tasks, fused=fused, native_rx=self._site.provider.native_rx)
        self._require_that_folding_helps(values)
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
        return tuple(i for entry in self._book.jobs.values() for i in entry.identities)

    @property
    def seconds(self) -> float:
        """Time on the device that is billed so far, as far as that is final."""
        return self._book.seconds

    @property
    def committed_seconds(self) -> float:
        """Time billed, and reserved for jobs whose usage is not final."""
        return self._book.committed

    def status(self) -> dict[str, str]:
        """How each job stands, by id; the provider is asked for those that may be in its queue."""
        return {
            identity: self._site.provider.status(identity).state
            if entry.state == "submitted"
            else entry.state
            for entry in self._book.jobs.values()
            for identity in entry.identities
        }

    def cancel(self) -> tuple[str, ...]:
        """Cancel the jobs that have not finished and return their ids."""
        cancelled = []
        for entry in self._book.jobs.values():
            if entry.state == "intent" and entry.identity is None:
                for identity, _ in self._site.provider.find(self._book.job_tag(entry.key)):
                    self._book.write("submitted", key=entry.key, id=identity, adopted=True)
                    break
            if entry.state != "submitted" or entry.identity is None:
                continue
            status = self._site.provider.status(entry.identity)
            if status.state == "queued":
                self._site.provider.cancel(entry.identity)
                self._book.write("cancelled", key=entry.key, reason="on request")
                cancelled.append(entry.identity)
        return tuple(cancelled)

    def close(self) -> None:
        """Release the store's lock; jobs in the queue stay there."""
        self._site.provider.close()
        self._book.store.close()

    def _require_that_folding_helps(self, values: Values) -> None:
        options = self._site.options
        if not (options.folding and values.size):
            return
        layout = self.backend.layout
        noise = self.backend.calibration().device_noise(layout)
        pulses = min(sequence.count("sx") for sequence in values.sequences)
        needed = break_even_shots(pulses, noise)
        found = f"with {pulses} SX it pays from {needed:,.0f} shots a value on"
        if not options.shots >= needed:
            raise BackendError(
                f"folding=True: {found}, and these are {options.shots:,}. Leave it off, or take "
                "more shots."
            )
        log.info("Folding: %s", found)

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
        queue = Queue(self._book, self._site, call, values)
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
        last = contractions((layout, counts[-1], options.row_shots) for layout, counts in done)
        if not options.folding:
            return last
        plain = contractions((layout, counts[-2], options.row_shots) for layout, counts in done)
        return {qubit: plain[qubit].extrapolated(last[qubit]) for qubit in plain}

    def _done(self, call: int) -> list[Entry]:
        return [entry for entry in self._book.of_call(call) if entry.state == "done"]

    def _measurements(
        self, call: int, values: Values, contraction: dict[int, Contraction]
    ) -> list[Measurement]:
        z, variance, qubit = self._readings(call, values)
        relative = {q: c.relative_error for q, c in contraction.items() if not c.is_dead}
        if contraction:
            scale = np.ones(values.size)
            shared = np.zeros(values.size)
            for q, found in contraction.items():
                here = qubit == q
                scale[here], shared[here] = found.value, found.relative_error
            z, shot_stderr = z / scale, np.sqrt(variance) / scale
            stderr = np.hypot(shot_stderr, z * shared)
        else:
            shot_stderr = np.sqrt(variance)
            stderr = shot_stderr
        outside = int((np.abs(z) > 1).sum())
        if outside:
            log.info(
                "%d of %d estimates are outside [-1, 1], as unbiased ones may", outside, z.size
            )
        columns = (values.split(array) for array in (z, stderr, shot_stderr, qubit))
        return [
            Measurement(
                cast(Floats, a), cast(Floats, b), cast(Floats, c), cast(NDArray[np.int64], d),
                relative,
            )
            for a, b, c, d in zip(*columns, strict=True)
        ]  # fmt: skip

    def _readings(self, call: int, values: Values) -> tuple[Floats, Floats, NDArray[np.int64]]:
        """Unscaled ⟨Z⟩, its variance and the qubit of every value; NaN and -1 where none came."""
        z, variance = np.full(values.size, np.nan), np.full(values.size, np.nan)
        qubit = np.full(values.size, -1)
        dropped = self._book.dropped.get(call, set())
        for entry in self._done(call):
            counts = iter(self._book.counts(entry))
            layout = np.array(entry.layout)
            good = ~np.isin(layout, list(dropped))
            for piece in entry.pieces:
                found, spread = self._reading(counts)
                rows, columns = np.nonzero((piece.cells >= 0) & good)
                at = piece.cells[rows, columns]
                z[at], variance[at] = found[rows, columns], spread[rows, columns]
                qubit[at] = layout[columns]
        return z, variance, qubit

    def _reading(self, counts: Iterator[Counts]) -> tuple[Floats, Floats]:
        options = self._site.options
        plain = read(next(counts), options.row_shots, options.twins)
        if not options.folding:
            return plain
        return extrapolated(plain, read(next(counts), options.row_shots, options.twins))

    def _how_to_go_on(self) -> str:
        waiting = [e.identity for e in self._book.jobs.values() if e.state == "submitted"]
        if self.path is None:
            return "Interrupted; an emulator's run without a store keeps nothing."
        return (
            f"Interrupted. Jobs {waiting} stay in the queue and the run stays in {self.path}. To "
            f"go on, open that store again (qkan.resume({str(self.path)!r})); to give it up, "
            f"qkan.cancel({str(self.path)!r})."
        )
