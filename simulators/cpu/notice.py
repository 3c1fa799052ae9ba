"""One line on standard error when the compilation of the CPU kernels takes long.

This file imports no numba, and `qkan` asks it whether progress is wanted at all, so that one
environment variable silences both.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

PATIENCE = 2.0
"""Seconds of compilation, all kernels of the process together, before something is said."""

_hushed: ContextVar[bool] = ContextVar("qkan_hushed", default=False)


def is_wanted() -> bool:
    """Whether progress may be shown: the environment variable QKAN_PROGRESS is not 0."""
    return os.environ.get("QKAN_PROGRESS", "1") != "0"


@contextmanager
def hushed(silent: bool = True) -> Iterator[None]:
    """Say nothing of what is compiled within, in this thread, where `silent` is True."""
    token = _hushed.set(silent or _hushed.get())
    try:
        yield
    finally:
        _hushed.reset(token)


class Notice:
    """Says once in a process that kernels are being compiled.

    The line comes after `PATIENCE` seconds of compilation in all. It comes once, whatever the
    number of kernels and threads. Without compilation it never comes.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._said, self._spent = False, 0.0

    @contextmanager
    def compiling(self, kernel: str, *, kept: bool) -> Iterator[None]:
        """Surround the compilation of a kernel.

        Args:
            kernel: Its name.
            kept: Whether the result is kept on disk for other processes.
        """
        if self._said or _hushed.get() or not is_wanted():
            yield
            return
        begun = time.monotonic()
        timer = threading.Timer(max(0.0, PATIENCE - self._spent), self._say, (kernel, kept))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            with self._lock:
                self._spent += time.monotonic() - begun

    def _say(self, kernel: str, kept: bool) -> None:
        with self._lock:
            if self._said:
                return
            self._said = True
        once = (
            "this happens once on this machine, and `qkan warm-up` does it ahead of time."
            if kept
            else "no folder for the result can be written to, so every process compiles anew: set "
            "NUMBA_CACHE_DIR to a folder that can be written to."
        )
        print(f"qkan compiles its CPU kernels ({kernel} and others); {once}", file=sys.stderr)


NOTICE = Notice()
"""The notice of this process."""
