"""What a QKAN does, in three minutes: fit a function, run it on devices, classify digits.

Run     make demo          (or python experiments/demo.py)
Writes  out/demo/: activations.png, fit.png, device.png, digits.png and demo.json
Expect  a median test MSE near 8e-6 in the first part, below 2.8e-5; in the second, errors of the
        mitigated runs at their standard errors (`device.py`); in the third a test accuracy near
        98 % for both models. `digits.py` compares them with more care.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from functions import device, regression
from images import digits
from shared.record import ROOT, environment, write
from tqdm import tqdm

DIGIT_SEEDS = range(3)
RECIPES = {
    "QKAN": digits.Recipe("QKAN", 2, lr=0.03, weight_decay=0.1, noise=0.2),
    "MLP": digits.Recipe("MLP", "gelu", lr=0.03, weight_decay=0.01, noise=0.2),
}
"""Lowest mean validation loss in `digits.py`, out of equally many trials each."""

NEEDED = {"matplotlib": "plot", "sklearn": "sklearn", "qiskit_ibm_runtime": "qiskit"}


def require_extras() -> None:
    """Exit with the line that installs what is missing."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        extras = ",".join(NEEDED[name] for name in missing)
        sys.exit(
            f"The demo needs {' and '.join(missing)}, not installed here. From the checkout:\n"
            f'  pip install -e ".[{extras}]"'
        )


def regress(seeds: Sequence[int], out: Path, **options: Any) -> dict[str, Any]:
    """First part: train every seed, draw the one in the middle."""
    from shared import figures

    trials = regression.run_all(seeds, **options)
    shown = regression.median_trial(trials)
    label = f"seed {shown.seed} (median)"
    paths = [
        figures.activations(shown.model, shown.train[0], out / "activations.png", names=("x", "y")),
        figures.fit(
            surface(shown, figures.Map),
            [trial.history.train_loss for trial in trials],
            trials.index(shown),
            out / "fit.png",
            labels={
                "formula": f"f = {regression.FORMULA}",
                "shown": label,
                "all": f"{len(trials) - 1} other seeds",
            },
        ),
    ]
    return {
        "settings": regression.settings(seeds, **options),
        "summary": regression.summary(trials) | {"shown_seed": shown.seed},
        "samples": [trial.to_dict() for trial in trials],
        "figures": paths,
        "shown": shown,
    }


@torch.no_grad()
def surface(trial: regression.Trial, make: type) -> Any:
    """Target and prediction on a grid over the square."""
    axis = torch.linspace(-1, 1, 121)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    points = torch.stack([x, y], -1).to(trial.train[0].dtype)
    target, prediction = regression.target(points), trial.model(points)
    return make(axis.numpy(), axis.numpy(), target[..., 0].numpy(), prediction[..., 0].numpy())


def classify(seeds: Sequence[int], out: Path, epochs: int = digits.EPOCHS) -> dict[str, Any]:
    """Third part: a QKAN and an MLP on the same splits; draw the QKAN of the first."""
    from shared import figures

    trials: dict[str, list[digits.Trial]] = {kind: [] for kind in RECIPES}
    bar = tqdm(total=len(seeds) * len(RECIPES), desc="digits", unit="model", disable=None)
    with bar:
        for seed in seeds:
            split = digits.load_split(seed)
            for kind, recipe in RECIPES.items():
                trial = digits.run(recipe, split, seed, epochs)
                trial.test_accuracy = digits.accuracy(trial.model, split.test)
                trials[kind].append(trial)
                bar.update()
    first = trials["QKAN"][0]
    x, truth = digits.load_split(first.split).test
    predicted = digits.predict(first.model, x).numpy()
    path = figures.digits(
        np.asarray(x).reshape(-1, 8, 8), truth.numpy(), predicted, out / "digits.png",
        title=f"QKAN, seed {first.split}: {first.test_accuracy:.1%} of {len(x)} test digits",
    )  # fmt: skip
    return {
        "settings": {
            "recipes": {kind: vars(recipe) for kind, recipe in RECIPES.items()},
            "epochs": epochs, "batch_size": digits.BATCH, "seeds": list(seeds),
            "seed_rules": "split, start, noise and batches",
            "split": "1/3 test, of the rest 1/5 validation (chooses the epoch), stratified",
        },
        "summary": {kind: digits.summary(found) for kind, found in trials.items()},
        "samples": {kind: [t.to_dict() for t in found] for kind, found in trials.items()},
        "figures": [path],
    }  # fmt: skip


def print_regression(result: dict[str, Any]) -> None:
    s, n = result["summary"], len(result["samples"])
    goal = regression.GOAL
    settings = result["settings"]
    print(f"""
1  {regression.FORMULA} on [-1, 1]², QKAN{regression.WIDTHS}: pz, reps {regression.REPS}, \
trainable encoding, inputs scaled to ±π/2, {settings["parameters"]} parameters
   {settings["steps"]} LBFGS steps on {settings["training_points"]:,} points; test MSE on \
{settings["test_points"]:,} others; {n} seeds, one start each

   {"":8} {"test MSE":>10}
   {"median":8} {s["median_test_mse"]:>10.2e}   {"≤" if s["median_test_mse"] <= goal else ">"} \
{goal:.1e}, the goal
   {"lowest":8} {s["lowest_test_mse"]:>10.2e}
   {"highest":8} {s["highest_test_mse"]:>10.2e}
   {s["median_seconds"]:.1f} s a seed""")


def print_digits(result: dict[str, Any]) -> None:
    seeds = result["settings"]["seeds"]
    print(f"""
3  Handwritten digits (scikit-learn, 1,797 of 8 × 8 pixels), equal parameters, {len(seeds)} seeds \
(split and start)
   test accuracy on the third held out, scored once; epoch chosen by validation

   {"model":6} {"parameters":>10} {"mean ± sd":>17}   {"each seed":<{8 * len(seeds)}} s a model""")
    for kind, s in result["summary"].items():
        mean = f"{s['test_accuracy_mean']:.2%} ± {s['test_accuracy_sd']:.2%}"
        each = "  ".join(f"{value:.1%}" for value in s["test_accuracies"])
        print(f"   {kind:6} {s['parameters'][0]:>10,} {mean:>17}   {each:<{8 * len(seeds)}} "
              f"{s['median_seconds']:>9.1f}")  # fmt: skip


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "demo")
    out = parser.parse_args(arguments).out
    require_extras()
    # models this small only wait for a second thread
    torch.set_num_threads(1)
    begin = time.perf_counter()
    results = {"regression": regress(regression.SEEDS, out)}
    print_regression(results["regression"])
    results["device"] = device.study(results["regression"]["shown"], out)
    device.print_study(results["device"])
    results["digits"] = classify(DIGIT_SEEDS, out)
    print_digits(results["digits"])
    report(results, out, time.perf_counter() - begin)
    return results


def report(results: dict[str, dict[str, Any]], out: Path, seconds: float) -> None:
    """Write the JSON and say where everything is."""
    figures = [path for result in results.values() for path in result["figures"]]
    path = write(
        out / "demo.json",
        experiment="make demo: a regression, the same on fake devices, and a classification",
        settings={name: result["settings"] for name, result in results.items()},
        summary={name: result["summary"] for name, result in results.items()},
        samples={name: result["samples"] for name, result in results.items()},
        seconds=seconds,
    )
    machine = environment()
    print(f"\nMeasured now: {seconds:.0f} s on {machine['cores']} cores of {machine['processor']}, "
          f"torch {machine['torch']}, qkan {machine['qkan']}.")  # fmt: skip
    print("Wrote")
    for written in [*figures, path]:
        print(f"   {_short(written)}")


def _short(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


if __name__ == "__main__":
    main()
