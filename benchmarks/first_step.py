"""The first training step of a process, from an empty cache of compiled kernels and a full one.

Run     python benchmarks/first_step.py, some minutes
Writes  benchmarks/results/first_step.json

Each case runs in processes of its own: the first finds the cache folder empty, the second finds
what the first left there. The seconds of the processor, and those of the second process that helps
to compile, are given beside those of the clock, for on a busy machine the clock also counts the
work of others.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import machine
from run import compact

ROOT = Path(__file__).resolve().parent.parent
CASES = {
    "layer": ("QKANLayer(64, 64, dtype=dtype)", (1024, 64)),
    "network": ("QKAN([2, 5, 1], dtype=dtype)", (100, 2)),
}
STEP = """
import json, os, sys, time
import torch
begun, work = time.perf_counter(), time.process_time()
import qkan
from qkan import QKAN, QKANLayer
dtype = getattr(torch, sys.argv[1])
model = eval(sys.argv[2])
x = torch.rand(json.loads(sys.argv[3]), dtype=dtype)
model(x).square().sum().backward()
seconds, cpu, spent = time.perf_counter() - begun, time.process_time() - work, os.times()
helper = spent.children_user + spent.children_system
print(json.dumps({"seconds": seconds, "cpu": cpu, "cpu_of_second_process": helper}))
"""


def first_step(model: str, shape: tuple[int, ...], dtype: str, cache: str) -> dict[str, float]:
    """Seconds over `import torch` until the end of one forward and backward pass."""
    arguments = [sys.executable, "-c", STEP, dtype, model, json.dumps(shape)]
    surroundings = {**os.environ, "NUMBA_CACHE_DIR": cache, "QKAN_PROGRESS": "0"}
    done = subprocess.run(
        arguments, env=surroundings, cwd=cache, capture_output=True, text=True, check=True
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """Measure every case in both dtypes, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", choices=CASES, help="this case only, which is printed")
    parser.add_argument("--dtype", choices=("float32", "float64"), help="this dtype only")
    chosen = parser.parse_args()
    record: dict[str, Any] = {
        "run": "first_step", "written": machine.now(), **machine.commit(),
        "machine": machine.machine(), "load_average": machine.load()["average"],
        "versions": {name: metadata.version(name) for name in ("torch", "numba", "llvmlite")},
        "cases": {},
    }  # fmt: skip
    for name, (model, shape) in CASES.items():
        for dtype in ("float32", "float64"):
            if chosen.case not in (None, name) or chosen.dtype not in (None, dtype):
                continue
            with tempfile.TemporaryDirectory() as cache:
                found = {
                    state: first_step(model, shape, dtype, cache) for state in ("empty", "full")
                }
            record["cases"][f"{name} {dtype}"] = found
            print(name, dtype, json.dumps(found), flush=True)
    if chosen.case is None and chosen.dtype is None:
        path = ROOT / "benchmarks" / "results" / "first_step.json"
        path.write_text(compact(record))


if __name__ == "__main__":
    main()
