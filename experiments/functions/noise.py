"""Label noise: what QKANs, spline KANs and MLPs of equal size make of noisy values.

Run     python experiments noise     (goes on where an interrupted run stopped)
Writes  out/noise/noise.json and noise.png
Expect  the QKAN's error lowest without noise and at 20 dB, highest at 0 dB (geometric means over
        functions and seeds; at 10 dB the kinds are within what functions and seeds scatter).

The KAN paper's (arXiv 2404.19756) toy functions of one, two and four variables. The values of the
500 points to train on and of the 250 for validation have Gaussian noise of a signal-to-noise ratio
in decibels, 20·log₁₀(sd of the function / sd of the noise): 0 dB is as much noise as signal. The
1,000 points of the test have none, so a test error is a distance from the function itself, in its
standard deviations. All levels of one seed have the same points and the same noise, scaled.

Sizes, kinds and forms are those of `functions.py`: two forms a kind, equal effective parameters,
L-BFGS in double precision. Training stops early, for all alike: when the error on the noisy
validation points has found no new lowest value in 10 steps of 10 iterations, or after 60 steps. It
also chooses the step and the form; only then is that one model tested, once.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from shared.compare import compare, geometric_mean, wins
from shared.record import write

from functions.equal_size import (
    Sample,
    common_settings,
    ended,
    errors,
    forms_of,
    over_budget,
    run_samples,
    seeds_of,
    study_parser,
)
from functions.fitting import Form, Stop, study
from functions.functions import BUDGET, FORMS, KINDS
from functions.targets import EXAMPLES, TARGETS, Data, Pair, draw

SIZES = (500, 250, 1000)
STOP = Stop(steps=60, patience=10, fall=None)
SEEDS = range(5)
LEVELS = (None, 20, 10, 0)
"""Signal-to-noise ratios in decibels; None is no noise."""


def noisy(data: Data, decibels: float | None, seed: int) -> Data:
    """The same data with noise on the values of training and validation; repeats by seed."""
    generator = torch.Generator().manual_seed(seed)
    sd = 0.0 if decibels is None else 10 ** (-decibels / 20)

    def blurred(pair: Pair) -> Pair:
        x, y = pair
        return x, y + sd * torch.randn(y.shape, generator=generator, dtype=y.dtype)

    return Data(blurred(data.train), blurred(data.validation), data.test)


def job(target: str, decibels: float | None, seed: int, stop: Stop) -> dict[str, Any]:
    """One function, level and seed, as what `Runs` knows it by."""
    return {
        "target": target, "decibels": decibels, "seed": seed, "sizes": SIZES,
        "stop": asdict(stop), "forms": [asdict(form) for form in FORMS],
    }  # fmt: skip


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Train all forms on one function, level and seed."""
    target, seed = TARGETS[job["target"]], job["seed"]
    data = noisy(draw(target, job["sizes"], seed), job["decibels"], seed)
    budget = BUDGET[0].parameters(len(target.ranges), BUDGET[1])
    forms = [Form(**form) for form in job["forms"]]
    return {"budget": budget, "forms": study(forms, budget, data, seed, Stop(**job["stop"]))}


def summary(samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """By level, over all functions and seeds: mean errors, wins, QKAN over each control."""
    rows = []
    for decibels in dict.fromkeys(sample["decibels"] for sample in samples):
        table = errors(samples, "kind", KINDS, decibels=decibels)
        rows.append({
            "decibels": decibels, "pairs": len(table["QKAN"]),
            "geometric_mean": {kind: geometric_mean(row) for kind, row in table.items()},
            "wins": wins(table),
            "qkan_over": {
                kind: compare(table["QKAN"], table[kind]).to_dict() for kind in KINDS[1:]
            },
        })  # fmt: skip
    return rows


def training(samples: Sequence[Sample]) -> dict[str, Any]:
    """By kind: how many trainings the cap ended, and how near the sizes are to the budget."""
    return {
        kind: {
            **ended(forms_of(samples, "kind", kind)),
            "parameters_over_budget": over_budget(samples, kind),
        }
        for kind in KINDS
    }


def figure(samples: Sequence[Sample], path: Path) -> Path:
    """Test error over the noise, a panel a function; lines join medians, bands span the seeds."""
    from matplotlib import pyplot as plt
    from shared import figures

    colours = dict(zip(KINDS, (figures.GREEN, figures.BLUE, figures.ORANGE), strict=True))
    names = list(dict.fromkeys(sample["target"] for sample in samples))
    levels = list(dict.fromkeys(sample["decibels"] for sample in samples))
    places = range(len(levels))
    with plt.rc_context(figures.STYLE):
        drawing, axes = plt.subplots(
            1, len(names), figsize=(2.9 * len(names), 3.1), layout="constrained", squeeze=False
        )
        for ax, name in zip(axes[0], names, strict=True):
            tables = [
                errors(samples, "kind", KINDS, target=name, decibels=level) for level in levels
            ]
            for kind, colour in colours.items():
                rows = [table[kind] for table in tables]
                ax.plot(places, [statistics.median(row) for row in rows], "-o", color=colour,
                        label=kind, markersize=4)  # fmt: skip
                ax.fill_between(places, [*map(min, rows)], [*map(max, rows)], color=colour,
                                alpha=0.15, linewidth=0)  # fmt: skip
            ax.set(yscale="log", xlabel="signal-to-noise ratio, dB")
            ax.set_xticks(places, ["none" if level is None else str(level) for level in levels])
            ax.set_title(name, fontsize=8)
        axes[0, 0].set_ylabel("test RMSE on clean values, sd")
        axes[0, 0].legend()
        return figures.save(drawing, path)


def report(samples: Sequence[Sample], options: argparse.Namespace) -> None:
    """Print the table, draw the figure, write the record."""
    found = summary(samples)
    for row in found:
        means = "".join(f"{value:>10.1e}" for value in row["geometric_mean"].values())
        print(f"{row['decibels']!s:>5} dB {means}   {row['wins']}")
    print("picture:", figure(samples, options.out / "noise.png"))
    path = write(
        options.out / "noise.json",
        experiment="label noise: QKANs, spline KANs and MLPs of equal size",
        settings={
            "targets": [target.name for target in EXAMPLES],
            "decibels": LEVELS,
            **common_settings(samples, SIZES, BUDGET, FORMS, STOP, options.steps),
            "selection": "lowest error on noisy validation values, of the step and of the form",
        },
        summary=found, training=training(samples), samples=samples,
    )  # fmt: skip
    print("record:", path)


def main(arguments: list[str] | None = None) -> None:
    options = study_parser("noise", __doc__, SEEDS, STOP).parse_args(arguments)
    stop = Stop(options.steps, STOP.patience, STOP.fall)
    jobs = [
        job(target.name, decibels, seed, stop)
        for seed in seeds_of(options)
        for target in EXAMPLES
        for decibels in LEVELS
    ]
    report(run_samples(jobs, run, ("target", "decibels", "seed"), options), options)
