"""What the README says of the results: a table of headlines, and when a QKAN wins and when not."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from language.activations_report import best_first
from shared.compare import geometric_mean
from shared.finals import Finals, by_steps, differences

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "experiments" / "results"
PAGE = "docs/results.md"
STEPS = 2000
"""The horizon at which learnt activations are compared in the README."""

Record = dict[str, Any]


def readme_section() -> str:
    """What stands between the README's markers, from the records that are there."""
    rows = [*_rows("activations", activations), *_rows("formula", formula), *_benchmarks()]
    table = ["| | QKAN | compared with |", "| --- | --- | --- |", *rows]
    return "\n".join([*table, "", *verdicts()])


def verdicts() -> list[str]:
    """When a QKAN wins and when it does not, a line for each finding."""
    kinds = (
        ("functions", against_splines), ("noise", label_noise), ("functions", against_mlps),
        ("defaults", tables), ("mnist", blocks),
    )  # fmt: skip
    return [line for name, write in kinds for line in _rows(name, write)]


def _record(name: str) -> Record | None:
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def _rows(name: str, write: Callable[[Record], str]) -> list[str]:
    """One line of a record; none while there is no record, or nothing of the kind in it."""
    record = _record(name)
    line = "" if record is None else write(record)
    return [line] if line else []


def _benchmarks() -> list[str]:
    """The rows of `benchmarks/report.py`, whose modules have the names of ours."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "report.py"), "--headlines"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.splitlines()


def activations(record: Record) -> str:
    """The best learnt activation with a circuit, beside the best known one and the best control.

    At `STEPS` and, where there are runs of more steps, at the most steps.
    """
    horizons = by_steps(record["runs"])
    if not (first := _best(horizons.get(STEPS, {}))):
        return ""
    mine, other = [], []
    for steps in sorted({STEPS, max(STEPS, *horizons)}):
        if not (best := _best(horizons[steps])):
            continue
        found, row, known, control = horizons[steps], *best
        gaps = differences(found, row, known)
        ahead = sum(gap < 0 for gap in gaps)
        other_way = row.removeprefix(first[0]).removeprefix(", ").replace("rate × 1", OWN_RATE)
        shown = f" ({other_way})" if other_way else ""
        mine.append(
            f"after {steps:,} steps **{_mean(found[row]):.3f}**{shown}, ahead of {known} on "
            f"{ahead} of {len(gaps)} seeds"
        )
        other.append(
            f"after {steps:,} steps {known} {_mean(found[known]):.3f} and the best classical "
            f"activation that learns, {control.replace(', 8 groups, rate × 1', ' at that rate')}, "
            f"{_mean(found[control]):.3f}"
        )
    return (
        f"| [A character GPT]({PAGE}#activations-that-learn) with trainable activations, test "
        f"loss | {'; '.join(mine)} | {'; '.join(other)} |"
    )


OWN_RATE = "angles at the rate of the weights"


def _best(found: Finals) -> list[str]:
    """The best DARUAN, known activation and control on validation; empty if one is missing."""
    best = [best_first(found, [kind])[:1] for kind in ("daruan", "known", "control")]
    return [row for rows in best for row in rows] if all(best) else []


def _mean(seeds: dict[int, Record]) -> float:
    return statistics.mean(run["test_loss"] for run in seeds.values())


def formula(record: Record) -> str:
    """How often the recipe of the README reads the formula back."""
    found = record["summary"]
    return (
        f"| exp(sin πx + y²) recovered from {record['settings']['points']:,} points by "
        f"[the recipe below]({PAGE}#a-formula-read-back-from-points) | **{found['found']} of "
        f"{found['seeds']}** seeds | |"
    )


def against_splines(record: Record) -> str:
    """Equal size, over all functions, and over the spherical harmonics beside an MLP."""
    ratio = record["summary"]["all"]["qkan_over"]["KAN"]
    return (
        f"- **It wins on smooth and periodic functions.** The QKAN's error is "
        f"[{interval(ratio)} times]({PAGE}#special-functions-and-the-feynman-equations) that of a "
        f"spline KAN of equal size over {record['summary']['all']['functions']} functions, and "
        f"{spherical(record):.2f} times that of an MLP over five spherical harmonics."
    )


def spherical(record: Record) -> float:
    """QKAN's error over the MLP's, geometric mean over the spherical harmonics."""
    harmonics = [row for name, row in record["median_test_rmse"].items() if name.startswith("Y(")]
    return geometric_mean([row["QKAN"] / row["MLP"] for row in harmonics])


def against_mlps(record: Record) -> str:
    """Equal size, over all functions."""
    found = record["summary"]["all"]
    ratio = found["qkan_over"]["MLP"]
    return (
        f"- **It does not beat an MLP on functions of all kinds.** Over the {found['functions']} "
        f"functions its error is [{interval(ratio)} times]"
        f"({PAGE}#special-functions-and-the-feynman-equations) the MLP's. The MLP has the lowest "
        f"error on {found['wins']['MLP']} of them, the QKAN on {found['wins']['QKAN']}."
    )


def label_noise(record: Record) -> str:
    """The levels of noise at both ends."""
    first, last = record["summary"][0], record["summary"][-1]
    clean, loud = (row["qkan_over"]["MLP"] for row in (first, last))
    return (
        f"- **It wins on clean data and loses on noisy data.** On four toy functions its error is "
        f"[{interval(clean)} times]({PAGE}#label-noise) the MLP's without noise, and "
        f"{interval(loud)} times with as much noise as signal."
    )


def tables(record: Record) -> str:
    """The estimators with default settings."""
    found = record["summary"]
    good = sum(row["verdict"]["as_good_as_better"] for row in found.values())
    first = sum(
        row["kinds"]["QKAN"]["mean"]
        < min(row["kinds"][kind]["mean"] for kind in ("linear", "boosting"))
        for row in found.values()
    )
    return (
        f"- **On tables, try a linear model and boosting first.** With default settings the QKAN "
        f"is within one standard error of the better of the two on [{good} of {len(found)} tables]"
        f"({PAGE}#the-estimators-with-default-settings), and better than both on {first}."
    )


def blocks(mnist: Record) -> str:
    """Images, and the blocks of a distilled sentence encoder."""
    points = -100 * mnist["qkan_minus_mlp"]["mean"]
    side = "behind" if points > 0 else "ahead of"
    text = (
        f"- **In images and transformers an MLP of equal size is usually better.** The QKAN is "
        f"[{abs(points):.2f} points]({PAGE}#mnist-with-under-1934-parameters) {side} it on MNIST"
    )
    record = _record("minilm")
    if record is None:
        return f"{text}."
    cosine = {
        kind: statistics.mean(
            run["cosine"] for run in record["samples"] if (run["kind"], run["share"]) == (kind, 2)
        )
        for kind in ("HQKAN", "MLP")
    }
    return (
        f"{text}. MiniLM, distilled to blocks of half the parameters, keeps a cosine similarity "
        f"with its original of [{cosine['HQKAN']:.2f}]({PAGE}#minilm-with-smaller-blocks) with "
        f"HQKANs and {cosine['MLP']:.2f} with MLPs."
    )


def interval(ratio: Record) -> str:
    """A ratio of errors and its 95 % interval."""
    return f"{ratio['ratio']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})"
