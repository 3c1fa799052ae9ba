"""How far the fused kernel is from the arithmetic limit of one core.

Run     python benchmarks/limit.py, a minute on a quiet machine
Writes  benchmarks/results/limit.json; report.py has its line in the README

The limit is the number of multiplications and fused multiply-adds that the kernel cannot do
without, over the rate at which this core does independent ones, measured in the same minutes, turn
by turn. Additions have units of their own beside those on the machines that we know.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import machine
import numba
import numpy as np
from cases import CASES, arrays
from run import compact
from samples import ratio, summary

ROOT = Path(__file__).resolve().parent.parent
CASE = "64-trainable"
SINCOS = 12
"""Multiplications and FMAs of one sine and cosine: 3 to reduce, 1 square, 2 · 4 polynomials."""
FORWARD = 3 * SINCOS + 6 + 4 + 9
"""An edge and sample of pz at r = 3: three data angles, the state after each of them (6 where the
edge-constant vectors meet the first, 4 for the turn by the second, 9 for the value at the last)."""
BACKWARD = (3 * SINCOS + 6 + 4) + 26 + 6 + 14 + 3 * 2
"""The states again, the adjoint through the last, the middle and the first rotation with the sums
that the edge's gradients are made of, and two a data rotation for dx and dscale."""
TERMS = 24
"""FMAs an element in the kernel that measures the rate."""


@numba.njit(fastmath={"contract"}, error_model="numpy", inline="always")
def _four(y: float, t: float) -> float:
    """Four dependent FMAs."""
    a, b = np.float32(0.7), np.float32(0.1)
    y = a * y + b
    y = t * y + a
    y = a * y + t
    return t * y + b


@numba.njit(fastmath={"contract"}, error_model="numpy")
def polynomial(x: np.ndarray, out: np.ndarray, passes: int) -> None:
    """A chain of `TERMS` FMAs at every element, independent from element to element."""
    for turn in range(passes):
        shift = np.float32(turn)
        for j in range(x.size):
            t = x[j] + shift
            y = _four(_four(_four(t, t), t), t)
            out[j] = _four(_four(_four(y, t), t), t)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "limit.json")
    arguments = parser.parse_args()
    record = {
        "run": "limit", "written": machine.now(), **machine.commit(),
        "machine": machine.machine(), "threads": 1, "case": CASE,
        "packages": {"numba": numba.__version__, "numpy": np.__version__},
        "operations": {"forward": FORWARD, "backward": BACKWARD},
        **measure(arguments.rounds),
    }  # fmt: skip
    record["load_average"] = machine.load()["average"]
    arguments.out.write_text(compact(record))
    for name, times in record["times_the_limit"].items():
        print(f"{name}: {times:.2f} times the limit")


def measure(rounds: int) -> dict[str, Any]:
    """Seconds of the kernel and of its operations at the measured rate, turn by turn."""
    work = _work()
    limit = _limit()
    for run in (*work.values(), limit):
        run()
    seconds: dict[str, list[list[float]]] = {name: [] for name in (*work, "peak")}
    for _ in range(rounds):
        for name, run in (*work.items(), ("peak", limit)):
            seconds[name].append([_time(run) for _ in range(3)])
    case = CASES[CASE]
    edges = case.batch * case.edges
    done = TERMS * 256 * 20_000
    times = {}
    for name, operations in (("forward", FORWARD), ("backward", BACKWARD)):
        needed = [[s * operations * edges / done for s in turn] for turn in seconds["peak"]]
        times[name] = ratio(seconds[name], needed).median
    rate = done / summary(seconds["peak"]).quiet
    return {"seconds": seconds, "operations_per_second": rate, "times_the_limit": times}


def _work() -> dict[str, Callable[[], object]]:
    from qkan.circuits import ansatz, lower
    from qkan.simulators.cpu import kernels

    case = CASES[CASE]
    values = arrays(case)
    x = values["x"]
    p = kernels.Parameters(*(values[name] for name in ("theta", "scale", "shift", "weight")))
    program = kernels.program_arrays(lower(ansatz(case.ansatz, case.reps)))
    grad = np.ones((case.batch, case.out_features), np.float32)
    return {
        "forward": lambda: kernels.forward(program, x, p),
        "backward": lambda: kernels.backward(program, grad, x, p),
    }


def _limit() -> Callable[[], object]:
    x = np.linspace(-1, 1, 256, dtype=np.float32)
    out = np.empty_like(x)
    return lambda: polynomial(x, out, 20_000)


def _time(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
