"""CIFAR-10: a small convolutional body with HQKAN heads, MLP heads and a linear one.

Run     python experiments cifar       (half an hour on one core; if interrupted, it goes on)
Reads   CIFAR-10 in the folder QKAN_DATA names, see `datasets.py`; "CIFAR-10 (JPEG)" in the results
        says that the images were re-coded as JPEG, which is another task than the published one
Writes  out/cifar/cifar.json and cifar.png

Three convolutions with batch norm leave 256 features. At each of three sizes an HQKAN and an MLP
head have equal parameters within 1 %; a linear head stands beside them. Each head is trained
jointly with a body of its own. The budget is small: a few epochs, one core, images mirrored at
random and nothing else; this compares heads, and is far from what larger networks reach.

Every kind of head has six trials at the middle size, short runs of one seed of their own; the
lowest validation loss chooses form and learning rate. Only the chosen ones are trained in full, at
all sizes, with seeds that no trial had, and tested once. 5,000 of the training images validate.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

import torch
from shared.record import ROOT, write
from shared.runs import Runs
from torch import nn

from images.classify import (
    CIRCUITS,
    Head,
    Run,
    Study,
    Task,
    Trial,
    block,
    choose,
    differences,
    head_parameters,
    print_row,
    print_trials,
    settings,
    summary,
)
from images.datasets import cifar10

FEATURES, CLASSES = 256, 10
HELD = 5000
EPOCHS = 4
TRIAL_EPOCHS = 2
SEEDS = (1, 2, 3)
LATENT = {"small": 6, "middle": 15, "large": 24}
TRIAL_SIZE = "middle"
RATES = (2e-3, 5e-3, 1e-2)
FORMS: dict[str, tuple[Head, Head]] = {
    "HQKAN": ({"kind": "HQKAN", **CIRCUITS[0]}, {"kind": "HQKAN", **CIRCUITS[1]}),
    "MLP": ({"kind": "MLP", "layers": 1}, {"kind": "MLP", "layers": 2}),
}
LINEAR: Head = {"kind": "linear"}
LINEAR_RATES = (1e-3, 2e-3, 4e-3, 5e-3, 1e-2, 2e-2)


def body() -> nn.Module:
    """(b, 3, 32, 32) → (b, 256)."""
    return nn.Sequential(
        *block(3, 16, 5, stride=2),
        *block(16, 32, 3, stride=2),
        *block(32, 64, 3, stride=2),
        nn.MaxPool2d(2),
        nn.Flatten(),
    )


def sized(form: Head, size: str) -> Head:
    """The head of that form and size: an MLP has as many parameters as the HQKAN of the size."""
    latent = LATENT[size]
    if form["kind"] == "HQKAN":
        return form | {"latent": latent}
    if form["kind"] == "linear":
        return form
    budget = head_parameters(FEATURES, CLASSES, sized(FORMS["HQKAN"][0], size))
    first = [] if form["layers"] == 1 else [latent]
    last = first[-1] if first else FEATURES
    spent = sum(FEATURES * width + width for width in first) + CLASSES
    width = round((budget - spent) / (last + 1 + CLASSES))
    return {"kind": "MLP", "hidden": [*first, width], "activation": "gelu"}


def trials() -> dict[str, list[Trial]]:
    """As many for every kind: two forms at three rates, and the linear head at six."""
    found = {
        kind: [(sized(form, TRIAL_SIZE), rate) for form in forms for rate in RATES]
        for kind, forms in FORMS.items()
    }
    return {**found, "linear": [(LINEAR, rate) for rate in LINEAR_RATES]}


def candidates(tried: dict[str, list[Run]]) -> dict[str, Trial]:
    """What is trained in full, by name: the chosen form and rate of every kind at every size."""
    found: dict[str, Trial] = {}
    for kind, forms in FORMS.items():
        best = choose(tried[kind])
        (form,) = (form for form in forms if sized(form, TRIAL_SIZE) == best["head"])
        for size in LATENT:
            found[f"{kind} {size}"] = sized(form, size), best["rate"]
    return {**found, "linear": (LINEAR, choose(tried["linear"])["rate"])}


def figure(table: dict[str, Any], name: str, path: Path) -> Path:
    """Test accuracy over the parameters of the head, every seed and the mean."""
    from shared import figures
    from shared.figures import plt

    colours = {"HQKAN": figures.BLUE, "MLP": figures.ORANGE, "linear": figures.GREY}
    with plt.rc_context(figures.STYLE):
        drawing, ax = plt.subplots(figsize=(5.6, 3.6), layout="constrained")
        for kind, colour in colours.items():
            rows = [row for row in table.values() if row["head"]["kind"] == kind]
            sizes = [row["head_parameters"] for row in rows]
            tests = [[100 * v for v in row["test_accuracy"]["values"]] for row in rows]
            means = [statistics.mean(values) for values in tests]
            for size, values in zip(sizes, tests, strict=True):
                ax.plot([size] * len(values), values, "o", color=colour, alpha=0.5, markersize=4)
            ax.plot(sizes, means, "_-", color=colour, markersize=13, label=f"{kind} head")
        ax.set(xscale="log", xlabel="parameters of the head", ylabel="test accuracy in %")
        ticks = sorted({row["head_parameters"] for row in table.values()})
        ticks = [tick for n, tick in enumerate(ticks) if n == 0 or tick > 1.05 * ticks[n - 1]]
        ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        ax.minorticks_off()
        ax.legend(loc="lower right")
        ax.set_title(f"{name}, heads on one body shape (dots: seeds; bars: means)", loc="left")
        return figures.save(drawing, path)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "cifar")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    task = Task(cifar10(HELD), body, FEATURES, CLASSES, flip=True)
    study = Study(task, Runs(options.out / "runs.json"))
    tried = study.trials(trials(), TRIAL_EPOCHS)
    print_trials(tried)
    found = study.in_full(candidates(tried), EPOCHS, SEEDS)
    table = {name: summary(runs) for name, runs in found.items()}
    for name, row in table.items():
        print_row(name, row)
    path = write(
        options.out / "cifar.json",
        experiment="CIFAR-10: HQKAN, MLP and linear heads on one convolutional body",
        settings={
            **settings(task), "epochs": EPOCHS, "trial_epochs": TRIAL_EPOCHS, "seeds": SEEDS,
            "trials": {kind: len(runs) for kind, runs in tried.items()}, "trial_size": TRIAL_SIZE,
        },
        summary=table,
        hqkan_minus_mlp={
            size: differences(found[f"HQKAN {size}"], found[f"MLP {size}"]) for size in LATENT
        },
        trials=tried,
        samples=found,
    )  # fmt: skip
    print(f"\nWrote {path}\n      {figure(table, task.images.name, options.out / 'cifar.png')}")
