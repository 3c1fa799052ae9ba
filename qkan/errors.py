"""The exception class of the package `qkan`, and its warnings."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

_PACKAGE = str(Path(__file__).parent)


class QKANError(ValueError):
    """A model, an input, data, an option or a file is wrong.

    The message says what was asked, what was found and what to do.
    """


class ScaleWarning(UserWarning):
    """Inputs or targets have units for which the model is not made."""


class AliasingWarning(ScaleWarning):
    """Inputs exceed one period of a fixed encoding, so the model cannot tell them apart."""


class DivergenceWarning(UserWarning):
    """Training ended with a much larger loss than it began with."""


def warn(message: str, category: type[Warning]) -> None:
    """Warn with the line that called this package as the source, however deep the call is."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and _is_inside(frame.f_code.co_filename):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


def _is_inside(path: str) -> bool:
    return path.startswith(_PACKAGE) or "torch" in Path(path).parts
