"""`Queue`: plans the jobs of one call, submits them within the budget, and brings them home.

Each step is recorded before it is taken, so that the process may end anywhere. A job without an id
is looked for by its tag and is never submitted again unasked: the provider may have accepted it,
however long its index of tags takes to show it.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence

from .book import Book, Entry
from .errors import BackendError, PendingError
from .packing import Values, halves
from .planner import Planner, Site, digest_of, job_seconds
from .provider import Counts, MalformedError, UnsureError

log = logging.getLogger(__name__)

LOST_CONTACT = 20
"""Looks in a row that may go unanswered before a run gives up waiting."""


class Queue:
    """The jobs of one call of `measure`.

    Args:
        book: Of the run.
        site: Where they run.
        call: Number of the call.
        values: What it measures.
        stops: How often the run had been cancelled when it was opened; after another time nothing
            is submitted any more.
    """

    def __init__(self, book: Book, site: Site, call: int, values: Values, stops: int) -> None:
        self._book, self._site, self._call = book, site, call
        self._planner = Planner(book, site, call, values)
        self._contact, self._options, self._stops = site.contact, site.options, stops
        self._given_up: set[str] = set()
        self._searches: dict[str, tuple[int, float]] = {}
        self._garbled: dict[str, int] = {}
        self._suspect: set[str] = set()
        self._silent = 0

    def work(self) -> None:
        """Run what is missing and return when nothing is left that could still come."""
        self._ask_what_is_there()
        self._planner.plan_values(self._planner.missing())
        while True:
            self._submit_waiting()
            flying = [entry for entry in self._planner.jobs() if self._is_flying(entry)]
            if not flying:
                break
            if any([self._look(entry) for entry in flying]):
                continue
            if not self._options.wait:
                raise PendingError(
                    tuple(e.identity for e in flying if e.identity is not None),
                    tuple(e.tag for e in flying if e.identity is None),
                )
            time.sleep(self._options.poll_seconds)
        self._count_strangers()
        self.settle()

    def settle(self) -> None:
        """Record usage that has become final, and cancel strays."""
        for key, entry in list(self._book.unsettled.items()):
            if entry.state not in ("done", "failed", "cancelled", "replaced", "abandoned"):
                continue
            alone = not entry.unsure or self._collect_strays(entry)
            settled = self._bill(entry) if entry.identities else not entry.is_unsure
            if settled and alone:
                del self._book.unsettled[key]

    def _is_flying(self, entry: Entry) -> bool:
        """Whether its result may still come."""
        return entry.state == "submitted" or (
            (entry.state == "intent" and entry.key not in self._given_up)
            or (entry.state == "planned" and entry.key in self._suspect)
        )

    # submitting

    def _submit_waiting(self) -> None:
        self._recognise()
        waiting = [e for e in self._planner.jobs() if e.state == "planned" or self._died(e)]
        for entry in waiting:
            others = (other for other in self._planner.jobs() if other is not entry)
            flying = sum(map(self._is_flying, others))
            if flying >= self._options.max_pending:
                return
            if entry.key in self._suspect:
                continue
            if entry.state == "planned" and self._planner.is_stale(entry):
                self._planner.replan()
                return self._submit_waiting()
            if not (self._fits(entry) and self._submit(entry)):
                return

    def _died(self, entry: Entry) -> bool:
        """Whether it ended with the process that submitted it, as the jobs of an emulator do."""
        return entry.state == "intent" and not self._contact.provider.durable

    def _fits(self, entry: Entry) -> bool:
        """Whether account and budget allow a job; it is then entered into the ledger."""
        return self._account_has(entry) and self._budget_has(entry)

    def _account_has(self, entry: Entry) -> bool:
        """Whether the account has the time: on an exhausted one jobs would queue for ever."""
        if not self._contact.provider.bills:
            return True
        is_first = not any(other.identities for other in self._planner.jobs())
        waiting = [e for e in self._planner.jobs() if e.state == "planned"] if is_first else [entry]
        needed = sum(job_seconds(self._planner.request(e).executions) for e in waiting)
        left = self._contact.account_seconds()
        if left is None or needed <= left:
            return True
        return self._refuse(
            f"{'The jobs' if is_first else f'Job {entry.key}'} would take about {needed:.0f} s, "
            f"but {left:.0f} s are left on the account's instance",
            "Wait until it has time again, or name another instance.",
        )

    def _budget_has(self, entry: Entry) -> bool:
        budget, ledger = self._site.budget, self._site.ledger
        if budget is None or ledger is None:
            return True
        if budget.reserve(ledger, self._book.run, entry.key, entry.reserve):
            return True
        return self._refuse(
            f"Job {entry.key} reserves {entry.reserve} s, but {max(budget.left, 0):.0f} s of the "
            f"budget are left",
            "Raise budget_seconds, or use fewer shots or values.",
        )

    def _refuse(self, found: str, advice: str) -> bool:
        """Say once that a job is not submitted; an error where none of the run ever was."""
        text = f"{found}, so it was not submitted."
        if not any(other.identities for other in self._book.entries):
            raise BackendError(f"{text} {advice}")
        if text not in self._book.notes:
            log.warning("%s", text)
        self._book.note(text)
        return False

    def _submit(self, entry: Entry) -> bool:
        """Submit a job; False if the run was cancelled in the meantime."""
        job = self._planner.request(entry)
        if digest_of(job) != entry.digest:
            raise BackendError(
                f"Job {entry.key} of the store was planned for other angles, circuits or a "
                "backend with other instructions. Open its own run, or start a new one."
            )
        if not self._announce(entry):
            return False
        try:
            identity = self._contact.submit(job)
            if any(identity in e.identities for e in self._book.entries if e is not entry):
                raise UnsureError(f"The id {identity!r} is that of another job of the run.")
        except UnsureError as error:
            log.warning("Submitting job %s: %s", entry.key, error)
            self._book.write("unsure", key=entry.key, reason=str(error))
        except BackendError as error:
            self._book.write("failed", key=entry.key, cause="refused", reason=str(error))
            self._enter(entry)
            raise
        else:
            self._book.write("submitted", key=entry.key, id=identity)
        return True

    def _announce(self, entry: Entry) -> bool:
        """Record that a job is about to be submitted, unless the run was cancelled meanwhile."""
        if not self._contact.provider.durable:
            # it cannot outlive this process, so nobody will ever have to look for it
            return self._book.stops == self._stops
        if self._book.write(
            "intent", when=lambda: self._book.stops == self._stops, key=entry.key, since=time.time()
        ):
            return True
        self._enter(entry)
        self._book.note("The run was cancelled while it waited; the rest was not submitted.")
        return False

    # what nobody here has an id of

    def _ask_what_is_there(self) -> None:
        """Ask for all jobs of a run that is opened again, before anything is submitted.

        The store may be an older copy, or the process may have ended before it had written an id.
        """
        book = self._book
        done = not self._planner.missing().size and not any(
            entry.state in ("planned", "intent") for entry in self._planner.jobs()
        )
        if book.is_new or done or not self._contact.provider.durable:
            return
        if book.known is None:
            mine = {i for entry in book.entries for i in entry.identities}
            book.known = {}
            for identity, tags in self._contact.insist_on_jobs(book.tag):
                for tag in set(tags) - {book.tag} if identity not in mine else ():
                    book.known.setdefault(tag, []).append(identity)
        if self._site.ledger is not None:
            # reserved for, and not known to be submitted: the store may be older than the ledger
            reserved = {k for k, s in self._site.ledger.of_run(book.run).items() if s}
            self._suspect = reserved - {k for k, e in book.jobs.items() if e.state != "planned"}
        self._recognise()

    def _recognise(self) -> None:
        """Adopt the jobs that the provider had already for entries of this call."""
        for entry in self._planner.jobs() if self._book.known else ():
            found = (self._book.known or {}).pop(entry.tag, [])
            if found:
                self._adopt(entry, found)

    def _count_strangers(self) -> None:
        """Cancel and count jobs of this call that are planned otherwise by now."""
        for tag in [t for t in self._book.known or () if _call_of(t, self._book.tag) == self._call]:
            for identity in (self._book.known or {}).pop(tag):
                reserve = math.ceil(self._options.margin * self._options.job_seconds)
                self._book.write("stranger", id=identity, reserve=reserve)
                self._contact.cancel_quietly(identity)

    def _adopt(self, entry: Entry, found: Sequence[str]) -> None:
        """Take a job that was found by its tag for the entry's own; others are strays."""
        if entry.identity is None:
            self._book.write("submitted", key=entry.key, id=found[0], adopted=True)
            self._searches.pop(entry.key, None)
        self._book.write("unsure", key=entry.key, reason="adopted by its tag")
        for identity in set(found) - {entry.identity}:
            self._book.write("stray", key=entry.key, id=identity)
        self._collect_strays(entry)
        self._enter(entry)

    def _search(self, entry: Entry) -> bool:
        """Look for a job that went unanswered; True where something changed."""
        try:
            found = self._contact.jobs(entry.tag)
        except UnsureError as error:
            log.warning("Looking for job %s: %s", entry.key, error)
        else:
            if found:
                self._adopt(entry, found)
                return True
        if not self._searched_enough(entry):
            return False
        if entry.state == "planned":
            self._suspect.discard(entry.key)
            return True
        self._given_up.add(entry.key)
        self._book.note(
            f"Job {entry.key} was submitted without an answer and was not found. It may have been "
            "accepted, so its reservation stays and it is not submitted again by itself. Open the "
            "run again to look for it, or resume with resubmit=True (qkan collect --resubmit) to "
            "submit it anew."
        )
        return True

    def _searched_enough(self, entry: Entry) -> bool:
        """Whether a job was looked for often and long enough, whatever the clock does."""
        looks, first = self._searches.get(entry.key, (0, time.monotonic()))
        self._searches[entry.key] = (looks + 1, first)
        age = time.monotonic() - first
        if entry.since and entry.identity is None:
            # one that had an id may be lost for a moment long after it was submitted
            age = max(age, time.time() - entry.since)
        return looks >= self._options.retries and age >= self._options.search_seconds

    def _collect_strays(self, entry: Entry) -> bool:
        """Cancel and count what the provider accepted a second time; True if it answered."""
        try:
            for identity in self._contact.jobs(entry.tag):
                if identity not in entry.identities:
                    self._book.write("stray", key=entry.key, id=identity)
            for identity in entry.strays:
                if identity not in self._book.usage:
                    self._contact.cancel(identity)
        except UnsureError as error:
            log.warning("Looking for duplicates of job %s: %s", entry.key, error)
            return False
        return True

    # bringing home

    def _look(self, entry: Entry) -> bool:
        """Look at a job; True where something changed."""
        if entry.identity is None:
            return self._search(entry)
        try:
            changed = self._take_in(entry, entry.identity)
        except UnsureError as error:
            return self._went_silent(error)
        except MalformedError as error:
            self._garbled[entry.key] = self._garbled.get(entry.key, 0) + 1
            if self._garbled[entry.key] <= self._options.retries:
                # the answer may have been garbled on its way, and the job is paid for
                return self._went_silent(UnsureError(str(error)))
            self._book.write(
                "note", blobs={f"quarantine-{entry.key}.txt": error.raw.encode()},
                text=f"The result of job {entry.key} made no sense and was set aside.",
            )  # fmt: skip
            self._fail(entry, "system", str(error))
            changed = True
        self._silent = 0
        if changed:
            self._bill(entry)
        return changed

    def _take_in(self, entry: Entry, identity: str) -> bool:
        """Record what has become of a job; False while it is on its way."""
        status = self._contact.status(identity)
        lost = status.state == "lost"
        if not lost:
            self._searches.pop(entry.key, None)
        if lost and not self._contact.provider.durable:
            return self._book.write("lost", key=entry.key)
        if status.state == "queued" or (lost and not self._searched_enough(entry)):
            if status.seconds > self._book.partial.get(identity, 0.0):
                self._book.write("partial", id=identity, seconds=status.seconds)
                self._enter(entry)
            return False
        if status.state == "done":
            self._book.finish(entry, self._counts(entry, identity))
        elif status.state == "cancelled":
            self._book.write("cancelled", key=entry.key, reason=status.reason)
        else:
            self._fail(entry, status.cause, status.reason or "The provider lost it.")
        return True

    def _counts(self, entry: Entry, identity: str) -> list[Counts]:
        return self._contact.counts(identity, self._planner.request(entry))

    def _went_silent(self, error: UnsureError) -> bool:
        self._silent += 1
        if self._silent > LOST_CONTACT:
            raise BackendError(
                f"No answer after {LOST_CONTACT} looks: {error} The jobs stay in the queue; open "
                "the run again to collect them."
            ) from None
        return False

    def _fail(self, entry: Entry, cause: str, reason: str) -> None:
        """Record a failure and plan what may mend it."""
        log.warning("Job %s failed: %s", entry.key, reason)
        self._book.write("failed", key=entry.key, cause=cause, reason=reason)
        if cause == "time" and entry.rows > 1:
            self._planner.plan(halves(entry.pieces), entry.layout, entry.attempt)
        elif cause != "user" and entry.attempt < self._options.retries:
            self._planner.plan([entry.pieces], entry.layout, entry.attempt + 1)
        else:
            self._book.note(f"Job {entry.key} failed for good: {reason}")

    def _bill(self, entry: Entry) -> bool:
        """Record what was billed; True when all of it is final."""
        if not self._contact.provider.bills:
            return True
        for identity in entry.identities:
            if identity in self._book.usage:
                continue
            try:
                seconds = self._contact.usage(identity)
            except UnsureError as error:
                log.warning("Asking for the usage of job %s: %s", entry.key, error)
                continue
            if seconds is not None:
                self._book.write("usage", id=identity, seconds=seconds)
        self._enter(entry)
        return self._book.is_final(entry)

    def _enter(self, entry: Entry) -> None:
        """Enter into the ledger what a job costs at most as of now."""
        if self._site.ledger is not None:
            seconds = self._book.commitment(entry)
            self._site.ledger.settle(self._book.run, entry.key, seconds)


def _call_of(tag: str, run_tag: str) -> int | None:
    """The number of the call in a job's tag."""
    number = tag.removeprefix(f"{run_tag}-").partition(".")[0]
    return int(number) if number.isdigit() else None
