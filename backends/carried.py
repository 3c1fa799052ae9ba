"""Read stores of version 0.1.0: a log of JSON lines, each with a seal, and files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from .errors import BackendError

Record = dict[str, Any]

OLD_LOG = "log.jsonl"


def read_old(folder: Path) -> tuple[list[Record], dict[str, bytes]]:
    """Return the records of the log, and the contents of their files by name.

    Raises:
        BackendError: The log or a result was altered or is missing.
    """
    records = _read(folder / OLD_LOG)
    if not records and any(folder.glob("*.npz")):
        raise BackendError(
            f"{folder / OLD_LOG} is empty, but there are results beside it, so it may have listed "
            "paid jobs. Restore it from a copy, or start a run in another directory."
        )
    blobs = {r["file"]: _result(folder, r) for r in records if r["kind"] == "done"}
    for file in [*folder.glob("angles-*.npz"), *folder.glob("quarantine-*.txt")]:
        blobs[file.name] = file.read_bytes()
    return records, blobs


def _read(log: Path) -> list[Record]:
    """Return all records, without the incomplete end that an interrupted write leaves."""
    whole, _, _ = log.read_bytes().rpartition(b"\n")
    chain, records = "", []
    for number, line in enumerate(whole.split(b"\n") if whole else [], start=1):
        try:
            sealed = json.loads(line)
            record = sealed["record"]
            text = chain + json.dumps(record, sort_keys=True)
            chain = hashlib.sha256(text.encode()).hexdigest()[:32]
            intact = chain == sealed["seal"]
        except (ValueError, KeyError, TypeError):
            intact = False
        if not intact:
            raise BackendError(
                f"{log}, line {number}, was altered, so it is not certain what was paid for. "
                "Restore the file from a copy, or start a run in another directory."
            )
        records.append(record)
    return records


def _result(folder: Path, record: Record) -> bytes:
    file = folder / str(record["file"])
    try:
        content = file.read_bytes()
    except OSError:
        raise BackendError(f"{file} is missing; restore it from a copy.") from None
    if hashlib.sha256(content).hexdigest() != record["checksum"]:
        raise BackendError(f"{file} was altered; restore it from a copy.")
    return content
