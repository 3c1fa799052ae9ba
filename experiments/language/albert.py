"""rxnmapper's ALBERT with a smaller shared feed-forward block: masked tokens of reactions.

Run     python experiments albert           (20 minutes; needs rxnmapper's files)
        python experiments albert --small   down to a 32nd, with and without self-guided training
Writes  out/albert/albert.json and albert.png, or albert_small.json and albert_small.png

The teacher is rxnmapper's masked language model of reaction SMILES: 12 layers that share one
block 256-512-256. A student is a copy whose block is an HQKAN, or what that has to beat, of at
most a half, a quarter or an eighth of the parameters (`students.py`). The new block is fitted to
what the teacher's block gets and gives in all layers (`fit`); then `distill_ffn` trains it on the
teacher's logits. Rates and steps were chosen for the MLP. A seventh of the tokens (15 %) are
masked; accuracy and perplexity are those of the masked tokens.

The reactions are made up (`reactions.py`), since no installed package has a list of real ones:
nine named reactions between random fragments; parts share fragments, but no reaction. The teacher
learned from patents; the record has its accuracy on the two real reactions of rxnmapper's README
beside that on these. So this tests whether a student does what the teacher does, not what it knows
of chemistry. Every kind has the same trials, two forms at every rate, at the middle size; the
highest validation accuracy chooses, and the test part is looked at once. `--small` has blocks of
an eighth, a sixteenth and a 32nd, and self-guided training (arXiv 2406.16450) as two kinds more.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from shared.record import ROOT, write
from shared.runs import Runs
from torch import Tensor, nn
from torch.nn import functional as F

from language.reactions import reactions
from language.students import (
    GUIDED,
    KINDS,
    RATES,
    ROWS,
    SELF_GUIDED,
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

MODEL = "models/transformers/albert_heads_8_uspto_all_1310k"
INSTALL = "pip install --no-deps rxnmapper==0.4.3"
PARTS = {"train": 1200, "validation": 100, "test": 300}
BATCH = 8
MASKED = 0.15
TRIAL_STEPS, STEPS = Steps(400, 10), Steps(1500, 40)
SEEN = 25
"""Batches that the fit of the block sees."""
END_TO_END_RATE = 0.1
"""Learning rate of the end-to-end stage, over that of the fit."""
TRIAL_SEED, SEEDS = 0, 3
SMALL = (8, 16, 32)
"""Shares with `--small`."""
TOKEN = re.compile(r"\[[^\]]*\]|Br|Cl|>>|%\d\d|.")

PUBLISHED = [
    "CC(C)S.CN(C)C=O.Fc1cccnc1F.O=C([O-])[O-].[K+].[K+]>>CC(C)Sc1ncccc1F",
    "C1COCCO1.CC(C)(C)OC(=O)CONC(=O)NCc1cccc2ccccc12.Cl>>O=C(O)CONC(=O)NCc1cccc2ccccc12",
]
"""The two reactions in rxnmapper's README, masked 25 times each."""

Batch = dict[str, Tensor]


class Tokenizer:
    """SMILES to the model's tokens, by its vocabulary."""

    def __init__(self, folder: Path) -> None:
        lines = (folder / "vocab.txt").read_text().splitlines()
        self.ids = {token: n for n, token in enumerate(lines)}

    def __call__(self, text: str) -> list[int]:
        tokens = ("[CLS]", *TOKEN.findall(text), "[SEP]")
        return [self.ids.get(token, self.ids["[UNK]"]) for token in tokens]


def parts(sizes: dict[str, int], seed: int = 0) -> dict[str, list[str]]:
    """Different reactions for every part."""
    left = reactions(sum(sizes.values()), seed)
    return {name: [left.pop() for _ in range(size)] for name, size in sizes.items()}


class Masked:
    """Batches of reactions of about one length, masked, the same on every iteration.

    Args:
        texts: The reactions.
        tokenizer: Makes tokens of them.
        seed: Of what is masked.
    """

    def __init__(self, texts: Sequence[str], tokenizer: Tokenizer, seed: int) -> None:
        self.texts, self.tokenizer, self.seed = texts, tokenizer, seed

    def __iter__(self) -> Iterator[Batch]:
        for batch, _ in self.with_answers():
            yield batch

    def with_answers(self) -> Iterator[tuple[Batch, Tensor]]:
        """Batches beside what stood at their places, -100 where nothing is masked."""
        generator = torch.Generator().manual_seed(self.seed)
        mask = self.tokenizer.ids["[MASK]"]
        for texts in alike(self.texts, BATCH):
            rows = [torch.tensor(self.tokenizer(text)) for text in texts]
            ids = nn.utils.rnn.pad_sequence(rows, batch_first=True)
            attention = nn.utils.rnn.pad_sequence([row > -1 for row in rows], batch_first=True)
            ordinary = attention & (ids != self.tokenizer.ids["[CLS]"])
            ordinary &= ids != self.tokenizer.ids["[SEP]"]
            hidden = ordinary & (torch.rand(ids.shape, generator=generator) < MASKED)
            batch = {"input_ids": ids.where(~hidden, mask), "attention_mask": attention.long()}
            yield batch, ids.where(hidden, -100)


@torch.no_grad()
def score(model: nn.Module, batches: Masked) -> dict[str, float]:
    """Accuracy and perplexity of the masked tokens."""
    right = total = 0
    loss = 0.0
    for batch, answers in batches.with_answers():
        logits = model(**batch).logits
        chosen = answers != -100
        right += int((logits.argmax(-1) == answers)[chosen].sum())
        loss += F.cross_entropy(logits[chosen], answers[chosen], reduction="sum").item()
        total += int(chosen.sum())
    return {"accuracy": right / total, "perplexity": float(torch.tensor(loss / total).exp())}


def task(folder: Path, texts: dict[str, list[str]]) -> Task:
    from transformers import AlbertForMaskedLM

    teacher = AlbertForMaskedLM.from_pretrained(folder).eval()
    tokenizer = Tokenizer(folder)
    text = {name: Masked(found, tokenizer, 0) for name, found in texts.items()}
    text["published"] = Masked(PUBLISHED * 25, tokenizer, 0)
    config = teacher.config
    width, hidden = config.hidden_size, config.intermediate_size
    return Task(
        teacher=teacher,
        writes=lambda block: f"{block}_output",
        width=width,
        block_parameters=2 * width * hidden + width + hidden,
        batches=list(text["train"]),
        judge=lambda model, part: score(model, text[part]),
        better="accuracy",
        sizes={"parts": {part: len(found) for part, found in texts.items()}, "batch": BATCH},
        seen=SEEN,
        end_to_end_rate=END_TO_END_RATE,
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=SEEDS, help="how many, from 1 on")
    parser.add_argument("--small", action="store_true", help="smaller blocks, self-guided too")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "albert")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    seeds = range(1, options.seeds + 1)
    work = task(packaged("rxnmapper", MODEL, INSTALL), parts(PARTS))
    kinds, shares = ((*KINDS, *GUIDED), SMALL) if options.small else (KINDS, SHARES)
    name = "albert_small" if options.small else "albert"
    runs = Runs(options.out / "runs.json")
    study = Study(work, runs, TRIAL_STEPS, STEPS, kinds, shares)
    trials = study.trials(TRIAL_SEED)
    found = study.finals(trials, seeds)
    lines = {
        "teacher": work.judge(work.teacher, "test"),
        "teacher on published reactions": work.judge(work.teacher, "published"),
        "no FFN": work.judge(without_blocks(work.teacher), "test"),
    }
    print_table(found, lines, ("accuracy", "perplexity"))
    settings: dict[str, Any] = {
        "teacher": f"rxnmapper 0.4.3, {MODEL}", "text": "made-up reactions, reactions.py",
        "reactions": PARTS, "batch": BATCH, "masked": MASKED, "rates": RATES, "forms": VARIANTS,
        "trial_steps": vars(TRIAL_STEPS), "steps": vars(STEPS), "shares": shares,
        "seen": SEEN, "rows": ROWS, "self_guided": SELF_GUIDED, "end_to_end_rate": END_TO_END_RATE,
        "trial_seed": TRIAL_SEED, "seeds": list(seeds), "threads": 1,
        "selection": "highest validation accuracy at the middle size",
    }  # fmt: skip
    path = write(
        options.out / f"{name}.json",
        experiment="rxnmapper's ALBERT with a smaller shared block, distilled",
        settings=settings, lines=lines, trials=trials, samples=found,
    )  # fmt: skip
    drawn = figure(found, lines, ("accuracy", "perplexity"), options.out / f"{name}.png")
    print(f"\nWrote {path}\n      {drawn}")
