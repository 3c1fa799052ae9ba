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
        f"The target is exp(sin πx + y²) again. A network that grows from 1 to 20 repetitions "
        f"with `fit_extending`, with {settings['steps_a_stage']} steps of LBFGS in each stage, is "
        "compared with one that has 20 repetitions from the start and trains for as many steps. "
        f"Both use float64 and {len(settings['seeds'])} seeds with one start each; none of these "
        "seeds was used to choose the recipe (`experiments/functions/extension.py`). For "
        "comparison, qkan 0.2.3 reports 1.24e-7 for growing and 7.66e-7 from the start, for one "
        "run each.",
        "",
        "| | median test MSE | lowest … highest | seconds a seed |",
        "| --- | --- | --- | --- |",
        *rows,
    ]
