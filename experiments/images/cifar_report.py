"""The section of `cifar.py` on the results page, every number from its record."""

from __future__ import annotations

from typing import Any

from images.heads_report import accuracies, chosen, count, signed

_JPEG = (
    " The images were compressed as JPEG, so the accuracies cannot be compared with published ones."
)


def section(record: dict[str, Any]) -> list[str]:
    """Heads of three sizes."""
    settings, table = record["settings"], record["summary"]
    some = next(iter(table.values()))
    return [
        f"{settings['images']} has {count(settings['parts'])}. A convolutional body of "
        f"{some['parameters'] - some['head_parameters']:,} parameters is trained together with a "
        f"head on its features for {settings['epochs']} epochs. This is a small budget, which "
        "compares heads and is far from the accuracy of larger networks "
        f"(`experiments/images/cifar.py`). The trials are of the {settings['trial_size']} size. "
        f"{chosen(settings)}{_JPEG if 'JPEG' in settings['images'] else ''}",
        "",
        *accuracies(table),
        "",
        "HQKAN minus MLP in percentage points of test accuracy, seed by seed: "
        + "; ".join(f"{size} {signed(row)}" for size, row in record["hqkan_minus_mlp"].items())
        + ".",
    ]
