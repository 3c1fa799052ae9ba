"""How much of a result is shown where it stands alone, as the last line of a notebook cell."""

from __future__ import annotations

LONG = 2000
"""Characters that a result shows of itself."""


def shortened(text: str, hint: str) -> str:
    """The text, or its beginning with a word about the rest."""
    return text if len(text) <= LONG else f"{text[:LONG]}… ({len(text)} characters; {hint})"
