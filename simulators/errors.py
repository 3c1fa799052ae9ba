"""The exception class of the simulators."""

from __future__ import annotations


class SimulatorError(ValueError):
    """No engine, or not the named one, can run what was asked.

    The message says what was asked, what was found and what to do.
    """
