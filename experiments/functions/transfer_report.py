"""The section of `transfer.py` on the results page, every number from its record."""

from __future__ import annotations

from typing import Any


def section(record: dict[str, Any]) -> list[str]:
    """From circuits to splines, against splines from scratch."""
    settings = record["settings"]
    rows = [
        f"| {name} | {found['median']:.1e} | {found['lowest']:.1e} … {found['highest']:.1e} |"
        for name, found in record["summary"].items()
    ]
    return [
        f"{settings['formula']}: a trained `QKAN([2, 1, 1])` turned into a spline KAN (`to_kan`) "
        f"that trains on, against one from scratch; {len(settings['seeds'])} seeds, of "
        f"{settings['starts']} starts a method the one with the lowest training loss "
        "(`experiments/functions/transfer.py`; qkan 0.2.3 reports 1.56e-8 and, from scratch, "
        "2.07e-2, one seed):",
        "",
        "| | median test MSE | lowest … highest |",
        "| --- | --- | --- |",
        *rows,
    ]
