"""Wide layers beside `nn.Linear` of the same shape: inputs U(-1, 1), N(0, 1), and one outlier.

Run     python benchmarks/wide.py, a minute on a quiet machine
Writes  benchmarks/results/wide.json

One process, two threads, batch 1024, float32, the two taking turns. Trained scales are
1 + 0.2·N(0, 1). A ratio is that of the medians.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import machine
import torch
from run import compact
from torch import Tensor

from qkan import QKANLayer

ROOT = Path(__file__).resolve().parent.parent
BATCH, ROUNDS, SEED = 1024, 12, 0
CASES = [
    (width, encoding, inputs)
    for width in (256, 64)
    for encoding, inputs in (
        ("trainable", "N"), ("trainable", "U"), ("trainable", "N, one 1000"), ("linear", "N"),
    )
]  # fmt: skip


def numbers(width: int, inputs: str, generator: torch.Generator) -> Tensor:
    """The inputs (b, i)."""
    if inputs == "U":
        return 2 * torch.rand(BATCH, width, generator=generator) - 1
    x = torch.randn(BATCH, width, generator=generator)
    if inputs != "N":
        x[3, 5] = 1000.0
    return x


def seconds(work: Callable[[], object], calls: int) -> float:
    """Seconds of one call, of several."""
    begun = time.perf_counter()
    for _ in range(calls):
        work()
    return (time.perf_counter() - begun) / calls


def measure(width: int, encoding: str, inputs: str) -> dict[str, Any]:
    """Medians of forward and of forward with backward, and their ratios."""
    generator = torch.Generator().manual_seed(SEED)
    layer = QKANLayer(width, width, encoding=encoding, generator=generator)
    if encoding == "trainable":
        with torch.no_grad():
            layer.scale.add_(0.2 * torch.randn(layer.scale.shape, generator=generator))
    models = {"qkan": layer, "linear": torch.nn.Linear(width, width)}
    x = numbers(width, inputs, generator).requires_grad_()
    grad = torch.randn(BATCH, width, generator=generator)

    def forward(model: torch.nn.Module) -> None:
        with torch.no_grad():
            model(x)

    def step(model: torch.nn.Module) -> None:
        model.zero_grad()
        x.grad = None
        model(x).backward(grad)

    found: dict[str, Any] = {}
    for name, work in (("forward", forward), ("step", step)):
        rounds: dict[str, list[float]] = {"qkan": [], "linear": []}
        for turn in range(ROUNDS + 2):
            for who, model in models.items():
                one = seconds(partial(work, model), 1 if who == "qkan" else 4)
                if turn >= 2:
                    rounds[who].append(one)
        medians = {who: statistics.median(times) for who, times in rounds.items()}
        found[name] = {**medians, "ratio": medians["qkan"] / medians["linear"]}
    return found


def main() -> None:
    """Measure every case, and write the file."""
    torch.set_num_threads(2)
    record: dict[str, Any] = {
        "run": "wide", "written": machine.now(), **machine.commit(),
        "machine": machine.machine(), "seed": SEED, "rounds": ROUNDS, "batch": BATCH,
        "versions": {name: metadata.version(name) for name in ("torch", "numba", "numpy")},
        "cases": {},
    }  # fmt: skip
    for width, encoding, inputs in CASES:
        found = measure(width, encoding, inputs)
        record["cases"][f"{width} {encoding} {inputs}"] = found
        print(width, encoding, inputs, json.dumps(found), flush=True)
    record["load_average"] = machine.load()["average"]
    (ROOT / "benchmarks" / "results" / "wide.json").write_text(compact(record))


if __name__ == "__main__":
    main()
