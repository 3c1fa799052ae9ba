"""The section of `albert.py` on the results page, every number from its record."""

from __future__ import annotations

from typing import Any

from language.students_report import by_share


def section(record: dict[str, Any]) -> list[str]:
    """ALBERT's masked tokens, with smaller blocks."""
    return by_share(
        record, "accuracy",
        "rxnmapper's ALBERT with a shared feed-forward block of a half, a quarter and an eighth of "
        "the parameters, distilled; accuracy on masked tokens of made-up reactions "
        "(`experiments/language/albert.py`)",
    )  # fmt: skip
