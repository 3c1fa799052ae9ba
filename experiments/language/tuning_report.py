"""The section of `tuning.py` on the results page, every number from its record."""

from __future__ import annotations

import statistics
from typing import Any

from shared.finals import Finals, finals, order, spread, values


def section(record: dict[str, Any]) -> list[str]:
    """Adapters of equal size."""
    settings, found = record["settings"], finals(record["runs"])
    if not found:
        return []
    some = next(run["settings"] for run in record["runs"] if run["settings"]["test"])
    trial = next(run["settings"] for run in record["runs"] if not run["settings"]["test"])
    best = order(found)[0]
    return [
        f"Best on validation: {best}.",
        "",
        f"{settings['model']} is frozen; an adapter and a linear head learn {settings['task']}. "
        f"Training takes {some['steps']} steps of {settings['batch']} sentences with at most "
        f"{settings['longest']} tokens. For each row, the best of {len(settings['rates'])} "
        f"learning rates is chosen by the validation loss after {trial['steps']} steps; the model "
        f"is then trained with other seeds and tested once on {some['sentences']['test']:,} "
        "sentences (`experiments/language/tuning.py`). The table shows mean ± standard deviation.",
        "",
        *table(found),
    ]


def table(found: Finals) -> list[str]:
    """All rows in the order of validation."""
    lines = [
        "| adapter | its parameters | rate | seeds | validation loss | test loss | "
        "test accuracy in % | CPU seconds of training |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in order(found):
        runs = found[name]
        some = next(iter(runs.values()))
        accuracy = [100 * value for value in values(runs, "test_accuracy")]
        lines.append(
            f"| {name} | {some['parameters']:,} | {some['rate']:g} | {len(runs)} | "
            f"{spread(values(runs, 'validation_loss'), '.3f')} | "
            f"{spread(values(runs, 'test_loss'), '.3f')} | {spread(accuracy, '.1f')} | "
            f"{statistics.mean(values(runs, 'cpu_seconds')):.0f} |"
        )
    return lines
