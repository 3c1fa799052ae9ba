"""Several threads for compiled code that releases the interpreter lock.

torch's OpenMP threads keep spinning for milliseconds after every product. Threads of our own would
share the cores with them, so where torch's OpenMP runtime is loaded its team does the work: it is
awake, and it is the same that torch uses next. Elsewhere, and in a forked child, where that
runtime would hang, a pool of plain threads takes its place: it may be used by several callers at
once, and a caller never waits for a helper to start: it works through the units itself, helpers
join while units are left, and it waits only for those that have joined.
"""

from __future__ import annotations

import ctypes
import functools
import os
import queue
import threading
from collections.abc import Callable
from pathlib import Path


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


_Callback = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class _Team:
    """The threads of an OpenMP runtime that is already loaded."""

    def __init__(self, path: str) -> None:
        self._parallel = ctypes.CDLL(path).GOMP_parallel
        self._parallel.argtypes = [_Callback, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
        self._parallel.restype = None

    def run(self, work: Callable[[], None], threads: int) -> None:
        """Call `work` in a team of `threads`, this thread included; return when all have."""
        errors: list[BaseException] = []

        def call(_: int | None) -> None:
            try:
                work()
            except BaseException as error:
                errors.append(error)

        self._parallel(_Callback(call), None, threads, 0)
        if errors:
            raise errors[0]


@functools.cache
def _team() -> _Team | None:
    """The team of the runtime that torch computes with; None where there is none to be found."""
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
        paths = {line.split(maxsplit=5)[-1] for line in lines if "libgomp" in line}
        # Other packages bring copies of their own: their threads would be as foreign as ours.
        return _Team(sorted(paths, key=lambda path: ("torch" not in path, path))[0])
    except (OSError, AttributeError, IndexError):
        return None


_pool = _Pool()
_forked = False


def _forget() -> None:
    """In a forked child the helpers are gone, and so are the team's."""
    global _pool, _forked
    _pool, _forked = _Pool(), True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def run(work: Callable[[], None], threads: int) -> None:
    """Call `work` from up to `threads` threads at once, this one included.

    Args:
        work: Takes units of work from a shared counter until none is left, so that a call more or
            less changes nothing.
        threads: At least 1; for 1 nothing but the call happens.
    """
    team = None if threads <= 1 or _forked else _team()
    if threads <= 1:
        work()
    elif team is not None:
        team.run(work, threads)
    else:
        _pool.run(work, threads)
