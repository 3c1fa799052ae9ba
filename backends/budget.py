"""`Budget`: what runs in any thread or process may cost together.

A ledger is a database with one row for each job for which seconds were ever reserved. A job is
entered before it is submitted, in the transaction that checks whether the budget allows it.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

from .database import Database

FILE = "budget.sqlite"

_TABLES = """
CREATE TABLE reservation (run TEXT, job TEXT, seconds REAL NOT NULL, PRIMARY KEY (run, job))
"""

_UPSERT = "INSERT OR REPLACE INTO reservation VALUES (?, ?, ?)"


class Ledger:
    """The most that the jobs of some runs cost: the billed seconds, or before that the reserved
    ones.

    Args:
        path: The file, which is made when the first job is entered.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._opened: Database | None = None

    def total(self) -> float:
        """Return the seconds of all jobs."""
        return sum(seconds for _, seconds in self._rows("SELECT job, seconds FROM reservation"))

    def of_run(self, run: str) -> dict[str, float]:
        """Return the seconds of a run's jobs, by key."""
        return dict(self._rows("SELECT job, seconds FROM reservation WHERE run = ?", run))

    def reserve(self, run: str, job: str, seconds: float, limit: float) -> bool:
        """Enter a job if all jobs then stay within `limit`, and return whether it was entered."""
        with self._database().transaction() as step:
            (others,) = step.execute(
                "SELECT TOTAL(seconds) FROM reservation WHERE NOT (run = ? AND job = ?)",
                (run, job),
            ).fetchone()
            fits: bool = others + seconds <= limit + 1e-9
            if fits:
                step.execute(_UPSERT, (run, job, seconds))
        return fits

    def enter(self, run: str, costs: Mapping[str, tuple[float, bool]]) -> None:
        """Enter the most that the jobs of a run cost.

        Args:
            run: The name of the run.
            costs: For each job the seconds, and whether they may be lower than the entered ones. A
                run that was restored from an older copy must not lower a cost that it no longer
                knows.
        """
        if not self.path.exists() and not any(seconds for seconds, _ in costs.values()):
            return
        entered = self.of_run(run)
        changed = [
            (run, job, seconds)
            for job, (seconds, may_lower) in costs.items()
            if seconds > entered.get(job, 0.0) or (may_lower and seconds < entered.get(job, 0.0))
        ]
        if changed:
            with self._database().transaction() as step:
                step.executemany(_UPSERT, changed)

    def _rows(self, query: str, *values: str) -> list[tuple[str, float]]:
        if not self.path.exists():
            return []
        with self._database().transaction(write=False) as step:
            return step.execute(query, values).fetchall()

    def _database(self) -> Database:
        if self._opened is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._opened = Database(self.path, _TABLES)
        return self._opened


class Budget:
    """The seconds that all runs of a backend may cost together, over one or several ledgers.

    Args:
        seconds: The number of seconds.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._ledgers: dict[Path, Ledger] = {}
        self._lock = threading.Lock()

    def join(self, path: Path) -> Ledger:
        """Include the ledger in a file from now on."""
        with self._lock:
            return self._ledgers.setdefault(path.resolve(), Ledger(path.resolve()))

    @property
    def left(self) -> float:
        """The seconds that are left after all billed and reserved ones."""
        with self._lock:
            return self.seconds - sum(ledger.total() for ledger in self._ledgers.values())

    def reserve(self, ledger: Ledger, run: str, job: str, seconds: float) -> bool:
        """Enter a job into its ledger if the budget allows it; return whether it was entered."""
        with self._lock:
            others = sum(k.total() for k in self._ledgers.values() if k is not ledger)
            return ledger.reserve(run, job, seconds, self.seconds - others)
