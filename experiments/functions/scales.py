"""The scales in a circuit: fixed at 1, 2^u or 3^u, or trained, in QKANs of equal size.

Run     python experiments scales     (goes on where an interrupted run stopped)
Writes  out/scales/scales.json and scales.png
Expect  trained scales lowest at low and middle frequencies, linear and binary ones at the highest,
        ternary ones nowhere, and lost with two variables from the middle frequencies on.

A circuit's scales decide which frequencies its activation has. With `pz`, to leave the scales and
shifts untrained at 1 and 0 is the linear encoding, so "off" and "linear" are one row here. A fixed
encoding saves the parameters of the scales: equal size lets it have three repetitions for every
two of the trainable encoding. Every encoding has two forms, with 3 and 6 repetitions (trainable: 2
and 4), in networks of one hidden layer whose width brings the effective parameters nearest to those
of QKAN([inputs, 5, 1]) with 4 trainable repetitions; in every seed the form with the lower
validation error is tested, once.

Targets are sums of `WAVES` waves of random directions, phases and amplitudes over one variable and
over two, each wave's frequency drawn from [B/2, B], where 1 is the fundamental of the first
layer's fixed scales. Every seed draws a new target, and from it 600 points to train on, 300 for
validation and 1,000 for the test. L-BFGS in double precision, until the training loss has fallen by
less than 5 % in 10 steps of 10 iterations, or 60 steps are taken.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from shared.compare import compare, geometric_mean, wins
from shared.record import write
from torch import Tensor

from functions.equal_size import (
    Sample,
    common_settings,
    ended,
    errors,
    forms_of,
    run_samples,
    seeds_of,
    study_parser,
)
from functions.fitting import Form, Stop, study
from functions.targets import Target, draw

SIZES = (600, 300, 1000)
STOP = Stop(steps=60, patience=10, fall=0.05)
SEEDS = range(5)
WAVES = 6
BANDS = {1: (2, 8, 32), 2: (2, 4, 8)}
"""Highest frequencies B by the number of variables."""
BUDGET = Form("QKAN", 1, 4), 5
"""A form and its width."""
ENCODINGS = {"linear": (3, 6), "binary": (3, 6), "ternary": (3, 6), "trainable": (2, 4)}
"""Repetitions by encoding."""
FORMS = tuple(Form("QKAN", 1, reps, name) for name, many in ENCODINGS.items() for reps in many)


def target(variables: int, band: float, seed: int) -> Target:
    """A sum of waves over [-1, 1]^variables, drawn by seed."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    directions, amplitudes = normal(WAVES, variables), normal(WAVES)
    lengths, phases = torch.rand(2, WAVES, generator=generator, dtype=torch.float64)
    # the network maps [-1, 1] to [-π/2, π/2]
    frequencies = band * (1 + lengths) / 2 * math.pi / 2
    waves = directions / directions.norm(dim=1, keepdim=True) * frequencies.unsqueeze(1)

    def formula(x: Tensor) -> Tensor:
        return torch.cos(x @ waves.T + 2 * math.pi * phases) @ amplitudes.unsqueeze(1)

    return Target(f"{variables}, {band}, {seed}", "waves", ((-1.0, 1.0),) * variables, formula)


def job(variables: int, band: float, seed: int, stop: Stop) -> dict[str, Any]:
    """One target, as what `Runs` knows it by."""
    return {
        "variables": variables, "band": band, "seed": seed, "sizes": SIZES, "stop": asdict(stop),
        "forms": [asdict(form) for form in FORMS],
    }  # fmt: skip


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Train all forms on one target."""
    variables, seed = job["variables"], job["seed"]
    data = draw(target(variables, job["band"], seed), job["sizes"], seed)
    budget = BUDGET[0].parameters(variables, BUDGET[1])
    forms = [Form(**form) for form in job["forms"]]
    found = study(forms, budget, data, seed, Stop(**job["stop"]), by="encoding")
    return {"budget": budget, "forms": found}


def summary(samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """By number of variables and band: median errors, wins, and trainable over each fixed one."""
    rows = []
    for variables, band in dict.fromkeys((s["variables"], s["band"]) for s in samples):
        table = errors(samples, "encoding", ENCODINGS, variables=variables, band=band)
        rows.append({
            "variables": variables, "band": band, "targets": len(table["trainable"]),
            "median_test_rmse": {name: statistics.median(row) for name, row in table.items()},
            "geometric_mean": {name: geometric_mean(row) for name, row in table.items()},
            "wins": wins(table),
            "trainable_over": {
                name: compare(table["trainable"], row).to_dict()
                for name, row in table.items() if name != "trainable"
            },
        })  # fmt: skip
    return rows


def training(samples: Sequence[Sample]) -> dict[str, Any]:
    """By encoding: parameters, how many trainings the cap ended, how often a form was chosen."""
    found = {}
    for name, many in ENCODINGS.items():
        forms = forms_of(samples, "encoding", name)
        chosen = [form["option"] for form in forms if "test_rmse" in form]
        found[name] = {
            **ended(forms),
            "parameters": sorted({form["parameters"] for form in forms}),
            "chosen_repetitions": {reps: chosen.count(reps) for reps in many},
        }
    return found


def figure(samples: Sequence[Sample], path: Path) -> Path:
    """Test errors over the highest frequency, a line an encoding, a panel a number of variables."""
    from matplotlib import pyplot as plt
    from shared import figures

    colours = dict(
        zip(ENCODINGS, (figures.GREY, figures.BLUE, figures.ORANGE, figures.GREEN), strict=True)
    )
    present = list(dict.fromkeys(sample["variables"] for sample in samples))
    with plt.rc_context(figures.STYLE):
        drawing, axes = plt.subplots(
            1, len(present), figsize=(4.3 * len(present), 3.4), layout="constrained", squeeze=False
        )
        for ax, variables in zip(axes[0], present, strict=True):
            bands = sorted({s["band"] for s in samples if s["variables"] == variables})
            tables = [
                errors(samples, "encoding", ENCODINGS, variables=variables, band=band)
                for band in bands
            ]
            for n, (name, colour) in enumerate(colours.items()):
                places = [band * 1.05 ** (n - 1.5) for band in bands]
                for place, table in zip(places, tables, strict=True):
                    ax.plot([place] * len(table[name]), table[name], ".", color=colour, alpha=0.5)
                middles = [statistics.median(table[name]) for table in tables]
                ax.plot(places, middles, "-o", color=colour, label=name, markersize=5)
            ax.set(xscale="log", yscale="log", xlabel="highest frequency of the target")
            ax.set_xticks(bands, [str(band) for band in bands])
            ax.minorticks_off()
            ax.set_title({1: "one variable", 2: "two variables"}[variables], loc="left")
        axes[0, 0].set_ylabel("test RMSE in standard deviations")
        axes[0, 0].legend(title="scales")
        return figures.save(drawing, path)


def report(samples: Sequence[Sample], options: argparse.Namespace) -> None:
    """Print the table, draw the figure, write the record."""
    found = summary(samples)
    for row in found:
        middles = "".join(f"{value:>11.1e}" for value in row["median_test_rmse"].values())
        print(f"{row['variables']} variables, up to {row['band']:>2}: {middles}   {row['wins']}")
    print("picture:", figure(samples, options.out / "scales.png"))
    path = write(
        options.out / "scales.json",
        experiment="fixed and trained scales in QKANs of equal size",
        settings={
            "bands": BANDS,
            "waves": WAVES,
            **common_settings(samples, SIZES, BUDGET, FORMS, STOP, options.steps),
            "off": "the linear encoding: with pz the untrained scales and shifts are 1 and 0",
            "selection": "lowest validation error, of the step and of the form",
        },
        summary=found, training=training(samples), samples=samples,
    )  # fmt: skip
    print("record:", path)


def main(arguments: list[str] | None = None) -> None:
    options = study_parser("scales", __doc__, SEEDS, STOP).parse_args(arguments)
    stop = Stop(options.steps, STOP.patience, STOP.fall)
    jobs = [
        job(variables, band, seed, stop)
        for seed in seeds_of(options)
        for variables, bands in BANDS.items()
        for band in bands
    ]
    report(run_samples(jobs, run, ("variables", "band", "seed"), options), options)
