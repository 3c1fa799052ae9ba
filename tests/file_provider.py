"""A service of its own kind: it keeps its jobs in files, so that they outlive every process.

It shares nothing with `fake_service` but the contract, and can end its process at any call.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qkan.backends import Calibration, Counts, Job, Provider, Status
from qkan.backends.qiskit.local import ideal_calibration


class FileProvider(Provider):
    """Jobs in a folder, one file each; a job runs when it is looked at for the second time.

    Args:
        folder: Of the service.
        kill_at: The process is killed at this step of a call; every call has one before it does
            anything and one after.

    Attributes:
        steps: Taken so far.
    """

    name = "file"
    bills = True
    durable = True

    def __init__(self, folder: Path, kill_at: int | None = None) -> None:
        self.folder, self.kill_at, self.steps = folder, kill_at, 0
        folder.mkdir(parents=True, exist_ok=True)
        self._calibration = ideal_calibration(self.name, 4)

    def calibration(self, refresh: bool = False) -> Calibration:
        return self._calibration

    def neighbours(self) -> Sequence[tuple[int, int]]:
        return []

    def submit(self, job: Job) -> str:
        self._step()
        rng = np.random.default_rng(job.seed)
        counts = []
        for pub in job.pubs:
            z = pub.sequence.expectation(pub.turns, np)
            counts.append(rng.binomial(job.shots, np.clip((1 - z) / 2, 0, 1)))
        seconds = 2 + 0.00035 * job.executions
        kept = {"tags": job.tags, "counts": counts, "seconds": seconds, "looks": 0, "state": "done"}
        identity = self._new(kept)
        self._step()
        return identity

    def find(self, tag: str) -> Sequence[tuple[str, Sequence[str]]]:
        self._step()
        return [(i, job["tags"]) for i, job in self.jobs().items() if tag in job["tags"]]

    def status(self, identity: str) -> Status:
        self._step()
        job = self.jobs()[identity]
        job["looks"] += 1
        self._write(identity, job)
        self._step()
        return Status("queued" if job["looks"] < 2 else job["state"])

    def counts(self, identity: str, job: Job) -> list[Counts]:
        self._step()
        found: list[Counts] = self.jobs()[identity]["counts"]
        return found

    def usage(self, identity: str) -> float | None:
        self._step()
        job = self.jobs()[identity]
        return float(job["seconds"]) if job["state"] == "done" else 0.0

    def seconds_left(self) -> float | None:
        self._step()
        return 1000.0

    def cancel(self, identity: str) -> None:
        self._step()
        job = self.jobs()[identity]
        if job["looks"] < 2:
            self._write(identity, {**job, "state": "cancelled", "looks": 2})
        self._step()

    def close(self) -> None:
        pass

    def jobs(self) -> dict[str, dict[str, Any]]:
        """All jobs by id, in order."""
        files = sorted(self.folder.glob("file-*"), key=lambda file: int(file.name[5:]))
        return {file.name: pickle.loads(file.read_bytes()) for file in files}

    def _new(self, job: dict[str, Any]) -> str:
        """Write a job under the next id that no thread or process has taken."""
        draft = self.folder / f".{uuid.uuid4()}"
        draft.write_bytes(pickle.dumps(job))
        number = len(self.jobs())
        while True:
            with contextlib.suppress(FileExistsError):
                os.link(draft, self.folder / f"file-{number}")
                draft.unlink()
                return f"file-{number}"
            number += 1

    def _write(self, identity: str, job: dict[str, Any]) -> None:
        draft = self.folder / f".{identity}"
        draft.write_bytes(pickle.dumps(job))
        draft.replace(self.folder / identity)

    def _step(self) -> None:
        self.steps += 1
        if self.steps == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
