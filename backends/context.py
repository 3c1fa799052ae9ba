"""`RunContext`: the objects that all parts of a run share, and their common steps."""

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
    """A run's state and its provider, and the settings of the backend for all of its runs.

    Attributes:
        state: The state of the run's jobs.
        contact: The provider, whose answers are checked.
        options: The options of the backend.
        layout: A function of a calibration and of qubits to leave out that returns the qubits to
            use.
        budget: The backend's budget; None without one.
        ledger: The ledger for the run's jobs; None without a budget.
    """

    state: RunState
    contact: Contact
    options: Options
    layout: Callable[[Calibration, frozenset[int]], tuple[int, ...]]
    budget: Budget | None = None
    ledger: Ledger | None = None

    def update_ledger(self, *entries: JobEntry, may_lower: bool = True) -> None:
        """Enter the most that jobs cost, as known now.

        Args:
            *entries: The jobs.
            may_lower: Whether a cost that is not final may be lower than the entered one.
        """
        state = self.state
        if self.ledger is not None:
            costs = {
                entry.key: (state.commitment(entry), may_lower or state.is_final(entry))
                for entry in entries
            }
            self.ledger.enter(state.run_id, costs)

    def adopt(self, entry: JobEntry, found: Sequence[str]) -> None:
        """Take the first of the jobs found by an entry's tag; the others are duplicates."""
        if entry.identity is None:
            self.state.write("submitted", key=entry.key, id=found[0], adopted=True)
        self.state.write("unsure", key=entry.key, reason="adopted by its tag")
        self.add_duplicates(entry, found)
        self.update_ledger(entry)

    def add_duplicates(self, entry: JobEntry, found: Sequence[str]) -> None:
        """Record the ids of found jobs that no record of the entry has yet."""
        for identity in found:
            if identity not in entry.identities:
                self.state.write("stray", key=entry.key, id=identity)

    def record_usage(self, entry: JobEntry) -> bool:
        """Record the seconds billed for a job; return whether all of its costs are final."""
        if not self.contact.provider.bills:
            return True
        for identity in entry.identities:
            if identity not in self.state.usage:
                seconds = self.contact.usage(identity)
                if seconds is not None:
                    self.state.write("usage", id=identity, seconds=seconds)
        self.update_ledger(entry)
        return self.state.is_final(entry)
