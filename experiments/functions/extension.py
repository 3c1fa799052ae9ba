"""exp(sin πx + y²) with QKAN[2, 5, 1]: growing from 1 to 20 repetitions, or 20 from the start.

Run     python experiments extension        (ten minutes on one core)
Writes  out/extension/extension.json and extension.png
Expect  see experiments/results/extension.json; the goal is a median test MSE of 1.2e-7 after
        growing (qkan 0.2.3 reports 1.24e-7 for one run, and 7.66e-7 for 20 from the start).

A seed rules the points and the start. Points are uniform in [-1, 1]²; pz, trainable encoding,
float64, input_range (-1, 1). Growing: 100 steps of LBFGS at each of 1, 5, 10, 15 and 20
repetitions, which `extend` connects without changing the function. From the start: 5 × 100 at 20.
LBFGS starts anew every 100 steps in both.

A step is 10 iterations of torch.optim.LBFGS with the strong Wolfe line search, half of torch's
default, a history of 100, and tolerances of 0: torch's own, 1e-7 and 1e-9, end every step early
once the loss is below about 1e-6. With 966 parameters on 1,000 points test errors are two to
three times the training errors, so there are 2,000 points; the table has both. The recipe was
chosen among some eight on seeds 0 to 4 and 100 to 104 (float32 and float64, `rpz`, no base, no
input_range, histories from 10 to 200, 1,000 and 2,000 points); those reported, 200 to 204, were
not looked at before.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from shared.record import ROOT, write
from tqdm import tqdm

from functions.regression import FORMULA, RANGE, WIDTHS, mse, sample
from qkan import QKAN, History, effective_parameters, fit, fit_extending
from qkan.surgery.fit_extending import in_a_row

REPS = (1, 5, 10, 15, 20)
STEPS = 100
ITERATIONS = 10
HISTORY = 100
SEEDS = range(200, 205)
GOAL = 1.2e-7
TEST_POINTS = 1000
RECORDED = 10
"""Of the training losses the JSON has every tenth."""


@dataclass
class Trial:
    """One start, trained in one of the two ways and tested once."""

    seed: int
    history: History
    train_mse: float
    test_mse: float
    seconds: float
    cpu_seconds: float

    def to_dict(self) -> dict[str, Any]:
        names = ("seed", "train_mse", "test_mse", "seconds", "cpu_seconds")
        course = self.history.train_loss[RECORDED - 1 :: RECORDED]
        return {name: getattr(self, name) for name in names} | {"train_loss": course}


def optimizer(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.LBFGS(
        parameters, max_iter=ITERATIONS, history_size=HISTORY, line_search_fn="strong_wolfe",
        tolerance_grad=0, tolerance_change=0,
    )  # fmt: skip


def growing(model: QKAN, train: tuple[Any, Any], steps: int) -> tuple[QKAN, History]:
    return fit_extending(
        model, train, reps=REPS, steps=steps, optimizer=optimizer, progress=False
    )  # fmt: skip


def from_the_start(model: QKAN, train: tuple[Any, Any], steps: int) -> tuple[QKAN, History]:
    # as many fits, so that both ways start LBFGS anew equally often
    fits = [
        fit(model, train, steps=steps, optimizer=optimizer, progress=False) for _ in REPS
    ]  # fmt: skip
    return model, in_a_row(fits)


WAYS: dict[str, tuple[int, Callable[..., tuple[QKAN, History]]]] = {
    "growing": (REPS[0], growing),
    "from the start": (REPS[-1], from_the_start),
}
"""Repetitions to begin with, and how it goes on."""


def run(seed: int, way: str, points: int, steps: int = STEPS) -> Trial:
    generator = torch.Generator().manual_seed(seed)
    train, test = (sample(n, generator, torch.float64) for n in (points, TEST_POINTS))
    reps, train_model = WAYS[way]
    model = QKAN(
        WIDTHS, reps=reps, input_range=RANGE, generator=generator, dtype=torch.float64
    )  # fmt: skip
    begin, cpu = time.perf_counter(), time.process_time()
    model, history = train_model(model, train, steps)
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    if history.interrupted:
        raise KeyboardInterrupt
    return Trial(seed, history, mse(model, train), mse(model, test), seconds, cpu)


def summary(trials: list[Trial]) -> dict[str, float]:
    errors = [trial.test_mse for trial in trials]
    return {
        "median_test_mse": statistics.median(errors),
        "lowest_test_mse": min(errors),
        "highest_test_mse": max(errors),
        "median_train_mse": statistics.median(trial.train_mse for trial in trials),
        "median_seconds": statistics.median(trial.seconds for trial in trials),
        "median_cpu_seconds": statistics.median(trial.cpu_seconds for trial in trials),
    }


def settings(seeds: Iterable[int], steps: int) -> dict[str, Any]:
    return {
        "formula": FORMULA,
        "widths": WIDTHS,
        "ansatz": "pz",
        "reps": list(REPS),
        "encoding": "trainable",
        "parameters": [effective_parameters(QKAN(WIDTHS, reps=reps)) for reps in REPS],
        "inputs": "uniform in [-1, 1]², input_range (-1, 1)",
        "test_points": TEST_POINTS,
        "dtype": "float64",
        "optimizer": f"torch.optim.LBFGS, max_iter {ITERATIONS}, history_size {HISTORY}, lr 1, "
        "strong Wolfe, tolerances 0, anew every stage in both ways",
        "steps_a_stage": steps,
        "train_loss": f"after every {RECORDED}th step",
        "seeds": list(seeds),
        "seed_rules": "points and start; one start a seed, no restart",
        "recipe": "chosen on seeds 0 to 4 and 100 to 104, none of which is reported",
    }


def figure(trials: dict[str, list[Trial]], steps: int, path: Path) -> Path:
    """Training loss of every seed over the steps, growing and from the start."""
    from shared import figures
    from shared.figures import plt

    colours = dict(zip(WAYS, (figures.BLUE, figures.ORANGE), strict=True))
    with plt.rc_context(figures.STYLE):
        drawing, ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
        for way, found in trials.items():
            for n, trial in enumerate(found):
                label = f"{way}: median test MSE {summary(found)['median_test_mse']:.1e}"
                ax.plot(
                    trial.history.step, trial.history.train_loss, color=colours[way],
                    linewidth=1.1, alpha=0.8, label=label if n == 0 else None,
                )  # fmt: skip
        for n, reps in enumerate(REPS):
            ax.axvline(n * steps, color="#dddddd", linewidth=0.8, zorder=0)
            text = f"{reps} repetition" + "s" * (reps > 1)
            ax.text(
                (n + 0.5) * steps, 0.99, text, transform=ax.get_xaxis_transform(), fontsize=7.5,
                ha="center", va="top", color=figures.GREY,
            )  # fmt: skip
        ax.axhline(GOAL, color=figures.GREY, linestyle=":", linewidth=1)
        ax.text(0, GOAL, " 1.2e-7", fontsize=7.5, va="bottom", color=figures.GREY)
        ax.set(yscale="log", xlim=(0, len(REPS) * steps), ylabel="training MSE")
        ax.set_xlabel(f"LBFGS step ({ITERATIONS} iterations each); each line is one seed")
        ax.set_title(f"{FORMULA}, QKAN{WIDTHS}", pad=14)
        ax.legend(loc="upper right", bbox_to_anchor=(1, 0.93))
        return figures.save(drawing, path)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="how many")
    parser.add_argument("--first", type=int, default=SEEDS[0], help="the first of them")
    parser.add_argument("--points", type=int, nargs="+", default=[2000, 1000])
    parser.add_argument("--steps", type=int, default=STEPS, help="of each of the five stages")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "extension")
    options = parser.parse_args(arguments)
    # models this small only wait for a second thread
    torch.set_num_threads(1)
    seeds = range(options.first, options.first + options.seeds)
    jobs = [(points, way, seed) for points in options.points for way in WAYS for seed in seeds]
    trials: dict[str, list[Trial]] = {}
    for points, way, seed in tqdm(jobs, desc="extension", unit="run", disable=None):
        trials.setdefault(f"{points} points, {way}", []).append(
            run(seed, way, points, options.steps)
        )
    print(f"{FORMULA}, QKAN{WIDTHS}, {len(seeds)} seeds, goal {GOAL:.1e}\n")
    print(f"{'':30}{'median':>10}{'lowest':>10}{'highest':>10}{'train':>10}{'CPU s':>8}")
    for name, found in trials.items():
        s = summary(found)
        print(f"{name:30}{s['median_test_mse']:>10.1e}{s['lowest_test_mse']:>10.1e}"
              f"{s['highest_test_mse']:>10.1e}{s['median_train_mse']:>10.1e}"
              f"{s['median_cpu_seconds']:>8.1f}")  # fmt: skip
    path = write(
        options.out / "extension.json",
        experiment=f"{FORMULA} with QKAN{WIDTHS}: extended from 1 to 20 repetitions, or 20 at once",
        settings=settings(seeds, options.steps),
        goal=GOAL,
        peer={"qkan 0.2.3, growing": 1.24e-7, "qkan 0.2.3, 20 repetitions": 7.66e-7},
        summary={name: summary(found) for name, found in trials.items()},
        samples={name: [trial.to_dict() for trial in found] for name, found in trials.items()},
    )
    shown = {way: trials[f"{options.points[0]} points, {way}"] for way in WAYS}
    drawn = figure(shown, options.steps, options.out / "extension.png")
    print(f"\nWrote {path}\n      {drawn}")
