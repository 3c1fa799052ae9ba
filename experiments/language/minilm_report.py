"""The section of `minilm.py` on the results page, every number from its record."""

from __future__ import annotations

from typing import Any

from language.students_report import by_share


def section(record: dict[str, Any]) -> list[str]:
    """MiniLM's sentence embeddings, with smaller blocks."""
    return by_share(
        record, "cosine",
        "all-MiniLM-L6-v2 with feed-forward blocks of a half, a quarter and an eighth of the "
        "parameters, distilled; mean cosine of sentence embeddings to the original's, on sentences "
        "held out (`experiments/language/minilm.py`)",
    )  # fmt: skip
