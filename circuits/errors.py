"""The one exception class of this room."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CircuitError(ValueError):
    """A circuit, an ansatz or a request about one that cannot be right.

    The message says what was asked, what was found and what to do.
    """


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Return the tail of an error message: the nearest known name and all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    return f"{hint}Known: {', '.join(names)}."
