"""The section of `minilm.py` on the results page, every number from its record."""

from __future__ import annotations

from typing import Any

from language.students_report import by_share


def section(record: dict[str, Any]) -> list[str]:
    """MiniLM's sentence embeddings, with smaller blocks."""
    return by_share(
        record, "cosine",
        "The model is all-MiniLM-L6-v2, which embeds sentences. Its feed-forward blocks are "
        "replaced by ones with a half, a quarter or an eighth of the parameters, which are "
        "distilled from them (`experiments/language/minilm.py`). The table shows the mean cosine "
        "similarity with the embeddings of the original model, on test sentences.",
    )  # fmt: skip
