"""What the sections of `mnist.py` and `cifar.py` on the results page share."""

from __future__ import annotations

from typing import Any


def accuracies(table: dict[str, Any]) -> list[str]:
    """A table of every head, its size and its test accuracy."""
    return [
        "| head | parameters of the head | parameters in total | test accuracy |",
        "| --- | --- | --- | --- |",
        *(
            f"| {_head(row['head'])} | {row['head_parameters']:,} | {row['parameters']:,} | "
            f"{_percent(row['test_accuracy'])} |"
            for row in table.values()
        ),
    ]


def count(parts: list[int]) -> str:
    train, validation, test = parts
    return f"{train:,} training, {validation:,} validation and {test:,} test images"


def chosen(settings: dict[str, Any]) -> str:
    """How a model was picked, and on how many seeds the numbers stand: two sentences."""
    (trials,) = set(settings["trials"].values())
    seeds = len(settings["seeds"])
    spread = f"the mean ± standard deviation of {seeds} seeds" if seeds > 1 else "one seed"
    return (
        f"Of {trials} trials of each kind, of {settings['trial_epochs']} epochs each, the one with "
        f"the lowest validation loss chooses form and learning rate. The table shows {spread}, "
        "each tested once."
    )


def signed(row: dict[str, Any]) -> str:
    return ", ".join(f"{100 * value:+.2f}" for value in row["values"])


def _head(head: dict[str, Any]) -> str:
    """The kind of a head, its form and what sets its size."""
    circuit = f"{head.get('ansatz', 'pz')}, {head.get('reps')} repetitions"
    forms = {
        "QKAN": f", {circuit}",
        "HQKAN": f", {head.get('latent')} latent nodes, {circuit}",
        "MLP": f", {' and '.join(map(str, head.get('hidden', [])))} hidden nodes, "
        f"{head.get('activation')}",
    }
    return head["kind"] + forms.get(head["kind"], "")


def _percent(row: dict[str, Any]) -> str:
    return f"{row['mean']:.2%}" + ("" if row["sd"] is None else f" ± {row['sd']:.2%}")
