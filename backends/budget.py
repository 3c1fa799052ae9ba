"""`Budget`: what runs may cost together, whichever thread or process they are in.

A ledger is a database with one row for each job that was ever reserved for. A job is entered
before it is submitted, in the same transaction that checks whether it fits.
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
    """What the jobs of some runs cost at most: billed, or reserved where that is not final.

    Args:
        path: The file; made when something is entered.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._made: Database | None = None

    def total(self) -> float:
        """Seconds of all jobs."""
        if not self.path.exists():
            return 0.0
        with self._database().transaction(write=False) as step:
            (found,) = step.execute("SELECT TOTAL(seconds) FROM reservation").fetchone()
        return float(found)

    def of_run(self, run: str) -> dict[str, float]:
        """Seconds of a run's jobs."""
        if not self.path.exists():
            return {}
        with self._database().transaction(write=False) as step:
            rows = step.execute("SELECT job, seconds FROM reservation WHERE run = ?", (run,))
            return dict(rows.fetchall())

    def reserve(self, run: str, job: str, seconds: float, limit: float) -> bool:
        """Enter a job if all jobs then stay within `limit`; say whether it was entered."""
        with self._database().transaction() as step:
            (others,) = step.execute(
                "SELECT TOTAL(seconds) FROM reservation WHERE NOT (run = ? AND job = ?)",
                (run, job),
            ).fetchone()
            fits: bool = others + seconds <= limit + 1e-9
            if fits:
                step.execute(_UPSERT, (run, job, seconds))
        return fits

    def settle(self, run: str, job: str, seconds: float) -> None:
        """Enter what a job has cost, or is sure not to exceed."""
        if self.of_run(run).get(job) != seconds:
            with self._database().transaction() as step:
                step.execute(_UPSERT, (run, job, seconds))

    def enter(self, run: str, known: Mapping[str, tuple[float, bool]]) -> None:
        """Enter what a run that is opened knows: for each job the seconds, and if they are final.

        What is not final never lowers an entry: the run may have been restored from an older copy.
        """
        if not self.path.exists() and not any(seconds for seconds, _ in known.values()):
            return
        entered = self.of_run(run)
        changed = {
            job: seconds if final else max(seconds, entered.get(job, 0.0))
            for job, (seconds, final) in known.items()
        }
        changed = {job: s for job, s in changed.items() if s != entered.get(job, 0.0)}
        if changed:
            with self._database().transaction() as step:
                step.executemany(_UPSERT, [(run, job, s) for job, s in changed.items()])

    def _database(self) -> Database:
        if self._made is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._made = Database(self.path, _TABLES)
        return self._made


class Budget:
    """The seconds that all runs of a backend may cost together.

    Args:
        seconds: How many.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._ledgers: dict[Path, Ledger] = {}
        self._lock = threading.Lock()

    def join(self, path: Path) -> Ledger:
        """Count what a ledger holds from now on."""
        with self._lock:
            return self._ledgers.setdefault(path.resolve(), Ledger(path.resolve()))

    @property
    def left(self) -> float:
        """What is left after all that is billed or reserved."""
        with self._lock:
            return self.seconds - sum(ledger.total() for ledger in self._ledgers.values())

    def reserve(self, ledger: Ledger, run: str, job: str, seconds: float) -> bool:
        """Enter a job into its ledger if the budget allows it; say whether it was entered."""
        with self._lock:
            others = sum(k.total() for k in self._ledgers.values() if k is not ledger)
            return ledger.reserve(run, job, seconds, self.seconds - others)
