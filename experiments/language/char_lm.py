"""A character language model whose feed-forward blocks are HQKANs, MLPs and linear maps.

Run     python experiments char_lm       (an hour on one core; if interrupted, it goes on)
        python experiments char_lm --kinds MLP "full MLP"    beside it, for a part of the runs
Reads   tinyshakespeare.txt in the folder QKAN_DATA names
Writes  out/char_lm/char_lm.json and char_lm.png

nanoGPT's configuration for a CPU: 4 layers, 4 heads, width 128, context 64, batches of 12, AdamW
(beta 0.9, 0.99, weight decay 0.1), 2,000 steps with 5 % warm-up and a cosine to a tenth of the
rate, gradients clipped at norm 1, no dropout. The first 90 % of the text train; nanoGPT validates
on the rest, here its first half validates and its second half tests. Only the feed-forward blocks
differ. A loss is the cross-entropy of the next character over all windows of 64 that follow each
other; e^loss is the perplexity, loss / ln 2 the bits a character.

Every candidate has ten trials (`TRIALS`), short runs of one seed of their own; the lowest
validation loss chooses, and only the chosen one is trained in full, with seeds that no trial had,
and tested once. "HQKAN" spends its parameters on repetitions, on latent nodes, on a second layer
or on a gate; "Linear → QKANLayer" is an MLP whose nodes have learnt activations; both have the
start that their docstrings tell, the others nodes of variance 1 and outputs with the same root
mean square. The start of HQKANs was chosen before the trials by short runs on other seeds, and the
encodings are compared by themselves, on three more.

Seconds are CPU seconds of the process, one thread, without validation; they tell how long it takes,
not which kind is faster, unless the machine had nothing else to do.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from shared.record import ROOT, spread, write
from shared.runs import Runs
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from language.char_gpt import CharGPT, Size
from language.char_show import figure, print_tables
from language.ffn import make_ffn
from language.texts import tinyshakespeare
from qkan import effective_parameters, param_groups

SIZE = Size()
BATCH = 12
STEPS = 2000
TRIAL_STEPS = 300
WARM_UP = 0.05
DECAY = 0.1
TRIAL_SEED = 0
SEEDS = 5
ENCODINGS = ("ternary", "binary", "linear", "trainable")
ENCODING_RATES = (2e-3,)
ENCODING_SEEDS = (11, 12, 13)
POINTS = 10
"""Validations in a full run, evenly spaced; a trial has one, at its end."""

Shape = dict[str, Any]
Trial = tuple[Shape, float]
"""A block's options, and a learning rate."""


def at(shape: Shape, *rates: float) -> list[Trial]:
    return [(shape, rate) for rate in rates]


SMALL: Shape = {"encoding": "linear", "reps": 1, "latent": 8, "ansatz": "rpz", "base": None}
NODES: Shape = {"up": False, "latent": 9, "base": None, "bias": False}
TRIALS: dict[str, list[Trial]] = {
    "HQKAN": [
        *at({"encoding": "linear"}, 2e-3),
        *at({"encoding": "ternary"}, 2e-3),
        *at({"encoding": "linear", "reps": 1}, 2e-3),
        *at(SMALL, 1e-3, 2e-3, 4e-3),
        *at({"latent": 8, "group": 8, "base": None, "start": "gelu"}, 2e-3),
        *at({"latent": 6, "reps": 9, "base": None}, 2e-3),
        *at({"latent": 5, "reps": 5, "base": None, "gate": True}, 2e-3),
        *at({"latent": 7, "reps": 1, "ansatz": "rpz", "base": None, "depth": 2}, 2e-3),
    ],
    "Linear → QKANLayer": [
        *at(NODES | {"group": 9, "start": "gelu", "encoding": "linear"}, 1e-3, 2e-3, 4e-3),
        *at(NODES | {"group": 9, "reps": 1, "encoding": "linear"}, 1e-3, 2e-3, 4e-3),
        *at(NODES | {"group": 9, "encoding": "linear"}, 2e-3),
        *at(NODES | {"group": 9, "encoding": "ternary"}, 2e-3),
        *at(NODES | {"group": 3, "reps": 5, "encoding": "trainable"}, 2e-3),
        *at(NODES | {"group": 1, "start": "gelu", "encoding": "trainable"}, 2e-3),
    ],
    "MLP": [
        *at({"latent": 9, "activation": "gelu"}, 5e-4, 1e-3, 2e-3, 4e-3),
        *at({"latent": 9, "activation": "relu"}, 1e-3, 2e-3),
        *at({"latent": 9, "activation": "silu"}, 1e-3, 2e-3),
        *at({"latent": 8, "activation": "gelu", "middle": 1}, 2e-3),
        *at({"latent": 6, "activation": "silu", "gate": True}, 2e-3),
    ],
    "identity": [
        *at({"latent": 7, "activation": "identity"}, 1e-3, 2e-3, 4e-3),
        *at({"latent": 7, "activation": "identity", "middle": 1}, 1e-3, 2e-3, 4e-3),
        *at({"latent": 9, "activation": "identity"}, 5e-4, 1e-3, 2e-3, 4e-3),
    ],
    "full MLP": [
        *at({"latent": 512, "activation": "gelu"}, 1e-3, 2e-3, 4e-3, 8e-3),
        *at({"latent": 512, "activation": "silu"}, 1e-3, 2e-3, 4e-3),
        *at({"latent": 256, "activation": "gelu", "middle": 1}, 1e-3, 2e-3, 4e-3),
    ],
}
"""Blocks of about as many parameters each, "full MLP" apart: 131,712 of them."""


@dataclass(frozen=True)
class Text:
    """The symbols of the three parts, (t,) each."""

    train: Tensor
    validation: Tensor
    test: Tensor


def load_text() -> Text:
    text = tinyshakespeare()
    symbols = {character: n for n, character in enumerate(sorted(set(text)))}
    tokens = torch.tensor([symbols[character] for character in text])
    start = int(0.9 * len(tokens))
    middle = start + (len(tokens) - start) // 2
    return Text(tokens[:start], tokens[start:middle], tokens[middle:])


def batches(tokens: Tensor, steps: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Windows at random places and the symbols after them, (12, 64) each."""
    generator = torch.Generator().manual_seed(seed)
    span = torch.arange(SIZE.context)
    for _ in range(steps):
        start = torch.randint(len(tokens) - SIZE.context, (BATCH, 1), generator=generator)
        yield tokens[start + span], tokens[start + span + 1]


@torch.no_grad()
def loss_on(model: CharGPT, tokens: Tensor) -> float:
    """Mean cross-entropy over windows that follow each other, each symbol predicted once."""
    windows = (len(tokens) - 1) // SIZE.context
    x = tokens[: windows * SIZE.context].view(windows, SIZE.context)
    y = tokens[1 : windows * SIZE.context + 1].view(windows, SIZE.context)
    model.eval()
    total = sum(
        F.cross_entropy(model(a).flatten(0, 1), b.flatten(), reduction="sum").item()
        for a, b in zip(x.split(48), y.split(48), strict=True)
    )
    model.train()
    return total / y.numel()


def schedule(step: int, steps: int) -> float:
    """Factor on the learning rate: linear warm-up, then a cosine down to a tenth."""
    warm = max(1, round(WARM_UP * steps))
    if step < warm:
        return (step + 1) / (warm + 1)
    return 0.1 + 0.45 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def build(shape: Shape, seed: int) -> CharGPT:
    torch.manual_seed(seed)
    return CharGPT(lambda width: make_ffn(width, shape), SIZE)


def run(text: Text, shape: Shape, rate: float, seed: int, steps: int, test: bool) -> dict[str, Any]:
    """Train one model; the seed rules the start and the batches."""
    with torch.random.fork_rng():
        model = build(shape, seed)
    found = fit_model(text, model, param_groups(model, rate, DECAY), seed, steps, test)
    block = {"block_parameters": effective_parameters(model.blocks[0].ffn)}
    return {**block, "parameters": effective_parameters(model), **found}


def fit_model(
    text: Text, model: CharGPT, groups: list[dict[str, Any]], seed: int, steps: int, test: bool
) -> dict[str, Any]:
    """Train a model in place on batches of that seed; losses, seconds and the validation curve.

    "train_loss" is that of as many characters of the training text as validation has.
    """
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.99), fused=True)
    rates = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: schedule(step, steps))
    curve, wall, cpu = [], 0.0, 0.0
    every = max(1, steps // POINTS) if test else steps
    begin = time.perf_counter(), time.process_time()
    for step, (x, y) in enumerate(batches(text.train, steps, seed), start=1):
        loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        rates.step()
        optimizer.zero_grad()
        # the seconds of the curve are those of training alone
        if step % every == 0 or step == steps:
            wall += time.perf_counter() - begin[0]
            cpu += time.process_time() - begin[1]
            curve.append([step, cpu, wall, loss_on(model, text.validation)])
            begin = time.perf_counter(), time.process_time()
    return {
        "validation_loss": curve[-1][-1],
        "train_loss": loss_on(model, text.train[: len(text.validation)]) if test else None,
        "test_loss": loss_on(model, text.test) if test else None,
        "cpu_seconds": cpu,
        "wall_seconds": wall,
        "curve": curve,
    }


def recipe(kind: str, trial: Trial) -> dict[str, Any]:
    return {"kind": kind, "shape": trial[0], "rate": trial[1]}


def study(runs: Runs, text: Text, kinds: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """All trials of every kind, each a short run of the trial seed."""
    jobs = [(kind, trial) for kind in kinds for trial in TRIALS[kind]]
    found: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds}
    for kind, trial in tqdm(jobs, desc="trials", unit="run", disable=None):
        shape, rate = trial
        found[kind].append(
            recipe(kind, trial) | train(runs, text, shape, rate, TRIAL_SEED, TRIAL_STEPS)
        )
    return found


def train(
    runs: Runs, text: Text, shape: Shape, rate: float, seed: int, steps: int, test: bool = False
) -> dict[str, Any]:
    """`run`, unless this session or an earlier one has it already."""
    settings = {
        "size": asdict(SIZE), "batch": BATCH, "steps": steps, "shape": shape, "rate": rate,
        "seed": seed, "test": test,
    }  # fmt: skip
    return {"seed": seed} | runs.get(settings, lambda: run(text, shape, rate, seed, steps, test))


def choose(trials: list[dict[str, Any]]) -> dict[str, Any]:
    return min(trials, key=lambda trial: trial["validation_loss"])


def warm_up(text: Text) -> None:
    """Compile what is compiled at the first call, so that no run's seconds hold it."""
    for encoding in ("ternary", "trainable"):
        run(text, {"encoding": encoding}, 1e-3, 0, 2, False)


def encodings(runs: Runs, text: Text) -> list[dict[str, Any]]:
    """The default HQKAN with each encoding, on seeds that choose nothing else."""
    jobs = itertools.product(ENCODINGS, ENCODING_RATES, ENCODING_SEEDS)
    return [
        {"encoding": name, "rate": rate}
        | train(runs, text, {"encoding": name}, rate, seed, TRIAL_STEPS)
        for name, rate, seed in tqdm(list(jobs), desc="encodings", unit="run", disable=None)
    ]


def finals(
    runs: Runs, text: Text, chosen: dict[str, dict[str, Any]], seeds: Sequence[int]
) -> dict[str, list[dict[str, Any]]]:
    """The chosen recipe of every kind, trained in full and tested once a seed."""
    found: dict[str, list[dict[str, Any]]] = {kind: [] for kind in chosen}
    # every kind of one seed before the next seed, so that an early end leaves whole seeds
    jobs = [(seed, kind) for seed in seeds for kind in chosen]
    for seed, kind in tqdm(jobs, desc="in full", unit="run", disable=None):
        shape, rate = chosen[kind]["shape"], chosen[kind]["rate"]
        found[kind].append(train(runs, text, shape, rate, seed, STEPS, test=True))
    return found


def summary(chosen: dict[str, Any], found: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    return {
        kind: {
            "shape": chosen[kind]["shape"],
            "rate": chosen[kind]["rate"],
            "block_parameters": trained[0]["block_parameters"],
            "parameters": trained[0]["parameters"],
            "validation_loss": spread([run["validation_loss"] for run in trained]),
            "test_loss": spread([run["test_loss"] for run in trained]),
            "test_perplexity": math.exp(statistics.mean(run["test_loss"] for run in trained)),
            "test_bits": statistics.mean(run["test_loss"] for run in trained) / math.log(2),
            "cpu_seconds": statistics.median(run["cpu_seconds"] for run in trained),
        }
        for kind, trained in found.items()
    }


def differences(found: dict[str, list[dict[str, Any]]], kind: str = "HQKAN") -> dict[str, Any]:
    """Test loss of `kind` minus that of each other kind, seed by seed: below 0 it is ahead."""
    mine = [run["test_loss"] for run in found[kind]]
    return {
        other: spread([a - run["test_loss"] for a, run in zip(mine, trained, strict=True)])
        for other, trained in found.items()
        if other != kind
    }


def settings(seeds: Sequence[int]) -> dict[str, Any]:
    return {
        "text": "tinyshakespeare, first 90 % train, the rest half validation, half test",
        **asdict(SIZE), "batch": BATCH, "steps": STEPS, "seeds": list(seeds),
        "optimizer": "AdamW, betas 0.9, 0.99, weight decay 0.1 (none on angles and norms)",
        "schedule": f"{WARM_UP:.0%} linear warm-up, cosine to a tenth; gradients clipped at 1",
        "start": "embeddings 0.02, attention 0.02 and 0.02/√8; blocks as HQKAN documents",
        "trials": {kind: len(trials) for kind, trials in TRIALS.items()},
        "trial_steps": TRIAL_STEPS, "trial_seed": TRIAL_SEED,
        "selection": "lowest validation loss at the end of a trial",
        "encoding_seeds": ENCODING_SEEDS, "encoding_rates": ENCODING_RATES,
        "curve": "[step, CPU seconds of training, wall seconds of training, validation loss]",
        "threads": 1,
    }  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=SEEDS, help="how many, from 1 on")
    parser.add_argument(
        "--kinds", nargs="+", choices=TRIALS, help="compute these runs only; then run it without"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "char_lm")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    text, runs, seeds = load_text(), Runs(options.out / "runs.json"), range(1, options.seeds + 1)
    warm_up(text)
    trials = study(runs, text, options.kinds or list(TRIALS))
    chosen = {kind: choose(tried) for kind, tried in trials.items()}
    found = finals(runs, text, chosen, seeds)
    if options.kinds:
        return
    by_encoding = encodings(runs, text)
    table = summary(chosen, found)
    print_tables(trials, by_encoding, table)
    path = write(
        options.out / "char_lm.json",
        experiment="a character GPT with HQKANs and with what they have to beat as FFNs",
        settings=settings(seeds),
        summary=table,
        hqkan_minus_others=differences(found),
        trials=trials,
        encodings=by_encoding,
        samples=found,
    )
    print(f"\nWrote {path}\n      {figure(found, table, options.out / 'char_lm.png')}")
