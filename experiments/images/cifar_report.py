"""The section of `cifar.py` on the results page, every number from its record."""

from __future__ import annotations

from typing import Any

from images.heads_report import accuracies, chosen, count, signed


def section(record: dict[str, Any]) -> list[str]:
    """Heads of three sizes."""
    settings, table = record["settings"], record["summary"]
    some = next(iter(table.values()))
    return [
        f"{settings['images']}, {count(settings['parts'])}: a convolutional body of "
        f"{some['parameters'] - some['head_parameters']:,} parameters, trained jointly with a head "
        f"on its features, {settings['epochs']} epochs, a small budget that compares heads and "
        f"no more; {chosen(settings)}, form and learning rate at the {settings['trial_size']} "
        "size (`experiments/images/cifar.py`):",
        "",
        *accuracies(table),
        "",
        "HQKAN minus MLP in points of test accuracy, seed by seed: "
        + "; ".join(f"{size} {signed(row)}" for size, row in record["hqkan_minus_mlp"].items())
        + ".",
    ]
