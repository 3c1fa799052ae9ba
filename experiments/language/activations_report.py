"""The section of `activations.py` on the results page, every number from its record."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

Finals = dict[str, dict[int, dict[str, Any]]]
"""The results of the runs in full of one number of steps, by row and seed."""


def section(record: dict[str, Any]) -> list[str]:
    """Learnt activations beside known ones, at every horizon that has been run."""
    settings = record["settings"]
    by_steps = finals(record["runs"])
    lines = [
        *(_verdict(steps, by_steps[steps]) for steps in sorted(by_steps, reverse=True)),
        "",
        "The model is the character GPT of the last section with full blocks, 128 → 512 → 128, "
        "of which only the activation differs. With one repetition and trained scales a DARUAN is "
        "a cosine and a constant, A·cos(wx + b) + C. For each row, the best of "
        f"{len(settings['rates'])} learning rates is chosen by the validation loss after "
        f"{settings['trial_steps']} steps, and the model is then trained with other seeds and "
        "tested once (`experiments/language/activations.py`). The table shows losses in nats a "
        "character, mean ± standard deviation.",
    ]
    for steps in sorted(by_steps):
        lines += ["", f"{steps:,} steps:", "", *table(by_steps[steps])]
    return lines


def finals(runs: Sequence[dict[str, Any]]) -> dict[int, Finals]:
    """The tested runs by their number of steps; a seed counts once, by the newest run."""
    found: dict[int, Finals] = {}
    for run in runs:
        asked = run["settings"]
        if asked["test"]:
            of_row = found.setdefault(asked["steps"], {}).setdefault(asked["row"], {})
            of_row[asked["seed"]] = {**run["result"], "kind": asked["kind"], "rate": asked["rate"]}
    return found


def best_first(found: Finals, kinds: Sequence[str] = ("known", "daruan", "control")) -> list[str]:
    """The rows that have as many seeds as any, in the order of their mean validation loss."""
    most = max((len(seeds) for seeds in found.values()), default=0)
    rows = [
        name
        for name, seeds in found.items()
        if len(seeds) == most and next(iter(seeds.values()))["kind"] in kinds
    ]
    return sorted(rows, key=lambda name: statistics.mean(_losses(found[name], "validation_loss")))


def differences(found: Finals, row: str, other: str) -> list[float]:
    """Test loss of a row minus that of another one, seed by seed: below 0 the row is ahead."""
    mine, theirs = found[row], found[other]
    return [mine[seed]["test_loss"] - theirs[seed]["test_loss"] for seed in mine if seed in theirs]


def table(found: Finals) -> list[str]:
    """All rows, those with all seeds first, each in the order of validation."""
    complete = best_first(found)
    rest = sorted(
        found.keys() - {*complete},
        key=lambda name: statistics.mean(_losses(found[name], "validation_loss")),
    )
    lines = [
        f"| activation | parameters | rate | seeds | validation | test | test − {complete[0]} | "
        "CPU seconds of a step |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in [*complete, *rest]:
        runs = [*found[name].values()]
        against = differences(found, name, complete[0])
        seconds = statistics.median(run["curve"][-1][1] / run["curve"][-1][0] for run in runs)
        lines.append(
            f"| {name} | {runs[0]['parameters']:,} | {runs[0]['rate']:g} | {len(runs)} | "
            f"{_spread(_losses(found[name], 'validation_loss'), '.3f')} | "
            f"{_spread(_losses(found[name], 'test_loss'), '.3f')} | "
            f"{'–' if name == complete[0] or not against else _spread(against, '+.3f')} | "
            f"{seconds:.3f} |"
        )
    return lines


def _verdict(steps: int, found: Finals) -> str:
    """The DARUAN that is best on validation, beside the best control and the best known one."""
    best = {kind: best_first(found, [kind]) for kind in ("daruan", "control", "known")}
    if not best["daruan"]:
        return f"No DARUAN has been trained for {steps:,} steps."
    mine, parts = best["daruan"][0], []
    for kind, words in (("control", "classical learnt"), ("known", "known")):
        if best[kind]:
            gaps = differences(found, mine, best[kind][0])
            ahead = sum(gap < 0 for gap in gaps)
            parts.append(
                f"ahead of the best {words} activation, {best[kind][0]}, on {ahead} of "
                f"{len(gaps)} seeds (test loss {_spread(gaps, '+.3f')})"
            )
    text = f"After {steps:,} steps the best DARUAN ({mine}) is " + " and ".join(parts) + "."
    control = best["control"][0] if best["control"] else None
    if control is None or max(differences(found, mine, control)) < 0:
        return text
    return (
        "**A classical learnt activation is as good**; what a DARUAN adds is that its circuit runs "
        f"on a device and that its spectrum is known exactly. {text}"
    )


def _losses(seeds: dict[int, dict[str, Any]], name: str) -> list[float]:
    return [result[name] for result in seeds.values()]


def _spread(values: Sequence[float], style: str) -> str:
    mean = format(statistics.mean(values), style)
    return mean if len(values) < 2 else f"{mean} ± {statistics.stdev(values):.3f}"
