"""`Store`: a directory that survives the process, its power supply and its editor.

A log of records, one JSON object a line, each fsynced before anything that depends on it happens
and each with a checksum that chains it to the one before; results in files of their own, written
beside their place and renamed into it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from .errors import BackendError

Record = dict[str, Any]


class Store:
    """An append-only log and its result files, locked while it is open.

    Args:
        path: The directory; made if absent.

    Raises:
        BackendError: Another process holds it, or a record was altered.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     store = Store(Path(folder))
        ...     store.append({"kind": "note", "text": "first"})
        ...     store.close()
        ...     reopened = Store(Path(folder))
        ...     kinds = [record["kind"] for record in reopened.records]
        ...     reopened.close()
        >>> kinds
        ['note']
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(path / "lock")
        try:
            self.records, self._chain = self._read()
            self._log: IO[bytes] = (path / "log.jsonl").open("ab")
            _sync_folder(path)
        except BaseException:
            self._lock.close()
            raise

    def append(self, record: Record) -> None:
        """Add a record; it is on the disk when this returns."""
        line, self._chain = _sealed(record, self._chain)
        self._log.write(line)
        self._log.flush()
        os.fsync(self._log.fileno())
        self.records.append(record)

    def keep(self, name: str, arrays: Mapping[str, NDArray[np.generic]]) -> str:
        """Write arrays into a file of their own and return its checksum."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **dict(arrays))  # type: ignore[arg-type]
        return self.keep_text(name, buffer.getvalue())

    def keep_text(self, name: str, content: bytes) -> str:
        """Write bytes into a file of their own, whole or not at all, and return its checksum."""
        target = self.path / name
        draft = target.with_name(target.name + ".part")
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target)
        _sync_folder(self.path)
        return hashlib.sha256(content).hexdigest()

    def load(self, name: str, checksum: str) -> dict[str, NDArray[np.generic]]:
        """Read arrays back.

        Raises:
            BackendError: The file is gone or is not what was written.
        """
        target = self.path / name
        try:
            content = target.read_bytes()
        except FileNotFoundError:
            raise BackendError(f"{target} is missing; restore it from a copy.") from None
        if hashlib.sha256(content).hexdigest() != checksum:
            raise BackendError(
                f"{target} is not what was written there; restore it from a copy, or start a run "
                "in another directory."
            )
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            return {key: file[key] for key in file.files}

    def close(self) -> None:
        """Release the lock."""
        self._log.close()
        self._lock.close()

    def _read(self) -> tuple[list[Record], str]:
        """All records; the torn end of a write that was cut off is removed."""
        log = self.path / "log.jsonl"
        content = log.read_bytes() if log.exists() else b""
        whole, _, torn = content.rpartition(b"\n")
        if torn:
            with log.open("r+b") as file:
                file.truncate(len(whole) + 1 if whole else 0)
                file.flush()
                os.fsync(file.fileno())
        chain = ""
        records = []
        for number, line in enumerate(whole.split(b"\n") if whole else [], start=1):
            try:
                sealed = json.loads(line)
                record = sealed["record"]
                chain = _seal(record, chain)
                intact = chain == sealed["seal"]
            except (ValueError, KeyError, TypeError):
                intact = False
            if not intact:
                raise BackendError(
                    f"{log}, line {number}, is not what was written there, so what was paid for "
                    "is unsure. Restore the file from a copy, or start a run in another directory."
                )
            records.append(record)
        return records, chain


class Memory(Store):
    """The same interface where nothing is kept: an emulator's run without a directory."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self._files: dict[str, dict[str, NDArray[np.generic]]] = {}

    def append(self, record: Record) -> None:
        """Remember a record."""
        self.records.append(record)

    def keep(self, name: str, arrays: Mapping[str, NDArray[np.generic]]) -> str:
        """Remember arrays."""
        self._files[name] = dict(arrays)
        return ""

    def keep_text(self, name: str, content: bytes) -> str:
        """Nothing is kept."""
        return ""

    def load(self, name: str, checksum: str) -> dict[str, NDArray[np.generic]]:
        """Arrays as they were given."""
        return self._files[name]

    def close(self) -> None:
        """Nothing is held."""


def array_to_json(array: NDArray[np.int64]) -> dict[str, Any]:
    """A small integer array as JSON values."""
    return {"shape": list(array.shape), "data": array.ravel().tolist()}


def array_from_json(data: Mapping[str, Any]) -> NDArray[np.int64]:
    """The array that `array_to_json` described."""
    return np.array(data["data"], dtype=np.int64).reshape(data["shape"])


def _seal(record: Record, chain: str) -> str:
    text = chain + json.dumps(record, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _sealed(record: Record, chain: str) -> tuple[bytes, str]:
    seal = _seal(record, chain)
    return json.dumps({"record": record, "seal": seal}, sort_keys=True).encode() + b"\n", seal


def _locked(path: Path) -> IO[bytes]:
    """The lock file, held until it is closed or the process ends, however it ends."""
    file = path.open("ab")
    try:
        if os.name == "posix":
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
    except OSError:
        file.close()
        raise BackendError(
            f"Another process works in {path.parent}. Wait until it ends, or use another directory."
        ) from None
    return file


def _sync_folder(path: Path) -> None:
    if os.name == "posix":
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
