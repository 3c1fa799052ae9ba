"""`Contact`: a provider whose answers are checked before a run uses them.

An invalid answer raises an `UnsureError`, as if none had come; only a refusal that the provider
states itself counts as a refusal.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, get_args

import numpy as np

from .errors import BackendError
from .options import Options, finite
from .provider import (
    Counts,
    Job,
    MalformedError,
    Provider,
    RejectedError,
    State,
    Status,
    UnsureError,
)

log = logging.getLogger(__name__)

T = TypeVar("T")


class Contact:
    """The provider of a backend, as its runs see it.

    Args:
        provider: The provider.
        options: The options of the backend.
    """

    def __init__(self, provider: Provider, options: Options) -> None:
        self.provider, self._options = provider, options

    def submit(self, job: Job) -> str:
        """Submit a job and return its id.

        Raises:
            UnsureError: No valid answer came, so the job may have been accepted.
            BackendError: The job was refused.
        """
        identity = self._ask(self.provider.submit, job, refusable=True)
        if not isinstance(identity, str) or not identity:
            raise UnsureError(
                f"{self.provider.name} gave {identity!r:.80} as the id of a job, which is not an "
                "id."
            )
        return identity

    def tagged(self, tag: str) -> dict[str, tuple[str, ...]]:
        """Return the jobs with a tag: their ids, in the order of the answer, and their tags."""
        found = self._ask(self.provider.find, tag)
        try:
            jobs = {identity: tuple(tags) for identity, tags in found if tag in tags}
            makes_sense = isinstance(found, Sequence) and not isinstance(found, str | bytes)
        except (TypeError, ValueError):
            jobs, makes_sense = {}, False
        # a job without an id is still a job, so the answer does not mean that there is none
        if not makes_sense or not all(isinstance(i, str) and i for i in jobs):
            raise UnsureError(
                f"{self.provider.name} answered {found!r:.80} when asked for jobs, which is not a "
                "list of jobs."
            )
        return jobs

    def tagged_or_error(self, tag: str) -> dict[str, tuple[str, ...]]:
        """Return the jobs with a tag, with several attempts if necessary.

        Raises:
            BackendError: No answer came.
        """
        for attempt in range(self._options.retries + 1):
            if attempt:
                time.sleep(self._options.poll_seconds)
            found = self.attempt("Looking for the jobs of a run", self.tagged, tag)
            if found is not None:
                return found
        raise BackendError(
            f"{self.provider.name} does not say which jobs of this run it has, so nothing was "
            "submitted. Open the run again later."
        )

    def status(self, identity: str) -> Status:
        """Return the state of a job."""
        found = self._ask(self.provider.status, identity)
        if not isinstance(found, Status) or found.state not in get_args(State):
            raise UnsureError(
                f"{self.provider.name} says {found!r:.80} about job {identity}, which is not a "
                "state."
            )
        cause = found.cause if found.cause in ("time", "user") else "system"
        return Status(found.state, str(found.reason or ""), cause, _seconds(found.seconds) or 0.0)

    def counts(self, identity: str, job: Job) -> list[Counts]:
        """Return the counts of a finished job.

        Raises:
            MalformedError: The counts do not fit the job.
            UnsureError: No answer came.
        """
        found = self._ask(self.provider.counts, identity, job)
        shapes = [pub.turns.shape[:2] for pub in job.pubs]
        try:
            arrays = [np.asarray(array) for array in found]
            fits = [array.shape for array in arrays] == shapes and all(
                array.dtype.kind in "iu" and ((array >= 0) & (array <= job.shots)).all()
                for array in arrays
            )
        except (TypeError, ValueError):
            fits = False
        if not fits:
            raise MalformedError(
                f"The counts of job {identity} are not those of {shapes} rows and qubits with "
                f"{job.shots} shots; they were set aside.",
                repr(found),
            )
        return [array.astype(np.int64) for array in arrays]

    def usage(self, identity: str) -> float | None:
        """Return the final seconds billed for a job; None before, or without an answer."""
        what = f"Asking for the usage of job {identity}"
        return _seconds(self.attempt(what, self._ask, self.provider.usage, identity))

    def account_seconds(self) -> float | None:
        """Return the seconds left on the account; None without a limit or an answer."""
        what = "Asking for the account's time"
        return _seconds(self.attempt(what, self._ask, self.provider.seconds_left))

    def cancel(self, identity: str) -> None:
        """Cancel a job; a finished job is not affected."""
        self._ask(self.provider.cancel, identity)

    def close(self) -> None:
        """Close a batch or session, or leave it open if no answer comes."""
        self.attempt(f"Closing {self.provider.name}", self._ask, self.provider.close)

    def attempt(self, what: str, ask: Callable[..., T], *arguments: Any) -> T | None:
        """Call `ask`; without an answer, log `what` was tried and return None."""
        try:
            return ask(*arguments)
        except UnsureError as error:
            log.warning("%s: %s", what, error)
            return None

    def _ask(self, what: Callable[..., T], *arguments: Any, refusable: bool = False) -> T:
        """Ask the provider; if jobs outlive the process, any failure means that no answer came.

        A submission may be refused. For a job that was accepted, a refusal is no answer.
        """
        try:
            return what(*arguments)
        except RejectedError as error:
            if refusable:
                raise
            raise UnsureError(str(error)) from None
        except BackendError:
            raise
        except Exception as error:
            if not self.provider.durable:
                raise
            raise UnsureError(
                f"{self.provider.name} failed with {type(error).__name__}: {error}."
            ) from None


def _seconds(found: object) -> float | None:
    """Return a number of seconds, or None for anything else."""
    seconds = finite(found)
    return None if seconds is None or seconds < 0 else seconds
