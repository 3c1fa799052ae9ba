"""What the sections of `minilm.py` and `albert.py` on the results page share."""

from __future__ import annotations

from typing import Any

from shared.finals import spread

_LINES = {
    "teacher": "the original model",
    "teacher on published reactions": "the original model on published reactions",
    "no FFN": "a model without feed-forward blocks",
}


def by_share(record: dict[str, Any], name: str, title: str) -> list[str]:
    """Kinds of block by their share of the parameters, over the seeds, and the teacher."""
    found, shares = record["samples"], record["settings"]["shares"]
    scores: dict[str, dict[int, list[float]]] = {}
    for run in found:
        scores.setdefault(run["kind"], {}).setdefault(run["share"], []).append(run[name])
    rows = [
        f"| {kind} | " + " | ".join(spread(of[share], ".3f") for share in shares) + " |"
        for kind, of in scores.items()
    ]
    lines = ", ".join(f"{row[name]:.3f} for {_LINES[n]}" for n, row in record["lines"].items())
    seeds = len(record["settings"]["seeds"])
    blocks, whole = record["settings"]["steps"].values()
    return [
        f"{title} For comparison, the {name} is {lines}. Distillation takes {blocks:,} steps for "
        f"each block by itself and {whole} end to end. Each kind of block has "
        f"{len(record['trials']['HQKAN'])} trials, which validation data decide. The numbers are "
        f"{'of one seed' if seeds == 1 else f'the mean ± standard deviation of {seeds} seeds'}.",
        "",
        "| | " + " | ".join(f"1/{share}" for share in shares) + " |",
        "| --- |" + " --- |" * len(shares),
        *rows,
        "",
        f"The {name} minus that of the MLP of equal size is, seed by seed: "
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
