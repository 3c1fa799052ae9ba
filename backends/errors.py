"""The exceptions of this room."""

from __future__ import annotations


class BackendError(ValueError):
    """A device or an emulator cannot do what was asked, or failed.

    The message says what was asked, what was found and what to do.
    """


class PendingError(BackendError):
    """Jobs are in the queue, and the backend is set not to wait for them.

    Attributes:
        jobs: The ids of the jobs.
        unanswered: The tags of jobs that were submitted without an answer and not found yet.
    """

    def __init__(self, jobs: tuple[str, ...], unanswered: tuple[str, ...] = ()) -> None:
        tagged = f" (without an answer so far: {', '.join(unanswered)})" if unanswered else ""
        super().__init__(
            f"Jobs in the queue: {', '.join(jobs) or 'perhaps'}{tagged}. They stay there; open the "
            "run again to collect their results."
        )
        self.jobs, self.unanswered = jobs, unanswered
