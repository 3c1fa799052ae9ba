"""The section of `extension.py` on the results page, every number from its record."""

from __future__ import annotations

from typing import Any


def section(record: dict[str, Any]) -> list[str]:
    """Extension against all repetitions from the start."""
    settings = record["settings"]
    rows = [
        f"| {name} | {found['median_test_mse']:.1e} | {found['lowest_test_mse']:.1e} … "
        f"{found['highest_test_mse']:.1e} | {found['median_seconds']:.0f} |"
        for name, found in record["summary"].items()
    ]
    return [
        f"exp(sin πx + y²) again, growing from 1 to 20 repetitions with `fit_extending`, "
        f"{settings['steps_a_stage']} steps of LBFGS a stage, against 20 repetitions from the "
        f"start for as many steps; float64, {len(settings['seeds'])} seeds, one start each, none "
        "used to choose the recipe (`experiments/functions/extension.py`; qkan 0.2.3 reports "
        "1.24e-7 and 7.66e-7, one run each):",
        "",
        "| | median test MSE | lowest … highest | seconds a seed |",
        "| --- | --- | --- | --- |",
        *rows,
    ]
