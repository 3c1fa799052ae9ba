"""The lines on tables for the results page, every number from the experiment's JSON."""

from __future__ import annotations

from typing import Any


def section(record: dict[str, Any]) -> list[str]:
    """Scores by table and kind, and where QKAN is ahead."""
    settings, table = record["settings"], record["summary"]
    kinds = list(next(iter(table.values()))["kinds"])
    (trials,) = set(settings["trials"].values())
    drawn = settings["friedman1"]
    rows = [
        f"| {name}, {row['score']} | "
        + " | ".join(_plus_minus(row["kinds"][kind]) for kind in kinds)
        + " |"
        for name, row in table.items()
    ]
    return [
        "The data are four of scikit-learn's tables and friedman1 "
        f"({drawn['samples']} samples, noise {drawn['noise']:g}). In each of {settings['folds']} "
        f"folds, the best of {trials} random trials of each kind of model is "
        f"chosen by {settings['inner_folds']} inner folds{_fewer(settings)} and tested once "
        "(`experiments/tables/tables.py`). The table shows the mean ± standard deviation over the "
        "folds.",
        "",
        "| | " + " | ".join(kinds) + " |",
        "| --- |" + " --- |" * len(kinds),
        *rows,
        "",
        f"{_highest(table)} {_folds_ahead(table)}",
    ]


def _fewer(settings: dict[str, Any]) -> str:
    """The tables whose inner folds are not all held out in turn."""
    held, whole = settings["inner_folds_held_out"], settings["inner_folds"]
    parts = [f"{count} of them for {name}" for name, count in held.items() if count != whole]
    return f" ({', '.join(parts)})" if parts else ""


def _highest(table: dict[str, Any]) -> str:
    """The kind with the highest mean of each table, several where they are equal."""
    parts = []
    for name, row in table.items():
        means = {kind: found["mean"] for kind, found in row["kinds"].items()}
        # equal counts of right answers differ by rounding
        best = [kind for kind, mean in means.items() if mean > max(means.values()) - 1e-9]
        parts.append(f"{name}: {' and '.join(best)}")
    return f"The highest mean by table is, for {'; for '.join(parts)}."


def _folds_ahead(table: dict[str, Any]) -> str:
    """In how many folds QKAN is ahead of each other kind, and behind it."""
    others = list(next(iter(table.values()))["qkan_minus_others"])
    parts = []
    for other in others:
        found = {name: row["qkan_minus_others"][other]["values"] for name, row in table.items()}
        counts = ", ".join(
            f"{name} {sum(v > 0 for v in values)}–{sum(v < 0 for v in values)}"
            for name, values in found.items()
        )
        parts.append(f"{other}: {counts}")
    return f"The QKAN is ahead – behind in this many folds, against {'; against '.join(parts)}."


def _plus_minus(row: dict[str, Any]) -> str:
    return f"{row['mean']:.3f}" + ("" if row["sd"] is None else f" ± {row['sd']:.3f}")
