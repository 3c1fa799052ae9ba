"""Several threads for compiled code.

A kernel and its arguments become a `Task`, which threads enter without the Python interpreter: a
Python function called by two threads costs tens of microseconds before its first instruction.

torch's OpenMP threads keep spinning for milliseconds after every matrix product, and threads of our
own would have to share the cores with them. So where torch's OpenMP runtime is loaded, its threads
do the work: they are awake, and torch uses the same ones next. Elsewhere a pool of plain threads
takes their place, and also in a forked child, where the OpenMP runtime would hang. Several callers
may use the pool at once. A caller does not wait for helpers to start: it works through the units
itself, helpers join while units are left, and it waits only for those that have joined.
"""

from __future__ import annotations

import ctypes
import functools
import os
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


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
        """Take part in the work, unless it is over."""
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
        """Let no more threads join, and wait for those that have."""
        with self.lock:
            self.closed = True
            waiting = self.active > 0
        if waiting:
            self.done.wait()
        if self.error is not None:
            raise self.error


class _Pool:
    """Daemon threads that help with jobs; there are as many as have ever been asked for."""

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


_Entry = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class Task:
    """A kernel bound to its arguments, which takes units of work until none is left.

    Any number of threads may call it at the same time; they share the units.

    Args:
        bound: The function `…_task` of a kernel, which binds it to arguments.
        *args: The kernel's arguments.
    """

    __slots__ = ("address", "entry", "kept", "room")

    def __init__(self, bound: Callable[..., tuple[int, int]], *args: Any) -> None:
        from .jit import ROOM

        self.room, self.kept = np.empty(ROOM, np.int64), args
        self.entry, self.address = bound(self.room, *args)

    def __call__(self) -> None:
        """Run the kernel in this thread."""
        _Entry(self.entry)(self.address)

    def then(self, other: Task) -> Task:
        """Both tasks as one: a thread that finds no more work in the first goes on to the other."""
        from .jit import in_turn_task

        task = Task(in_turn_task, self.entry, self.address, other.entry, other.address)
        task.kept = (self, other)
        return task

    def check(self) -> None:
        """Raise `MemoryError` if the kernel failed."""
        for part in self.kept:
            if isinstance(part, Task):
                part.check()
        if self.room[0]:
            raise MemoryError("A compiled kernel found no memory for its scratch rows.")


class _Team:
    """The threads of an OpenMP runtime that is already loaded."""

    def __init__(self, path: str) -> None:
        self._parallel = ctypes.CDLL(path).GOMP_parallel
        pointer, number = ctypes.c_void_p, ctypes.c_uint
        self._parallel.argtypes = [pointer, pointer, number, number]
        self._parallel.restype = None

    def run(self, task: Task, threads: int) -> None:
        """Run the task in `threads` threads, this one included; return when all have finished."""
        self._parallel(task.entry, task.address, threads, 0)


@functools.cache
def _team() -> _Team | None:
    """The threads that torch computes with, or None where they are not found."""
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
        paths = {line.split(maxsplit=5)[-1] for line in lines if "libgomp" in line}
        # other packages bring copies of the runtime, whose threads are not those of torch
        return _Team(sorted(paths, key=lambda path: ("torch" not in path, path))[0])
    except (OSError, AttributeError, IndexError):
        return None


_pool = _Pool()
_forked = False


def _forget() -> None:
    """In a forked child there are no helpers any more, nor threads of OpenMP."""
    global _pool, _forked
    _pool, _forked = _Pool(), True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def run(task: Task, threads: int) -> None:
    """Run a task in up to `threads` threads at once, this one included.

    Args:
        task: The work.
        threads: At least 1; for 1 nothing but a call happens.

    Raises:
        MemoryError: A thread found no memory for its scratch.
    """
    team = None if threads <= 1 or _forked else _team()
    if threads <= 1:
        task()
    elif team is not None:
        team.run(task, threads)
    else:
        _pool.run(task, threads)
    task.check()
