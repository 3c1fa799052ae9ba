"""The next step of three traces: fast weights and recurrent networks beside linear regression.

Run     python experiments dynamics
        python experiments dynamics --rows LSTM GRU         a part of the rows
Reads   jaynes_cummings.csv and transmon.csv in the folder QKAN_DATA names
Writes  experiments/results/dynamics.json after every run, and docs/images/dynamics.png

The traces are a Jaynes-Cummings model, a transmon in a resonator (both simulated, from the
repository of arXiv 2605.06734) and the Bessel function J₂, 3,000 steps each. 16 steps are given and
the next one is asked for. The windows are cut in the order of time, 80 % to train, 10 % to
validate, 10 % to test, and scaled by what the training windows see.

Networks have about 500 parameters each and one untuned recipe: Adam, the squared error, and the
moment with the lowest validation error. Linear regression reads the same 16 steps, and another one
as many steps as the networks have parameters; it is fitted by least squares in double precision.
"""

from __future__ import annotations

import argparse
import functools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from shared.record import ROOT, environment
from shared.runs import Runs
from tqdm import tqdm

from sequences.dynamics_report import by_trace, table
from sequences.models import networks, sized
from sequences.series import task, traces
from sequences.training import Recipe, train

LENGTH, PARAMETERS, MEMORY = 16, 500, 8
RECIPE = Recipe(steps=600, rate=5e-3, batch=64, looks=20)
SEEDS = 5
ROWS = ("fast weights, QKAN slow", "fast weights, linear slow", "LSTM", "GRU", "QKAN-LSTM")
RECORD = {
    "experiment": "the next step of three traces",
    "settings": {
        "length": LENGTH, "parameters": PARAMETERS, "split": "80, 10 and 10 % of the windows",
        "optimizer": f"Adam, rate {RECIPE.rate}", "batch": RECIPE.batch, "memory": MEMORY,
        "selection": f"lowest validation error of {RECIPE.looks} moments", "threads": 1,
        "error": "mean squared error of the test over the variance of the trace",
    },
}  # fmt: skip


def regression(values: np.ndarray, length: int) -> dict[str, float]:
    """Forecast from that many values by least squares, for the test windows of all other rows."""
    windows = np.lib.stride_tricks.sliding_window_view(values, length + 1)
    inputs = np.column_stack([windows[:, :-1], np.ones(len(windows))])
    given = task(values, LENGTH, 1)
    tests = len(given.test.x)
    # the last window of the training forecasts the same step in both rows
    trained = len(given.train.x) - (length - LENGTH)
    weights, *_ = np.linalg.lstsq(inputs[:trained], windows[:trained, -1], rcond=None)
    off = inputs[-tests:] @ weights - windows[-tests:, -1]
    return {"parameters": length + 1, "mse": float(np.mean(off**2) / values.var())}


def rules(values: np.ndarray) -> dict[str, dict[str, float]]:
    """The errors of what is not trained by steps, by name."""
    last = np.diff(values)[-len(task(values, LENGTH, 1).test.x) :]
    return {
        "linear regression": regression(values, LENGTH),
        "linear regression, longer": regression(values, PARAMETERS - 1),
        "last value again": {"parameters": 0, "mse": float(np.mean(last**2) / values.var())},
    }


def run(name: str, values: np.ndarray, seed: int, steps: int) -> dict[str, Any]:
    """Train one network of about that many parameters and test it."""
    make = networks(MEMORY)[name]
    built = functools.partial(make, LENGTH, 1, sized(make, LENGTH, 1, PARAMETERS))
    recipe = Recipe(steps, RECIPE.rate, RECIPE.batch, RECIPE.looks)
    result = train(built, task(values, LENGTH, 1), recipe, seed)
    share = result["rmse"] ** 2 / float(values.var())
    return {**result, "mse": share, "environment": environment()}


def figure(found: dict[str, dict[str, dict[int, dict[str, Any]]]], path: Path) -> Path:
    """The test error of every run, trace by trace and row by row."""
    from shared import figures
    from shared.figures import plt

    with plt.rc_context(figures.STYLE):
        drawing, axes = plt.subplots(
            1, len(found), figsize=(9.6, 3), layout="constrained", sharey=True, squeeze=False
        )
        names = list(dict.fromkeys(name for rows in found.values() for name in rows))[::-1]
        for ax, (trace, rows) in zip(axes[0], found.items(), strict=True):
            for place, name in enumerate(names):
                values = [result["mse"] for result in rows.get(name, {}).values()]
                colour = figures.BLUE if name.startswith(("fast", "QKAN")) else figures.ORANGE
                colour = figures.GREY if 0 in rows.get(name, {}) else colour
                ax.plot(values, [place] * len(values), "o", color=colour, alpha=0.6, markersize=5)
            ax.set(xscale="log", title=trace, xlabel="test error / variance")
        axes[0, 0].set_yticks(range(len(names)), names)
        return figures.save(drawing, path)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    known = [name for name in ROWS if name in networks(MEMORY)]
    parser.add_argument("--rows", nargs="+", choices=known, metavar="ROW", help="; ".join(known))
    parser.add_argument("--seeds", type=int, default=SEEDS, help="how many, from 1 on")
    parser.add_argument("--steps", type=int, default=RECIPE.steps, help="of a training")
    parser.add_argument("--out", type=Path, help="a folder for the JSON and the figure")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    out, series = options.out, traces()
    runs = Runs((out or ROOT / "experiments" / "results") / "dynamics.json", RECORD)
    for name, values in series.items():
        settings = {"rows": "rules", "trace": name}
        runs.get(settings, lambda values=values: {**rules(values), "environment": environment()})
    jobs = [
        (seed, trace, row)
        for seed in range(1, options.seeds + 1)
        for trace in series
        for row in options.rows or known
    ]
    for seed, trace, row in tqdm(jobs, desc="networks", disable=None):
        settings = {
            "row": row, "trace": trace, "seed": seed, "steps": options.steps, "rate": RECIPE.rate,
            "parameters": PARAMETERS,
        }  # fmt: skip
        work = functools.partial(run, row, series[trace], seed, options.steps)
        runs.get(settings, work)
    found = by_trace(runs.done)
    print("\n".join(table(found)))
    path = figure(found, (out or ROOT / "docs" / "images") / "dynamics.png")
    print(f"\nWrote {runs.path}\n      {path}")
