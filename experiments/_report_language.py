"""Markdown of the studies of language: the character model, MiniLM, ALBERT."""

from __future__ import annotations

import statistics
from typing import Any


def language(record: dict[str, Any]) -> list[str]:
    """The character language model by its feed-forward block."""
    settings = record["settings"]
    rows = [
        f"| {kind} | {row['block_parameters']:,} | {_plus_minus(row['validation_loss'])} | "
        f"{_plus_minus(row['test_loss'])} | {row['test_perplexity']:.2f} | {row['test_bits']:.3f} |"
        for kind, row in record["summary"].items()
    ]
    seeds = len(settings["seeds"])
    return [
        f"A character GPT of nanoGPT's size on tinyshakespeare, {settings['steps']:,} steps, with "
        "HQKANs as its feed-forward blocks, with an MLP (GELU, ReLU) and with bottlenecks of as "
        "many parameters, and with the full MLP; validation and test loss in nats, "
        f"{f'mean ± standard deviation of {seeds} seeds' if seeds > 1 else 'one seed'}; "
        f"{settings['trials']['HQKAN']} trials each of {settings['trial_steps']} steps, chosen on "
        "validation, tested once (`experiments/char_lm.py`):",
        "",
        "| | parameters a block | validation | test | e^loss | bits a character |",
        "| --- | --- | --- | --- | --- | --- |",
        *rows,
        "",
        f"HQKAN minus MLP of equal size, test, seed by seed: {_signed(record, 'MLP')}; minus the "
        f"full MLP: {_signed(record, 'full MLP')}. Validation by encoding after "
        f"{settings['trial_steps']} steps, mean of {len(settings['encoding_seeds'])} seeds: "
        f"{_by_encoding(record)}.",
    ]


def _signed(record: dict[str, Any], other: str) -> str:
    values = record["hqkan_minus_others"][other]["values"]
    return ", ".join(f"{value:+.3f}" for value in values)


def _by_encoding(record: dict[str, Any]) -> str:
    losses: dict[str, list[float]] = {}
    for run in record["encodings"]:
        losses.setdefault(run["encoding"], []).append(run["validation_loss"])
    return ", ".join(f"{name} {statistics.mean(found):.2f}" for name, found in losses.items())


def _plus_minus(row: dict[str, Any]) -> str:
    return f"{row['mean']:.3f}" + ("" if row["sd"] is None else f" ± {row['sd']:.3f}")


def sentences(record: dict[str, Any]) -> list[str]:
    """MiniLM's sentence embeddings, with smaller blocks."""
    return _students(
        record, "cosine",
        "all-MiniLM-L6-v2 with feed-forward blocks of a half, a quarter and an eighth of the "
        "parameters, distilled; mean cosine of sentence embeddings to the original's, on sentences "
        "held out (`experiments/minilm.py`)",
    )  # fmt: skip


def reactions(record: dict[str, Any]) -> list[str]:
    """ALBERT's masked tokens, with smaller blocks."""
    return _students(
        record, "accuracy",
        "rxnmapper's ALBERT with a shared feed-forward block of a half, a quarter and an eighth of "
        "the parameters, distilled; accuracy on masked tokens of made-up reactions "
        "(`experiments/albert.py`)",
    )  # fmt: skip


def _students(record: dict[str, Any], name: str, title: str) -> list[str]:
    """Kinds of block by their share of the parameters, the mean over seeds, and the teacher."""
    found, shares = record["samples"], record["settings"]["shares"]
    kinds = list(dict.fromkeys(run["kind"] for run in found))
    rows = []
    for kind in kinds:
        means = [
            statistics.mean(r[name] for r in found if (r["kind"], r["share"]) == (kind, share))
            for share in shares
        ]
        rows.append(f"| {kind} | " + " | ".join(f"{mean:.3f}" for mean in means) + " |")
    lines = "; ".join(f"{line}: {row[name]:.3f}" for line, row in record["lines"].items())
    seeds = len(record["settings"]["seeds"])
    blocks, whole = record["settings"]["steps"].values()
    return [
        f"{title}; {lines}. {'One seed' if seeds == 1 else f'Mean of {seeds} seeds'}, "
        f"{len(record['trials']['HQKAN'])} trials each; {blocks} steps block by block and {whole} "
        "end to end, too few to compare kinds by more than a first impression:",
        "",
        "| | " + " | ".join(f"1/{share}" for share in shares) + " |",
        "| --- |" + " --- |" * len(shares),
        *rows,
    ]
