"""The tested runs of a study whose rows had trials first, for its section and its figure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

Finals = dict[str, dict[int, dict[str, Any]]]
"""The results of the tested runs, by row and seed."""


def finals(runs: Sequence[dict[str, Any]]) -> Finals:
    """The tested runs of the most steps; a seed counts once, by the newest run."""
    tested = [run for run in runs if run["settings"]["test"]]
    most = max((run["settings"]["steps"] for run in tested), default=0)
    found: Finals = {}
    for run in tested:
        asked = run["settings"]
        if asked["steps"] == most:
            row = found.setdefault(asked["row"], {})
            row[asked["seed"]] = {**run["result"], "kind": asked.get("kind"), "rate": asked["rate"]}
    return found


def order(found: Finals) -> list[str]:
    """The rows by their mean validation loss, the best one first."""
    return sorted(found, key=lambda name: statistics.mean(values(found[name], "validation_loss")))


def values(seeds: dict[int, dict[str, Any]], name: str) -> list[float]:
    """One number of a row's results, seed by seed."""
    return [result[name] for result in seeds.values()]
