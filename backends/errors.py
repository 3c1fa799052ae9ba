"""The exceptions of this room."""

from __future__ import annotations


class BackendError(ValueError):
    """A device or emulator was asked for something it cannot do, or failed at it.

    The message says what was asked, what was found and what to do.
    """


class PendingError(BackendError):
    """Jobs are in the queue, and the backend was told not to wait for them.

    Attributes:
        jobs: Their ids.
        unanswered: Tags of jobs that were submitted without an answer and are still looked for.
    """

    def __init__(self, jobs: tuple[str, ...], unanswered: tuple[str, ...] = ()) -> None:
        tagged = f" (without an answer so far: {', '.join(unanswered)})" if unanswered else ""
        super().__init__(
            f"Jobs in the queue: {', '.join(jobs) or 'perhaps'}{tagged}. They stay there; open the "
            "run again to collect them."
        )
        self.jobs, self.unanswered = jobs, unanswered
