"""The page's section on the estimators' defaults, from `defaults.json`."""

from __future__ import annotations

import statistics
from typing import Any

KINDS = {
    "QKAN": "QKAN", "before": "QKAN, old defaults", "linear": "linear", "boosting": "boosting",
    "frequencies": "mean or frequencies",
}  # fmt: skip


def section(record: dict[str, Any]) -> list[str]:
    """Losses by table, of the tables for choosing and of the others."""
    settings, table = record["settings"], record["summary"]
    chosen, verdicts = settings["chosen"], [row["verdict"] for row in table.values()]
    counts = {
        name: sum(verdict[name] for verdict in verdicts)
        for name in ("as_good_as_better", "not_behind_linear", "not_behind_frequencies")
    }
    seconds = statistics.median(row["kinds"]["QKAN"]["cpu_seconds"] for row in table.values())
    behind = [name for name, row in table.items() if not row["verdict"]["not_behind_linear"]]
    return [
        "The default settings of `QKANRegressor` and `QKANClassifier` are "
        f"{_hidden(chosen['hidden'])}, {chosen['reps']} repetition, base {chosen['base']}, alpha "
        f"{chosen['alpha']:g}, LBFGS until an iteration lowers the loss by less than "
        f"{chosen['tol']:g}, and early stopping with 200 rows or more. They were chosen on the "
        "first six tables; the last six had no part in the choice. The linear model is ridge or "
        "logistic regression; it and gradient boosting are scikit-learn's with default settings. "
        "The old defaults are those of version 0.1.0, and the last column predicts the mean or the "
        "class frequencies (`experiments/tables/defaults.py`). The table shows the loss, which is "
        "1 - R² or the log loss, on at most "
        f"{settings['most_rows']:,} rows: the mean of {settings['folds']} folds, repeated "
        f"{settings['repeats']} times, ± a standard error that is corrected for training parts "
        "that overlap.",
        "",
        "| | " + " | ".join(KINDS.values()) + " |",
        "| --- |" + " --- |" * len(KINDS),
        *(_row(name, row) for name, row in table.items()),
        "",
        "The QKAN is within one standard error of the better of linear and boosting on "
        f"{counts['as_good_as_better']} of {len(table)} tables. It is at most two standard errors "
        f"behind the linear model on {counts['not_behind_linear']}{_but(behind)}, and no worse "
        f"than the mean or the class frequencies on {counts['not_behind_frequencies']}. A fit "
        f"takes {seconds:.1f} s of CPU time in the median.",
        "",
        "The defaults were compared with settings that differ in one option. The loss divided by "
        "that of the better of linear and boosting, as a geometric mean over the first six tables, "
        f"is: {_candidates(record['candidates'])}.",
    ]


def _hidden(sizes: list[int] | None) -> str:
    if sizes is None:
        return "5 hidden nodes, or a node for every class"
    return f"hidden {tuple(sizes)}"


def _but(behind: list[str]) -> str:
    return f" (not {' and '.join(behind)})" if behind else ""


def _row(name: str, row: dict[str, Any]) -> str:
    cells = [
        f"{row['kinds'][kind]['mean']:.3f} ± {row['kinds'][kind]['error']:.3f}" for kind in KINDS
    ]
    return f"| {name}, {row['rows']} rows, {row['score']} | " + " | ".join(cells) + " |"


def _candidates(candidates: dict[str, Any]) -> str:
    return ", ".join(f"{name} {row['ratio']:.2f}" for name, row in candidates.items())
