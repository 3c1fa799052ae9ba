"""`RunState`: what a run knows of its jobs, rebuilt from the records of its store.

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
        key: Its name in the run, "call.number".
        call: The call of `measure` that it belongs to; -1 for a job of the run's tag that this
            store has no plan of, which is only counted.
        blocks: The rows of values that it measures.
        layout: Physical qubits.
        digest: A hash of everything that is submitted.
        reserve: Seconds of the budget that are held for it, which are its time limit too.
        attempt: How often its rows failed before.
        calibration: Number of the snapshot that its layout was chosen by.
        tag: The tag that the provider finds it by, with the run, the key and the digest in it.
        state: "planned" → "intent" → "submitted" → "done", "failed" or "cancelled". A planned job
            may be "replaced", and an intent whose job is not found may be "abandoned".
        since: When it was submitted, in seconds since 1970.
        identity: The provider's id.
        duplicates: Ids of further jobs that the provider accepted for the same submission.
        cause: The cause of a failure.
        result: The name of its counts in the store.
        unsure: Whether a submission of it went unanswered.
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
        """All ids of the provider that stand for it."""
        return ([] if self.identity is None else [self.identity]) + self.duplicates

    @property
    def rows(self) -> int:
        """Rows of values, twins not counted."""
        return sum(len(block.value_index) for block in self.blocks)

    @property
    def is_live(self) -> bool:
        """Whether its values are there or may still come."""
        return self.state in ("planned", "intent", "submitted", "done")

    @property
    def is_unsure(self) -> bool:
        """Whether it was submitted and has no id: the provider may have accepted it or not."""
        return self.identity is None and self.state in ("intent", "abandoned")

    def to_json(self) -> Record:
        """What the record of its plan keeps."""
        names = ("key", "call", "digest", "reserve", "attempt", "calibration", "tag")
        plain = {name: getattr(self, name) for name in names}
        blocks = [block.to_json() for block in self.blocks]
        return {**plain, "pieces": blocks, "layout": list(self.layout)}

    @classmethod
    def from_json(cls, data: Record, run_tag: str) -> JobEntry:
        """The planned job of a record."""
        plain = {name: value for name, value in data.items() if name != "pieces"}
        plain["layout"] = tuple(data["layout"])
        # the tags of version 0.1.0 had no digest
        plain["tag"] = data.get("tag") or f"{run_tag}-{data['key']}"
        return cls(blocks=[RowBlock.from_json(block) for block in data["pieces"]], **plain)


class RunState:
    """The jobs, calls, costs and notes of one run.

    Attributes:
        open_costs: The jobs whose costs are not known to be final, by key.
        cancellations: Number of the last record by which somebody asked to cancel the run.
        at_provider: Jobs that the provider had of this run when it was opened again and that no
            entry stands for yet: ids by tag. None until the provider was asked.

    Args:
        store: Where the records are kept.
        about: What the caller says of the run; it must be the same when a store is opened again.
        backend: The device and the options that results depend on, which must be the same too.
        seed: The seed of a new run.

    Raises:
        BackendError: The store holds another run.
    """

    def __init__(
        self, store: Store, about: Mapping[str, Any], backend: Mapping[str, Any], seed: str
    ) -> None:
        self.store = store
        # several threads may ask one run for its status, or cancel it, while another waits for it
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
        """Write a record, and then change the state by it.

        Args:
            kind: The kind of record.
            when: It is called after the records of other processes were read; where it returns
                False, nothing is written.
            blobs: Bytes by name that are kept together with the record.
            **data: What the record says.

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
        """Keep a sentence for the readers of the run, unless it is kept already."""
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
    def entries(self) -> list[JobEntry]:
        """All jobs, in the order in which they were planned."""
        return list(self.jobs.values())

    def of_call(self, call: int) -> list[JobEntry]:
        """The jobs of a call, in the order in which they were planned."""
        return list(self._of_call.get(call, {}).values())

    def dropped(self, call: int) -> frozenset[int]:
        """The qubits that a call no longer uses, because they tell nothing."""
        return frozenset(self._dropped.get(call, ()))

    @property
    def added_shots(self) -> float:
        """Shots that its readings count beside those that were run; ½ in version 0.1.0."""
        return 0.5 if "format" in (self.opened or {}) else 0.0

    @property
    def tag(self) -> str:
        """The tag that all jobs of the run carry."""
        return f"qkan-{self.run_id}"

    @property
    def seconds(self) -> float:
        """Seconds billed, those of jobs that still run included as far as they are known."""
        return sum({**self.partial_usage, **self.usage}.values())

    def commitment(self, entry: JobEntry) -> float:
        """The most that a job can cost: seconds billed, or reserved where that is not final."""
        held = float(entry.reserve)
        total = held if entry.is_unsure and not entry.duplicates else 0.0
        for identity in entry.identities:
            total += self.usage.get(identity, max(held, self.partial_usage.get(identity, 0.0)))
        return total

    def is_final(self, entry: JobEntry) -> bool:
        """Whether everything that a job costs is billed."""
        return bool(entry.identities) and all(i in self.usage for i in entry.identities)

    def counts(self, entry: JobEntry) -> list[NDArray[np.int64]]:
        """The counts of a job that is done, one array a PUB."""
        content = None if entry.result is None else self.store.get(entry.result)
        if content is None:
            raise BackendError(f"The result of job {entry.key} is missing from {self.store.path}.")
        arrays = from_bytes(content, f"The result of job {entry.key}")
        return [arrays[f"pub{k}"].astype(np.int64) for k in range(len(arrays))]

    def finish(self, entry: JobEntry, counts: Sequence[NDArray[np.int64]]) -> None:
        """Keep a job's counts; from here on it is done."""
        name = f"{entry.key}.npz"
        content = to_bytes({f"pub{k}": array for k, array in enumerate(counts)})
        self.write("done", blobs={name: content}, key=entry.key, file=name)

    def _apply(self, number: int, record: Record) -> None:
        """Change the state by a record; one that is applied twice counts once."""
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
        """Change one job by a record of it."""
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
"""The kinds of record that tell of one job, and the state that it has from then on.

The kinds keep the names that older stores have: "stray" tells of a duplicate, "stranger" of a job
that this store has no plan of, and "stop" of a cancellation of the run.
"""


def _plain(values: Mapping[str, Any]) -> Record:
    """The values as a file gives them back."""
    try:
        found: Record = json.loads(json.dumps(dict(values)))
    except (TypeError, ValueError) as error:
        raise BackendError(f"What describes a run must be plain JSON values: {error}.") from None
    return found


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
