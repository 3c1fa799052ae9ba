"""Where the trained scales of a QKAN begin: at 1, higher, spread over repetitions, or drawn.

Run     python experiments starts     (goes on where an interrupted run stopped)
Writes  out/starts/starts.json
Expect  no start that is better on what it was not chosen on; see the record.

`reset_parameters` begins every trained scale at 1. Nine tasks, inputs in [-1, 1] or standardised,
none with `input_range`, in float32: exp(sin πx + y²) and six of Feynman's equations by
QKAN([inputs, 5, 1]) and `fit(optimizer="lbfgs", steps=20)`, the diabetes table by the same network
and digits by QKAN([64, 10]), both by 200 full-batch steps of Adam. A seed rules points or split,
and the start;
the test part is looked at once, after the last step. The start is chosen by the geometric mean of
its error over that of 1 on the first half of the tasks, `CHOSEN_ON`, with seeds of its own, and
compared to 1 on all nine with ten other seeds. A task counts as worse where the median of the ten
ratios is above 1 by more than its standard error.
"""

from __future__ import annotations

import argparse
import functools
import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from shared.compare import geometric_mean
from shared.record import ROOT, write
from shared.runs import Runs
from torch import Tensor
from torch.nn import functional as F

from functions.fitting import run_all
from functions.targets import TARGETS, draw
from qkan import QKAN, QKANLayer, fit

REGRESSION = "exp(sin πx + y²)"
CHOSEN_ON = (REGRESSION, "I.6.20", "I.16.6", "I.26.2")
OTHERS = ("I.27.6", "I.30.3", "I.50.26", "diabetes", "digits")
SIZES = {"train": 1000, "test": 1000}
STEPS = {"lbfgs": 20, "adam": 200}
CHOOSING_SEEDS, SEEDS = range(100, 103), range(10)

Batch = tuple[Tensor, Tensor]


def _constant(value: float) -> Callable[[QKANLayer, torch.Generator], Tensor]:
    return lambda layer, generator: torch.full_like(layer.scale, value)


def _spread(low: float, high: float) -> Callable[[QKANLayer, torch.Generator], Tensor]:
    def scales(layer: QKANLayer, generator: torch.Generator) -> Tensor:
        return torch.linspace(low, high, layer.scale.shape[-1]).expand_as(layer.scale)

    return scales


def _drawn(low: float, high: float) -> Callable[[QKANLayer, torch.Generator], Tensor]:
    def scales(layer: QKANLayer, generator: torch.Generator) -> Tensor:
        unit = torch.rand(layer.scale.shape, generator=generator)
        return low * (high / low) ** unit

    return scales


STARTS = {
    "1": _constant(1.0),
    "1.25": _constant(1.25),
    "π/2": _constant(math.pi / 2),
    "1 to 2 by repetition": _spread(1.0, 2.0),
    "drawn from 1 to 2": _drawn(1.0, 2.0),
    "drawn from 1/2 to 2": _drawn(0.5, 2.0),
}
"""The scales of a layer, by name; drawn ones are uniform in their logarithm."""


def parts(task: str, seed: int) -> tuple[Batch, Batch]:
    """Training and test part of a task, in float32."""
    if task in TARGETS:
        data = draw(TARGETS[task], (SIZES["train"], 1, SIZES["test"]), seed)
        return tuple((x.float(), y.float()) for x, y in (data.train, data.test))  # type: ignore[return-value]
    from sklearn.datasets import load_diabetes, load_digits

    x, y = (load_digits if task == "digits" else load_diabetes)(return_X_y=True)
    inputs, wanted = torch.as_tensor(x).float(), torch.as_tensor(y)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    test, train = order.split([len(x) // 4, len(x) - len(x) // 4])
    if task == "digits":
        inputs = inputs / 8 - 1
    else:
        inputs = (inputs - inputs[train].mean(0)) / inputs[train].std(0)
        wanted = ((wanted - wanted[train].mean()) / wanted[train].std()).float().unsqueeze(1)
    return (inputs[train], wanted[train]), (inputs[test], wanted[test])


def run(job: dict[str, Any]) -> dict[str, float]:
    """Train once; the test error is a root mean square, and a cross entropy for digits."""
    task, seed = job["task"], job["seed"]
    train, test = parts(task, seed)
    generator = torch.Generator().manual_seed(seed)
    widths = [64, 10] if task == "digits" else [train[0].shape[1], 5, 1]
    model = QKAN(widths, generator=generator)
    with torch.no_grad():
        for layer in model.layers:
            layer.scale.copy_(STARTS[job["start"]](layer, generator))
    loss = F.cross_entropy if task == "digits" else F.mse_loss
    optimizer = "lbfgs" if task in TARGETS else "adam"
    options = {} if optimizer == "lbfgs" else {"batch_size": len(train[0])}
    fit(
        model, train, optimizer=optimizer, steps=job["steps"][optimizer], loss=loss,
        progress=False, **options,
    )  # fmt: skip
    with torch.no_grad():
        error = loss(model(test[0]), test[1]).item()
    return {"test_error": error if task == "digits" else error**0.5}


def jobs(tasks: Sequence[str], starts: Sequence[str], seeds: range) -> list[dict[str, Any]]:
    """All combinations, as what `Runs` knows them by."""
    return [
        {"task": task, "start": start, "seed": seed, "steps": STEPS}
        for seed in seeds for task in tasks for start in starts
    ]  # fmt: skip


def ratios(
    many: Sequence[dict[str, Any]], found: Sequence[dict[str, float]], start: str
) -> dict[str, list[float]]:
    """Errors of a start over those of 1, by task, in the order of the seeds."""
    errors = {
        (job["task"], job["start"], job["seed"]): result["test_error"]
        for job, result in zip(many, found, strict=True)
    }
    table: dict[str, list[float]] = {}
    for task, name, seed in errors:
        if name == start:
            ratio = errors[task, start, seed] / errors[task, "1", seed]
            table.setdefault(task, []).append(ratio)
    return table


def verdict(table: dict[str, list[float]]) -> list[dict[str, Any]]:
    """Of every task the median ratio, its standard error, and whether it is worse by more."""
    rows = []
    for task, values in table.items():
        # the standard error of a median of normal numbers, in logarithms
        spread = 1.2533 * statistics.stdev(map(math.log, values)) / math.sqrt(len(values))
        middle = statistics.median(values)
        rows.append({
            "task": task, "chosen_on": task in CHOSEN_ON, "median_ratio": middle,
            "standard_error_of_its_logarithm": spread,
            "worse": math.log(middle) > spread, "ratios": values,
        })  # fmt: skip
    return rows


def main(arguments: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--workers", type=int, default=1, help="processes")
    options.add_argument("--out", type=Path, default=ROOT / "out" / "starts")
    chosen = options.parse_args(arguments)
    do = functools.partial(run_all, work=run, workers=chosen.workers)
    runs = Runs(chosen.out / "runs.json")
    first = jobs(CHOSEN_ON, [*STARTS], CHOOSING_SEEDS)
    found = do(first, runs=runs)
    tables = {start: ratios(first, found, start) for start in STARTS if start != "1"}
    means = {
        start: geometric_mean([ratio for row in table.values() for ratio in row])
        for start, table in tables.items()
    }
    best = min(means, key=lambda start: means[start])
    print({start: round(mean, 3) for start, mean in means.items()}, "chosen:", best)
    second = jobs((*CHOSEN_ON, *OTHERS), ["1", best], SEEDS)
    again = do(second, runs=runs)
    rows = verdict(ratios(second, again, best))
    for row in rows:
        print(f"{row['task']:<20} {row['median_ratio']:.2f}  worse: {row['worse']}")
    write(
        chosen.out / "starts.json",
        experiment="the start of trained scales",
        settings={
            "starts": [*STARTS], "chosen_on": CHOSEN_ON, "others": OTHERS, "points": SIZES,
            "steps": STEPS, "choosing_seeds": [*CHOOSING_SEEDS], "seeds": [*SEEDS],
            "dtype": "float32",
        },
        choice={"geometric_mean_ratios": means, "ratios": tables, "best": best},
        summary=rows,
        runs=[{**job, **result} for job, result in zip(second, again, strict=True)],
    )  # fmt: skip
    print("record:", chosen.out / "starts.json")


if __name__ == "__main__":
    main()
