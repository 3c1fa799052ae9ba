"""A line on standard error if the compilation of the CPU kernels takes long.

This file does not import numba. `qkan` asks it whether progress may be shown at all, so that one
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
"""The seconds of compilation, over all kernels of the process, before the line is shown."""

_hushed: ContextVar[bool] = ContextVar("qkan_hushed", default=False)


def is_wanted() -> bool:
    """Whether progress may be shown: the environment variable QKAN_PROGRESS is not 0."""
    return os.environ.get("QKAN_PROGRESS", "1") != "0"


@contextmanager
def hushed(silent: bool = True) -> Iterator[None]:
    """Show no line about kernels that are compiled in this block and thread, if `silent`."""
    token = _hushed.set(silent or _hushed.get())
    try:
        yield
    finally:
        _hushed.reset(token)


class Notice:
    """Shows once in a process that kernels are being compiled.

    The line is shown after a total of `PATIENCE` seconds of compilation, and only once for any
    number of kernels and threads. Without compilation it is never shown.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._said, self._spent = False, 0.0

    @contextmanager
    def compiling(self, kernel: str, *, kept: bool) -> Iterator[None]:
        """Surround the compilation of a kernel.

        Args:
            kernel: The name of the kernel.
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
            "each is compiled once on this machine, and `qkan warm-up` compiles all of them."
            if kept
            else "no folder for the result can be written to, so every process compiles them "
            "again; set NUMBA_CACHE_DIR to a folder that can be written to."
        )
        print(f"qkan compiles its CPU kernels ({kernel} and others); {once}", file=sys.stderr)


NOTICE = Notice()
"""The notice of this process."""
