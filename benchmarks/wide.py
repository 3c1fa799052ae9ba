"""Wide layers beside `nn.Linear` of the same shape: inputs U(-1, 1), N(0, 1), and one outlier.

Run     python benchmarks/wide.py, a minute on a quiet machine
Writes  benchmarks/results/wide.json

One process, two threads, batch 1024, float32, the two taking turns. Trained scales are
1 + 0.2·N(0, 1). A ratio is that of the medians. "products" are the matrix products of the layer
alone, one for each feature of an input and one for its base: below their ratio no layer can come
that multiplies features by coefficients.
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
from qkan.interpret.explain import request_of
from qkan.simulators.registry import get_engine

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


def columns(layer: QKANLayer, x: Tensor) -> int:
    """Columns of the product for each input: its features and its base."""
    engine: Any = get_engine("fourier" if layer.encoding == "linear" else "chebyshev")
    found = engine.expansion(request_of(layer, x), x.detach(), layer.scale.detach())
    return 1 + int(found.count)


class Products(torch.nn.Module):
    """The products of a layer with so many columns for each input, and nothing else."""

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.features = torch.randn(BATCH, count * width, requires_grad=True)
        self.coefficients = torch.nn.Parameter(torch.randn(count * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """The output (b, o), whatever x is."""
        self.features.grad = None
        return self.features @ self.coefficients


def measure(width: int, encoding: str, inputs: str) -> dict[str, Any]:
    """Medians of forward and of forward with backward, and their ratios."""
    generator = torch.Generator().manual_seed(SEED)
    layer = QKANLayer(width, width, encoding=encoding, generator=generator)
    if encoding == "trainable":
        with torch.no_grad():
            layer.scale.add_(0.2 * torch.randn(layer.scale.shape, generator=generator))
    x = numbers(width, inputs, generator).requires_grad_()
    count = columns(layer, x)
    models = {
        "qkan": layer, "products": Products(width, count), "linear": torch.nn.Linear(width, width)
    }  # fmt: skip
    grad = torch.randn(BATCH, width, generator=generator)

    def forward(model: torch.nn.Module) -> None:
        with torch.no_grad():
            model(x)

    def step(model: torch.nn.Module) -> None:
        model.zero_grad()
        x.grad = None
        model(x).backward(grad)

    found: dict[str, Any] = {"columns": count}
    for name, work in (("forward", forward), ("step", step)):
        rounds: dict[str, list[float]] = {who: [] for who in models}
        for turn in range(ROUNDS + 2):
            for who, model in models.items():
                one = seconds(partial(work, model), 4 if who == "linear" else 1)
                if turn >= 2:
                    rounds[who].append(one)
        medians = {who: statistics.median(times) for who, times in rounds.items()}
        found[name] = {
            **medians,
            "ratio": medians["qkan"] / medians["linear"],
            "products_ratio": medians["products"] / medians["linear"],
        }
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
