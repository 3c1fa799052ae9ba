"""A process that dies inside SQLite, between any two of its system calls, loses and pays nothing.

`make test-kill` runs it: some hundred processes are killed, each at a call of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent

WORKER = """
import ctypes, json, os, signal, sys
from pathlib import Path
import numpy as np
from qkan.backends import QiskitBackend, Task
from qkan.circuits import RX, Circuit, Encoding
from file_provider import FileProvider

shim = ctypes.CDLL(None)
folder = Path(sys.argv[1])
task = Task(Circuit((RX(Encoding(0)),)), np.linspace(0.2, 2.9, 8)[:, None])

def work(path, kill_at, resubmit=False):
    provider = FileProvider(path / "service")
    backend = QiskitBackend(
        "file", provider=provider, shots=60, width=2, seed=3, poll_seconds=0.0, search_seconds=0.0,
        budget_seconds=20.0, store=path, job_seconds=2.0 + 0.00035 * 6 * 30 + 1e-9,
    )
    shim.qkan_watch(ctypes.c_long(kill_at))
    with backend.open(path / "run") as run:
        if resubmit:
            run.resubmit()
        found = run.measure([task])[0].z.tolist()
        said = [found, run.seconds, run.committed_seconds, backend.seconds_left, shim.qkan_calls()]
    shim.qkan_watch(ctypes.c_long(-1))
    return said

def in_child(*arguments):
    receive, send = os.pipe()
    child = os.fork()
    if not child:
        code = 1
        try:
            os.write(send, json.dumps(work(*arguments)).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(send)
    with os.fdopen(receive) as answer:
        said = answer.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), json.loads(said) if said else None

code, (wanted, seconds, _, left, calls) = in_child(folder / "whole", 0)
jobs = len(FileProvider(folder / "whole" / "service").jobs())
assert code == 0 and jobs == 2
hit = doubtful = 0
points = sorted({round(k) for k in np.linspace(1, calls, min(calls, 300))})
for point in points:
    path = folder / str(point)
    code, _ = in_child(path, point)
    assert code == -signal.SIGKILL, (point, code)
    hit += 1
    code, said = in_child(path, -1)
    assert code == 0, point
    if any(z != z for z in said[0]):
        # announced, and not yet submitted: only a person may say that it was not
        doubtful += 1
        code, said = in_child(path, -1, True)
        assert code == 0 and said[2] > said[1], point
    else:
        assert said[0] == wanted and said[1] == said[2] == seconds and said[3] == left, point
    assert all(z == z for z in said[0]) and said[1] == seconds, point
    assert len(FileProvider(path / "service").jobs()) == jobs, point
    for name in ("run/run.sqlite", "budget.sqlite"):
        assert (path / name).exists(), point
print(hit, len(points), calls, doubtful)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the shim is preloaded on Linux")
def test_a_process_killed_at_any_system_call_of_sqlite(in_memory: Path) -> None:
    shim = in_memory / "shim.so"
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-O1", "-o", str(shim), str(HERE / "shim.c"), "-ldl"],
        check=True,
    )
    environment = {**os.environ, "LD_PRELOAD": str(shim), "PYTHONPATH": str(HERE.parent)}
    done = subprocess.run(
        [sys.executable, "-c", WORKER, str(in_memory)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    hit, points, calls, doubtful = map(int, done.stdout.split())
    print(f"killed at {hit} of {calls} system calls; {doubtful} times a person had to decide")
    assert hit == points >= min(calls, 300) - 5 and calls >= 100
    assert doubtful < hit / 4
