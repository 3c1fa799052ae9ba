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
        f"Function regression: {found['all']['functions']} of the special functions and Feynman "
        f"equations that the KAN paper fits, {points['train']:,} points to train on, by models of "
        f"equal effective parameters ({_sizes(record)}). Each kind has {trials} forms, "
        "of which the validation error chooses one, tested once. Test RMSE in standard deviations "
        f"of the function, the median of {len(seeds)} seeds, and of that the geometric mean over "
        "functions (`experiments/functions/functions.py`):",
        "",
        "| | functions | " + " | ".join(KINDS.values()) + " | lowest error: "
        + ", ".join(KINDS.values()) + ", ties |",
        "| --- |" + " --- |" * (len(KINDS) + 2),
        *(_row(name, group) for name, group in found.items()),
        "",
        *(_ratio(found, kind, settings["tie"]) for kind in list(KINDS)[1:]),
        "",
        f"L-BFGS of {stop['steps'] * n:,} iterations, fewer where {stop['patience'] * n} of them "
        f"lower the training loss by less than {100 * stop['fall']:.0f} %. All iterations were "
        f"needed by {_capped(record)}: what these reach is their error after so many iterations, "
        "no limit.",
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
        f"a budget of {min(budgets)} to {max(budgets)} that grows with the inputs, met to a whole "
        f"width: {spans}"
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
        f"- QKAN's error over the {KINDS[kind]}'s: {row['ratio']:.2f}, 95 % interval "
        f"{row['low']:.2f} to {row['high']:.2f} over functions ({parts}); lower on {row['lower']}, "
        f"higher on {row['higher']}, equal within {100 * tie:.0f} % on {row['ties']}; sign test "
        f"p = {row['p']:.2g}."
    )
