"""The section of `activation_images.py` on the results page, every number from its record."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from shared.finals import Finals, differences, finals, kind, order, spread, values

REFERENCE = "GELU"


def section(record: dict[str, Any]) -> list[str]:
    """Learnt activations beside known ones."""
    settings, found = record["settings"], finals(record["runs"])
    if not found:
        return []
    some = next(run["settings"] for run in record["runs"] if run["settings"]["test"])
    trial = next(run["settings"] for run in record["runs"] if not run["settings"]["test"])
    return [
        verdict(found),
        "",
        f"The model is a vision transformer of {settings['layers']} layers with blocks "
        f"{settings['width']} → {settings['hidden']} → {settings['width']}, of which only the "
        f"activation differs. It is trained on {some['images']} for {some['steps']} steps. This is "
        "a small budget, which compares activations and is far from the accuracy of larger "
        f"networks. For each row, the best of {len(settings['rates'])} learning rates is chosen by "
        f"the validation loss after {trial['steps']} steps; the model is then trained with other "
        "seeds and tested once (`experiments/images/activation_images.py`). The table shows mean ± "
        "standard deviation.",
        "",
        *table(found),
    ]


def table(found: Finals) -> list[str]:
    """All rows in the order of validation."""
    lines = [
        "| activation | parameters | rate | seeds | validation loss | test loss | "
        f"test loss − {REFERENCE} | test accuracy in % |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in order(found):
        runs = found[name]
        some = next(iter(runs.values()))
        against = differences(found, name, REFERENCE) if REFERENCE in found else []
        accuracy = [100 * value for value in values(runs, "test_accuracy")]
        lines.append(
            f"| {name} | {some['parameters']:,} | {some['rate']:g} | {len(runs)} | "
            f"{spread(values(runs, 'validation_loss'), '.4f')} | "
            f"{spread(values(runs, 'test_loss'), '.4f')} | "
            f"{'–' if name == REFERENCE or not against else spread(against, '+.4f')} | "
            f"{spread(accuracy, '.2f')} |"
        )
    return lines


def verdict(found: Finals) -> str:
    """The DARUAN beside the best classical learnt activation and the best known one."""
    best = {
        sort: next((name for name in order(found) if kind(found, name) == sort), None)
        for sort in ("daruan", "control", "known")
    }
    mine, parts = best["daruan"], []
    if mine is None:
        return "No DARUAN has been trained."
    for sort, words in (("control", "the classical learnt one"), ("known", "the best known one")):
        other = best[sort]
        if other is not None:
            gaps = differences(found, mine, other)
            ahead = sum(gap < 0 for gap in gaps)
            parts.append(
                f"{words}, {other}, on {ahead} of {len(gaps)} seeds (test loss "
                f"{spread(gaps, '+.4f')}{_p(gaps)})"
            )
    return f"{mine} is ahead of " + ", and of ".join(parts) + "."


def _p(gaps: Sequence[float]) -> str:
    """The p of a paired t test, two-sided."""
    if len(gaps) < 2 or not statistics.stdev(gaps):
        return ""
    from scipy.stats import t

    size = statistics.mean(gaps) / (statistics.stdev(gaps) / math.sqrt(len(gaps)))
    return f", paired t test p = {2 * t.sf(abs(size), len(gaps) - 1):.2g}"
