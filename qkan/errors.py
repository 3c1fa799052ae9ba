"""The one exception class of this room, and its warnings."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

_PACKAGE = str(Path(__file__).parent)


class QKANError(ValueError):
    """A model, its input, its data or its file that cannot be right.

    The message says what was asked, what was found and what to do.
    """


class ScaleWarning(UserWarning):
    """Inputs or targets in units that the model was not made for."""


class AliasingWarning(ScaleWarning):
    """Inputs beyond one period of a fixed encoding: the model cannot tell them apart."""


class DivergenceWarning(UserWarning):
    """A training that ended worse than it began."""


def warn(message: str, category: type[Warning]) -> None:
    """Warn at the line that called this package, however deep the call is by now."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and _is_inside(frame.f_code.co_filename):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


def _is_inside(path: str) -> bool:
    return path.startswith(_PACKAGE) or "torch" in Path(path).parts
