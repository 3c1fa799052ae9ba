"""Shortening of long results that a notebook shows."""

from __future__ import annotations

LONG = 2000
"""A result shows at most this many characters."""


def shortened(text: str, hint: str) -> str:
    """Return the text; of a long one the beginning, its length and a hint where the rest is."""
    return text if len(text) <= LONG else f"{text[:LONG]}… ({len(text)} characters; {hint})"
