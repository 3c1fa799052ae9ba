"""The one exception class of this room."""

from __future__ import annotations


class QKANError(ValueError):
    """A model, its input, its data or its file that cannot be right.

    The message says what was asked, what was found and what to do.
    """
