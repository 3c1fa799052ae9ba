"""Recurrent cells and networks whose gates learn, beside those of torch, on the CPU.

Run     python benchmarks/cells.py, some two minutes on a quiet machine
Writes  benchmarks/results/cells.json

Float32, batch 64, hidden and input size 32, sequences of 100 steps; a call is forward and backward
to all parameters and the input. With amplitudes of 0 ours first have to give the outputs of
torch's, with its weights. Then their amplitudes are drawn, and all take turns. On a CPU torch
computes an LSTM by oneDNN as one operator, and a GRU step by step.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import machine
import torch
from process import THREADS
from run import compact
from samples import Rounds, measure, ratio, summary
from torch import Tensor, nn

import qkan

ROOT = Path(__file__).resolve().parent.parent
BATCH, HIDDEN, STEPS = 64, 32, 100
AGREE = 1e-5
"""Largest difference of ours from torch's outputs, which are within ±1."""

Measure = Callable[[], None]
PAIRS: dict[str, tuple[type[nn.Module], type[nn.Module], bool]] = {
    "LSTM, one step": (qkan.QKANLSTMCell, nn.LSTMCell, False),
    "GRU, one step": (qkan.QKANGRUCell, nn.GRUCell, False),
    "LSTM, 100 steps": (qkan.QKANLSTM, nn.LSTM, True),
    "GRU, 100 steps": (qkan.QKANGRU, nn.GRU, True),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.2, help="length of a turn")
    parser.add_argument("--hidden", type=int, default=HIDDEN)
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "cells.json")
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    record: dict[str, Any] = {
        "run": "cells", "written": machine.now(), **machine.commit(),
        "machine": machine.machine(), "threads": THREADS,
        "packages": {"torch": torch.__version__}, "seed": 0, "batch": arguments.batch,
        "hidden": arguments.hidden, "steps": STEPS, "errors": {}, "measures": {},
    }  # fmt: skip
    for name, (ours, theirs, is_long) in PAIRS.items():
        torch.manual_seed(0)
        classical = theirs(arguments.hidden, arguments.hidden)
        learning = ours(arguments.hidden, arguments.hidden)
        learning.load_state_dict(classical.state_dict(), strict=False)
        x = torch.randn(*(STEPS,) * is_long, arguments.batch, arguments.hidden)
        record["errors"][name] = agree(learning, classical, x)
        nn.init.normal_(
            learning.get_submodule("gates.l0" if is_long else "gates").amplitude, std=0.1
        )  # type: ignore[arg-type]
        calls = {"ours": step(learning, x), "torch": step(classical, x)}
        rounds = measure(calls, arguments.rounds, arguments.seconds)
        record["measures"][name] = rounds
    record["load_average"] = machine.load()["average"]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(compact(record))
    for name, rounds in record["measures"].items():
        report(name, rounds)


def tensors(result: Any) -> list[Tensor]:
    """The tensors of a result: a tensor, or a tuple of these and of tuples."""
    if isinstance(result, Tensor):
        return [result]
    return [tensor for part in result for tensor in tensors(part)]


@torch.no_grad()
def agree(ours: nn.Module, theirs: nn.Module, x: Tensor) -> float:
    """The largest difference of two modules' outputs and states.

    Raises:
        SystemExit: It is too large.
    """
    pairs = zip(tensors(ours(x)), tensors(theirs(x)), strict=True)
    error = max(float((a - b).abs().max()) for a, b in pairs)
    if not error <= AGREE:
        raise SystemExit(f"{type(ours).__name__} is {error} off, so nothing is measured.")
    return error


def step(module: nn.Module, x: Tensor) -> Measure:
    """Forward and backward, from a gradient that layers behind would pass."""
    slope = torch.randn(tensors(module(x))[0].shape, generator=torch.Generator().manual_seed(2))

    def call() -> None:
        module.zero_grad()
        tensors(module(x.detach().requires_grad_()))[0].backward(slope)

    return call


def report(name: str, rounds: dict[str, Rounds]) -> None:
    """Print times, and the ratio to torch's."""
    ours, theirs = (1e3 * summary(rounds[key]).median for key in ("ours", "torch"))
    times = ratio(rounds["ours"], rounds["torch"])
    print(f"{name:<16} {ours:7.3f} ms, torch {theirs:7.3f} ms, {times.median:.2f} times")


if __name__ == "__main__":
    main()
