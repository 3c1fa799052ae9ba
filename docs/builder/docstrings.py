"""The house writes `Example:` over a doctest; the reader of docstrings knows `Examples:` only."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object


class Examples(Extension):
    """Show what stands under `Example:` as code."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Called for every object that is read."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(
                r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE
            )
