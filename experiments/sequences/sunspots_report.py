"""The section of `sunspots.py` on the results page, every number from its record."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from shared.finals import spread

OURS = "fast weights, QKAN slow"
MAIN = 12_474
Rows = dict[str, dict[int, dict[str, Any]]]
"""Results by row and seed; a rule has the seed 0."""


def finals(runs: Sequence[dict[str, Any]], *, published: bool = False) -> dict[int, Rows]:
    """The results by the number of parameters that was asked for, rules beside each."""
    found: dict[int, Rows] = {}
    rules: Rows = {}
    for run in runs:
        asked = run["settings"]
        if asked.get("rows") == "rules":
            rules = {n: {0: r} for n, r in run["result"].items() if n != "environment"}
        elif asked["published"] == published:
            rows = found.setdefault(asked["parameters"], {})
            result = {**run["result"], "steps": asked["steps"]}
            rows.setdefault(asked["row"], {})[asked["seed"]] = result
    return {n: rows if published else {**rows, **rules} for n, rows in sorted(found.items())}


def ordered(rows: Rows) -> list[str]:
    """The rows in the order of their mean test error."""
    return sorted(rows, key=lambda name: statistics.mean(values(rows, name, "rmse")))


def values(rows: Rows, name: str, what: str) -> list[float]:
    return [result[what] for result in rows[name].values()]


def table(found: dict[int, Rows]) -> list[str]:
    """All rows of every size, the lowest test error first."""
    lines = []
    for parameters, rows in found.items():
        lines += [
            "", f"Networks of about {parameters:,} parameters:", "",
            "| model | parameters | seeds | test error | validation error | error of the peak | "
            "CPU seconds |",
            "| --- | --- | --- | --- | --- | --- | --- |",
        ]  # fmt: skip
        lines += [_row(rows, name) for name in ordered(rows)]
    return lines[1:]


def _row(rows: Rows, name: str) -> str:
    results = [*rows[name].values()]
    first = results[0]
    network = "curve" in first
    checked = values(rows, name, "validation_rmse") if "validation_rmse" in first else None
    return (
        f"| {name} | {first['parameters']:,} | {len(results) if network else '–'} | "
        f"{spread(values(rows, name, 'rmse'), '.1f')} | "
        f"{spread(checked, '.1f') if checked else '–'} | "
        f"{spread(values(rows, name, 'peak'), '.1f')} | "
        f"{spread(values(rows, name, 'cpu_seconds'), '.0f') if network else '–'} |"
    )


def section(record: dict[str, Any]) -> list[str]:
    """What won, the protocol, all sizes, and the published protocol."""
    found, settings = finals(record["runs"]), record["settings"]
    main = found[MAIN]
    steps = next(
        result["steps"] for row in main.values() for result in row.values() if "steps" in result
    )
    lines = [
        f"{_verdict(main)} {_against(main)}",
        "",
        f"A model reads {settings['length']} months of sunspot numbers and forecasts the next "
        f"{settings['horizon']} at once. The windows are split in the order of time, 80 % for "
        "training; no part forecasts a month that the next part forecasts, and the data are scaled "
        "by the training months. Every network has the same untuned recipe: "
        f"{settings['optimizer']}, {steps} steps of {settings['batch']} windows, and of these the "
        f"model with the {settings['selection']}. The study is small, and longer training may rank "
        "the models differently (`experiments/sequences/sunspots.py`). The table shows root mean "
        f"square errors in sunspots over all {settings['horizon']} months, and the mean absolute "
        "error of the highest value of a forecast, as mean ± standard deviation over seeds. The "
        "test windows overlap almost entirely, so the test is one stretch of the sun's history and "
        f"not a large sample. Data: {settings['data']}.",
        *["", *table({MAIN: main})],
    ]
    sizes = {n: rows for n, rows in found.items() if n != MAIN}
    if sizes:
        lines += ["", _sizes(found), "", *_sizes_table(found)]
    lines += _published(finals(record["runs"], published=True), main)
    return lines


def _verdict(rows: Rows) -> str:
    """The first sentence: what has the lowest test error."""
    order = ordered(rows)
    first = order[0]
    rule = "curve" not in next(iter(rows[first].values()))
    mean = statistics.mean(values(rows, first, "rmse"))
    if rule:
        return (
            f"**No network is needed here: {_named(first)} has the lowest test error**, {mean:.1f}."
        )
    rules = [name for name in order if "curve" not in next(iter(rows[name].values()))]
    rule_error = statistics.mean(values(rows, rules[0], "rmse"))
    return (
        f"The model `{first}` has the lowest test error, {mean:.1f}. The best model that is no "
        f"network, {_named(rules[0])}, has {rule_error:.1f}."
    )


def _against(rows: Rows) -> str:
    """Where the fast weights stand among the networks, seed by seed."""
    networks = [n for n in ordered(rows) if "curve" in next(iter(rows[n].values()))]
    if OURS not in networks or len(networks) < 2:
        return ""
    others = [name for name in networks if not name.startswith("fast")]
    parts = []
    for name in others:
        seeds = sorted(rows[OURS].keys() & rows[name].keys())
        ahead = sum(rows[OURS][seed]["rmse"] < rows[name][seed]["rmse"] for seed in seeds)
        parts.append(f"{name} on {ahead} of {len(seeds)} seeds")
    return (
        "Fast weights with a QKAN as their slow network have a lower test error than "
        f"{', '.join(parts)}."
    )


def _named(rule: str) -> str:
    return {"last cycle again": "repeating the last cycle", "linear map": "a linear map",
            "exponential smoothing": "exponential smoothing",
            "mean": "the mean of the training months"}[rule]  # fmt: skip


def _sizes(found: dict[int, Rows]) -> str:
    return (
        "At other numbers of parameters the recipe is the same, with fewer seeds. The table shows "
        "the mean test error of the networks, and in brackets the number of seeds."
    )


def _sizes_table(found: dict[int, Rows]) -> list[str]:
    names = list(dict.fromkeys(n for rows in found.values() for n in ordered(rows)))
    names = [n for n in names if any("curve" in r for r in _first(found, n))]
    lines = [
        "| row | " + " | ".join(f"{n:,}" for n in found) + " |",
        "| --- |" + " --- |" * len(found),
    ]
    for name in names:
        cells = [
            f"{statistics.mean(values(rows, name, 'rmse')):.1f} ({len(rows[name])})"
            if name in rows
            else "–"
            for rows in found.values()
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def _first(found: dict[int, Rows], name: str) -> list[dict[str, Any]]:
    return [next(iter(rows[name].values())) for rows in found.values() if name in rows]


def _published(found: dict[int, Rows], main: Rows) -> list[str]:
    """The published protocol once, and what it lets through."""
    if not found:
        return []
    rows = found[MAIN]
    parts = [
        f"{name} {statistics.mean(values(rows, name, 'scaled_mse')):.4f} (here "
        f"{statistics.mean(values(main, name, 'scaled_mse')):.4f})"
        for name in ordered(rows)
        if name in main
    ]
    steps = next(iter(rows[ordered(rows)[0]].values()))["steps"]
    of_steps = "its 6,600 steps" if steps == 6600 else f"{steps:,} of its 6,600 steps"
    return [
        "",
        "The published study (arXiv 2605.06734) scales by the whole series, test part included, "
        "and says so. That is harmless here, because the smallest and the largest number lie in "
        "the training part, so that both scales are the same. It also keeps the windows at the "
        "ends of the parts, which forecast months that the next part forecasts too; so the model "
        "is chosen on months of the test part. With that protocol, its loss that weighs peaks, and "
        f"{of_steps}, the squared test error divided by the squared scale is, for "
        f"one run each: {'; '.join(parts)}.",
    ]
