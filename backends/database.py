"""`Database`: an SQLite file, or a database in memory, that is changed only by transactions.

Each transaction opens and closes its own connection, so that no connection is shared by threads or
survives a fork, and no lock is held while a service is asked. The rollback journal is used, since a
write-ahead log needs shared memory, which network file systems lack, and since a copy of a file in
that mode may lack the latest changes.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

from .errors import BackendError

APPLICATION = 0x716B616E
"""The mark of a database of this package: "qkan" in ASCII."""

_HINTS = {
    "locked": "Another process has been writing for a minute; try again.",
    "full": "Make room on the disk, and open the run again.",
    "readonly": "Make the folder writable, and open the run again.",
    "unable to open": "Make the folder writable, and open the run again.",
    "disk I/O": "Make sure that the disk works and has room, and open the run again.",
    "already exists": "Name another directory.",
}

FORMAT = 2
"""The version of the tables; 1 was the log of version 0.1.0, which was not a database."""

BUSY_SECONDS = 60.0
"""The time that a transaction waits for that of another process, in milliseconds."""


class Database:
    """A file of tables that any number of threads and processes may use at once.

    Args:
        path: The file, in an existing folder; it is made if it does not exist. None keeps
            everything in memory.
        tables: The SQL that makes the tables.

    Raises:
        BackendError: The file is damaged, not a database of this package, or of a newer version.
    """

    def __init__(self, path: Path | None, tables: str) -> None:
        self.path = path
        self._memory: sqlite3.Connection | None = None
        # the one connection of a database in memory is shared by all threads
        self._lock = threading.RLock() if path is None else contextlib.nullcontext()
        if path is None:
            self._memory = sqlite3.connect(
                ":memory:", isolation_level=None, check_same_thread=False
            )
        if self._is_empty():
            # another process may be making it at the same moment
            with self.transaction() as connection:
                if not _version(connection)[0]:
                    for statement in filter(str.strip, tables.split(";")):
                        connection.execute(statement)
                    connection.execute(f"PRAGMA application_id = {APPLICATION}")
                    connection.execute(f"PRAGMA user_version = {FORMAT}")

    @contextlib.contextmanager
    def transaction(self, *, write: bool = True) -> Iterator[sqlite3.Connection]:
        """Open a transaction: all of its changes are on the disk when it ends, or none.

        Args:
            write: Whether it may write. If so, it waits for other writers at its beginning, so that
                what it reads does not change before it writes.

        Raises:
            BackendError: The file cannot be read or written; the message says why.
        """
        with self._lock, _explaining(self.path), self._connected() as connection:
            connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def copy(self, target: Path) -> None:
        """Write a complete copy, even while other processes write."""
        with self._lock, _explaining(target), self._connected() as connection:
            connection.execute("VACUUM INTO ?", (str(target),))

    @contextlib.contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        if self._memory is not None:
            yield self._memory
            return
        connection = sqlite3.connect(str(self.path), timeout=BUSY_SECONDS, isolation_level=None)
        try:
            connection.execute("PRAGMA synchronous = FULL")
            yield connection
        finally:
            connection.close()

    def _is_empty(self) -> bool:
        """Whether there are no tables yet; a file with tables is checked for damage."""
        if self.path is not None and not self.path.exists():
            return True
        with self.transaction(write=False) as connection:
            application, version = _version(connection)
            if not application and not connection.execute("SELECT 1 FROM sqlite_schema").fetchall():
                return True
            if application != APPLICATION:
                raise BackendError(f"{self.path} is not a store of qkan. Name another directory.")
            if version > FORMAT:
                raise BackendError(
                    f"{self.path} was written by a newer version of qkan (format {version}; this "
                    f"one reads {FORMAT}). Update qkan, or name another directory."
                )
            found = connection.execute("PRAGMA integrity_check").fetchall()
            if found != [("ok",)]:
                raise BackendError(_damaged(self.path, found[0][0]))
        return False


def _version(connection: sqlite3.Connection) -> tuple[int, int]:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return application, version


def _damaged(path: Path | None, found: object) -> str:
    return (
        f"{path} is damaged ({found}), so it is not certain what was paid for. Restore it from a "
        "copy, or start a run in another directory."
    )


@contextlib.contextmanager
def _explaining(path: Path | None) -> Iterator[None]:
    """Turn SQLite's errors into a message that says what to do."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        for part, hint in _HINTS.items():
            if part in str(error):
                raise BackendError(f"{path}: {error}. {hint}") from error
        raise BackendError(_damaged(path, error)) from error
