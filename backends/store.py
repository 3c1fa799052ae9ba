"""`Store`: the data that a run keeps in its directory, in a database.

The database has a log of records and named blobs. Every record has a seal, a checksum that depends
on the record before, and every blob has a checksum, so that an altered store is detected.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sqlite3
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from .carried import OLD_LOG, read_old
from .database import Database
from .errors import BackendError

Record = dict[str, Any]
Arrays = Mapping[str, NDArray[np.generic]]

FILE = "run.sqlite"

_TABLES = """
CREATE TABLE record (number INTEGER PRIMARY KEY, content TEXT NOT NULL, seal TEXT NOT NULL);
CREATE TABLE blob (name TEXT PRIMARY KEY, content BLOB NOT NULL, checksum TEXT NOT NULL)
"""

_TRACES = ("run.json", "budget.sqlite", "angles-*.npz", "[0-9]*.[0-9]*.npz")
"""Files beside a run's database, which show that there was a run if the database is lost."""


class Store:
    """An append-only log and blobs, in a database or in memory.

    Args:
        path: The directory, which is made if it does not exist. None keeps everything in memory.
        working: Whether this process works on the run, which only one process may do at a time.
            Others may read it and append to it at any moment.

    Raises:
        BackendError: Another process works on the run, or the store is damaged or lost.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     store = Store(Path(folder))
        ...     with store.transaction() as step:
        ...         number = store.append(step, {"kind": "note", "text": "first"})
        ...     store.close()
        ...     reopened = Store(Path(folder))
        ...     with reopened.transaction(write=False) as step:
        ...         kinds = [record["kind"] for number, record in reopened.news(step)]
        ...     reopened.close()
        >>> kinds
        ['note']
    """

    def __init__(self, path: Path | None, *, working: bool = True) -> None:
        self.path = path
        self._lock: IO[bytes] | None = None
        self._seen, self._chain = 0, ""
        if path is not None:
            make_folder(path)
            self._lock = _locked(path / "lock") if working else None
        try:
            self._database = self._opened()
        except BaseException:
            self.close()
            raise

    def transaction(self, *, write: bool = True) -> AbstractContextManager[sqlite3.Connection]:
        """Open a transaction: everything that is written in it is kept when it ends, or nothing."""
        return self._database.transaction(write=write)

    def news(self, step: sqlite3.Connection) -> Iterator[tuple[int, Record]]:
        """Yield the records, with their numbers, that this object has not yielded yet.

        Raises:
            BackendError: A record was altered.
        """
        rows = step.execute(
            "SELECT number, content, seal FROM record WHERE number > ? ORDER BY number",
            (self._seen,),
        ).fetchall()
        for number, content, seal in rows:
            chain = _seal(content, self._chain)
            if chain != seal or number != self._seen + 1:
                raise BackendError(
                    f"Record {self._seen + 1} of {self._database.path} was altered, so it is not "
                    "certain what was paid for. Restore the file from a copy, or start a run in "
                    "another directory."
                )
            yield number, json.loads(content)
            # after the yield, so that a record that Ctrl-C kept from its reader is yielded again
            self._seen, self._chain = number, chain

    def append(self, step: sqlite3.Connection, record: Record) -> int:
        """Add a record and return its number."""
        last = step.execute("SELECT number, seal FROM record ORDER BY number DESC LIMIT 1")
        number, chain = last.fetchone() or (0, "")
        content = json.dumps(record, sort_keys=True)
        row = (number + 1, content, _seal(content, chain))
        step.execute("INSERT INTO record VALUES (?, ?, ?)", row)
        return int(number) + 1

    def put(self, step: sqlite3.Connection, name: str, content: bytes) -> None:
        """Keep bytes under a name."""
        row = (name, content, hashlib.sha256(content).hexdigest())
        step.execute("INSERT OR REPLACE INTO blob VALUES (?, ?, ?)", row)

    def get(self, name: str) -> bytes | None:
        """Return the bytes under a name, or None if there are none.

        Raises:
            BackendError: They were altered.
        """
        with self.transaction(write=False) as step:
            found = step.execute(
                "SELECT CAST(content AS BLOB), checksum FROM blob WHERE name = ?", (name,)
            )
            content, checksum = found.fetchone() or (None, "")
        if content is not None and hashlib.sha256(content).hexdigest() != checksum:
            raise BackendError(
                f"{name} of {self._database.path} was altered; restore the file from a copy, or "
                "start a run in another directory."
            )
        return content

    def copy(self, folder: Path) -> None:
        """Write a copy into a directory; it is complete even while the run continues."""
        make_folder(folder)
        self._database.copy(folder / FILE)

    def close(self) -> None:
        """Release the run for other processes."""
        if self._lock is not None:
            self._lock.close()

    def _opened(self) -> Database:
        if self.path is None:
            return Database(None, _TABLES)
        file = self.path / FILE
        if file.exists() and file.stat().st_size:
            return Database(file, _TABLES)
        if (self.path / OLD_LOG).exists():
            return self._carried_over(file)
        traces = [found.name for name in _TRACES for found in self.path.glob(name)]
        if traces:
            state = "is empty" if file.exists() else "is missing"
            raise BackendError(
                f"{file} {state}, but {traces[0]} beside it belongs to a run, so it may have "
                "listed paid jobs. Restore it from a copy, or name another directory."
            )
        return Database(file, _TABLES)

    def _carried_over(self, file: Path) -> Database:
        """Make a database of all that version 0.1.0 wrote into files, which do not change."""
        records, blobs = read_old(file.parent)
        draft = file.with_name(f"{file.name}.part")
        draft.unlink(missing_ok=True)
        with Database(draft, _TABLES).transaction() as step:
            for record in records:
                self.append(step, record)
            for name, content in blobs.items():
                self.put(step, name, content)
        os.replace(draft, file)
        return Database(file, _TABLES)


def make_folder(folder: Path) -> None:
    """Make a folder if it does not exist.

    Raises:
        BackendError: The folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise BackendError(f"The folder cannot be made ({error}). Name another one.") from None


def to_bytes(arrays: Arrays) -> bytes:
    """Return arrays as the bytes of an npz file."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **dict(arrays))  # type: ignore[arg-type]
    return buffer.getvalue()


def from_bytes(content: bytes, what: str) -> dict[str, NDArray[Any]]:
    """Return the arrays that `to_bytes` wrote.

    Raises:
        BackendError: The bytes are not an npz file; `what` names them.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except (ValueError, EOFError, OSError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise BackendError(
            f"{what} is damaged ({error}); restore it from a copy, or start a run in another "
            "directory."
        ) from None


def _seal(content: str, chain: str) -> str:
    return hashlib.sha256((chain + content).encode()).hexdigest()[:32]


def _locked(path: Path) -> IO[bytes] | None:
    """Return the lock file, which is locked until it is closed or the process ends.

    If the folder cannot be written to, no process can work there, and nothing is locked.
    """
    try:
        file = path.open("ab")
    except OSError:
        return None
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
            f"Another process works in {path.parent}. Wait until it ends, or use another "
            "directory. Meanwhile you can see the run's status and cancel its jobs."
        ) from None
    return file
