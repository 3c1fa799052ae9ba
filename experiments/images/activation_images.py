"""Learnt activations in a small vision transformer on CIFAR-10, beside known and classical ones.

Run     python experiments activation_images                all rows; if interrupted, it goes on
        python experiments activation_images --seeds 2      fewer seeds
Reads   CIFAR-10 in the folder QKAN_DATA names, see `datasets.py`; "CIFAR-10 (JPEG)" in the results
        says that the images were re-coded as JPEG, which is another task than the published one
Writes  experiments/results/activation_images.json after every run, and
        docs/images/activation_images.png

A transformer of three layers reads 16 patches of 8 × 8 pixels; its blocks are 48 → 192 → 48, and
only their activation differs. A learnt one takes the place of GELU by `qkan.replace_activation`, so
that all models of a seed begin with the same weights and the same function as the one with GELU.
Its own parameters learn ten times as fast as the weights. This is a second task of another kind
beside the character GPT of `activations.py`, with a small budget: it compares activations, and is
far from what larger networks and longer training reach.

Every row has three learning rates for a part of the steps, on a seed of their own. The lowest
validation loss chooses, and the chosen rate is trained in full with seeds that no trial had, and
tested once. Rows are compared seed by seed. 5,000 of the training images validate.
"""

from __future__ import annotations

import math
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from language.learnt import CONTROLS, KNOWN, Row, groups
from shared.finals import Finals, finals, options, order
from shared.record import ROOT, environment
from shared.runs import Runs
from torch import Tensor, nn
from tqdm import tqdm

from images.activation_images_report import table
from images.classify import Prepare, judge
from images.datasets import Images, cifar10
from qkan import DARUAN, effective_parameters, fit, replace_activation

HELD, BATCH, DECAY = 5000, 128, 0.05
WIDTH, HEADS, LAYERS, PATCH = 48, 4, 3, 8
STEPS, TRIAL_STEPS = 600, 150
RATES = (1e-3, 3e-3, 6e-3)
WARM_UP = 0.2
TRIAL_SEED, SEEDS = 0, 5
SINE = "GELU + a·sin(wx + b)"
ROWS = {
    "GELU": Row("known", {"name": "GELU"}),
    "GELU + DARUAN": Row("daruan", {"group": 8}),
    SINE: Row("control", {"name": SINE, "group": 8}),
    "SiLU": Row("known", {"name": "SiLU"}),
    "ReLU²": Row("known", {"name": "ReLU²"}),
}
"""The rows, the most important ones first."""

RECORD = {
    "experiment": "a small vision transformer on CIFAR-10 by the activation of its blocks",
    "settings": {
        "width": WIDTH, "heads": HEADS, "layers": LAYERS, "patch": PATCH, "hidden": 4 * WIDTH,
        "held": HELD, "batch": BATCH, "rates": RATES, "trial_seed": TRIAL_SEED,
        "seeds": f"1 to {SEEDS}",
        "optimizer": f"AdamW, weight decay {DECAY} on matrices, one cycle",
        "faster": ROWS["GELU"].faster, "selection": "lowest validation loss at the end of a trial",
        "threads": 1,
    },
}  # fmt: skip


class Vision(nn.Module):
    """A transformer of patches, whose mean over tokens is classified.

    Args:
        activation: Makes the activation of a block.
        side: Pixels of an image's side.
        channels: Of an image.
        classes: Outputs.
    """

    def __init__(
        self, activation: Any, side: int = 32, channels: int = 3, classes: int = 10
    ) -> None:
        super().__init__()
        self.patches = nn.Conv2d(channels, WIDTH, PATCH, PATCH)
        self.place = nn.Parameter(torch.randn((side // PATCH) ** 2, WIDTH) / math.sqrt(WIDTH))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                WIDTH, HEADS, 4 * WIDTH, dropout=0.0, activation=activation(), batch_first=True,
                norm_first=True,
            )
            for _ in range(LAYERS)
        )  # fmt: skip
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(b, channels, side, side) → (b, classes)."""
        x = self.patches(x).flatten(2).transpose(1, 2) + self.place
        for layer in self.layers:
            x = layer(x)
        out: Tensor = self.head(self.norm(x).mean(1))
        return out


def build(row: Row, images: Images, seed: int) -> nn.Module:
    """A model with that activation; the seed rules every start."""
    torch.manual_seed(seed)
    side, channels = images.train[0].shape[-1], images.train[0].shape[1]
    name = row.options["name"] if row.kind == "known" else "GELU"
    body = Vision(KNOWN[name], side, channels)
    if row.kind == "daruan":
        replace_activation(body, lambda n, base: DARUAN(n, base=base, **row.options))
    elif row.kind == "control":
        make, group = CONTROLS[row.options["name"]], row.options["group"]
        replace_activation(body, lambda n, base: make(n or 4 * WIDTH, group))
    return nn.Sequential(Prepare(images.train[0], flip=True), body)


def run(images: Images, row: Row, rate: float, seed: int, steps: int, test: bool) -> dict[str, Any]:
    """Train one model; the seed rules the start, the mirroring and the batches."""
    with torch.random.fork_rng():
        model = build(row, images, seed)
        made = groups(model, row, rate, DECAY)
        rates = [group.get("lr", rate) for group in made]
        begin = time.process_time()
        history = fit(
            model, images.train, loss="cross_entropy", optimizer=torch.optim.AdamW(made, lr=rate),
            steps=steps, batch_size=BATCH, seed=seed, progress=False,
            scheduler=lambda o: torch.optim.lr_scheduler.OneCycleLR(
                o, rates, total_steps=steps + 1, pct_start=WARM_UP
            ),
        )  # fmt: skip
        seconds = time.process_time() - begin
    if history.interrupted:
        raise KeyboardInterrupt
    model.eval()
    validation = judge(model, images.validation)
    tested = judge(model, images.test) if test else (None, None)
    return {
        "parameters": effective_parameters(model),
        "validation_loss": validation[0], "validation_accuracy": validation[1],
        "test_loss": tested[0], "test_accuracy": tested[1],
        "cpu_seconds": seconds, "environment": environment(),
    }  # fmt: skip


def train(
    runs: Runs, images: Images, name: str, rate: float, seed: int, steps: int, test: bool
) -> dict[str, Any]:
    """`run`, unless this session or an earlier one has it already."""
    row = ROWS[name]
    settings = {
        "row": name, "kind": row.kind, "options": row.options, "faster": row.faster, "rate": rate,
        "seed": seed, "steps": steps, "test": test, "images": images.name,
        "sizes": [len(images.train[0]), len(images.validation[0]), len(images.test[0])],
    }  # fmt: skip
    return runs.get(settings, lambda: run(images, row, rate, seed, steps, test))


def study(runs: Runs, images: Images, seeds: int, steps: int, trial_steps: int) -> None:
    """The trials of all rows, and the chosen rates in full, all rows of one seed after another."""
    progress = {"unit": "run", "disable": None}
    chosen = {}
    for name in tqdm(ROWS, desc="rates", **progress):
        losses = {
            rate: train(runs, images, name, rate, TRIAL_SEED, trial_steps, False)["validation_loss"]
            for rate in RATES
        }
        chosen[name] = min(losses, key=lambda r: math.inf if math.isnan(losses[r]) else losses[r])
    jobs = [(seed, name) for seed in range(1, seeds + 1) for name in ROWS]
    for seed, name in tqdm(jobs, desc="in full", **progress):
        train(runs, images, name, chosen[name], seed, steps, True)


def figure(found: Finals, path: Path) -> Path:
    """Test accuracy of every seed and the mean, row by row."""
    from shared import figures
    from shared.figures import plt

    colours = {"known": figures.GREY, "daruan": figures.BLUE, "control": figures.ORANGE}
    names = order(found)[::-1]
    with plt.rc_context(figures.STYLE):
        drawing, ax = plt.subplots(figsize=(6.4, 2.8), layout="constrained")
        for place, name in enumerate(names):
            values = [100 * seed["test_accuracy"] for seed in found[name].values()]
            colour = colours[ROWS[name].kind]
            ax.plot(values, [place] * len(values), "o", color=colour, alpha=0.5, markersize=4)
            ax.plot(statistics.mean(values), place, "|", color=colour, markersize=16)
        ax.set_yticks(range(len(names)), names)
        ax.set(xlabel="test accuracy in % (dots: seeds; bars: means)")
        ax.set_title("A small vision transformer by its activation", loc="left")
        return figures.save(drawing, path)


def main(arguments: list[str] | None = None) -> None:
    asked = options(__doc__.splitlines()[0], STEPS, TRIAL_STEPS, SEEDS).parse_args(arguments)
    torch.set_num_threads(1)
    folder = asked.out or ROOT / "experiments" / "results"
    runs = Runs(folder / "activation_images.json", RECORD)
    study(runs, cifar10(HELD), asked.seeds, asked.steps, asked.trial_steps)
    found = finals(runs.done)
    print("\n".join(table(found)))
    path = figure(found, (asked.out or ROOT / "docs" / "images") / "activation_images.png")
    print(f"\nWrote {runs.path}\n      {path}")
