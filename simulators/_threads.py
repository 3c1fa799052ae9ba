"""A small pool of threads for compiled code that releases the interpreter lock.

Plain threads need no OpenMP runtime, survive a fork (the child starts its own) and may be used by
several callers at once. A caller never waits for a helper to start: it works through the units
itself, helpers join while units are left, and it waits only for those that have joined.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable


class _Job:
    """Work that any number of threads may join until the caller closes it."""

    __slots__ = ("active", "closed", "done", "error", "lock", "work")

    def __init__(self, work: Callable[[], None]) -> None:
        self.work = work
        self.lock = threading.Lock()
        self.done = threading.Event()
        self.active = 0
        self.closed = False
        self.error: BaseException | None = None

    def help(self) -> None:
        """Join, unless the job is over."""
        with self.lock:
            if self.closed:
                return
            self.active += 1
        try:
            self.work()
        except BaseException as error:
            self.error = error
        with self.lock:
            self.active -= 1
            if self.closed and not self.active:
                self.done.set()

    def close(self) -> None:
        """Let nobody join any more and wait for those who have."""
        with self.lock:
            self.closed = True
            waiting = self.active > 0
        if waiting:
            self.done.wait()
        if self.error is not None:
            raise self.error


class _Pool:
    """Daemon threads that help with jobs; grows to what is asked for."""

    def __init__(self) -> None:
        self.jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self.lock = threading.Lock()
        self.size = 0

    def _serve(self) -> None:
        while True:
            self.jobs.get().help()

    def run(self, work: Callable[[], None], threads: int) -> None:
        """Call `work` here and in up to threads − 1 helpers; return when all have finished."""
        if self.size < threads - 1:
            with self.lock:
                while self.size < threads - 1:
                    threading.Thread(target=self._serve, name="qkan-kernels", daemon=True).start()
                    self.size += 1
        job = _Job(work)
        for _ in range(threads - 1):
            self.jobs.put(job)
        try:
            work()
        finally:
            job.close()


_pool = _Pool()


def _forget() -> None:
    """In a forked child the helpers are gone."""
    global _pool
    _pool = _Pool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def run(work: Callable[[], None], threads: int) -> None:
    """Call `work` from up to `threads` threads at once, this one included.

    Args:
        work: Takes units of work from a shared counter until none is left, so that a call more or
            less changes nothing.
        threads: At least 1; for 1 nothing but the call happens.
    """
    if threads <= 1:
        work()
    else:
        _pool.run(work, threads)
