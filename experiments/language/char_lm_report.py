"""The section of `char_lm.py` on the results page, every number from its record."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Any

_WORDS = {
    "HQKAN": "HQKANs",
    "Linear → QKANLayer": "MLPs with trainable activations (Linear → QKANLayer)",
    "MLP": "MLPs",
    "SiLU": "bottlenecks with SiLU",
    "identity": "MLPs without an activation (identity)",
    "full MLP": "the full MLP",
}


def section(record: dict[str, Any]) -> list[str]:
    """The character language model by its feed-forward block."""
    settings = record["settings"]
    rows = [
        f"| {kind} | {row['block_parameters']:,} | {_plus_minus(row['validation_loss'])} | "
        f"{_plus_minus(row['test_loss'])} | {row['test_perplexity']:.2f} | {row['test_bits']:.3f} |"
        for kind, row in record["summary"].items()
    ]
    seeds = len(settings["seeds"])
    return [
        "The model is a character GPT with the size of nanoGPT's example for a CPU "
        f"({settings['layers']} layers of width {settings['width']}). It is trained on "
        f"tinyshakespeare for {settings['steps']:,} steps. Its feed-forward blocks are "
        f"{_listed(record['summary'])}; all but the full MLP have about equally many parameters. "
        f"Of {settings['trials']['HQKAN']} trials of each kind, of {settings['trial_steps']} steps "
        "each, the one with the lowest validation loss is trained in full and tested once "
        "(`experiments/language/char_lm.py`). The table shows the loss in nats a character, "
        f"{f'mean ± standard deviation of {seeds} seeds' if seeds > 1 else 'for one seed'}.",
        "",
        "| | parameters a block | validation | test | e^loss | bits a character |",
        "| --- | --- | --- | --- | --- | --- |",
        *rows,
        "",
        "The test loss minus that of the MLP of equal size is, seed by seed: "
        f"{_differences(record)}. The trials chose {_chosen(record['summary'])}. After "
        f"{settings['trial_steps']} steps the default HQKAN has these validation losses by "
        f"encoding, as means of {len(settings['encoding_seeds'])} seeds: {_by_encoding(record)}.",
    ]


def _listed(kinds: Iterable[str]) -> str:
    *most, last = (_WORDS[kind] for kind in kinds)
    return f"{', '.join(most)} or {last}"


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
