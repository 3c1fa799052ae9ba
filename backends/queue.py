"""`Queue`: plans the jobs of one call, submits them within the budget, collects their results.

Each step is recorded before it is taken, so that the process may end at any moment. A job without
an id is looked for by its tag and is never submitted again unless a person asks for it, since the
provider may have accepted it, however long its index of tags takes to show it.
"""

from __future__ import annotations

import logging
import math
import time

from .context import RunContext
from .errors import BackendError, PendingError
from .packing import Values, into_jobs
from .planner import Planner, digest_of, job_seconds
from .provider import MalformedError, UnsureError
from .state import JobEntry

log = logging.getLogger(__name__)

LOST_CONTACT = 20
"""The number of requests in a row without an answer after which a run stops waiting."""


class Queue:
    """The jobs of one call of `measure`.

    Args:
        context: The context of the run.
        call: The number of the call.
        values: The values that it measures.
        cancellations: `RunState.cancellations` when the run was opened; after that changes, nothing
            more is submitted.
    """

    def __init__(self, context: RunContext, call: int, values: Values, cancellations: int) -> None:
        self._context, self._call, self._cancellations = context, call, cancellations
        self._state, self._contact = context.state, context.contact
        self._options, self._provider = context.options, context.contact.provider
        self._planner = Planner(context, call, values)
        self._given_up: set[str] = set()
        self._searches: dict[str, tuple[int, float]] = {}
        self._malformed: dict[str, int] = {}
        self._maybe_submitted: set[str] = set()
        self._unanswered = 0

    def work(self) -> None:
        """Run what is missing, and return when no more results can come."""
        self._look_for_earlier_jobs()
        self._planner.plan_values(self._planner.missing())
        while True:
            self._submit_planned()
            awaited = [entry for entry in self._planner.jobs() if self._is_awaited(entry)]
            if not awaited:
                break
            if any([self._look(entry) for entry in awaited]):
                continue
            if not self._options.wait:
                raise PendingError(
                    tuple(e.identity for e in awaited if e.identity is not None),
                    tuple(e.tag for e in awaited if e.identity is None),
                )
            time.sleep(self._options.poll_seconds)
        self._count_jobs_without_a_plan()
        self._close_costs()

    def _close_costs(self) -> None:
        """Record usage that has become final, and cancel duplicates."""
        for key, entry in list(self._state.open_costs.items()):
            if entry.is_live and entry.state != "done":
                continue
            answered = not entry.unsure or self._cancel_duplicates(entry)
            if entry.identities:
                final = self._context.record_usage(entry)
            else:
                final = not entry.is_unsure
            if final and answered:
                del self._state.open_costs[key]

    def _is_awaited(self, entry: JobEntry) -> bool:
        """Whether the result of a job may still come."""
        return entry.state == "submitted" or (
            (entry.state == "intent" and entry.key not in self._given_up)
            or (entry.state == "planned" and entry.key in self._maybe_submitted)
        )

    # submitting

    def _submit_planned(self) -> None:
        self._adopt_earlier_jobs()
        # a job that an emulator announced has ended with that process
        states = ("planned",) if self._provider.durable else ("planned", "intent")
        for entry in [e for e in self._planner.jobs() if e.state in states]:
            others = (other for other in self._planner.jobs() if other is not entry)
            if sum(map(self._is_awaited, others)) >= self._options.max_pending:
                return
            if entry.key in self._maybe_submitted:
                continue
            if entry.state == "planned" and self._planner.is_stale(entry):
                self._planner.replan()
                return self._submit_planned()
            if not (self._account_has(entry) and self._budget_has(entry) and self._submit(entry)):
                return

    def _account_has(self, entry: JobEntry) -> bool:
        """Whether the account has the time; on an exhausted one, jobs would queue forever."""
        if not self._provider.bills:
            return True
        is_first = not any(other.identities for other in self._planner.jobs())
        asked = [e for e in self._planner.jobs() if e.state == "planned"] if is_first else [entry]
        needed = sum(job_seconds(self._planner.request(e).executions) for e in asked)
        left = self._contact.account_seconds()
        if left is None or needed <= left:
            return True
        return self._refuse(
            f"{'The jobs' if is_first else f'Job {entry.key}'} would take about {needed:.0f} s, "
            f"but {left:.0f} s are left on the account's instance",
            "Wait until it has time again, or name another instance.",
        )

    def _budget_has(self, entry: JobEntry) -> bool:
        """Whether the budget allows a job, which is then entered into the ledger."""
        budget, ledger = self._context.budget, self._context.ledger
        if budget is None or ledger is None:
            return True
        if budget.reserve(ledger, self._state.run_id, entry.key, entry.reserve):
            return True
        return self._refuse(
            f"Job {entry.key} reserves {entry.reserve} s, but {max(budget.left, 0):.0f} s of the "
            f"budget are left",
            "Raise budget_seconds, or use fewer shots or values.",
        )

    def _refuse(self, found: str, advice: str) -> bool:
        """Note once that a job is not submitted, or raise if no job of the run ever was."""
        text = f"{found}, so it was not submitted."
        if not any(other.identities for other in self._state.entries):
            raise BackendError(f"{text} {advice}")
        if text not in self._state.notes:
            log.warning("%s", text)
        self._state.add_note(text)
        return False

    def _submit(self, entry: JobEntry) -> bool:
        """Submit a job; return False if the run has been cancelled in the meantime."""
        job = self._planner.request(entry)
        if digest_of(job) != entry.digest:
            raise BackendError(
                f"Job {entry.key} of the store was planned for other angles or circuits, or for a "
                "backend with other instructions. Open the run that it belongs to, or start a new "
                "one."
            )
        if not self._announce(entry):
            return False
        try:
            identity = self._contact.submit(job)
            if any(identity in e.identities for e in self._state.entries if e is not entry):
                raise UnsureError(f"The id {identity!r} belongs to another job of the run.")
        except UnsureError as error:
            log.warning("Submitting job %s: %s", entry.key, error)
            self._state.write("unsure", key=entry.key, reason=str(error))
        except BackendError as error:
            self._state.write("failed", key=entry.key, cause="refused", reason=str(error))
            self._context.update_ledger(entry)
            raise
        else:
            self._state.write("submitted", key=entry.key, id=identity)
        return True

    def _announce(self, entry: JobEntry) -> bool:
        """Record that a job is about to be submitted, unless the run has been cancelled."""

        def is_not_cancelled() -> bool:
            return self._state.cancellations == self._cancellations

        if not self._provider.durable:
            # the job cannot outlive this process, so no other process needs to look for it
            return is_not_cancelled()
        if self._state.write("intent", when=is_not_cancelled, key=entry.key, since=time.time()):
            return True
        self._context.update_ledger(entry)
        self._state.add_note("The run was cancelled while it waited; the rest was not submitted.")
        return False

    # finding jobs whose ids this store does not have

    def _look_for_earlier_jobs(self) -> None:
        """Ask for all jobs of a run that is opened again, before anything is submitted.

        The store may be an older copy, or the process may have ended before it had written an id.
        """
        state = self._state
        is_complete = not self._planner.missing().size and not any(
            entry.state in ("planned", "intent") for entry in self._planner.jobs()
        )
        if state.is_new or is_complete or not self._provider.durable:
            return
        if state.at_provider is None:
            known = {i for entry in state.entries for i in entry.identities}
            state.at_provider = {}
            for identity, tags in self._contact.tagged_or_error(state.tag).items():
                for tag in set(tags) - {state.tag} if identity not in known else ():
                    state.at_provider.setdefault(tag, []).append(identity)
        if self._context.ledger is not None:
            # if seconds are reserved for a job that was not submitted according to the store, the
            # store may be older than the ledger
            reserved = {k for k, s in self._context.ledger.of_run(state.run_id).items() if s}
            begun = {key for key, entry in state.jobs.items() if entry.state != "planned"}
            self._maybe_submitted = reserved - begun
        self._adopt_earlier_jobs()

    def _adopt_earlier_jobs(self) -> None:
        """Adopt the jobs that the provider has already for entries of this call."""
        for entry in self._planner.jobs() if self._state.at_provider else ():
            found = (self._state.at_provider or {}).pop(entry.tag, [])
            if found:
                self._adopt(entry, found)

    def _count_jobs_without_a_plan(self) -> None:
        """Cancel and count the provider's jobs of this call that are no longer in its plan."""
        at_provider = self._state.at_provider or {}
        for tag in [t for t in at_provider if _call_of(t, self._state.tag) == self._call]:
            for identity in at_provider.pop(tag):
                reserve = math.ceil(self._options.margin * self._options.job_seconds)
                self._state.write("stranger", id=identity, reserve=reserve)
                self._contact.attempt(f"Cancelling job {identity}", self._contact.cancel, identity)

    def _adopt(self, entry: JobEntry, found: list[str]) -> None:
        if entry.identity is None:
            self._searches.pop(entry.key, None)
        self._context.adopt(entry, found)
        self._cancel_duplicates(entry)

    def _search(self, entry: JobEntry) -> bool:
        """Look for a job without an answer; return whether something changed."""
        found = self._contact.attempt(
            f"Looking for job {entry.key}", self._contact.tagged, entry.tag
        )
        if found:
            self._adopt(entry, list(found))
            return True
        if not self._searched_enough(entry):
            return False
        if entry.state == "planned":
            self._maybe_submitted.discard(entry.key)
            return True
        self._given_up.add(entry.key)
        self._state.add_note(
            f"Job {entry.key} was submitted without an answer and was not found. It may have been "
            "accepted, so its reservation stays, and it is not submitted again automatically. Open "
            "the run again to look for it, or resume with resubmit=True (qkan collect --resubmit) "
            "to submit it again."
        )
        return True

    def _searched_enough(self, entry: JobEntry) -> bool:
        """Whether a job was looked for often and long enough, even if the clock is changed."""
        looks, first = self._searches.get(entry.key, (0, time.monotonic()))
        self._searches[entry.key] = (looks + 1, first)
        age = time.monotonic() - first
        if entry.since and entry.identity is None:
            # even long after its submission, a job with an id may be lost for a moment
            age = max(age, time.time() - entry.since)
        return looks >= self._options.retries and age >= self._options.search_seconds

    def _cancel_duplicates(self, entry: JobEntry) -> bool:
        """Cancel and record duplicates of a job; return False without an answer."""
        try:
            self._context.add_duplicates(entry, list(self._contact.tagged(entry.tag)))
            for identity in entry.duplicates:
                if identity not in self._state.usage:
                    self._contact.cancel(identity)
        except UnsureError as error:
            log.warning("Looking for duplicates of job %s: %s", entry.key, error)
            return False
        return True

    # collecting results

    def _look(self, entry: JobEntry) -> bool:
        """Ask for the state of a job; return whether something changed."""
        if entry.identity is None:
            return self._search(entry)
        try:
            changed = self._collect(entry, entry.identity)
        except UnsureError as error:
            return self._bear_silence(error)
        except MalformedError as error:
            self._malformed[entry.key] = self._malformed.get(entry.key, 0) + 1
            if self._malformed[entry.key] <= self._options.retries:
                # the answer may have been garbled in transit, and the job is paid for
                return self._bear_silence(error)
            self._state.write(
                "note", blobs={f"quarantine-{entry.key}.txt": error.raw.encode()},
                text=f"The result of job {entry.key} did not fit the job and was set aside.",
            )  # fmt: skip
            self._fail(entry, "system", str(error))
            changed = True
        self._unanswered = 0
        if changed:
            self._context.record_usage(entry)
        return changed

    def _collect(self, entry: JobEntry, identity: str) -> bool:
        """Record the outcome of a job; return False while that is open."""
        status = self._contact.status(identity)
        lost = status.state == "lost"
        if not lost:
            self._searches.pop(entry.key, None)
        if lost and not self._provider.durable:
            return self._state.write("lost", key=entry.key)
        if status.state == "queued" or (lost and not self._searched_enough(entry)):
            if status.seconds > self._state.partial_usage.get(identity, 0.0):
                self._state.write("partial", id=identity, seconds=status.seconds)
                self._context.update_ledger(entry)
            return False
        if status.state == "done":
            counts = self._contact.counts(identity, self._planner.request(entry))
            self._state.finish(entry, counts)
        elif status.state == "cancelled":
            self._state.write("cancelled", key=entry.key, reason=status.reason)
        else:
            self._fail(entry, status.cause, status.reason or "The provider lost it.")
        return True

    def _bear_silence(self, error: BackendError) -> bool:
        self._unanswered += 1
        if self._unanswered > LOST_CONTACT:
            raise BackendError(
                f"No answer after {LOST_CONTACT} requests: {error} The jobs stay in the queue; "
                "open the run again to collect their results."
            ) from None
        return False

    def _fail(self, entry: JobEntry, cause: str, reason: str) -> None:
        """Record a failure, and plan another attempt if that may help."""
        log.warning("Job %s failed: %s", entry.key, reason)
        self._state.write("failed", key=entry.key, cause=cause, reason=reason)
        if cause == "time" and entry.rows > 1:
            halves = into_jobs(entry.blocks, -(-entry.rows // 2))
            self._planner.plan(halves, entry.layout, entry.attempt)
        elif cause != "user" and entry.attempt < self._options.retries:
            self._planner.plan([entry.blocks], entry.layout, entry.attempt + 1)
        else:
            self._state.add_note(f"Job {entry.key} failed permanently: {reason}")


def _call_of(tag: str, run_tag: str) -> int | None:
    """Return the number of the call in a job's tag."""
    number = tag.removeprefix(f"{run_tag}-").partition(".")[0]
    return int(number) if number.isdigit() else None
