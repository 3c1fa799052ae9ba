"""The section of `scales.py` on the results page, every number from its record."""

from __future__ import annotations

from typing import Any


def section(record: dict[str, Any]) -> list[str]:
    """Markdown: median errors by encoding, number of variables and band."""
    settings, rows = record["settings"], record["summary"]
    names = list(rows[0]["median_test_rmse"])
    forms = len(settings["forms"]) // len(names)
    return [
        "This study compares fixed and trained scales in QKANs with equally many effective "
        f"parameters ({_sizes(record)}). Trained scales cost parameters, so the models with fixed "
        "scales have three repetitions for every two of the others. A target is a sum of random "
        "waves with frequencies from B/2 to B, in units of the fundamental frequency of the first "
        f"layer. Each encoding has {forms} forms; the validation error chooses one, which is "
        "tested once (`experiments/functions/scales.py`). The table shows the test RMSE in "
        f"standard deviations of the target, the median of {len(settings['seeds'])} targets, with "
        "the lowest in bold.",
        "",
        "| variables | B | " + " | ".join(names) + " |",
        "| --- | --- |" + " --- |" * len(names),
        *(_row(row) for row in rows),
        "",
        "The error with trained scales divided by that with fixed ones is a geometric mean over "
        f"the targets of a row. Over the rows it lies in these ranges: {_ratios(rows)}. "
        f"{_capped(record)} trainings used all "
        f"{settings['stop']['steps'] * settings['iterations_a_step']} iterations of L-BFGS and had "
        "not converged.",
    ]


def _sizes(record: dict[str, Any]) -> str:
    by_inputs = {
        sample["variables"]: [form["parameters"] for form in sample["forms"]]
        for sample in record["samples"]
    }
    return ", ".join(
        f"{min(row)} to {max(row)} with {variables} input{'s' if variables > 1 else ''}"
        for variables, row in by_inputs.items()
    )


def _row(row: dict[str, Any]) -> str:
    errors = row["median_test_rmse"]
    best = min(errors.values())
    cells = (f"**{e:.1e}**" if e == best else f"{e:.1e}" for e in errors.values())
    return f"| {row['variables']} | {row['band']} | " + " | ".join(cells) + " |"


def _ratios(rows: list[dict[str, Any]]) -> str:
    """Lowest and highest ratio over the rows, by encoding."""
    parts = []
    for name in rows[0]["trainable_over"]:
        ratios = [row["trainable_over"][name]["ratio"] for row in rows]
        below = sum(ratio < 1 for ratio in ratios)
        span = f"{min(ratios):.2g} to {max(ratios):.2g}"
        parts.append(f"{name} {span} (below 1 in {below} of {len(ratios)} rows)")
    return "; ".join(parts)


def _capped(record: dict[str, Any]) -> str:
    rows = record["training"].values()
    return f"{sum(r['ended_by_the_cap'] for r in rows)} of {sum(r['trainings'] for r in rows)}"
