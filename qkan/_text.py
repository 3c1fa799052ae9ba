"""How much of itself a result shows, for instance as the last line of a notebook cell."""

from __future__ import annotations

LONG = 2000
"""The most characters that a result shows."""


def shortened(text: str, hint: str) -> str:
    """Return the text; of a long one the beginning, its length and a hint for the rest."""
    return text if len(text) <= LONG else f"{text[:LONG]}… ({len(text)} characters; {hint})"
