"""Markdown of the studies of language: the character model, MiniLM, ALBERT."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
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
        f"{_listed(record['summary'])} as its feed-forward blocks, all of about as many "
        "parameters but for the full MLP; validation and test loss in nats, "
        f"{f'mean ± standard deviation of {seeds} seeds' if seeds > 1 else 'one seed'}; "
        f"{settings['trials']['HQKAN']} trials each of {settings['trial_steps']} steps, chosen on "
        "validation, tested once (`experiments/char_lm.py`):",
        "",
        "| | parameters a block | validation | test | e^loss | bits a character |",
        "| --- | --- | --- | --- | --- | --- |",
        *rows,
        "",
        f"Test loss minus that of the MLP of equal size, seed by seed: {_differences(record)}. "
        f"Chosen among the trials: {_chosen(record['summary'])}. Validation of the default HQKAN "
        "by encoding after "
        f"{settings['trial_steps']} steps, mean of {len(settings['encoding_seeds'])} seeds: "
        f"{_by_encoding(record)}.",
    ]


_WORDS = {
    "HQKAN": "HQKANs",
    "Linear → QKANLayer": "MLPs whose activations are learnt (Linear → QKANLayer)",
    "MLP": "MLPs",
    "SiLU": "bottlenecks with SiLU",
    "identity": "linear maps (identity)",
    "full MLP": "the full MLP",
}


def _listed(kinds: Iterable[str]) -> str:
    *most, last = (_WORDS[kind] for kind in kinds)
    return f"{', '.join(most)} and {last}"


def _chosen(summary: dict[str, Any]) -> str:
    """The options of every kind with QKANs."""
    parts = []
    for kind, row in summary.items():
        if "QKAN" in kind:
            # "up" only says which kind it is
            shape = {name: value for name, value in row["shape"].items() if name != "up"}
            options = ", ".join(f"{name}={value!r}" for name, value in shape.items())
            parts.append(f"{kind} with `{options}`")
    return "; ".join(parts)


def _differences(record: dict[str, Any]) -> str:
    """Of every kind with QKANs, and of the full MLP, below 0 where it is ahead."""
    losses = {kind: row["test_loss"]["values"] for kind, row in record["summary"].items()}
    parts = []
    for kind, values in losses.items():
        if "QKAN" in kind or kind == "full MLP":
            pairs = zip(values, losses["MLP"], strict=True)
            parts.append(f"{kind} " + ", ".join(f"{a - b:+.3f}" for a, b in pairs))
    return "; ".join(parts)


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
    """Kinds of block by their share of the parameters, over the seeds, and the teacher."""
    found, shares = record["samples"], record["settings"]["shares"]
    scores: dict[str, dict[int, list[float]]] = {}
    for run in found:
        scores.setdefault(run["kind"], {}).setdefault(run["share"], []).append(run[name])
    rows = [
        f"| {kind} | " + " | ".join(expand_groups(of[share]) for share in shares) + " |"
        for kind, of in scores.items()
    ]
    lines = "; ".join(f"{line}: {row[name]:.3f}" for line, row in record["lines"].items())
    seeds = len(record["settings"]["seeds"])
    blocks, whole = record["settings"]["steps"].values()
    return [
        f"{title}; {lines}. "
        f"{'One seed' if seeds == 1 else f'Mean ± standard deviation of {seeds} seeds'}, "
        f"{len(record['trials']['HQKAN'])} trials a kind; {blocks:,} steps for each block by "
        f"itself and {whole} end to end:",
        "",
        "| | " + " | ".join(f"1/{share}" for share in shares) + " |",
        "| --- |" + " --- |" * len(shares),
        *rows,
        "",
        "Minus the MLP of equal size, seed by seed: "
        + "; ".join(_against(scores, kind) for kind in scores if "QKAN" in kind)
        + ".",
    ]


def _against(scores: dict[str, dict[int, list[float]]], kind: str) -> str:
    """The kind's scores minus the MLP's."""
    parts = []
    for share, mine in scores[kind].items():
        pairs = zip(mine, scores["MLP"][share], strict=True)
        parts.append(f"1/{share} " + ", ".join(f"{a - b:+.3f}" for a, b in pairs))
    return f"{kind}: " + "; ".join(parts)


def expand_groups(values: list[float]) -> str:
    sd = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{sd}"
