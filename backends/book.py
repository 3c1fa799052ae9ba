"""`Book`: what a run knows of its jobs, rebuilt from the records of its store.

Whatever happens is first written and then believed, so a process that takes over believes the
same.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import BackendError
from .packing import Piece
from .store import Record, Store, array_from_json, array_to_json

FORMAT = 1


@dataclass(eq=False)
class Entry:
    """One job of a run.

    Attributes:
        key: Its name in the run, "call.number".
        call: The call of `measure` that it belongs to.
        pieces: The rows of values that it measures.
        layout: Physical qubits.
        digest: Of everything that is submitted.
        reserve: Seconds of the budget that are held for it, its time limit on the device.
        attempt: How often its rows failed before.
        calibration: Number of the snapshot that its layout was chosen by.
        state: "planned" → "intent" → "submitted" → "done", "failed" or "cancelled"; a planned one
            may be "replaced".
        identity: The provider's id.
        strays: Ids of jobs that the provider accepted beside it.
        cause: Of a failure.
        result: Name and checksum of the file of counts.
        unsure: Whether a submission of it went unanswered.
    """

    key: str
    call: int
    pieces: list[Piece]
    layout: tuple[int, ...]
    digest: str
    reserve: int
    attempt: int
    calibration: int
    state: str = "planned"
    identity: str | None = None
    strays: list[str] = field(default_factory=list)
    cause: str = ""
    result: tuple[str, str] | None = None
    unsure: bool = False

    @property
    def identities(self) -> list[str]:
        """All ids that stand for it."""
        return ([] if self.identity is None else [self.identity]) + self.strays

    @property
    def rows(self) -> int:
        """Rows of values, twins not counted."""
        return sum(len(piece.cells) for piece in self.pieces)

    @property
    def is_live(self) -> bool:
        """Whether its values are there or on their way."""
        return self.state in ("planned", "intent", "submitted", "done")

    def to_json(self) -> Record:
        """What a record of its plan keeps."""
        pieces = [[piece.sequence, array_to_json(piece.cells)] for piece in self.pieces]
        names = ("key", "call", "digest", "reserve", "attempt", "calibration")
        plain = {name: getattr(self, name) for name in names}
        return {**plain, "pieces": pieces, "layout": list(self.layout)}


class Book:
    """The jobs, calls, costs and notes of one run.

    `unsettled` are the jobs whose last word on costs is not known to be spoken.

    Args:
        store: Where it is written.
        about: What the caller says of the run; of a store that holds one, it must be the same.
        backend: The device and the options that results depend on.
        seed: Of a new run.

    Raises:
        BackendError: The store holds another run.
    """

    def __init__(
        self, store: Store, about: Mapping[str, Any], backend: Mapping[str, Any], seed: str
    ) -> None:
        self.store = store
        self.run = ""
        self.seed = ""
        self.jobs: dict[str, Entry] = {}
        self.unsettled: dict[str, Entry] = {}
        self._of_call: dict[int, list[Entry]] = {}
        self.calls: dict[int, str] = {}
        self.dropped: dict[int, set[int]] = {}
        self.usage: dict[str, float] = {}
        self.notes: list[str] = []
        self.calibrations: list[Record] = []
        about, backend = _plain(about), _plain(backend)
        self.is_new = not store.records
        if self.is_new:
            run = secrets.token_hex(8)
            self.write("open", format=FORMAT, run=run, about=about, backend=backend, seed=seed)
            return
        for record in store.records:
            self._apply(record)
        _require_same(store.records[0], about, backend)

    def write(self, kind: str, **data: Any) -> None:
        """Record something, then believe it."""
        record = {"kind": kind, **data}
        self.store.append(record)
        self._apply(record)

    def note(self, text: str) -> None:
        """Keep a sentence for whoever reads the run."""
        self.write("note", text=text)

    def of_call(self, call: int) -> list[Entry]:
        """The jobs of a call, in the order they were planned."""
        return self._of_call.get(call, [])

    def next_key(self, call: int, beyond: int = 0) -> str:
        """The name of the next job of a call."""
        return f"{call}.{len(self.of_call(call)) + beyond}"

    @property
    def tag(self) -> str:
        """The tag that all jobs of the run carry."""
        return f"qkan-{self.run}"

    def job_tag(self, key: str) -> str:
        """The tag of one job."""
        return f"{self.tag}-{key}"

    @property
    def seconds(self) -> float:
        """Seconds billed, as far as that is final."""
        return sum(self.usage.values())

    @property
    def committed(self) -> float:
        """Seconds billed and seconds reserved: the most that the jobs so far can cost."""
        total = 0.0
        for entry in self.jobs.values():
            for identity in entry.identities:
                total += self.usage.get(identity, entry.reserve)
            # no id yet, but perhaps a job that was accepted
            if entry.state == "intent" and entry.identity is None:
                total += entry.reserve
        return total

    def counts(self, entry: Entry) -> list[NDArray[np.int64]]:
        """The counts of a job that is done, one array a PUB."""
        if entry.result is None:
            raise BackendError(f"Job {entry.key} has no result.")
        arrays = self.store.load(*entry.result)
        return [arrays[f"pub{k}"].astype(np.int64) for k in range(len(arrays))]

    def finish(self, entry: Entry, counts: Sequence[NDArray[np.int64]]) -> None:
        """Keep a job's counts; from here on it is done."""
        name = f"{entry.key}.npz"
        checksum = self.store.keep(name, {f"pub{k}": array for k, array in enumerate(counts)})
        self.write("done", key=entry.key, file=name, checksum=checksum)

    def _apply(self, record: Record) -> None:
        handle = getattr(self, f"_on_{record['kind']}", None)
        if handle is None:
            raise BackendError(
                f"The store has a record of kind {record['kind']!r}, which this version does not "
                "know. Use the version that wrote it."
            )
        handle(record)

    def _on_open(self, record: Record) -> None:
        self.run, self.seed = record["run"], record["seed"]

    def _on_note(self, record: Record) -> None:
        self.notes.append(record["text"])

    def _on_calibration(self, record: Record) -> None:
        self.calibrations.append(record["snapshot"])

    def _on_call(self, record: Record) -> None:
        self.calls[record["call"]] = record["digest"]

    def _on_plan(self, record: Record) -> None:
        for data in record["jobs"]:
            pieces = [Piece(k, array_from_json(cells)) for k, cells in data["pieces"]]
            layout = tuple(data["layout"])
            entry = Entry(**{**data, "pieces": pieces, "layout": layout})
            self.jobs[entry.key] = self.unsettled[entry.key] = entry
            self._of_call.setdefault(entry.call, []).append(entry)
        for key in record["replaces"]:
            self.jobs[key].state = "replaced"

    def _on_intent(self, record: Record) -> None:
        self.jobs[record["key"]].state = "intent"

    def _on_unsure(self, record: Record) -> None:
        self.jobs[record["key"]].unsure = True

    def _on_submitted(self, record: Record) -> None:
        entry = self.jobs[record["key"]]
        entry.state, entry.identity = "submitted", record["id"]

    def _on_stray(self, record: Record) -> None:
        self.jobs[record["key"]].strays.append(record["id"])

    def _on_lost(self, record: Record) -> None:
        entry = self.jobs[record["key"]]
        entry.state, entry.identity = "planned", None

    def _on_done(self, record: Record) -> None:
        entry = self.jobs[record["key"]]
        entry.state, entry.result = "done", (record["file"], record["checksum"])

    def _on_failed(self, record: Record) -> None:
        entry = self.jobs[record["key"]]
        entry.state, entry.cause = "failed", record["cause"]

    def _on_cancelled(self, record: Record) -> None:
        self.jobs[record["key"]].state = "cancelled"

    def _on_usage(self, record: Record) -> None:
        self.usage[record["id"]] = record["seconds"]

    def _on_dropped(self, record: Record) -> None:
        self.dropped.setdefault(record["call"], set()).update(record["qubits"])


def _plain(values: Mapping[str, Any]) -> Record:
    """The values as a file gives them back."""
    try:
        found: Record = json.loads(json.dumps(dict(values)))
    except (TypeError, ValueError) as error:
        raise BackendError(f"What describes a run must be plain JSON values: {error}.") from None
    return found


def _require_same(opened: Record, about: Record, backend: Record) -> None:
    if opened.get("kind") != "open" or opened.get("format") != FORMAT:
        raise BackendError("The store was written by another version; use that one.")
    for what, found in (("about", about), ("backend", backend)):
        kept = opened[what]
        if kept != found:
            names = sorted(k for k in kept.keys() | found.keys() if kept.get(k) != found.get(k))
            raise BackendError(
                f"The store holds another run: its {what} has {names[0]}="
                f"{kept.get(names[0])!r:.80}, not {found.get(names[0])!r:.80}. Use another "
                "directory, or open it as it was."
            )
