"""`RunState`: the state of a run's jobs, rebuilt from the records of its store.

Each record is written before the in-memory state changes, so that replaying the records gives the
same state in any process. The records of other processes are read before a record is written.
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
from .options import GONE, refuse_gone
from .packing import RowBlock
from .store import Record, Store, from_bytes, to_bytes


@dataclass(eq=False)
class JobEntry:
    """One job of a run.

    Attributes:
        key: The job's name in the run, "call.number".
        call: The call of `measure` that it belongs to; -1 for a job with the run's tag that this
            store has no plan for, which is only counted.
        blocks: The rows of values that it measures.
        layout: The physical qubits.
        digest: A hash of everything that is submitted.
        reserve: The seconds of the budget that are reserved for it, which are also its time limit.
        attempt: How often its rows failed before.
        calibration: The number of the snapshot by which its layout was chosen.
        tag: The tag by which the provider finds it, which contains the run, the key and the digest.
        state: "planned" → "intent" → "submitted" → "done", "failed" or "cancelled". A planned job
            may be "replaced", and an intent whose job is not found may be "abandoned".
        since: The time of its submission, in seconds since 1970.
        identity: The provider's id.
        duplicates: The ids of further jobs that the provider accepted for the same submission.
        cause: The cause of a failure.
        result: The name of its counts in the store.
        unsure: Whether a submission of it had no answer.
    """

    key: str
    call: int
    blocks: list[RowBlock]
    layout: tuple[int, ...]
    digest: str
    reserve: int
    attempt: int
    calibration: int
    tag: str = ""
    state: str = "planned"
    since: float = 0.0
    identity: str | None = None
    duplicates: list[str] = field(default_factory=list)
    cause: str = ""
    result: str | None = None
    unsure: bool = False

    @property
    def identities(self) -> list[str]:
        """All ids that the provider has for it."""
        return ([] if self.identity is None else [self.identity]) + self.duplicates

    @property
    def rows(self) -> int:
        """The number of rows of values, without twins."""
        return sum(len(block.value_index) for block in self.blocks)

    @property
    def is_live(self) -> bool:
        """Whether its values have come or may still come."""
        return self.state in ("planned", "intent", "submitted", "done")

    @property
    def is_unsure(self) -> bool:
        """Whether it was submitted and has no id: the provider may have accepted it or not."""
        return self.identity is None and self.state in ("intent", "abandoned")

    def to_json(self) -> Record:
        """Return the values that the record of its plan keeps."""
        names = ("key", "call", "digest", "reserve", "attempt", "calibration", "tag")
        plain = {name: getattr(self, name) for name in names}
        blocks = [block.to_json() for block in self.blocks]
        return {**plain, "pieces": blocks, "layout": list(self.layout)}

    @classmethod
    def from_json(cls, data: Record, run_tag: str) -> JobEntry:
        """Return the planned job of a record."""
        plain = {name: value for name, value in data.items() if name != "pieces"}
        plain["layout"] = tuple(data["layout"])
        # the tags of version 0.1.0 had no digest
        plain["tag"] = data.get("tag") or f"{run_tag}-{data['key']}"
        return cls(blocks=[RowBlock.from_json(block) for block in data["pieces"]], **plain)


class RunState:
    """The jobs, calls, costs and notes of one run.

    Attributes:
        open_costs: The jobs whose costs are not known to be final, by key.
        cancellations: The number of the last record of a request to cancel the run.
        at_provider: Jobs of this run that the provider had when it was opened again and that have
            no entry yet: ids by tag. None until the provider was asked.

    Args:
        store: The store of the records.
        about: The caller's description of the run, which must be the same when a store is opened
            again.
        backend: The device and the options on which results depend, which must also be the same.
        seed: The seed of a new run.

    Raises:
        BackendError: The store has another run.
    """

    def __init__(
        self, store: Store, about: Mapping[str, Any], backend: Mapping[str, Any], seed: str
    ) -> None:
        self.store = store
        # several threads may ask for a run's status, or cancel it, while another one waits for it
        self._lock = threading.RLock()
        self.run_id = self.seed = ""
        self.opened: Record | None = None
        self.jobs: dict[str, JobEntry] = {}
        self.open_costs: dict[str, JobEntry] = {}
        self._of_call: dict[int, dict[str, JobEntry]] = {}
        self.calls: dict[int, str] = {}
        self._dropped: dict[int, set[int]] = {}
        self.usage: dict[str, float] = {}
        self.partial_usage: dict[str, float] = {}
        self.cancellations = 0
        self.at_provider: dict[str, list[str]] | None = None
        self._notes: dict[int, str] = {}
        self._calibrations: dict[int, Record] = {}
        about, backend = _plain(about), _plain(backend)
        self.refresh()
        self.is_new = self.opened is None
        if self.is_new:
            self.write(
                "open", when=lambda: self.opened is None,
                run=secrets.token_hex(8), about=about, backend=backend, seed=seed,
            )  # fmt: skip
        assert self.opened is not None
        _require_same(self.opened, about, backend)

    def refresh(self) -> None:
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
        """Write a record, and then update the state.

        Args:
            kind: The kind of record.
            when: A function that is called after the records of other processes were read; if it
                returns False, nothing is written.
            blobs: Bytes by name, which are kept together with the record.
            **data: The values of the record.

        Returns:
            Whether the record was written.
        """
        with self._lock, self.store.transaction() as step:
            for number, record in self.store.news(step):
                self._apply(number, record)
            if when is not None and not when():
                return False
            for name, content in (blobs or {}).items():
                self.store.put(step, name, content)
            self.store.append(step, {"kind": kind, **data})
        self.refresh()
        return True

    def add_note(self, text: str) -> None:
        """Keep a sentence for the users of the run, unless it is kept already."""
        self.write("note", when=lambda: text not in self.notes, text=text)

    @property
    def notes(self) -> list[str]:
        """All sentences, in order."""
        return list(self._notes.values())

    @property
    def calibrations(self) -> list[Record]:
        """All snapshots by which layouts were chosen, in order."""
        return list(self._calibrations.values())

    @property
    def entries(self) -> list[JobEntry]:
        """All jobs, in the order in which they were planned."""
        return list(self.jobs.values())

    def of_call(self, call: int) -> list[JobEntry]:
        """Return the jobs of a call, in the order in which they were planned."""
        return list(self._of_call.get(call, {}).values())

    def dropped(self, call: int) -> frozenset[int]:
        """Return the qubits that a call no longer uses, since their readout is useless."""
        return frozenset(self._dropped.get(call, ()))

    @property
    def added_shots(self) -> float:
        """The number of shots added to those that were run in its readings; ½ in version 0.1.0."""
        return 0.5 if "format" in (self.opened or {}) else 0.0

    @property
    def tag(self) -> str:
        """The tag of all jobs of the run."""
        return f"qkan-{self.run_id}"

    @property
    def seconds(self) -> float:
        """The seconds billed, including those of running jobs as far as they are known."""
        return sum({**self.partial_usage, **self.usage}.values())

    def commitment(self, entry: JobEntry) -> float:
        """Return the most that a job can cost: seconds billed, or reserved if that is not final."""
        held = float(entry.reserve)
        total = held if entry.is_unsure and not entry.duplicates else 0.0
        for identity in entry.identities:
            total += self.usage.get(identity, max(held, self.partial_usage.get(identity, 0.0)))
        return total

    def is_final(self, entry: JobEntry) -> bool:
        """Return whether all costs of a job are final."""
        return bool(entry.identities) and all(i in self.usage for i in entry.identities)

    def counts(self, entry: JobEntry) -> list[NDArray[np.int64]]:
        """Return the counts of a finished job, an array for each PUB."""
        content = None if entry.result is None else self.store.get(entry.result)
        if content is None:
            raise BackendError(f"The result of job {entry.key} is missing from {self.store.path}.")
        arrays = from_bytes(content, f"The result of job {entry.key}")
        return [arrays[f"pub{k}"].astype(np.int64) for k in range(len(arrays))]

    def finish(self, entry: JobEntry, counts: Sequence[NDArray[np.int64]]) -> None:
        """Keep a job's counts, after which it is done."""
        name = f"{entry.key}.npz"
        content = to_bytes({f"pub{k}": array for k, array in enumerate(counts)})
        self.write("done", blobs={name: content}, key=entry.key, file=name)

    def _apply(self, number: int, record: Record) -> None:
        """Update the state by a record; applying a record twice has no further effect."""
        kind = record["kind"]
        if kind in _STATE_AFTER:
            self._apply_to(self.jobs[record["key"]], kind, record)
        elif kind == "open":
            self.opened, self.run_id, self.seed = record, record["run"], record["seed"]
        elif kind == "note":
            self._notes[number] = record["text"]
        elif kind == "calibration":
            self._calibrations[number] = record["snapshot"]
        elif kind == "call":
            self.calls[record["call"]] = record["digest"]
        elif kind == "dropped":
            self._dropped.setdefault(record["call"], set()).update(record["qubits"])
        elif kind == "usage":
            self.usage[record["id"]] = record["seconds"]
        elif kind == "partial":
            self.partial_usage[record["id"]] = record["seconds"]
        elif kind == "stop":
            self.cancellations = number
        elif kind == "plan":
            for data in record["jobs"]:
                self._add(JobEntry.from_json(data, self.tag))
            for key in record["replaces"]:
                self.jobs[key].state = "replaced"
        elif kind == "stranger":
            identity, reserve = record["id"], record["reserve"]
            entry = JobEntry(f"stranger-{identity}", -1, [], (), "", reserve, 0, 0)
            entry.state, entry.identity = "failed", identity
            self._add(entry)
        else:
            raise BackendError(
                f"The store has a record of kind {kind!r}, which this version does not know. Use "
                "the version that wrote it."
            )

    def _add(self, entry: JobEntry) -> None:
        self.jobs[entry.key] = self.open_costs[entry.key] = entry
        self._of_call.setdefault(entry.call, {})[entry.key] = entry

    def _apply_to(self, entry: JobEntry, kind: str, record: Record) -> None:
        """Update a job by a record of it."""
        entry.state = _STATE_AFTER[kind] or entry.state
        if kind == "intent":
            entry.since = record.get("since", 0.0)
        elif kind == "submitted":
            entry.identity = record["id"]
        elif kind == "lost":
            entry.identity = None
        elif kind == "stray" and record["id"] not in entry.identities:
            entry.duplicates.append(record["id"])
        elif kind == "done":
            entry.result = record["file"]
        elif kind == "failed":
            entry.cause = record["cause"]
        if kind in ("unsure", "abandoned"):
            entry.unsure = True
        if kind in ("submitted", "stray"):
            self.open_costs[entry.key] = entry


_STATE_AFTER = {
    "intent": "intent", "submitted": "submitted", "lost": "planned", "done": "done",
    "failed": "failed", "cancelled": "cancelled", "abandoned": "abandoned", "unsure": None,
    "stray": None,
}  # fmt: skip
"""The kinds of records of a job, and the state that the job then has.

The kinds have the names of older stores: "stray" is a duplicate, "stranger" a job without a plan in
this store, and "stop" a cancellation of the run.
"""


def _plain(values: Mapping[str, Any]) -> Record:
    """Return the values as they would be read from a file."""
    try:
        found: Record = json.loads(json.dumps(dict(values)))
    except (TypeError, ValueError) as error:
        raise BackendError(
            f"The description of a run must consist of plain JSON values: {error}."
        ) from None
    return found


def _require_same(opened: Record, about: Record, backend: Record) -> None:
    refuse_gone(opened["backend"])
    for what, found in (("about", about), ("backend", backend)):
        kept = {k: v for k, v in opened[what].items() if k not in GONE}
        if kept != found:
            names = sorted(k for k in kept.keys() | found.keys() if kept.get(k) != found.get(k))
            raise BackendError(
                f"The store has another run: its {what} has {names[0]}="
                f"{kept.get(names[0])!r:.80}, not {found.get(names[0])!r:.80}. Use another "
                "directory, or open the run as it was."
            )
