"""The section of `activations.py` on the results page, every number from its record."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from shared.finals import Finals, by_steps, differences, kind, order, spread, values

LONGER = "learnt_activations_longer.png"
"""The picture of the runs with the most steps, where there are several numbers of steps."""
CONTROL_IS_AS_GOOD = (
    "**A classical learnt activation is as good**; what a DARUAN adds is that its circuit runs on "
    "a device and that its spectrum is known exactly."
)


def section(record: dict[str, Any]) -> list[str]:
    """Learnt activations beside known ones, at every horizon that has been run."""
    settings = record["settings"]
    found = by_steps(record["runs"])
    as_good = any(_control_is_as_good(rows) for rows in found.values())
    lines = [
        *([CONTROL_IS_AS_GOOD] if as_good else []),
        *(_verdict(steps, found[steps]) for steps in sorted(found, reverse=True)),
        "",
        "The model is the character GPT of the last section with full blocks, 128 → 512 → 128, "
        "of which only the activation differs. With one repetition and trained scales a DARUAN is "
        "a cosine and a constant, A·cos(wx + b) + C. For each row, the best of "
        f"{len(settings['rates'])} learning rates is chosen by the validation loss after "
        f"{settings['trial_steps']} steps, and the model is then trained with other seeds and "
        "tested once (`experiments/language/activations.py`). The table shows losses in nats a "
        "character, mean ± standard deviation.",
    ]
    for steps in sorted(found):
        lines += ["", f"{steps:,} steps:", "", *table(found[steps])]
    if len(found) > 1:
        lines += ["", f"![Validation losses over {max(found):,} steps](images/{LONGER})"]
    return lines


def best_first(found: Finals, kinds: Sequence[str] = ("known", "daruan", "control")) -> list[str]:
    """The rows that have as many seeds as any, in the order of their mean validation loss."""
    most = max((len(seeds) for seeds in found.values()), default=0)
    return [
        name for name in order(found) if len(found[name]) == most and kind(found, name) in kinds
    ]


def table(found: Finals) -> list[str]:
    """All rows, those with all seeds first, each in the order of validation."""
    complete = best_first(found)
    rest = [name for name in order(found) if name not in complete]
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
            f"{spread(values(found[name], 'validation_loss'), '.3f')} | "
            f"{spread(values(found[name], 'test_loss'), '.3f')} | "
            f"{'–' if name == complete[0] or not against else spread(against, '+.3f')} | "
            f"{seconds:.3f} |"
        )
    return lines


def _verdict(steps: int, found: Finals) -> str:
    """The DARUAN that is best on validation, beside the best control and the best known one."""
    best = {name: best_first(found, [name]) for name in ("daruan", "control", "known")}
    if not best["daruan"]:
        return f"No DARUAN has been trained for {steps:,} steps."
    mine, parts = best["daruan"][0], []
    for other, words in (("control", "classical learnt"), ("known", "known")):
        if best[other]:
            gaps = differences(found, mine, best[other][0])
            ahead = sum(gap < 0 for gap in gaps)
            parts.append(
                f"ahead of the best {words} activation, {best[other][0]}, on {ahead} of "
                f"{len(gaps)} seeds (test loss {spread(gaps, '+.3f')})"
            )
    return f"After {steps:,} steps the best DARUAN ({mine}) is " + " and ".join(parts) + "."


def _control_is_as_good(found: Finals) -> bool:
    """Whether the DARUAN that is best on validation is not ahead of the best control each time."""
    mine, control = (best_first(found, [name])[:1] for name in ("daruan", "control"))
    return bool(mine and control) and max(differences(found, mine[0], control[0])) >= 0
