"""The section of `regression.py` on the results page, every number from its record."""

from __future__ import annotations

from typing import Any


def section(record: dict[str, Any]) -> list[str]:
    """Fifteen starts of a small regression."""
    rows = [
        f"| {name} | {found['median_test_mse']:.1e} | {found['lowest_test_mse']:.1e} … "
        f"{found['highest_test_mse']:.1e} |"
        for name, found in record["summary"].items()
    ]
    return [
        "The target is exp(sin πx + y²). A `QKAN([2, 5, 1])` with 3 repetitions and the trainable "
        "encoding takes 20 steps of LBFGS on 1,000 points, once for each of fifteen seeds "
        "(`experiments/functions/regression.py`). The model has `input_range=(-1, 1)` unless the "
        "row says otherwise. For comparison, qkan 0.2.3 reports an error of 2.87e-5 for one run.",
        "",
        "| | median test MSE | lowest … highest |",
        "| --- | --- | --- |",
        *rows,
    ]
