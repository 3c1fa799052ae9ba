"""exp(sin πx + y²) read back from points by the recipe of the README, on twenty seeds.

Run     python experiments formula           (three minutes on one core)
Writes  out/formula/formula.json, and network.png: the picture of the README
Expect  at least 18 of 20 seeds give exp(y**2 + sin(pi*x)), which is the function itself

A seed rules the points and the start, as `torch.manual_seed(seed)` does in the README. There is
one start a seed: train, train for few edges, prune, train what is left, read. The formula is
compared with the function on points that were not trained on.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from shared.record import ROOT, write
from torch import Tensor
from tqdm import tqdm

from qkan import QKAN, fit, plot, prune, sparse_loss, symbolic
from qkan.interpret.formula import Formula

WANTED = "exp(y**2 + sin(pi*x))"
SEEDS = range(20)
POINTS, STEPS, STRENGTH = 1000, 20, 3e-3


@dataclass
class Reading:
    """What one seed gave.

    Attributes:
        seed: Rules the points and the start.
        widths: Those of the pruned network.
        test_mse: The pruned network's error on points that were held out.
        formula: What was read.
        formula_test_mse: The formula's error on the same points.
        found: Whether the formula is the function.
        seconds: For all of it.
    """

    seed: int
    widths: list[int]
    test_mse: float
    formula: str
    formula_test_mse: float
    found: bool
    seconds: float


def target(x: Tensor) -> Tensor:
    """(n, 2) → (n, 1)."""
    return torch.exp(torch.sin(torch.pi * x[:, :1]) + x[:, 1:] ** 2)


def read(
    seed: int, points: int = POINTS, steps: int = STEPS
) -> tuple[Reading, QKAN, Formula, Tensor]:
    """Go through the recipe once; also return the network, its formula and the training inputs."""
    begin = time.perf_counter()
    torch.manual_seed(seed)
    x = torch.rand(2 * points, 2, dtype=torch.float64) * 2 - 1
    train, test = (x[:points], target(x[:points])), (x[points:], target(x[points:]))
    model = QKAN([2, 5, 1], input_range=(-1, 1), dtype=torch.float64)
    fit(model, train, steps=steps, progress=False)
    with sparse_loss(model, STRENGTH) as loss:
        fit(model, train, loss=loss, steps=steps, progress=False)
    model = prune(model, train[0])
    fit(model, train, steps=steps, progress=False)
    formula = symbolic(model, train[0], forms="elementary", names=["x", "y"])
    text = str(formula.expr)
    with torch.no_grad():
        error, read_error = (
            float((f(test[0]) - test[1]).square().mean()) for f in (model, formula)
        )
    seconds = time.perf_counter() - begin
    found = Reading(
        seed, [*model.widths], error, text, read_error, found=text == WANTED, seconds=seconds
    )
    return found, model, formula, train[0]


def summary(readings: list[Reading]) -> dict[str, Any]:
    """How many seeds gave the function, and the errors of their networks."""
    errors = sorted(reading.test_mse for reading in readings)
    return {
        "found": sum(reading.found for reading in readings),
        "seeds": len(readings),
        "lowest_test_mse": errors[0],
        "highest_test_mse": errors[-1],
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="how many, from 0 on")
    parser.add_argument("--points", type=int, default=POINTS)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "formula")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    readings = []
    for seed in tqdm(range(options.seeds), desc="formula", unit="seed", disable=None):
        reading, model, formula, x = read(seed, options.points, options.steps)
        readings.append(reading)
        if seed == 0:
            options.out.mkdir(parents=True, exist_ok=True)
            figure = plot(model, x, names=["x", "y"], outputs=["f"], formula=formula)
            figure.savefig(options.out / "network.png", dpi=150)
        print(f"seed {seed}: {reading.formula}, test MSE of the network {reading.test_mse:.1e}")
    path = write(
        options.out / "formula.json",
        experiment="exp(sin πx + y²) read back from points, one start a seed",
        settings={
            "points": options.points, "steps": options.steps, "strength": STRENGTH,
            "stages": "fit, sparse_loss, prune, fit, symbolic(forms='elementary')",
            "dtype": "float64", "seeds": [*range(options.seeds)], "wanted": WANTED,
        },
        summary=summary(readings),
        samples=[asdict(reading) for reading in readings],
    )  # fmt: skip
    print(f"\nWrote {path}")
