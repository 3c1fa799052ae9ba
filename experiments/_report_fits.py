"""Markdown of the first studies: regression, digits, extension, transfer."""

from __future__ import annotations

from typing import Any


def regression(record: dict[str, Any]) -> list[str]:
    """Fifteen starts of a small regression."""
    rows = [
        f"| {name} | {found['median_test_mse']:.1e} | {found['lowest_test_mse']:.1e} … "
        f"{found['highest_test_mse']:.1e} |"
        for name, found in record["summary"].items()
    ]
    return [
        "exp(sin πx + y²) with `QKAN([2, 5, 1])`, 3 repetitions, trainable encoding, 20 steps "
        "of LBFGS on 1,000 points; fifteen seeds, one start each (`experiments/regression.py`; "
        "qkan 0.2.3 reports 2.87e-5 for one run). The model has `input_range=(-1, 1)` unless "
        "the row says otherwise:",
        "",
        "| | median test MSE | lowest … highest |",
        "| --- | --- | --- |",
        *rows,
    ]


def digits(record: dict[str, Any]) -> list[str]:
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
        "(`experiments/digits.py`):",
        "",
        "| | parameters | test accuracy |",
        "| --- | --- | --- |",
        *scores,
        "",
        _verdict(record["summary"]),
    ]


def growing(record: dict[str, Any]) -> list[str]:
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
        "used to choose the recipe (`experiments/extension.py`; qkan 0.2.3 reports 1.24e-7 and "
        "7.66e-7, one run each):",
        "",
        "| | median test MSE | lowest … highest | seconds a seed |",
        "| --- | --- | --- | --- |",
        *rows,
    ]


def transferred(record: dict[str, Any]) -> list[str]:
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
        "(`experiments/transfer.py`; qkan 0.2.3 reports 1.56e-8 and, from scratch, 2.07e-2, one "
        "seed):",
        "",
        "| | median test MSE | lowest … highest |",
        "| --- | --- | --- |",
        *rows,
    ]


def _verdict(summary: dict[str, Any]) -> str:
    qkan, mlp = (summary[kind]["test_accuracy_mean"] for kind in ("QKAN", "MLP"))
    if qkan > mlp:
        return f"The QKAN is ahead of the MLP of equal size by {100 * (qkan - mlp):.2f} points."
    return f"The MLP of equal size is ahead by {100 * (mlp - qkan):.2f} points."


def _range(parameters: list[int]) -> str:
    low, high = min(parameters), max(parameters)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
