"""`RunContext`: what all parts of a run share, and the steps that more than one of them takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .budget import Budget, Ledger
from .calibration import Calibration
from .contact import Contact
from .options import Options
from .state import JobEntry, RunState


@dataclass(frozen=True, eq=False)
class RunContext:
    """A run's state, its provider, and what the backend decides for all its runs.

    Attributes:
        state: What the run knows of its jobs.
        contact: The provider, whose answers are checked.
        options: Those of the backend.
        layout: Returns the qubits to use by a calibration, without some.
        budget: The backend's budget; None without one.
        ledger: Where the run's jobs are entered; None without a budget.
    """

    state: RunState
    contact: Contact
    options: Options
    layout: Callable[[Calibration, frozenset[int]], tuple[int, ...]]
    budget: Budget | None = None
    ledger: Ledger | None = None

    def update_ledger(self, *entries: JobEntry, may_lower: bool = True) -> None:
        """Enter what jobs cost at most as of now.

        Args:
            *entries: Which jobs.
            may_lower: Whether a cost that is not final may be lower than what is entered.
        """
        state = self.state
        if self.ledger is not None:
            costs = {
                entry.key: (state.commitment(entry), may_lower or state.is_final(entry))
                for entry in entries
            }
            self.ledger.enter(state.run_id, costs)

    def adopt(self, entry: JobEntry, found: Sequence[str]) -> None:
        """Take the first of the jobs that were found by an entry's tag; others are duplicates."""
        if entry.identity is None:
            self.state.write("submitted", key=entry.key, id=found[0], adopted=True)
        self.state.write("unsure", key=entry.key, reason="adopted by its tag")
        self.add_duplicates(entry, found)
        self.update_ledger(entry)

    def add_duplicates(self, entry: JobEntry, found: Sequence[str]) -> None:
        """Record the ids among those found that no record of the entry has yet."""
        for identity in found:
            if identity not in entry.identities:
                self.state.write("stray", key=entry.key, id=identity)

    def record_usage(self, entry: JobEntry) -> bool:
        """Record what was billed for a job; return whether everything that it costs is final."""
        if not self.contact.provider.bills:
            return True
        for identity in entry.identities:
            if identity not in self.state.usage:
                seconds = self.contact.usage(identity)
                if seconds is not None:
                    self.state.write("usage", id=identity, seconds=seconds)
        self.update_ledger(entry)
        return self.state.is_final(entry)
