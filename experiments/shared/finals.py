"""The tested runs of a study whose rows had trials first: for its options, section and figure."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Finals = dict[str, dict[int, dict[str, Any]]]
"""The results of the tested runs of one number of steps, by row and seed."""


def options(description: str, steps: int, trial_steps: int, seeds: int) -> argparse.ArgumentParser:
    """The options of such a study, with their defaults."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--steps", type=int, default=steps, help="of a run in full")
    parser.add_argument("--trial-steps", type=int, default=trial_steps, help="of a short run")
    parser.add_argument("--seeds", type=int, default=seeds, help="how many, from 1 on")
    parser.add_argument("--out", type=Path, help="a folder for the JSON and the figure")
    return parser


def by_steps(runs: Sequence[dict[str, Any]]) -> dict[int, Finals]:
    """The tested runs by their number of steps; a seed counts once, by the newest run."""
    found: dict[int, Finals] = {}
    for run in runs:
        asked = run["settings"]
        if asked["test"]:
            row = found.setdefault(asked["steps"], {}).setdefault(asked["row"], {})
            row[asked["seed"]] = {**run["result"], "kind": asked.get("kind"), "rate": asked["rate"]}
    return found


def finals(runs: Sequence[dict[str, Any]]) -> Finals:
    """The tested runs of the most steps."""
    return max(by_steps(runs).items(), default=(0, {}))[1]


def order(found: Finals) -> list[str]:
    """The rows by their mean validation loss, the best one first."""
    return sorted(found, key=lambda name: statistics.mean(values(found[name], "validation_loss")))


def kind(found: Finals, name: str) -> Any:
    """The kind of a row: known, daruan or control."""
    return next(iter(found[name].values()))["kind"]


def values(seeds: dict[int, dict[str, Any]], name: str) -> list[float]:
    """One number of a row's results, seed by seed."""
    return [result[name] for result in seeds.values()]


def differences(found: Finals, row: str, other: str) -> list[float]:
    """Test loss of a row minus that of another one, seed by seed: below 0 the row is ahead."""
    mine, theirs = found[row], found[other]
    return [mine[seed]["test_loss"] - theirs[seed]["test_loss"] for seed in mine if seed in theirs]


def spread(values: Sequence[float], style: str) -> str:
    """Mean and, of several values, standard deviation."""
    mean, plain = format(statistics.mean(values), style), style.removeprefix("+")
    return mean if len(values) < 2 else f"{mean} ± {format(statistics.stdev(values), plain)}"
