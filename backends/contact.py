"""`Contact`: a provider whose every answer is checked before a run believes it.

An answer that makes no sense is an `UnsureError`, as if none had come: only a refusal that the
provider states itself counts as a refusal.
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
    """The provider of a backend, as its runs speak to it.

    Args:
        provider: The provider that is asked.
        options: Those of the backend.
    """

    def __init__(self, provider: Provider, options: Options) -> None:
        self.provider, self._options = provider, options

    def submit(self, job: Job) -> str:
        """Submit a job and return its id.

        Raises:
            UnsureError: No answer came, or none that makes sense: it may have been accepted.
            BackendError: It was refused.
        """
        identity = self._ask(self.provider.submit, job, refusable=True)
        if not isinstance(identity, str) or not identity:
            raise UnsureError(f"{self.provider.name} gave {identity!r:.80} for the id of a job.")
        return identity

    def tagged(self, tag: str) -> dict[str, tuple[str, ...]]:
        """The jobs with a tag: their ids, in the order of the answer, and their tags."""
        found = self._ask(self.provider.find, tag)
        try:
            jobs = {identity: tuple(tags) for identity, tags in found if tag in tags}
            makes_sense = isinstance(found, Sequence) and not isinstance(found, str | bytes)
        except (TypeError, ValueError):
            jobs, makes_sense = {}, False
        # a job without an id is still a job, so the answer does not mean that there is none
        if not makes_sense or not all(isinstance(i, str) and i for i in jobs):
            raise UnsureError(f"{self.provider.name} answered {found!r:.80} when asked for jobs.")
        return jobs

    def tagged_or_error(self, tag: str) -> dict[str, tuple[str, ...]]:
        """The jobs with a tag, asked for several times if need be.

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
        """How a job stands."""
        found = self._ask(self.provider.status, identity)
        if not isinstance(found, Status) or found.state not in get_args(State):
            raise UnsureError(f"{self.provider.name} says {found!r:.80} of job {identity}.")
        cause = found.cause if found.cause in ("time", "user") else "system"
        return Status(found.state, str(found.reason or ""), cause, _seconds(found.seconds) or 0.0)

    def counts(self, identity: str, job: Job) -> list[Counts]:
        """The counts of a job that is done.

        Raises:
            MalformedError: They do not fit the job.
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
        """Seconds that were billed for a job; None while that is not final, or not answered."""
        what = f"Asking for the usage of job {identity}"
        return _seconds(self.attempt(what, self._ask, self.provider.usage, identity))

    def account_seconds(self) -> float | None:
        """Seconds left on the account; None where it has no limit or does not say."""
        what = "Asking for the account's time"
        return _seconds(self.attempt(what, self._ask, self.provider.seconds_left))

    def cancel(self, identity: str) -> None:
        """Cancel a job; one that has finished stays as it is."""
        self._ask(self.provider.cancel, identity)

    def close(self) -> None:
        """End what was opened for the sake of jobs, or leave it open where no answer comes."""
        self.attempt(f"Closing {self.provider.name}", self._ask, self.provider.close)

    def attempt(self, what: str, ask: Callable[..., T], *arguments: Any) -> T | None:
        """Call `ask`, and log and return None where no answer comes; `what` says what was tried."""
        try:
            return ask(*arguments)
        except UnsureError as error:
            log.warning("%s: %s", what, error)
            return None

    def _ask(self, what: Callable[..., T], *arguments: Any, refusable: bool = False) -> T:
        """Ask the provider; where jobs outlive the process, any failure means that no answer came.

        A submission may be refused. A refusal to speak of a job that was accepted is no answer.
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
    """A number of seconds; None for anything else."""
    seconds = finite(found)
    return None if seconds is None or seconds < 0 else seconds
