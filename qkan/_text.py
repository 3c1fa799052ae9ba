"""Shorten the text of a result that is shown, for instance at the end of a notebook cell."""

from __future__ import annotations

LONG = 2000
"""The largest number of characters that a result shows."""


def shortened(text: str, hint: str) -> str:
    """Return the text, or of a long text its beginning, its length and a hint."""
    return text if len(text) <= LONG else f"{text[:LONG]}… ({len(text)} characters; {hint})"
