"""`CircuitError`, the exception class of this room, and hints for misspelt names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CircuitError(ValueError):
    """A circuit, or a request for one, is invalid.

    The message says what was asked, what was found and what to do.
    """


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Return the end of an error message: the nearest known name, and up to 20 known names."""
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    more = f" and {len(names) - 20} more" * (len(names) > 20)
    return f"{hint}Known: {', '.join(names[:20])}{more}."
