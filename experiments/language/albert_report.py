"""The section of `albert.py` on the results page, every number from its record."""

from __future__ import annotations

from typing import Any

from language.students_report import by_share


def section(record: dict[str, Any]) -> list[str]:
    """ALBERT's masked tokens, with smaller blocks."""
    return by_share(
        record, "accuracy",
        "The model is rxnmapper's ALBERT, a language model of chemical reactions whose layers "
        "share one feed-forward block. The block is replaced by one with a half, a quarter or an "
        "eighth of the parameters, which is distilled from it (`experiments/language/albert.py`). "
        "The table shows the accuracy on masked tokens of made-up reactions.",
    )  # fmt: skip


def small_section(record: dict[str, Any]) -> list[str]:
    """The same down to a 32nd, with and without self-guided training."""
    return by_share(
        record, "accuracy",
        "The same study with blocks of an eighth, a sixteenth and a 32nd of the parameters. In the "
        "self-guided rows the old block helps during the first "
        f"{record['settings']['self_guided']:.0%} of the steps end to end "
        "(`python experiments albert --small`)",
    )  # fmt: skip
