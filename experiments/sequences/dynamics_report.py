"""The section of `dynamics.py` on the results page, every number from its record."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

Traces = dict[str, dict[str, dict[int, dict[str, Any]]]]
"""Results by trace, row and seed; a rule has the seed 0."""


def by_trace(runs: Sequence[dict[str, Any]]) -> Traces:
    """All results; rules after the networks."""
    found: Traces = {run["settings"]["trace"]: {} for run in runs}
    for run in runs:
        asked = run["settings"]
        if "row" in asked:
            rows = found[asked["trace"]].setdefault(asked["row"], {})
            rows[asked["seed"]] = {**run["result"], "steps": asked["steps"]}
    for run in runs:
        if "row" not in run["settings"]:
            rules = {n: {0: r} for n, r in run["result"].items() if n != "environment"}
            found[run["settings"]["trace"]].update(rules)
    return found


def median(rows: dict[str, dict[int, dict[str, Any]]], name: str) -> float:
    return statistics.median(result["mse"] for result in rows[name].values())


def table(found: Traces) -> list[str]:
    """Rows by traces: the median over seeds, and the lowest and the highest."""
    names = list(dict.fromkeys(name for rows in found.values() for name in rows))
    lines = [
        "| row | parameters | " + " | ".join(found) + " |",
        "| --- | --- |" + " --- |" * len(found),
    ]
    for name in names:
        some = next(rows[name] for rows in found.values() if name in rows)
        cells = [_cell(rows.get(name, {})) for rows in found.values()]
        parameters = next(iter(some.values()))["parameters"]
        lines.append(f"| {name} | {parameters:,} | " + " | ".join(cells) + " |")
    return lines


def _cell(results: dict[int, dict[str, Any]]) -> str:
    found = [result["mse"] for result in results.values()]
    if not found:
        return "–"
    middle = f"{statistics.median(found):.1e}"
    return middle if len(found) < 2 else f"{middle} ({min(found):.1e} … {max(found):.1e})"


def section(record: dict[str, Any]) -> list[str]:
    """What won on which trace, the protocol and the table."""
    found, settings = by_trace(record["runs"]), record["settings"]
    runs = [run["settings"] for run in record["runs"] if "row" in run["settings"]]
    if not runs:
        return ["No network has been trained yet.", "", *table(found)]
    steps, seeds = runs[0]["steps"], len({run["seed"] for run in runs})
    return [
        _verdict(found),
        "",
        f"A model reads {settings['length']} steps of a trace and predicts the next one. Each "
        "trace has 3,000 steps, which are split in the order of time, 80 % for training. Networks "
        f"have about {settings['parameters']} parameters and one untuned recipe: "
        f"{settings['optimizer']}, {steps} steps of {settings['batch']} windows, and the "
        f"{settings['selection']}; there are {seeds} seeds. A linear regression is fitted by least "
        f"squares to the same {settings['length']} steps, and another one to "
        f"{settings['parameters'] - 1} (`experiments/sequences/dynamics.py`). The table shows the "
        "mean squared test error divided by the variance of the trace: the median, and in brackets "
        "the lowest and the highest of the seeds.",
        "",
        *table(found),
    ]


def _verdict(found: Traces) -> str:
    """The first sentence: where a linear map is ahead of every network, and which is second."""
    lost, parts = [], []
    for trace, rows in found.items():
        networks = {name: seeds for name, seeds in rows.items() if 0 not in seeds}
        if not networks:
            continue
        lowest = min(r["mse"] for seeds in networks.values() for r in seeds.values())
        if min(median(rows, name) for name in rows if name.startswith("linear")) < lowest:
            lost.append(trace)
        first = min(networks, key=lambda name: median(rows, name))
        parts.append(f"{first} on the trace {trace} ({median(rows, first):.1e})")
    where = "every trace" if len(lost) == len(found) else f"the trace {' and '.join(lost)}"
    text = f"The network with the lowest median error is {', '.join(parts)}."
    if not lost:
        return text
    return f"**A linear regression is ahead of every network on {where}.** {text}"
