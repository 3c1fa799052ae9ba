"""exp(sin πx + y²) read back from points by the recipe of the README, on eight seeds.

Run     python experiments formula           (two minutes on one core)
Writes  out/formula/formula.json, and network.png: the picture of the README
Expect  8 of 8 seeds give exp(y**2 + sin(pi*x)), which is the function itself

A seed rules the points and the starts, as `torch.manual_seed(seed)` does in the README. A start
can keep a node too many, which no training takes away. So there are four starts a seed: each
is trained for few edges and pruned, the smallest network is trained on and read. The formula is
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

from qkan import (
    QKAN,
    effective_parameters,
    fit,
    fit_extending,
    plot,
    prune,
    sparse_loss,
    symbolic,
)
from qkan.interpret.formula import Formula

WANTED = "exp(y**2 + sin(pi*x))"
SEEDS = range(8)
POINTS, STEPS, STARTS, STRENGTH = 500, 10, 4, 5e-2


@dataclass
class Reading:
    """What one seed gave.

    Attributes:
        seed: Rules the points and the start.
        widths: Those of the pruned network.
        hidden: The hidden nodes that each start kept.
        test_mse: The pruned network's error on points that were held out.
        formula: What was read.
        formula_test_mse: The formula's error on the same points.
        found: Whether the formula is the function.
        seconds: For all of it.
    """

    seed: int
    widths: list[int]
    hidden: list[int]
    test_mse: float
    formula: str
    formula_test_mse: float
    found: bool
    seconds: float


def target(x: Tensor) -> Tensor:
    """(n, 2) → (n, 1)."""
    return torch.exp(torch.sin(torch.pi * x[:, :1]) + x[:, 1:] ** 2)


def pruned(train: tuple[Tensor, Tensor], steps: int) -> QKAN:
    """Train one start for few edges, and take away those that do not matter."""
    model = QKAN([2, 5, 1], reps=1, input_range=(-1, 1), dtype=torch.float64)
    with sparse_loss(model, STRENGTH) as loss:
        fit(model, train, loss=loss, steps=steps, progress=False)
    return prune(model, train[0])


def read(
    seed: int, points: int = POINTS, steps: int = STEPS
) -> tuple[Reading, QKAN, Formula, Tensor]:
    """Go through the recipe once; also return the network, its formula and the training inputs."""
    begin = time.perf_counter()
    torch.manual_seed(seed)
    x = torch.rand(2 * points, 2, dtype=torch.float64) * 2 - 1
    train, test = (x[:points], target(x[:points])), (x[points:], target(x[points:]))
    starts = [pruned(train, steps) for _ in range(STARTS)]
    small = min(starts, key=effective_parameters)
    model, _ = fit_extending(small, train, reps=[1, 3], steps=steps, progress=False)
    formula = symbolic(model, train[0], forms="elementary", names=["x", "y"])
    text = str(formula.expr)
    with torch.no_grad():
        error, read_error = (
            float((f(test[0]) - test[1]).square().mean()) for f in (model, formula)
        )
    seconds = time.perf_counter() - begin
    found = Reading(
        seed,
        [*model.widths],
        [start.widths[1] for start in starts],
        error,
        text,
        read_error,
        found=text == WANTED,
        seconds=seconds,
    )
    return found, model, formula, train[0]


def summary(readings: list[Reading]) -> dict[str, Any]:
    """How many seeds gave the function, and the errors of their networks."""
    errors = sorted(reading.test_mse for reading in readings)
    return {
        "found": sum(reading.found for reading in readings),
        "seeds": len(readings),
        "starts": sum(len(reading.hidden) for reading in readings),
        "starts_of_one_node": sum(reading.hidden.count(1) for reading in readings),
        "lowest_test_mse": errors[0],
        "highest_test_mse": errors[-1],
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="how many, from 0 on")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--points", type=int, default=POINTS)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "formula")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    readings = []
    for seed in tqdm(
        range(options.first, options.first + options.seeds),
        desc="formula",
        unit="seed",
        disable=None,
    ):
        reading, model, formula, x = read(seed, options.points, options.steps)
        readings.append(reading)
        if seed == options.first:
            options.out.mkdir(parents=True, exist_ok=True)
            figure = plot(model, x, names=["x", "y"], outputs=["f"], formula=formula)
            figure.savefig(options.out / "network.png", dpi=150)
        print(f"seed {seed}: {reading.formula}, test MSE of the network {reading.test_mse:.1e}")
    path = write(
        options.out / "formula.json",
        experiment="exp(sin πx + y²) read back from points, four starts a seed",
        settings={
            "points": options.points, "steps": options.steps, "strength": STRENGTH,
            "starts": STARTS,
            "stages": "sparse_loss, prune, fit_extending, symbolic(forms='elementary')",
            "dtype": "float64", "seeds": [reading.seed for reading in readings], "wanted": WANTED,
        },
        summary=summary(readings),
        samples=[asdict(reading) for reading in readings],
    )  # fmt: skip
    print(f"\nWrote {path}")
