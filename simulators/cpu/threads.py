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
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

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


def _run_in_pool(task: Task, threads: int) -> None:
    """Run the task here and in up to `threads` - 1 helpers; return when all have finished."""
    helpers = [_pool.submit(task) for _ in range(threads - 1)]
    try:
        task()
    finally:
        # a helper that has not begun is not needed any more
        for helper in helpers:
            if not helper.cancel():
                helper.result()


def _new_pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(64, thread_name_prefix="qkan-kernels")


_pool, _forked = _new_pool(), False


def _forget() -> None:
    """In a forked child there are no helpers any more, nor threads of OpenMP."""
    global _pool, _forked
    _pool, _forked = _new_pool(), True


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
        _run_in_pool(task, threads)
    task.check()
