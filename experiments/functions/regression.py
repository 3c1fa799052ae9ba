"""exp(sin πx + y²) with QKAN[2, 5, 1]: the test error of fifteen starts, none repeated or left out.

Run     python experiments regression        (two minutes on one core)
Writes  out/regression/regression.json
Expect  median test MSE, goal 2.8e-5:        float32    float64
          input_range=(-1, 1)                7.9e-6     6.1e-6
          inputs as they are                 3.1e-5     2.1e-5
        Another machine or engine rounds otherwise, and 400 iterations magnify that: single seeds
        differ by factors, the first row's medians stay well below the goal.

A seed rules the points and the start. 1,000 training and 1,000 test points, uniform in [-1, 1]²;
pz, reps 3, trainable encoding; 20 steps of qkan.LBFGS, each of 20 inner iterations, lr 1,
strong Wolfe line search; the test points are looked at once, after the last step.

`input_range=(-1, 1)` maps the inputs to [-π/2, π/2], so that the circuits start with as much
curvature as the data has room for. It was chosen on other seeds (100 to 139: median 8.8e-6 with it,
2.2e-5 without), and the table has both.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from shared.record import ROOT, write
from torch import Tensor
from tqdm import tqdm

from qkan import QKAN, History, effective_parameters, fit

FORMULA = "exp(sin πx + y²)"
WIDTHS = [2, 5, 1]
REPS = 3
STEPS = 20
POINTS = 1000
SEEDS = range(15)
GOAL = 2.8e-5
RANGE = (-1.0, 1.0)

Pair = tuple[Tensor, Tensor]


@dataclass
class Trial:
    """One start, trained and tested."""

    seed: int
    model: QKAN
    history: History
    train: Pair
    train_mse: float
    test_mse: float
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        names = ("seed", "train_mse", "test_mse", "seconds")
        return {name: getattr(self, name) for name in names} | {"history": self.history.to_dict()}


def target(x: Tensor) -> Tensor:
    """(…, 2) → (…, 1)."""
    return torch.exp(torch.sin(math.pi * x[..., :1]) + x[..., 1:] ** 2)


def sample(points: int, generator: torch.Generator, dtype: torch.dtype) -> Pair:
    # drawn in float64, so that both precisions see the same points
    x = 2 * torch.rand(points, 2, generator=generator, dtype=torch.float64) - 1
    return x.to(dtype), target(x).to(dtype)


def run(
    seed: int,
    *,
    dtype: torch.dtype = torch.float32,
    input_range: tuple[float, float] | None = RANGE,
    points: int = POINTS,
    steps: int = STEPS,
) -> Trial:
    """Draw points and a start from the seed, train, then test once."""
    generator = torch.Generator().manual_seed(seed)
    train, test = (sample(points, generator, dtype) for _ in range(2))
    model = QKAN(
        WIDTHS, reps=REPS, encoding="trainable", input_range=input_range,
        generator=generator, dtype=dtype,
    )  # fmt: skip
    begin = time.perf_counter()
    history = fit(model, train, optimizer="lbfgs", steps=steps, progress=False)
    seconds = time.perf_counter() - begin
    if history.interrupted:
        raise KeyboardInterrupt
    return Trial(seed, model, history, train, mse(model, train), mse(model, test), seconds)


@torch.no_grad()
def mse(model: QKAN, pair: Pair) -> float:
    x, y = pair
    return (model(x) - y).square().mean().item()


def run_all(seeds: Iterable[int] = SEEDS, **options: Any) -> list[Trial]:
    bar = tqdm(list(seeds), desc="regression", unit="seed", disable=None)
    return [run(seed, **options) for seed in bar]


def median_trial(trials: list[Trial]) -> Trial:
    """The trial in the middle by test error; of an even number the lower one."""
    return sorted(trials, key=lambda trial: trial.test_mse)[(len(trials) - 1) // 2]


def summary(trials: list[Trial]) -> dict[str, float]:
    errors = [trial.test_mse for trial in trials]
    return {
        "median_test_mse": statistics.median(errors),
        "lowest_test_mse": min(errors),
        "highest_test_mse": max(errors),
        "median_train_mse": statistics.median(trial.train_mse for trial in trials),
        "median_seconds": statistics.median(trial.seconds for trial in trials),
    }


def settings(seeds: Iterable[int], points: int = POINTS, steps: int = STEPS) -> dict[str, Any]:
    return {
        "formula": FORMULA,
        "widths": WIDTHS,
        "ansatz": "pz",
        "reps": REPS,
        "encoding": "trainable",
        "parameters": effective_parameters(QKAN(WIDTHS, reps=REPS)),
        "inputs": "uniform in [-1, 1]², input_range (-1, 1) unless the name says otherwise",
        "training_points": points,
        "test_points": points,
        "optimizer": "qkan.LBFGS, max_iter 20, lr 1, strong Wolfe",
        "steps": steps,
        "seeds": list(seeds),
        "seed_rules": "points and start; one start a seed, no restart",
    }


def print_trials(name: str, trials: list[Trial]) -> None:
    print(f"\n{FORMULA}, QKAN{WIDTHS}, {name}")
    print(f"{'seed':>6} {'train MSE':>11} {'test MSE':>11} {'seconds':>9}")
    for t in trials:
        print(f"{t.seed:>6} {t.train_mse:>11.2e} {t.test_mse:>11.2e} {t.seconds:>9.1f}")
    s = summary(trials)
    reached = "reached" if s["median_test_mse"] <= GOAL else "NOT reached"
    print(f"median {s['median_train_mse']:>11.2e} {s['median_test_mse']:>11.2e} "
          f"{s['median_seconds']:>9.1f}   goal ≤ {GOAL:.1e}: {reached}")  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="how many, from 0 on")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--dtypes", nargs="+", default=["float32", "float64"])
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "regression")
    options = parser.parse_args(arguments)
    # models this small only wait for a second thread
    torch.set_num_threads(1)
    seeds = range(options.first, options.first + options.seeds)
    trials = {}
    for dtype in options.dtypes:
        for name, input_range in ((dtype, RANGE), (f"{dtype}, no input_range", None)):
            trials[name] = run_all(seeds, dtype=getattr(torch, dtype), input_range=input_range)
    for name, found in trials.items():
        print_trials(name, found)
    path = write(
        options.out / "regression.json",
        experiment=f"{FORMULA} with QKAN{WIDTHS}: test error of one start a seed",
        settings=settings(seeds),
        summary={name: summary(found) for name, found in trials.items()},
        samples={name: [trial.to_dict() for trial in found] for name, found in trials.items()},
    )
    print(f"\nWrote {path}")
