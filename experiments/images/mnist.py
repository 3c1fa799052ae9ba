"""MNIST: a convolutional body of some 1,200 parameters with a QKAN or an MLP head.

Run     python experiments mnist       (ten minutes on one core; if interrupted, it goes on)
Reads   MNIST in the folder QKAN_DATA names, see `datasets.py`
Writes  out/mnist/mnist.json and mnist.png

The goal is a mean test accuracy of 95.9 % with at most 1,934 parameters in all, those of a CNN with
a QKAN [10, 10] head in qkan 0.2.3's notebook (95.85 %, 1,884; its MLP head 95.57 %, 1,934). The
body has one shape for both heads and is trained jointly with each: four small convolutions, one of
them depthwise, with batch norm, the mean over the image, and a batch norm whose ten outputs the
head reads. The MLP head has at least as many parameters as the QKAN.

Either kind of head has six trials, short runs of one seed of their own; the lowest validation loss
chooses. Only the chosen one is trained in full, with seeds that no trial had, and tested once.
5,000 of the training images validate. No augmentation.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from shared.record import ROOT, write
from shared.runs import Runs
from torch import nn

from images.classify import (
    CIRCUITS,
    Run,
    Study,
    Task,
    Trial,
    block,
    choose,
    differences,
    print_row,
    print_trials,
    settings,
    summary,
)
from images.datasets import mnist

FEATURES = 10
HELD = 5000
EPOCHS = 4
TRIAL_EPOCHS = 2
SEEDS = (1, 2, 3)
GOAL, LIMIT = 0.959, 1934
HIDDEN = 34
RATES = (1e-2, 2e-2, 4e-2)

TRIALS: dict[str, list[Trial]] = {
    "QKAN": [({"kind": "QKAN", **form}, rate) for form in CIRCUITS for rate in RATES],
    "MLP": [
        ({"kind": "MLP", "hidden": [HIDDEN], "activation": name}, rate)
        for name in ("relu", "gelu")
        for rate in RATES
    ],
}


def body() -> nn.Module:
    """(b, 1, 28, 28) → (b, 10)."""
    return nn.Sequential(
        *block(1, 8, 5, stride=2),
        *block(8, FEATURES, 3),
        nn.MaxPool2d(2),
        nn.Conv2d(FEATURES, FEATURES, 3, padding=1, groups=FEATURES, bias=False),
        *block(FEATURES, FEATURES, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.BatchNorm1d(FEATURES),
    )


def figure(found: dict[str, list[Run]], table: dict[str, Any], path: Path) -> Path:
    """Validation loss over epochs, and the test accuracy of every seed."""
    from shared import figures
    from shared.figures import plt

    colours = {"QKAN": figures.BLUE, "MLP": figures.ORANGE}
    with plt.rc_context(figures.STYLE):
        drawing, (left, right) = plt.subplots(1, 2, figsize=(8.6, 2.8), layout="constrained")
        for row, (kind, runs) in enumerate(found.items()):
            label = f"{kind}, {table[kind]['parameters']:,} parameters in all"
            for n, run in enumerate(runs):
                losses = run["validation_losses"]
                left.plot(
                    range(1, len(losses) + 1), losses, color=colours[kind], linewidth=1.2,
                    label=label if n == 0 else None,
                )  # fmt: skip
            tests = [100 * value for value in table[kind]["test_accuracy"]["values"]]
            right.plot(tests, [row] * len(tests), "o", color=colours[kind], alpha=0.7)
            mean = 100 * table[kind]["test_accuracy"]["mean"]
            right.plot(mean, row, "|", color="black", markersize=16)
        left.set(xlabel="epoch", ylabel="validation cross-entropy", yscale="log")
        left.set_xticks(range(1, len(losses) + 1))
        left.legend(fontsize=7.5)
        left.set_title("MNIST, one body, two heads: every seed", loc="left")
        right.set_yticks(range(len(found)), list(found))
        right.set_ylim(len(found) - 0.5, -0.5)
        right.set(xlabel="test accuracy in % (dots: seeds; bar: mean)")
        right.set_title("after training, tested once", loc="left")
        return figures.save(drawing, path)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "mnist")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    task = Task(mnist(HELD), body, FEATURES)
    study = Study(task, Runs(options.out / "runs.json"))
    tried = study.trials(TRIALS, TRIAL_EPOCHS)
    print_trials(tried)
    best = {kind: choose(runs) for kind, runs in tried.items()}
    chosen = {kind: (run["head"], run["rate"]) for kind, run in best.items()}
    found = study.in_full(chosen, EPOCHS, SEEDS)
    table = {kind: summary(runs) for kind, runs in found.items()}
    for kind, row in table.items():
        print_row(kind, row)
    mean, most = table["QKAN"]["test_accuracy"]["mean"], table["QKAN"]["parameters"]
    reached = mean >= GOAL and most <= LIMIT
    print(f"goal ≥ {GOAL:.1%}, at most {LIMIT:,}: {'reached' if reached else 'NOT reached'}")
    path = write(
        options.out / "mnist.json",
        experiment="MNIST: a QKAN and an MLP head on one small convolutional body",
        settings={
            **settings(task), "epochs": EPOCHS, "trial_epochs": TRIAL_EPOCHS, "seeds": SEEDS,
            "trials": {kind: len(trials) for kind, trials in TRIALS.items()},
            "goal": GOAL, "limit": LIMIT,
        },
        summary=table,
        qkan_minus_mlp=differences(found["QKAN"], found["MLP"]),
        trials=tried,
        samples=found,
    )  # fmt: skip
    print(f"\nWrote {path}\n      {figure(found, table, options.out / 'mnist.png')}")
