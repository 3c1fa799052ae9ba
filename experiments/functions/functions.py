"""Function regression: QKANs, spline KANs and MLPs of equal size on 31 functions.

Run     python experiments functions          (goes on where an interrupted run stopped)
        python experiments functions --tune   (how the forms were found; writes no record)
Writes  out/functions/functions.json and functions.png
Expect  test errors, geometric mean of the functions' medians: QKAN 8.5e-3, spline KAN 1.2e-2,
        MLP 7.3e-3. The QKAN is ahead of the spline KAN, and behind the MLP on most functions.
        Rounding moves single errors between machines and engines.

The fifteen special functions that the KAN paper (arXiv 2404.19756) fits, and of its twenty-seven
equations of Feynman the sixteen with at most four variables (`targets.py`). Every seed draws its
points anew, 500 to train on, 250 for validation and 1,000 for the test, and standardises the
values: an error of 1 is that of the best constant.

Equal size: the budget is the effective parameters of QKAN([inputs, 4, 1]) with 5 repetitions, 233
for two inputs; every form takes the width whose parameters come nearest. Equal training: L-BFGS in
double precision, 10 iterations a step, until the training loss has fallen by less than 5 % in
10 steps, or 60 steps are taken; the parameters kept are those of the lowest validation error. The
cap ends most trainings, so they are compared after as many iterations; `--steps` raises it.
Equal choice: each kind has two forms; in every seed the one with the lower validation error is
tested, once, and the median over the seeds is what a function counts with. The two forms of a kind
are the best two of the four in `TRIED`, by the geometric mean of the validation errors on the two
functions in `TUNING`, with a seed, sizes and steps of their own (`--tune`).

The splines stand on fixed grids on [-2, 2] at every node, without the moving of grids that pykan
offers.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from shared.compare import compare, geometric_mean, wins
from shared.record import write
from shared.runs import Runs

from functions.equal_size import (
    Sample,
    common_settings,
    ended,
    errors,
    forms_of,
    over_budget,
    run_cache,
    run_samples,
    seeds_of,
    study_parser,
)
from functions.fitting import Form, Stop, run_all, study
from functions.targets import FEYNMAN, SPECIAL, TARGETS, draw

SIZES = (500, 250, 1000)
STOP = Stop(steps=60, patience=10, fall=0.05)
SEEDS = range(3)
BUDGET = Form("QKAN", 1, 5), 4
"""A form and its width."""
FORMS = (
    *(Form("QKAN", 1, 5), Form("QKAN", 2, 2)),
    *(Form("KAN", 1, 8), Form("KAN", 1, 3)),
    *(Form("MLP", 2, "silu"), Form("MLP", 3, "tanh")),
)
TRIED = (
    *(Form("QKAN", 1, 3), Form("QKAN", 1, 2), Form("QKAN", 1, 5), Form("QKAN", 2, 2)),
    *(Form("KAN", 1, 5), Form("KAN", 1, 3), Form("KAN", 1, 8), Form("KAN", 2, 3)),
    *(Form("MLP", 1, "tanh"), Form("MLP", 2, "tanh")),
    *(Form("MLP", 2, "silu"), Form("MLP", 3, "tanh")),
)
TUNING = ("kv(v, x)", "ellipkinc(φ, m)")
TUNING_SEED = 1000
TUNING_SIZES = (1000, 500, 1000)
TUNING_STOP = Stop(steps=60, patience=5, fall=0.01)
TUNING_BUDGET = Form("QKAN", 1, 3), 5
KINDS = ("QKAN", "KAN", "MLP")
FAMILIES = {"special": SPECIAL, "Feynman": FEYNMAN}


def job(target: str, seed: int, stop: Stop) -> dict[str, Any]:
    """One function and seed, as what `Runs` knows it by."""
    form, width = BUDGET
    return {
        "target": target, "seed": seed, "sizes": SIZES, "stop": asdict(stop),
        "budget": form.parameters(len(TARGETS[target].ranges), width),
        "forms": [asdict(form) for form in FORMS],
    }  # fmt: skip


def tuning_job(target: str) -> dict[str, Any]:
    """The same for all that was tried."""
    form, width = TUNING_BUDGET
    budget = form.parameters(len(TARGETS[target].ranges), width)
    forms = [asdict(form) for form in TRIED]
    other = {"seed": TUNING_SEED, "sizes": TUNING_SIZES, "stop": asdict(TUNING_STOP)}
    return {"target": target, "budget": budget, "forms": forms, **other}


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Train all forms on one function and seed."""
    target = TARGETS[job["target"]]
    data = draw(target, job["sizes"], job["seed"])
    forms = [Form(**form) for form in job["forms"]]
    return {"forms": study(forms, job["budget"], data, job["seed"], Stop(**job["stop"]))}


def medians(samples: Sequence[Sample]) -> dict[str, dict[str, float]]:
    """By function and kind, the median over the seeds of the chosen form's test error."""
    return {
        name: {
            kind: statistics.median(found)
            for kind, found in errors(samples, "kind", KINDS, target=name).items()
        }
        for name in dict.fromkeys(sample["target"] for sample in samples)
    }


def summary(table: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Wins and ratios, of each family and of all functions."""
    groups = {name: [t.name for t in part if t.name in table] for name, part in FAMILIES.items()}
    groups = {"all": [*table], **{name: part for name, part in groups.items() if part}}
    found = {}
    for group, names in groups.items():
        middles = {kind: [table[name][kind] for name in names] for kind in KINDS}
        found[group] = {
            "functions": len(names),
            "geometric_mean": {kind: geometric_mean(row) for kind, row in middles.items()},
            "wins": wins(middles),
            "qkan_over": {
                kind: compare(middles["QKAN"], middles[kind]).to_dict() for kind in KINDS[1:]
            },
        }
    return found


def training(samples: Sequence[Sample]) -> dict[str, Any]:
    """How many trainings the cap ended, and how near the sizes are to the budget, by kind."""
    found = {}
    for kind in KINDS:
        forms = forms_of(samples, "kind", kind)
        found[kind] = {
            **ended(forms),
            "median_steps": statistics.median(form["steps"] for form in forms),
            "best_step_before_the_last": sum(form["best_step"] < form["steps"] for form in forms),
            "parameters_over_budget": over_budget(samples, kind),
        }
    return found


def figure(samples: Sequence[Sample], path: Path) -> Path:
    """Every function a row, sorted by how the QKAN stands to the better control."""
    from matplotlib import pyplot as plt
    from shared import figures

    table = medians(samples)
    colours = dict(zip(KINDS, (figures.GREEN, figures.BLUE, figures.ORANGE), strict=True))
    parts = {family: [t.name for t in part if t.name in table] for family, part in FAMILIES.items()}
    parts = {family: names for family, names in parts.items() if names}
    height = 0.17 * len(table) + 1.4
    with plt.rc_context(figures.STYLE):
        drawing, axes = plt.subplots(
            len(parts), 1, figsize=(7.5, height), layout="constrained", sharex=True, squeeze=False,
            height_ratios=[len(names) + 1 for names in parts.values()],
        )  # fmt: skip
        for ax, (family, names) in zip(axes[:, 0], parts.items(), strict=True):
            names = sorted(names, key=lambda name: -_standing(table[name]))
            for kind, shift in zip(KINDS, (0.0, 0.18, -0.18), strict=True):
                _dots(ax, samples, names, kind, shift, colours[kind])
            for row in range(len(names)):
                ax.axhline(row + 0.5, color="#eeeeee", linewidth=0.6, zorder=0)
            ax.set(xscale="log", ylim=(-0.6, len(names) - 0.4))
            ax.set_yticks(range(len(names)), names, fontsize=7.5)
            ax.tick_params(axis="y", length=0)
            ax.set_title(
                "special functions" if family == "special" else "Feynman's equations", loc="left"
            )
        axes[0, 0].legend(loc="lower right", ncols=3, fontsize=8)
        axes[-1, 0].set_xlabel(
            "test RMSE in standard deviations; large: median of the seeds, small: each seed"
        )
        return figures.save(drawing, path)


def _standing(row: dict[str, float]) -> float:
    return float(np.log(row["QKAN"] / min(row["KAN"], row["MLP"])))


def _dots(
    ax: Any, samples: Sequence[Sample], names: Sequence[str], kind: str, shift: float,
    colour: str,
) -> None:  # fmt: skip
    for row, name in enumerate(names):
        found = errors(samples, "kind", KINDS, target=name)[kind]
        ax.plot(found, [row + shift] * len(found), ".", color=colour, markersize=3, alpha=0.6)
    table = medians(samples)
    ax.plot(
        [table[name][kind] for name in names], np.arange(len(names)) + shift, "o", color=colour,
        markersize=4.5, label=kind,
    )  # fmt: skip


def tune(runs: Runs, workers: int) -> None:
    """Print the validation errors of every form that was tried."""
    jobs = [tuning_job(name) for name in TUNING]
    found = run_all(jobs, run, runs, workers)
    for n, form in enumerate(TRIED):
        errors = [result["forms"][n]["validation_rmse"] for result in found]
        text = "  ".join(f"{error:.1e}" for error in errors)
        print(
            f"{form.kind:<5} {form.hidden} {form.option:<5} {geometric_mean(errors):.1e}   {text}"
        )


def report(samples: Sequence[Sample], options: argparse.Namespace) -> None:
    """Print the table, draw the figure, write the record."""
    table = medians(samples)
    for name, row in table.items():
        print(f"{name:<18}" + "".join(f"{row[kind]:>10.1e}" for kind in KINDS))
    print("picture:", figure(samples, options.out / "functions.png"))
    path = write(
        options.out / "functions.json",
        experiment="function regression: QKANs, spline KANs and MLPs of equal size",
        settings={
            "targets": [*table],
            "ranges": {name: TARGETS[name].ranges for name in table},
            **common_settings(samples, SIZES, BUDGET, FORMS, STOP, options.steps),
            "forms_tried": [form.to_dict() for form in TRIED],
            "tuned_on": TUNING,
            "tuning": {
                "seed": TUNING_SEED, "sizes": TUNING_SIZES, "stop": asdict(TUNING_STOP),
                "budget": {**TUNING_BUDGET[0].to_dict(), "width": TUNING_BUDGET[1]},
            },
            "selection": "lowest validation error, of the step and of the form",
        },
        summary=summary(table), training=training(samples), median_test_rmse=table,
        samples=samples,
    )  # fmt: skip
    print("record:", path)


def main(arguments: list[str] | None = None) -> None:
    known = study_parser("functions", __doc__, SEEDS, STOP)
    known.add_argument("--tune", action="store_true")
    known.add_argument("--targets", nargs="+", default=[t.name for t in (*SPECIAL, *FEYNMAN)])
    options = known.parse_args(arguments)
    if options.tune:
        return tune(run_cache(options), options.workers)
    stop = Stop(options.steps, STOP.patience, STOP.fall)
    jobs = [job(name, seed, stop) for seed in seeds_of(options) for name in options.targets]
    report(run_samples(jobs, run, ("target", "seed", "budget"), options), options)
