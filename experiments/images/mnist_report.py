"""The section of `mnist.py` on the results page, every number from its record."""

from __future__ import annotations

from typing import Any

from images.heads_report import accuracies, chosen, count, signed


def section(record: dict[str, Any]) -> list[str]:
    """One body of some 1,200 parameters and two heads."""
    settings, table = record["settings"], record["summary"]
    qkan = table["QKAN"]
    reached = (
        qkan["test_accuracy"]["mean"] >= settings["goal"]
        and max(qkan["parameters"], qkan["effective"]) <= settings["limit"]
    )
    return [
        f"MNIST has {count(settings['parts'])}. A convolutional body of "
        f"{qkan['parameters'] - qkan['head_parameters']:,} parameters and a head that reads its "
        f"outputs are trained together for {settings['epochs']} epochs "
        f"(`experiments/images/mnist.py`). {chosen(settings)} For comparison, qkan 0.2.3 reports "
        "95.85 % with 1,884 parameters and 95.57 % for an MLP head with 1,934, for one run each "
        "and with another body.",
        "",
        *accuracies(table),
        "",
        f"The QKAN {'reaches' if reached else 'does not reach'} the goal of "
        f"{settings['goal']:.1%} with at most {settings['limit']:,} parameters. "
        f"{_ahead(record['qkan_minus_mlp'])}. QKAN minus MLP, seed by seed: "
        f"{signed(record['qkan_minus_mlp'])} points.",
    ]


def _ahead(row: dict[str, Any]) -> str:
    """Which of QKAN and MLP has the higher mean."""
    first = "The QKAN" if row["mean"] > 0 else "The MLP"
    points = f"{100 * abs(row['mean']):.2f} percentage points"
    return f"{first} is ahead by {points} of test accuracy in the mean"
