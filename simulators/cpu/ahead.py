"""Two processes compile: what is needed now in this one, what is needed next in a second one.

numba compiles one kernel after the other. While a process compiles the forward kernel of a layer,
a second process compiles the backward kernel to the folder of compiled kernels, where the first one
finds it. Both compile the same source with the same options, so that it does not matter who did it.
Where there is no such folder, one processor only, or no interpreter to start, nothing is begun, and
every kernel is compiled where it is needed.

The second process is a plain interpreter that runs `compile_next`: nothing is forked, and no script
of the user is run again. It imports no torch unless a kernel's file does.
"""

from __future__ import annotations

import atexit
import json
import multiprocessing
import os
import re
import subprocess
import sys
import threading
from contextlib import suppress
from importlib import import_module
from typing import Any

Types = tuple[Any, ...]

_START = """
import json, sys, types
order = json.loads(sys.argv[1])
sys.path[:] = order["path"]
for name, folders in order["packages"].items():
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = folders
from qkan.simulators.cpu.ahead import compile_next
compile_next(order["kernel"], order["dtype"])
"""


def types_of(kernel: str, dtype: str) -> Types:
    """The types of the arguments with which a kernel of `NEXT` is called, for arrays of a dtype."""
    from numba.types import Array, BaseTuple, NamedTuple, UniTuple, boolean, float32, float64, int64

    from .layout import EdgeArrays
    from .series import Series

    i, n = Array(int64, 1, "C"), Array(float32 if dtype == "float32" else float64, 1, "C")
    two, three, four, seven, eight = (UniTuple(int64, size) for size in (2, 3, 4, 7, 8))
    edges = NamedTuple([i, n, n, n, n, n], EdgeArrays)
    series = NamedTuple([n, n, n, n, i, i, n], Series)
    bound = {
        "series_grad.backward_task": (
            edges, series, n, n, n, UniTuple(n, 4), n, boolean, four, int64, i,
        ),
        "sample_lanes_grad.backward_task": (edges, n, n, UniTuple(n, 5), four, two, i),
        "edge_lanes_grad.backward_task": (edges, n, n, UniTuple(n, 5), int64, three, two, i),
    }  # fmt: skip
    if kernel in bound:
        return i, BaseTuple.from_types(bound[kernel])
    return i, n, n, eight, int64, seven, three, int64


NEXT = {
    "ranges.choose": "series_grad.backward_task",
    "series.forward_task": "series_grad.backward_task",
    "small._forward_samples": "small._backward_samples",
    "small._forward_edges": "small._backward_edges",
    "sample_lanes.forward_task": "sample_lanes_grad.backward_task",
    "edge_lanes.forward_task": "edge_lanes_grad.backward_task",
}
"""The kernel that a training step needs after another one, whose compilation takes as long."""


def compile_next(kernel: str, dtype: str) -> None:
    """Compile a kernel of `NEXT`, and leave it in the folder of compiled kernels."""
    module, name = kernel.split(".")
    getattr(import_module(f"{__package__}.{module}"), name).compile(types_of(kernel, dtype))


class Ahead:
    """The second process of this process: there is one at a time, and one for each kernel."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun: dict[tuple[str, str], subprocess.Popen[bytes]] = {}

    def begin(self, kernel: str, types: Types) -> None:
        """Begin to compile what follows a kernel that is about to be compiled for these types."""
        # the first array of numbers has the dtype of the call
        dtype = re.search(r"float(32|64)", str(types))
        order = (NEXT.get(kernel, ""), dtype[0] if dtype else "")
        with self._lock:
            running = any(process.poll() is None for process in self._begun.values())
            if all(order) and order not in self._begun and not running and self._is_able():
                with suppress(OSError):
                    self._begun[order] = _start(*order)

    def process(self, kernel: str, types: Types) -> subprocess.Popen[bytes] | None:
        """The second process, where it was started to compile a kernel for these types."""
        for (name, dtype), process in [*self._begun.items()]:
            if name == kernel and types_of(name, dtype) == types:
                return process
        return None

    def end(self) -> None:
        """End the second process, if there is one."""
        for process in self._begun.values():
            if process.poll() is None:
                process.kill()
                process.wait()

    def _is_able(self) -> bool:
        able = _processors() > 1 and sys.executable and not getattr(sys, "frozen", False)
        return bool(able) and not multiprocessing.current_process().daemon


def _processors() -> int:
    """How many processors this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def _start(kernel: str, dtype: str) -> subprocess.Popen[bytes]:
    """Start an interpreter that compiles a kernel."""
    # as long as these packages are empty, they import no torch
    packages = {name: [*sys.modules[name].__path__] for name in ("qkan", "qkan.simulators")}
    order = {
        "path": [*map(str, sys.path)], "packages": packages, "kernel": kernel, "dtype": dtype,
    }  # fmt: skip
    nothing = subprocess.DEVNULL
    return subprocess.Popen(
        [sys.executable, "-c", _START, json.dumps(order)], env={**os.environ, "QKAN_PROGRESS": "0"},
        stdin=nothing, stdout=nothing, stderr=nothing,
    )  # fmt: skip


AHEAD = Ahead()
"""The second process of this process."""

atexit.register(AHEAD.end)
if hasattr(os, "register_at_fork"):
    # a forked child leaves the second process to its parent
    os.register_at_fork(after_in_child=AHEAD._begun.clear)
