"""The section of `noise.py` on the results page, every number from its record."""

from __future__ import annotations

from typing import Any

KINDS = {"QKAN": "QKAN", "KAN": "spline KAN", "MLP": "MLP"}


def section(record: dict[str, Any]) -> list[str]:
    """Markdown: errors on clean values by level of noise, and how the kinds stand to each other."""
    settings, rows = record["settings"], record["summary"]
    points, trials = settings["points"], len(settings["forms"]) // len(KINDS)
    return [
        f"The targets are {len(settings['targets'])} toy functions of the KAN paper with Gaussian "
        f"noise on the values of {points['train']} training points and {points['validation']} "
        "validation points; the test points have no noise. The three kinds of model have equally "
        f"many effective parameters and {trials} forms each. The noisy validation error decides "
        "when to stop and which form is tested, once (`experiments/functions/noise.py`). The table "
        "shows the test RMSE in standard deviations of the function, as the geometric mean over "
        f"the functions and {len(settings['seeds'])} seeds. A ratio below 1 is in favour of the "
        "QKAN; its 95 % interval is over pairs of function and seed.",
        "",
        "| signal to noise | " + " | ".join(KINDS.values())
        + " | QKAN / spline KAN | QKAN / MLP | lowest error: QKAN, spline KAN, MLP, ties |",
        "| --- |" + " --- |" * (len(KINDS) + 3),
        *map(_row, rows),
        "",
        f"{_verdict(rows)} All {settings['stop']['steps'] * settings['iterations_a_step']} "
        f"iterations of L-BFGS were used by {_capped(record)}.",
    ]  # fmt: skip


def _row(row: dict[str, Any]) -> str:
    level = "no noise" if row["decibels"] is None else f"{row['decibels']} dB"
    means = " | ".join(f"{row['geometric_mean'][kind]:.1e}" for kind in KINDS)
    counts = ", ".join(str(row["wins"][kind]) for kind in (*KINDS, "tie"))
    ratios = " | ".join(
        f"{r['ratio']:.2f} ({r['low']:.2f}–{r['high']:.2f})" for r in row["qkan_over"].values()
    )
    return f"| {level} | {means} | {ratios} | {counts} |"


def _verdict(rows: list[dict[str, Any]]) -> str:
    """At how many levels with noise the interval of the ratio lies on one side of 1."""
    rows = [row for row in rows if row["decibels"] is not None]
    parts = []
    for kind in list(KINDS)[1:]:
        found = [row["qkan_over"][kind] for row in rows]
        below, above = sum(r["high"] < 1 for r in found), sum(r["low"] > 1 for r in found)
        parts.append(f"below the {KINDS[kind]}'s at {below} and above it at {above}")
    return (
        f"Judged by these intervals at the {len(rows)} levels with noise, the QKAN's error is "
        f"{', and '.join(parts)}."
    )


def _capped(record: dict[str, Any]) -> str:
    return ", ".join(
        f"{row['ended_by_the_cap']} of {row['trainings']} {KINDS[kind]} trainings"
        for kind, row in record["training"].items()
    )
