"""The section of `digits.py` on the results page, every number from its record."""

from __future__ import annotations

from typing import Any


def section(record: dict[str, Any]) -> list[str]:
    """The QKAN and the MLP on handwritten digits."""
    scores = [
        f"| {kind} | {_range(found['parameters'])} | {found['test_accuracy_mean']:.2%} ± "
        f"{found['test_accuracy_sd']:.2%} |"
        for kind, found in record["summary"].items()
    ]
    trials = len(record["samples"]["QKAN"]) // 5
    return [
        "The images are scikit-learn's handwritten digits, of which a third is held out for the "
        f"test. In each of five splits, the best of {trials} trials of each kind of model is "
        "chosen on validation images and tested once (`experiments/images/digits.py`). The table "
        "shows the mean ± standard deviation over the splits.",
        "",
        "| | parameters | test accuracy |",
        "| --- | --- | --- |",
        *scores,
        "",
        _verdict(record["summary"]),
    ]


def _verdict(summary: dict[str, Any]) -> str:
    qkan, mlp = (summary[kind]["test_accuracy_mean"] for kind in ("QKAN", "MLP"))
    if qkan > mlp:
        return f"The QKAN is ahead of the MLP of equal size by {_points(qkan - mlp)}."
    return f"The MLP of equal size is ahead by {_points(mlp - qkan)}."


def _points(difference: float) -> str:
    return f"{100 * difference:.2f} percentage points"


def _range(parameters: list[int]) -> str:
    low, high = min(parameters), max(parameters)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
