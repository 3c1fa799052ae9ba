"""Stores of version 0.1.0 are carried over once, and go on as they began."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_service import FakeService, service_backend
from paths import DATA
from stores import blobs, records

from qkan import QKANError, resume
from qkan.backends import BackendError, Task
from qkan.circuits import RX, Circuit, Encoding

OLD = DATA / "store-0.1.0"
"""A finished run of QKAN([2, 2, 1]) that version 0.1.0 wrote, on an emulator with 100 shots."""

VALUES = [0.9914644360542297, 0.254554808139801, 1.2881567478179932]
"""What version 0.1.0 gave for it."""

TASK = Task(Circuit([RX(Encoding(0))]), np.linspace(0.2, 2.9, 31)[:, None])
JOBS: dict[str, Any] = {"layout": [0, 1, 2], "job_seconds": 2.0 + 0.00035 * 8 * 32 + 1e-9}


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return Path(shutil.copytree(OLD, tmp_path / "old"))


def test_a_finished_run_gives_what_it_gave(old: Path) -> None:
    before = {file.name: file.read_bytes() for file in old.iterdir()}
    for _ in range(2):
        result = resume(old, progress=False)
        assert result.values.flatten().tolist() == VALUES and result.complete
    assert {name: (old / name).read_bytes() for name in before} == before
    assert set(blobs(old)) == {"0.0.npz", "1.0.npz", "angles-0.npz", "angles-1.npz"}
    # from now on the database is what counts
    (old / "log.jsonl").unlink()
    assert resume(old, progress=False).values.flatten().tolist() == VALUES


def test_a_torn_end_is_left_out(old: Path) -> None:
    log = old / "log.jsonl"
    log.write_bytes(log.read_bytes()[:-9])
    assert resume(old, progress=False).values.flatten().tolist() == VALUES


def test_what_was_edited_is_not_carried_over(old: Path) -> None:
    log = old / "log.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join([*lines[:2], lines[2].replace(b'"kind"', b'"kinb"'), *lines[3:]]))
    with pytest.raises(BackendError, match="line 3"):
        resume(old, progress=False)
    log.write_bytes(b"")
    with pytest.raises(BackendError, match="is empty, but there are results beside it"):
        resume(old, progress=False)
    log.write_bytes(b"".join(lines))
    (old / "0.0.npz").write_bytes(b"PK")
    with pytest.raises(BackendError, match="was altered"):
        resume(old, progress=False)
    (old / "0.0.npz").unlink()
    with pytest.raises(BackendError, match="is missing"):
        resume(old, progress=False)
    assert not (old / "run.sqlite").exists()


def as_old(folder: Path, target: Path) -> Path:
    """A run's records as version 0.1.0 would have written them."""
    target.mkdir()
    chain, lines = "", []
    for kind, record in records(folder):
        if kind == "open":
            record["format"] = 1
            record["backend"].update(folding=False, symmetric_readout=False)
        for job in record["jobs"] if kind == "plan" else ():
            del job["tag"]
        record.pop("since", None)
        if kind == "done":
            content = blobs(folder)[record["file"]]
            (target / record["file"]).write_bytes(content)
            record["checksum"] = hashlib.sha256(content).hexdigest()
        text = json.dumps(record, sort_keys=True)
        chain = hashlib.sha256((chain + text).encode()).hexdigest()[:32]
        lines.append(json.dumps({"record": record, "seal": chain}, sort_keys=True) + "\n")
    (target / "log.jsonl").write_text("".join(lines))
    return target


def test_jobs_on_their_way_are_brought_home(tmp_path: Path) -> None:
    service = FakeService(delay=10**6, submissions=["ok", "timeout accepted"], lag=10**6)
    with service_backend(service, wait=False, **JOBS).open(tmp_path / "new") as run:
        with pytest.raises(BackendError, match="in the queue"):
            run.measure([TASK])
    old = as_old(tmp_path / "new", tmp_path / "old")
    for job in service.jobs_by_id.values():
        job.tags[-1] = job.tags[-1].rpartition("-")[0]  # the tags of 0.1.0 have no digest
    service.delay, service.lag = 1, 0
    with service_backend(service, **JOBS).open(old) as run:
        (found,) = run.measure([TASK])
    assert np.isfinite(found.z).all() and len(service.jobs_by_id) == len(run.jobs) == 4
    assert run.seconds == run.committed_seconds == pytest.approx(service.billed)


@pytest.mark.parametrize("option", ["folding", "symmetric_readout"])
def test_options_that_are_gone_are_refused_in_a_sentence(old: Path, option: str) -> None:
    described = json.loads((old / "run.json").read_text())
    described["backend"]["options"][option] = True
    (old / "run.json").write_text(json.dumps(described))
    with pytest.raises(QKANError, match=f"with {option}=True, which qkan no longer has"):
        resume(old, progress=False)
    log = old / "log.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    lines[0]["record"]["backend"][option] = True
    chain = ""
    for line in lines:
        text = chain + json.dumps(line["record"], sort_keys=True)
        chain = line["seal"] = hashlib.sha256(text.encode()).hexdigest()[:32]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    described["backend"]["options"][option] = False
    (old / "run.json").write_text(json.dumps(described))
    with pytest.raises(BackendError, match=f"made with {option}=True"):
        resume(old, progress=False)
    with pytest.raises(BackendError, match=f"{option}: it no longer exists"):
        service_backend(FakeService(), **{option: True})
