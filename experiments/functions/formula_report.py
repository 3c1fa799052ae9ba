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
        f"From {settings['points']:,} points of exp(sin πx + y²), by the recipe of the README: "
        f"{settings['starts']} starts of `QKAN([2, 5, 1])` are trained for few edges and "
        "pruned, the smallest is trained on and read; "
        f"{settings['dtype']}, {settings['steps']} steps of LBFGS a stage "
        f"(`experiments/functions/formula.py`). The formula is the function itself on "
        f"{found['found']} of {found['seeds']} seeds; {found['starts_of_one_node']} of "
        f"{found['starts']} starts kept one hidden node, all that the function needs. Errors are "
        "means of squares on as many points that were not trained on:",
        "",
        "| seed | the network's error | the formula | its error |",
        "| --- | --- | --- | --- |",
        *rows,
    ]


def _shown(text: str) -> str:
    return f"`{text}`" if len(text) <= 60 else f"a sum of {len(text):,} characters"
