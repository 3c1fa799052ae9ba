"""`Contact`: a provider whose every answer is checked, whatever it says or fails to say.

What is no answer that makes sense is an `UnsureError`: only a provider's own refusal counts as one.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any, TypeVar, get_args

import numpy as np

from .errors import BackendError
from .options import Options
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
        provider: Who is asked.
        options: Of the backend.
    """

    def __init__(self, provider: Provider, options: Options) -> None:
        self.provider, self._options = provider, options

    def submit(self, job: Job) -> str:
        """Submit a job and return its id.

        Raises:
            UnsureError: There was no answer, or none that makes sense: it may have been accepted.
            BackendError: It was refused.
        """
        identity = self._ask(self.provider.submit, job, refusable=True)
        if not isinstance(identity, str) or not identity:
            raise UnsureError(f"{self.provider.name} gave {identity!r:.80} for the id of a job.")
        return identity

    def jobs(self, tag: str) -> list[str]:
        """Ids of the jobs with a tag, each once, in the order of the answer."""
        return [identity for identity, _ in self._tagged(tag)]

    def insist_on_jobs(self, tag: str) -> list[tuple[str, Sequence[str]]]:
        """Ids and tags of the jobs with a tag, asked for several times if need be.

        Raises:
            BackendError: No answer came.
        """
        for attempt in range(self._options.retries + 1):
            if attempt:
                time.sleep(self._options.poll_seconds)
            try:
                return self._tagged(tag)
            except UnsureError as error:
                log.warning("Looking for the jobs of a run: %s", error)
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
        return Status(found.state, str(found.reason or ""), cause, _time(found.seconds) or 0.0)

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
        """Seconds billed for a job; None while that is not final."""
        seconds = self._ask(self.provider.usage, identity)
        return _time(seconds)

    def account_seconds(self) -> float | None:
        """Seconds left on the account; None where it has no limit or does not say."""
        try:
            seconds = self._ask(self.provider.seconds_left)
        except UnsureError as error:
            log.warning("Asking for the account's time: %s", error)
            return None
        return _time(seconds)

    def cancel(self, identity: str) -> None:
        """Cancel a job; one that has finished stays as it is."""
        self._ask(self.provider.cancel, identity)

    def cancel_quietly(self, identity: str) -> None:
        """Cancel a job, or leave it where no answer comes."""
        try:
            self.cancel(identity)
        except UnsureError as error:
            log.warning("Cancelling job %s: %s", identity, error)

    def close(self) -> None:
        """End what was opened for the sake of jobs, or leave it where no answer comes."""
        try:
            self._ask(self.provider.close)
        except UnsureError as error:
            log.warning("Closing %s: %s", self.provider.name, error)

    def _tagged(self, tag: str) -> list[tuple[str, Sequence[str]]]:
        found = self._ask(self.provider.find, tag)
        try:
            tagged = {i: tuple(tags) for i, tags in found if tag in tags}
            makes_sense = isinstance(found, Sequence) and not isinstance(found, str | bytes)
        except (TypeError, ValueError):
            tagged, makes_sense = {}, False
        # a job without an id is a job all the same, so it is not as if there were none
        if not makes_sense or not all(isinstance(i, str) and i for i in tagged):
            raise UnsureError(f"{self.provider.name} answered {found!r:.80} when asked for jobs.")
        return list(tagged.items())

    def _ask(self, what: Callable[..., T], *arguments: Any, refusable: bool = False) -> T:
        """Ask, and take any failure for no answer, where jobs outlive the asking.

        A submission may be refused; to refuse to tell of a job that was accepted is no answer.
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


def _time(seconds: object) -> float | None:
    """A finite number of seconds; None for anything else."""
    if not isinstance(seconds, Real) or isinstance(seconds, bool):
        return None
    try:
        found = float(seconds)
    except OverflowError:
        return None
    return found if math.isfinite(found) and found >= 0 else None
