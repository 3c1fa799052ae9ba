"""The page's section on the estimators' defaults, from `defaults.json`."""

from __future__ import annotations

import statistics
from typing import Any

KINDS = {
    "QKAN": "QKAN as it comes", "before": "before", "linear": "linear", "boosting": "boosting",
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
        f"The defaults ({_hidden(chosen['hidden'])}, {chosen['reps']} repetition, base "
        f"{chosen['base']}, alpha {chosen['alpha']:g}, LBFGS until an iteration gains less than "
        f"{chosen['tol']:g}, early stopping with 200 rows or more) were chosen on the first six "
        "tables; the last six had no part in it. 1 - R² or log loss, mean ± corrected standard "
        f"error of {settings['folds']} folds, {settings['repeats']} times, of at most "
        f"{settings['most_rows']} rows; ridge or logistic regression and gradient boosting are "
        "scikit-learn's as they come (`experiments/tables/defaults.py`):",
        "",
        "| | " + " | ".join(KINDS.values()) + " |",
        "| --- |" + " --- |" * len(KINDS),
        *(_row(name, row) for name, row in table.items()),
        "",
        f"Within a standard error of the better of linear and boosting on "
        f"{counts['as_good_as_better']} of {len(table)} tables, no more than two behind the linear "
        f"model on {counts['not_behind_linear']}{_but(behind)}, and no worse than the mean or the "
        f"class frequencies on {counts['not_behind_frequencies']}. A fit takes {seconds:.1f} s of "
        "CPU time in the median. Geometric mean of the loss over that of the better other model, "
        f"on the tables for choosing: {_candidates(record['candidates'])}.",
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
