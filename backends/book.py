"""`Book`: what a run knows of its jobs, rebuilt from the records of its store.

A change is first written and then believed, so that replaying the records gives the same state in
any process. Before a change is written, the records of other processes are read.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import BackendError
from .options import GONE
from .packing import Piece
from .store import Record, Store, array_from_json, array_to_json, from_bytes, to_bytes


@dataclass(eq=False)
class Entry:
    """One job of a run.

    Attributes:
        key: Its name in the run, "call.number".
        call: The call of `measure` that it belongs to; -1 for a job of the run's tag that nobody
            here has planned, which is only counted.
        pieces: The rows of values that it measures.
        layout: Physical qubits.
        digest: Of everything that is submitted.
        reserve: Seconds of the budget that are held for it, its time limit on the device.
        attempt: How often its rows failed before.
        calibration: Number of the snapshot that its layout was chosen by.
        tag: By which the provider finds it; it names the run, the job and the digest.
        state: "planned" → "intent" → "submitted" → "done", "failed" or "cancelled"; a planned one
            may be "replaced", an intent that nobody finds may be "abandoned".
        since: When it was submitted, in seconds since 1970.
        identity: The provider's id.
        strays: Ids of jobs that the provider accepted beside it.
        cause: Of a failure.
        result: The name of its counts in the store.
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
    tag: str = ""
    state: str = "planned"
    since: float = 0.0
    identity: str | None = None
    strays: list[str] = field(default_factory=list)
    cause: str = ""
    result: str | None = None
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

    @property
    def is_unsure(self) -> bool:
        """Whether it was submitted and has no id: the provider may have accepted it or not."""
        return self.identity is None and self.state in ("intent", "abandoned")

    def to_json(self) -> Record:
        """What a record of its plan keeps."""
        pieces = [[piece.sequence, array_to_json(piece.cells)] for piece in self.pieces]
        names = ("key", "call", "digest", "reserve", "attempt", "calibration", "tag")
        plain = {name: getattr(self, name) for name in names}
        return {**plain, "pieces": pieces, "layout": list(self.layout)}


class Book:
    """The jobs, calls, costs and notes of one run.

    Attributes:
        unsettled: The jobs whose last word on costs is not known to be spoken.
        stops: How often somebody asked to cancel the run.
        known: What the provider had of this run when it was opened again, ids by tag; None until
            it was asked.

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
        # several threads may ask one run how it stands, or cancel it, while another waits for it
        self._lock = threading.RLock()
        self.run = self.seed = ""
        self.opened: Record | None = None
        self.jobs: dict[str, Entry] = {}
        self.unsettled: dict[str, Entry] = {}
        self._of_call: dict[int, dict[str, Entry]] = {}
        self.calls: dict[int, str] = {}
        self.dropped: dict[int, set[int]] = {}
        self.usage: dict[str, float] = {}
        self.partial: dict[str, float] = {}
        self.stops = 0
        self.known: dict[str, list[str]] | None = None
        self._notes: dict[int, str] = {}
        self._calibrations: dict[int, Record] = {}
        about, backend = _plain(about), _plain(backend)
        self.look()
        self.is_new = self.opened is None
        if self.is_new:
            run = secrets.token_hex(8)
            self.write(
                "open", when=lambda: self.opened is None,
                run=run, about=about, backend=backend, seed=seed,
            )  # fmt: skip
        assert self.opened is not None
        _require_same(self.opened, about, backend)

    def look(self) -> None:
        """Read what other processes have written."""
        with self._lock, self.store.transaction(write=False) as step:
            for number, record in self.store.news(step):
                self._apply(number, record)

    def write(
        self,
        kind: str,
        *,
        when: Callable[[], bool] | None = None,
        blobs: Mapping[str, bytes] | None = None,
        **data: Any,
    ) -> bool:
        """Record something, then believe it.

        Args:
            kind: Of the record.
            when: Asked after the records of other processes were read; if it is False, nothing is
                recorded.
            blobs: Kept together with the record.
            **data: Of the record.

        Returns:
            Whether it was recorded.
        """
        with self._lock, self.store.transaction() as step:
            for number, record in self.store.news(step):
                self._apply(number, record)
            if when is not None and not when():
                return False
            for name, content in (blobs or {}).items():
                self.store.put(step, name, content)
            self.store.append(step, {"kind": kind, **data})
        self.look()
        return True

    def note(self, text: str) -> None:
        """Keep a sentence for whoever reads the run, once."""
        self.write("note", when=lambda: text not in self.notes, text=text)

    @property
    def notes(self) -> list[str]:
        """All sentences, in order."""
        return list(self._notes.values())

    @property
    def calibrations(self) -> list[Record]:
        """All snapshots that layouts were chosen by, in order."""
        return list(self._calibrations.values())

    @property
    def entries(self) -> list[Entry]:
        """All jobs, in the order they were planned."""
        return list(self.jobs.values())

    def of_call(self, call: int) -> list[Entry]:
        """The jobs of a call, in the order they were planned."""
        return list(self._of_call.get(call, {}).values())

    @property
    def added_shots(self) -> float:
        """Shots that its readings count beside those that were run; ½ in version 0.1.0."""
        return 0.5 if "format" in (self.opened or {}) else 0.0

    @property
    def tag(self) -> str:
        """The tag that all jobs of the run carry."""
        return f"qkan-{self.run}"

    @property
    def seconds(self) -> float:
        """Seconds billed, those of jobs that still run included as far as they are known."""
        return sum({**self.partial, **self.usage}.values())

    def commitment(self, entry: Entry) -> float:
        """The most that a job can cost: seconds billed, or reserved where that is not final."""
        held = float(entry.reserve)
        total = held if entry.is_unsure and not entry.strays else 0.0
        for identity in entry.identities:
            total += self.usage.get(identity, max(held, self.partial.get(identity, 0.0)))
        return total

    def is_final(self, entry: Entry) -> bool:
        """Whether all that a job costs is billed."""
        return bool(entry.identities) and all(i in self.usage for i in entry.identities)

    @property
    def committed(self) -> float:
        """The most that the jobs so far can cost."""
        return sum(map(self.commitment, self.entries))

    def counts(self, entry: Entry) -> list[NDArray[np.int64]]:
        """The counts of a job that is done, one array a PUB."""
        content = None if entry.result is None else self.store.get(entry.result)
        if content is None:
            raise BackendError(f"The result of job {entry.key} is missing from {self.store.path}.")
        arrays = from_bytes(content, f"The result of job {entry.key}")
        return [arrays[f"pub{k}"].astype(np.int64) for k in range(len(arrays))]

    def finish(self, entry: Entry, counts: Sequence[NDArray[np.int64]]) -> None:
        """Keep a job's counts; from here on it is done."""
        name = f"{entry.key}.npz"
        content = to_bytes({f"pub{k}": array for k, array in enumerate(counts)})
        self.write("done", blobs={name: content}, key=entry.key, file=name)

    def _apply(self, number: int, record: Record) -> None:
        """Believe a record; a record may be handed over twice and counts once."""
        kind = record["kind"]
        if kind in _OF_A_JOB:
            self._apply_to(self.jobs[record["key"]], kind, record)
        elif kind == "open":
            self.opened, self.run, self.seed = record, record["run"], record["seed"]
        elif kind == "note":
            self._notes[number] = record["text"]
        elif kind == "calibration":
            self._calibrations[number] = record["snapshot"]
        elif kind == "call":
            self.calls[record["call"]] = record["digest"]
        elif kind == "dropped":
            self.dropped.setdefault(record["call"], set()).update(record["qubits"])
        elif kind in ("usage", "partial"):
            (self.usage if kind == "usage" else self.partial)[record["id"]] = record["seconds"]
        elif kind == "stop":
            self.stops = number
        elif kind == "plan":
            for data in record["jobs"]:
                self._add(_planned(data, self.tag))
            for key in record["replaces"]:
                self.jobs[key].state = "replaced"
        elif kind == "stranger":
            identity, reserve = record["id"], record["reserve"]
            entry = Entry(f"stranger-{identity}", -1, [], (), "", reserve, 0, 0)
            entry.state, entry.identity = "failed", identity
            self._add(entry)
        else:
            raise BackendError(
                f"The store has a record of kind {kind!r}, which this version does not know. Use "
                "the version that wrote it."
            )

    def _add(self, entry: Entry) -> None:
        self.jobs[entry.key] = self.unsettled[entry.key] = entry
        self._of_call.setdefault(entry.call, {})[entry.key] = entry

    def _apply_to(self, entry: Entry, kind: str, record: Record) -> None:
        """What became of a job."""
        entry.state = _OF_A_JOB[kind] or entry.state
        if kind == "intent":
            entry.since = record.get("since", 0.0)
        elif kind == "submitted":
            entry.identity = record["id"]
        elif kind == "lost":
            entry.identity = None
        elif kind == "stray" and record["id"] not in entry.identities:
            entry.strays.append(record["id"])
        elif kind == "done":
            entry.result = record["file"]
        elif kind == "failed":
            entry.cause = record["cause"]
        if kind in ("unsure", "abandoned"):
            entry.unsure = True
        if kind in ("submitted", "stray"):
            self.unsettled[entry.key] = entry


_OF_A_JOB = {
    "intent": "intent", "submitted": "submitted", "lost": "planned", "done": "done",
    "failed": "failed", "cancelled": "cancelled", "abandoned": "abandoned", "unsure": None,
    "stray": None,
}  # fmt: skip
"""The kinds of record that tell of one job, and the state that it has from then on."""


def _planned(data: Record, run_tag: str) -> Entry:
    pieces = [Piece(k, array_from_json(cells)) for k, cells in data["pieces"]]
    # the tags of version 0.1.0 had no digest
    tag = data.get("tag") or f"{run_tag}-{data['key']}"
    return Entry(**{**data, "pieces": pieces, "layout": tuple(data["layout"]), "tag": tag})


def _plain(values: Mapping[str, Any]) -> Record:
    """The values as a file gives them back."""
    try:
        found: Record = json.loads(json.dumps(dict(values)))
    except (TypeError, ValueError) as error:
        raise BackendError(f"What describes a run must be plain JSON values: {error}.") from None
    return found


def refuse_gone(options: Mapping[str, Any]) -> None:
    """Refuse the options of a run of version 0.1.0 that are no longer there.

    Raises:
        BackendError: The run used one.
    """
    for name in GONE:
        if options.get(name):
            raise BackendError(
                f"The run was made with {name}=True, which qkan no longer has. Go on with it with "
                "qkan 0.1.0, or start a new run without that option."
            )


def _require_same(opened: Record, about: Record, backend: Record) -> None:
    refuse_gone(opened["backend"])
    for what, found in (("about", about), ("backend", backend)):
        kept = {k: v for k, v in opened[what].items() if k not in GONE}
        if kept != found:
            names = sorted(k for k in kept.keys() | found.keys() if kept.get(k) != found.get(k))
            raise BackendError(
                f"The store holds another run: its {what} has {names[0]}="
                f"{kept.get(names[0])!r:.80}, not {found.get(names[0])!r:.80}. Use another "
                "directory, or open it as it was."
            )
