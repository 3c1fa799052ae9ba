"""The one exception class of this room."""

from __future__ import annotations


class BackendError(ValueError):
    """A device or emulator was asked for something it cannot do, or failed at it.

    The message says what was asked, what was found and what to do.
    """
