"""The section of `functions.py` on the results page, every number from its record."""

from __future__ import annotations

from typing import Any

KINDS = {"QKAN": "QKAN", "KAN": "spline KAN", "MLP": "MLP"}


def section(record: dict[str, Any]) -> list[str]:
    """Markdown: errors and wins by family, ratios in words; `page` has every function, too."""
    settings, found = record["settings"], record["summary"]
    points, seeds = settings["points"], settings["seeds"]
    trials = len(settings["forms"]) // len(KINDS)
    stop, n = settings["stop"], settings["iterations_a_step"]
    return [
        f"The targets are {found['all']['functions']} of the special functions and Feynman "
        "equations that the KAN paper ([arXiv 2404.19756](https://arxiv.org/abs/2404.19756)) fits, "
        f"each with {points['train']:,} training points. The three kinds of model have equally "
        f"many effective parameters: {_sizes(record)}. Each kind has {trials} forms; the "
        "validation error chooses one, which is tested once "
        "(`experiments/functions/functions.py`). An error is the test RMSE in standard deviations "
        f"of the function, the median of {len(seeds)} seeds; the table shows the geometric mean of "
        "these medians, and how many functions each kind fits best.",
        "",
        "| | functions | " + " | ".join(KINDS.values()) + " | lowest error: "
        + ", ".join(KINDS.values()) + ", ties |",
        "| --- |" + " --- |" * (len(KINDS) + 2),
        *(_row(name, group) for name, group in found.items()),
        "",
        *(_ratio(found, kind, settings["tie"]) for kind in list(KINDS)[1:]),
        "",
        f"Training takes up to {stop['steps'] * n:,} iterations of L-BFGS and ends earlier where "
        f"{stop['patience'] * n} iterations lower the training loss by less than "
        f"{100 * stop['fall']:.0f} %. All iterations were used by {_capped(record)}: with more "
        "iterations their errors might be lower.",
    ]  # fmt: skip


def page(record: dict[str, Any]) -> list[str]:
    """`section`, and the medians of every function."""
    rows = record["median_test_rmse"].items()
    return [
        *section(record),
        "",
        "| | " + " | ".join(KINDS.values()) + " |",
        "| --- |" + " --- |" * len(KINDS),
        *(f"| {name} | " + " | ".join(f"{row[k]:.1e}" for k in KINDS) + " |" for name, row in rows),
    ]


def _sizes(record: dict[str, Any]) -> str:
    budgets = [sample["budget"] for sample in record["samples"]]
    shares = {kind: record["training"][kind]["parameters_over_budget"] for kind in KINDS}
    spans = ", ".join(
        f"{KINDS[k]} {100 * low:.0f} to {100 * high:.0f} %" for k, (low, _, high) in shares.items()
    )
    return (
        f"{min(budgets)} to {max(budgets)}, growing with the number of inputs. Since a width is a "
        f"whole number, the models have a share of that budget ({spans})"
    )


def _capped(record: dict[str, Any]) -> str:
    return ", ".join(
        f"{row['ended_by_the_cap']} of {row['trainings']} {KINDS[kind]} trainings"
        for kind, row in record["training"].items()
    )


def _row(name: str, group: dict[str, Any]) -> str:
    means = " | ".join(f"{group['geometric_mean'][kind]:.1e}" for kind in KINDS)
    counts = ", ".join(str(group["wins"][kind]) for kind in (*KINDS, "tie"))
    return f"| {name} | {group['functions']} | {means} | {counts} |"


def _ratio(found: dict[str, Any], kind: str, tie: float) -> str:
    row = found["all"]["qkan_over"][kind]
    parts = ", ".join(
        f"{name} {group['qkan_over'][kind]['ratio']:.2f}"
        for name, group in found.items()
        if name != "all"
    )
    return (
        f"- The QKAN's error divided by that of the {KINDS[kind]} is {row['ratio']:.2f}, with a "
        f"95 % interval over functions of {row['low']:.2f} to {row['high']:.2f} ({parts}). It is "
        f"lower on {row['lower']} functions, higher on {row['higher']} and equal within "
        f"{100 * tie:.0f} % on {row['ties']}; a sign test gives p = {row['p']:.2g}."
    )
