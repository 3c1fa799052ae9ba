"""Two processes compile: what is needed now in this one, what is needed next in a second one.

numba compiles one kernel after the other. While a process compiles the forward kernel of a layer,
a second process compiles the backward kernel to the folder of compiled kernels, where the first one
finds it. Both compile the same source with the same options, so that it does not matter who did it.
Where there is no such folder, one processor only, or no interpreter to start, nothing is begun, and
every kernel is compiled where it is needed.

The second process is a plain interpreter that runs `following`: nothing is forked, and no script
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
from typing import Any

Types = tuple[Any, ...]

_START = """
import json, sys, types
order = json.loads(sys.argv[1])
sys.path[:] = order["path"]
for name, folders in order["packages"].items():
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = folders
from qkan.simulators.cpu.following import compile_next
compile_next(order["kernel"], order["dtype"])
"""


NEXT = {
    "ranges.choose": "series_grad.backward_task",
    "series.forward_task": "series_grad.backward_task",
    "small._forward_samples": "small._backward_samples",
    "small._forward_edges": "small._backward_edges",
    "sample_lanes.forward_task": "sample_lanes_grad.backward_task",
    "edge_lanes.forward_task": "edge_lanes_grad.backward_task",
}
"""The kernel that a training step needs after another one, whose compilation takes as long."""


class Ahead:
    """The second process of this process: there is one at a time, and one for each kernel."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun: dict[tuple[str, str], subprocess.Popen[bytes]] = {}

    def begin(self, kernel: str, types: Types) -> None:
        """Begin to compile what follows a kernel that is about to be compiled for these types."""
        order = (NEXT.get(kernel, ""), _dtype(types))
        with self._lock:
            running = any(process.poll() is None for process in self._begun.values())
            if all(order) and order not in self._begun and not running and self._is_able():
                with suppress(OSError):
                    self._begun[order] = _start(*order)

    def process(self, kernel: str, types: Types) -> subprocess.Popen[bytes] | None:
        """The second process that was started to compile a kernel for the dtype of these types."""
        return self._begun.get((kernel, _dtype(types)))

    def end(self) -> None:
        """End the second process, if there is one."""
        for process in self._begun.values():
            if process.poll() is None:
                process.kill()
                process.wait()

    def _is_able(self) -> bool:
        able = _processors() > 1 and sys.executable and not getattr(sys, "frozen", False)
        return bool(able) and not multiprocessing.current_process().daemon


def _dtype(types: Types) -> str:
    """The dtype of the first array of numbers, or an empty string."""
    found = re.search(r"float(32|64)", str(types))
    return found[0] if found else ""


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
