"""The section of `formula.py` on the results page, every number from its record."""

from __future__ import annotations

from typing import Any


def section(record: dict[str, Any]) -> list[str]:
    """A formula read back from points, by seed."""
    settings, found = record["settings"], record["summary"]
    rows = [
        f"| {sample['seed']} | {sample['test_mse']:.1e} | {_shown(sample['formula'])} | "
        f"{sample['formula_test_mse']:.1e} |"
        for sample in record["samples"]
    ]
    return [
        f"The recipe of the README recovers exp(sin πx + y²) from {settings['points']:,} points. "
        f"It trains {settings['starts']} starts of `QKAN([2, 5, 1])` with a penalty on every edge, "
        "prunes them, trains the smallest network further and reads its formula. All numbers are "
        f"{settings['dtype']}, and every stage takes {settings['steps']} steps of LBFGS "
        f"(`experiments/functions/formula.py`). The formula equals the target on "
        f"{found['found']} of {found['seeds']} seeds. {found['starts_of_one_node']} of "
        f"{found['starts']} starts kept one hidden node, which is all that the target needs. The "
        f"table shows mean squared errors on {settings['points']:,} points that were not used for "
        "training.",
        "",
        "| seed | error of the network | formula | error of the formula |",
        "| --- | --- | --- | --- |",
        *rows,
    ]


def _shown(text: str) -> str:
    return f"`{text}`" if len(text) <= 60 else f"a sum of {len(text):,} characters"
