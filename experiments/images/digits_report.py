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
        "scikit-learn's handwritten digits, a third held out, mean and standard deviation of "
        f"five splits, {trials} trials a model and split chosen on a validation part "
        "(`experiments/images/digits.py`):",
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
        return f"The QKAN is ahead of the MLP of equal size by {100 * (qkan - mlp):.2f} points."
    return f"The MLP of equal size is ahead by {100 * (mlp - qkan):.2f} points."


def _range(parameters: list[int]) -> str:
    low, high = min(parameters), max(parameters)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
