"""What learnt activations are worth in a character GPT: DARUANs beside known and classical ones.

Run     python experiments activations                             all rows, 2,000 steps, 5 seeds
        python experiments activations --steps 6000 --rows best    then the best ones for longer
        python experiments activations --rows GELU PReLU           a part of the runs
Reads   tinyshakespeare.txt in the folder QKAN_DATA names
Writes  experiments/results/activations.json after every run, and in docs/images
        learnt_activations.png and, of the longest runs, learnt_activations_longer.png

The model, the text and the recipe are those of `char_lm.py`; its feed-forward blocks are full MLPs,
128 → 512 → 128, and only their activation differs (`learnt.py` has all of them). A learnt one takes
the place of GELU by `qkan.replace_activation`, so that all models of a seed begin with the same
weights, and those with GELU as their base begin as the same function. Its own parameters learn ten
times as fast as the weights, those of the classical controls too, unless a row says otherwise.

Every row has the same trials: three learning rates for 500 steps, on a seed of their own. The
lowest validation loss chooses, and the chosen rate is trained in full, with seeds that no trial
had, and tested once. Losses are compared seed by seed with the row that is best on validation.
Ablations have two seeds. "best" stands for the four rows that are best on validation at 2,000
steps, the two best classical controls and the best known activation.

Each finished run is in the JSON at once, with its machine and versions: the study may be stopped at
any time, and goes on with what is missing. A run of other steps or seeds stands beside those that
are there. Seconds are those of the processor, for training alone, on one thread and without
validation: other work beside changes them little.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from shared.finals import Finals, by_steps, options
from shared.record import ROOT, environment
from shared.runs import Runs
from tqdm import tqdm

from language.activations_report import LONGER, best_first, table
from language.char_lm import (
    BATCH,
    DECAY,
    SIZE,
    TRIAL_SEED,
    Text,
    fit_model,
    load_text,
)
from language.learnt import Row, build, groups, rows
from qkan import effective_parameters

STEPS = 2000
TRIAL_STEPS = 500
RATES = (2e-3, 4e-3, 8e-3)
SEEDS = 5
ABLATION_SEEDS = 2
ROWS = rows()
RECORD = {
    "experiment": "a character GPT with full-width blocks and learnt activations",
    "settings": {
        "text": "tinyshakespeare, first 90 % train, the rest half validation, half test",
        **asdict(SIZE), "batch": BATCH, "rates": RATES, "trial_steps": TRIAL_STEPS,
        "trial_seed": TRIAL_SEED, "seeds": f"1 to {SEEDS}, ablations 1 to {ABLATION_SEEDS}",
        "optimizer": f"AdamW, betas 0.9, 0.99, weight decay {DECAY} on matrices",
        "selection": "lowest validation loss at the end of a trial",
        "curve": "[step, CPU seconds of training, wall seconds of training, validation loss]",
        "threads": 1,
    },
}  # fmt: skip


def run(text: Text, row: Row, rate: float, seed: int, steps: int, test: bool) -> dict[str, Any]:
    """Train one model; the seed rules the start and the batches."""
    with torch.random.fork_rng():
        model = build(row, SIZE, seed)
    # what is compiled at the first call belongs to no run's seconds
    model(text.train[None, : SIZE.context]).sum().backward()
    model.zero_grad()
    made = groups(model, row, rate, DECAY)
    return {
        "parameters": effective_parameters(model),
        **fit_model(text, model, made, seed, steps, test),
        "environment": environment(),
    }


def train(
    runs: Runs, text: Text, name: str, rate: float, seed: int, steps: int, test: bool
) -> dict[str, Any]:
    """`run`, unless this session or an earlier one has it already."""
    row = ROWS[name]
    settings = {
        "row": name, "kind": row.kind, "options": row.options, "faster": row.faster,
        "rate": rate, "seed": seed, "steps": steps, "test": test,
    }  # fmt: skip
    return runs.get(settings, lambda: run(text, row, rate, seed, steps, test))


def chosen_rate(runs: Runs, text: Text, name: str, steps: int) -> float:
    """The rate with the lowest validation loss after a short run; one that diverged is the last."""
    losses = {
        rate: train(runs, text, name, rate, TRIAL_SEED, steps, False)["validation_loss"]
        for rate in RATES
    }
    return min(losses, key=lambda rate: math.inf if math.isnan(losses[rate]) else losses[rate])


def longer(found: Finals) -> list[str]:
    """The four best rows, the two best controls and the best known one, each once."""
    order = best_first(found)
    kinds = {name: ROWS[name].kind for name in order}
    controls = [name for name in order if kinds[name] == "control"][:2]
    known = [name for name in order if kinds[name] == "known"][:1]
    return list(dict.fromkeys([*order[:4], *controls, *known]))


def study(
    runs: Runs, text: Text, names: Sequence[str], seeds: int, steps: int, trial_steps: int
) -> None:
    """The trials of all rows, and the chosen rate in full, all rows of one seed after another."""
    progress = {"unit": "run", "disable": None}
    rates = {
        name: chosen_rate(runs, text, name, trial_steps)
        for name in tqdm(names, desc="rates", **progress)
    }
    # every row of one seed before the next seed, so that an early end leaves whole seeds
    jobs = [
        (seed, name)
        for seed in range(1, seeds + 1)
        for name in names
        if ROWS[name].main or seed <= ABLATION_SEEDS
    ]
    for seed, name in tqdm(jobs, desc="in full", **progress):
        train(runs, text, name, rates[name], seed, steps, True)


def figure(found: Finals, path: Path) -> Path:
    """Mean validation loss of the rows with all seeds, over the steps and over the seconds."""
    from shared import figures
    from shared.figures import plt

    names = best_first(found)
    count = len(found[names[0]])
    curves = {name: mean_curve([run["curve"] for run in found[name].values()]) for name in names}
    with plt.rc_context(figures.STYLE):
        drawing, axes = plt.subplots(1, 2, figsize=(9.6, 4.6), layout="constrained", sharey=True)
        for name, look in looks(names).items():
            for ax, column in zip(axes, (0, 1), strict=True):
                x, y = ([point[n] for point in curves[name]] for n in (column, 3))
                ax.plot(x, y, label=name, linewidth=1.5, **look)
        # where training begins is alike for all and far above
        axes[0].set_ylim(top=max(curve[min(1, len(curve) - 1)][3] for curve in curves.values()))
        axes[0].set(xlabel="step", ylabel="validation loss (nats a character)")
        axes[1].set(xlabel="CPU seconds of training on one thread, without validation")
        lines, labels = axes[0].get_legend_handles_labels()
        drawing.legend(lines, labels, loc="outside lower center", ncols=2, fontsize=8)
        seeds = "one seed" if count == 1 else f"mean of {count} seeds"
        axes[0].set_title(f"character GPT by its activation, {seeds}", loc="left")
        return figures.save(drawing, path)


def looks(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Colours by kind, the best one of a kind the darkest, and line styles within a kind."""
    from shared.figures import plt

    found = {}
    for kind, colours in (("known", "Greys"), ("daruan", "Blues"), ("control", "Oranges")):
        alike = [name for name in names if ROWS[name].kind == kind]
        for place, name in enumerate(alike):
            shade = 0.9 - 0.5 * place / max(1, len(alike) - 1)
            style = ("-", "--", ":", "-.")[place % 4]
            found[name] = {"color": plt.get_cmap(colours)(shade), "linestyle": style}
    return found


def mean_curve(curves: Sequence[list[list[float]]]) -> list[list[float]]:
    """The mean of curves of the same steps, point by point."""
    return [
        [statistics.mean(values) for values in zip(*points, strict=True)]
        for points in zip(*curves, strict=True)
    ]


def main(arguments: list[str] | None = None) -> None:
    parser = options(__doc__.splitlines()[0], STEPS, TRIAL_STEPS, SEEDS)
    parser.add_argument(
        "--rows", nargs="+", choices=["main", "ablations", "best", *ROWS], metavar="ROW",
        help=f"main, ablations, best, or names: {'; '.join(ROWS)}",
    )  # fmt: skip
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    out = asked.out
    runs = Runs((out or ROOT / "experiments" / "results") / "activations.json", RECORD)
    names: list[str] = []
    for name in asked.rows or ["main", "ablations"]:
        if name == "best":
            names += longer(by_steps(runs.done).get(STEPS, {}))
        elif name in ROWS:
            names.append(name)
        else:
            names += [other for other, row in ROWS.items() if row.main == (name == "main")]
    if not names:
        parser.error(f"--rows best: {runs.path} has no run of {STEPS} steps; make those first.")
    study(runs, load_text(), names, asked.seeds, asked.steps, asked.trial_steps)
    found = by_steps(runs.done)
    print("\n".join(table(found[asked.steps])))
    # the first picture shows the number of steps with the most runs
    first = max(found, key=lambda steps: sum(map(len, found[steps].values())))
    pictures = {first: "learnt_activations.png"}
    if max(found) != first:
        pictures[max(found)] = LONGER
    folder = out or ROOT / "docs" / "images"
    paths = [figure(found[steps], folder / name) for steps, name in pictures.items()]
    print("\nWrote", *[runs.path, *paths], sep="\n      ")
