"""Sunspots eleven years ahead: fast weights and recurrent networks beside simple rules.

Run     python experiments sunspots                   all rows, five seeds, 12,474 parameters
        python experiments sunspots --parameters 2000 6000 25000 --seeds 1
        python experiments sunspots --published       the published protocol, two rows, one seed
        python experiments sunspots --rows LSTM GRU   a part of the rows
Needs   pip install statsmodels==0.15.0
Reads   sunspots_monthly.csv in the folder QKAN_DATA names
Writes  experiments/results/sunspots.json after every run, and docs/images/sunspots.png

528 months are given and the next 132 are forecast at once, as in arXiv 2605.06734, whose model of
12,474 parameters is the first row. The windows are cut in the order of time, 80 % to train, 10 % to
validate, 10 % to test. A window is left out of a part if it forecasts a month that the next part
forecasts too, and the scale is that of the months which the training windows see.

Every network has the same recipe and no tuning: Adam at the rate of the published study, the
squared error, and the moment with the lowest validation error. Gates of fast weights begin with a
memory of a cycle. The rules need no seed: the last cycle again; a linear map of all 528 months, by
ridge regression whose penalty the validation windows choose; exponential smoothing with a season of
132 months (statsmodels), fitted to each window by itself; the mean of the training months.

`--published` follows the published protocol: the scale of the whole series, test part included, no
window left out, and a loss that weighs peaks; but for `PUBLISHED_STEPS` steps instead of 6,600.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from shared.record import ROOT, environment
from shared.runs import Runs
from torch import Tensor
from tqdm import tqdm

from sequences.models import networks, sized
from sequences.series import Task, Windows, sunspots, task
from sequences.sunspots_report import OURS, finals, table
from sequences.training import Recipe, errors, peak_aware, train

LENGTH, HORIZON, PARAMETERS = 528, 132, 12_474
RECIPE = Recipe(steps=300, rate=2.5e-3, batch=32, looks=15)
PUBLISHED_STEPS = 600
PUBLISHED_ROWS = (OURS, "LSTM")
SEEDS = 5
PENALTIES = tuple(10.0**power for power in range(-3, 6))
RECORD = {
    "experiment": "sunspots, 528 months to the next 132",
    "settings": {
        "data": "monthly mean total sunspot number, WDC-SILSO, Royal Observatory of Belgium, "
        "Brussels, CC BY-NC 4.0",
        "length": LENGTH, "horizon": HORIZON, "split": "80, 10 and 10 % of the windows",
        "optimizer": f"Adam, rate {RECIPE.rate}", "batch": RECIPE.batch,
        "selection": f"lowest validation error of {RECIPE.looks} moments", "threads": 1,
        "penalties": PENALTIES, "published_steps": PUBLISHED_STEPS,
        "curve": "[step, validation error in sunspots]",
    },
}  # fmt: skip


def again(x: Tensor) -> Tensor:
    """The last cycle once more."""
    return x[:, -HORIZON:]


def smoothed(x: Tensor) -> Tensor:
    """Exponential smoothing with an additive season of a cycle, for each window by itself."""
    try:
        from statsmodels.tsa.holtwinters import ExponentialSmoothing
    except ImportError as error:
        raise SystemExit("The seasonal row needs: pip install statsmodels==0.15.0") from error
    found = []
    for row in tqdm(x.double().numpy(), desc="seasonal", disable=None):
        model = ExponentialSmoothing(
            row, seasonal="add", seasonal_periods=HORIZON, initialization_method="heuristic"
        )
        found.append(model.fit().forecast(HORIZON))
    return torch.tensor(np.array(found), dtype=torch.float32)


def ridge(train: Windows, penalty: float) -> Callable[[Tensor], Tensor]:
    """A linear map of windows by ridge regression on centred inputs, in double precision."""
    x, y = train.x.double(), train.y.double()
    middle, mean = x.mean(0), y.mean(0)
    centred = x - middle
    gram = centred.T @ centred / len(x) + penalty * torch.eye(x.shape[1], dtype=x.dtype)
    weight = torch.linalg.solve(gram, centred.T @ (y - mean) / len(x))
    return lambda given: ((given.double() - middle) @ weight + mean).float()


def rules(given: Task) -> dict[str, dict[str, Any]]:
    """The errors of what is not trained by steps, by name."""
    maps = {penalty: ridge(given.train, penalty) for penalty in PENALTIES}
    checked = {
        penalty: errors(map(given.validation.x), given.validation, given)["rmse"]
        for penalty, map in maps.items()
    }
    best = min(checked, key=checked.__getitem__)
    mean = given.train.x.mean()
    x = given.test.x
    found = {
        "last cycle again": (again(x), 0),
        "linear map": (maps[best](x), LENGTH * HORIZON + HORIZON),
        "exponential smoothing": (smoothed(x), 3),
        "mean": (mean.expand(len(x), HORIZON), 1),
    }
    results = {
        name: {"parameters": count, **errors(forecast, given.test, given)}
        for name, (forecast, count) in found.items()
    }
    results["linear map"] |= {"penalty": best, "validation_rmse": checked[best]}
    return results


def run(name: str, parameters: int, seed: int, recipe: Recipe, given: Task) -> dict[str, Any]:
    """Train one network of about that many parameters and test it."""
    make = networks(HORIZON)[name]
    size = sized(make, LENGTH, HORIZON, parameters)
    built = functools.partial(make, LENGTH, HORIZON, size)
    return {**train(built, given, recipe, seed), "size": size, "environment": environment()}


def study(runs: Runs, names: list[str], parameters: list[int], seeds: int, steps: int) -> None:
    """The rules once, and all networks of one seed before the next seed."""
    given = task(sunspots(), LENGTH, HORIZON)
    runs.get({"rows": "rules"}, lambda: {**rules(given), "environment": environment()})
    recipe = Recipe(steps, RECIPE.rate, RECIPE.batch, RECIPE.looks)
    jobs = [(seed, n, name) for seed in range(1, seeds + 1) for n in parameters for name in names]
    for seed, count, name in tqdm(jobs, desc="networks", disable=None):
        settings = {
            "row": name, "parameters": count, "seed": seed, "steps": steps, "rate": recipe.rate,
            "published": False,
        }  # fmt: skip
        runs.get(settings, functools.partial(run, name, count, seed, recipe, given))


def published(runs: Runs, steps: int) -> None:
    """The published protocol with what it lets through, once."""
    given = task(sunspots(), LENGTH, HORIZON, whole=True)
    recipe = Recipe(steps, RECIPE.rate, RECIPE.batch, RECIPE.looks, peak_aware)
    for name in PUBLISHED_ROWS:
        settings = {
            "row": name, "parameters": PARAMETERS, "seed": 1, "steps": steps, "rate": recipe.rate,
            "published": True,
        }  # fmt: skip
        runs.get(settings, functools.partial(run, name, PARAMETERS, 1, recipe, given))


def figure(found: dict[str, dict[int, dict[str, Any]]], path: Path) -> Path:
    """The test error of every run, row by row, beside the rules."""
    from shared import figures
    from shared.figures import plt

    def middle(name: str) -> float:
        return float(np.mean([result["rmse"] for result in found[name].values()]))

    names = sorted(found, key=middle, reverse=True)
    with plt.rc_context(figures.STYLE):
        drawing, ax = plt.subplots(figsize=(7.2, 0.34 * len(names) + 1), layout="constrained")
        for place, name in enumerate(names):
            values = [result["rmse"] for result in found[name].values()]
            network = 0 not in found[name]
            colour = figures.BLUE if name.startswith(("fast", "QKAN")) else figures.ORANGE
            colour = colour if network else figures.GREY
            ax.plot(values, [place] * len(values), "o", color=colour, alpha=0.6, markersize=5)
            ax.plot([middle(name)], [place], "|", color="black", markersize=12)
        ax.set_yticks(range(len(names)), names)
        ax.set_xlabel("test error, root mean square over 132 months (sunspots)")
        ax.set_title("528 months → the next 132; a dot a seed", loc="left")
        return figures.save(drawing, path)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    known = [*networks(HORIZON)]
    parser.add_argument("--rows", nargs="+", choices=known, metavar="ROW", help="; ".join(known))
    parser.add_argument("--parameters", type=int, nargs="+", default=[PARAMETERS])
    parser.add_argument("--seeds", type=int, default=SEEDS, help="how many, from 1 on")
    parser.add_argument("--steps", type=int, help="of a training")
    parser.add_argument("--published", action="store_true", help="the published protocol instead")
    parser.add_argument("--out", type=Path, help="a folder for the JSON and the figure")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    out = options.out
    runs = Runs((out or ROOT / "experiments" / "results") / "sunspots.json", RECORD)
    if options.published:
        published(runs, options.steps or PUBLISHED_STEPS)
    else:
        rows, steps = options.rows or known, options.steps or RECIPE.steps
        study(runs, rows, options.parameters, options.seeds, steps)
    found = finals(runs.done)
    print("\n".join(table(found)))
    if found:
        # the size with the most runs, whichever was asked for last
        size = max(found, key=lambda count: sum(map(len, found[count].values())))
        path = figure(found[size], (out or ROOT / "docs" / "images") / "sunspots.png")
        print(f"\nWrote {runs.path}\n      {path}")
