"""The lines on images for the results page, every number from the JSON of the two experiments."""

from __future__ import annotations

from typing import Any


def mnist(record: dict[str, Any]) -> list[str]:
    """One body of some 1,200 parameters and two heads."""
    settings, table = record["settings"], record["summary"]
    qkan = table["QKAN"]
    reached = (
        qkan["test_accuracy"]["mean"] >= settings["goal"]
        and max(qkan["parameters"], qkan["effective"]) <= settings["limit"]
    )
    return [
        f"MNIST, {_count(settings['parts'])}: a convolutional body of "
        f"{qkan['parameters'] - qkan['head_parameters']:,} parameters whose outputs a head "
        f"reads, {settings['epochs']} epochs; {_chosen(settings)} (`experiments/mnist.py`; "
        "qkan 0.2.3 reports 95.85 % with 1,884 parameters and 95.57 % for an MLP head with 1,934, "
        "one run each, of another body):",
        "",
        "| head | of the head | parameters in all | test accuracy |",
        "| --- | --- | --- | --- |",
        *(
            f"| {_head(row['head'])} | {row['head_parameters']:,} | {row['parameters']:,} | "
            f"{_percent(row['test_accuracy'])} |"
            for row in table.values()
        ),
        "",
        f"The goal, {settings['goal']:.1%} with at most {settings['limit']:,} parameters, is "
        f"{'reached' if reached else 'not reached'} by the QKAN. "
        f"{_ahead(record['qkan_minus_mlp'])}; QKAN minus MLP seed by seed: "
        f"{_signed(record['qkan_minus_mlp'])}.",
    ]


def cifar(record: dict[str, Any]) -> list[str]:
    """Heads of three sizes."""
    settings, table = record["settings"], record["summary"]
    some = next(iter(table.values()))
    return [
        f"{settings['images']}, {_count(settings['parts'])}: a convolutional body of "
        f"{some['parameters'] - some['head_parameters']:,} parameters, trained jointly with a head "
        f"on its features, {settings['epochs']} epochs, a small budget that compares heads and "
        f"no more; {_chosen(settings)}, form and learning rate at the {settings['trial_size']} "
        "size (`experiments/cifar.py`):",
        "",
        "| head | of the head | parameters in all | test accuracy |",
        "| --- | --- | --- | --- |",
        *(
            f"| {_head(row['head'])} | {row['head_parameters']:,} | {row['parameters']:,} | "
            f"{_percent(row['test_accuracy'])} |"
            for row in table.values()
        ),
        "",
        "HQKAN minus MLP in points of test accuracy, seed by seed: "
        + "; ".join(f"{size} {_signed(row)}" for size, row in record["hqkan_minus_mlp"].items())
        + ".",
    ]


def _head(head: dict[str, Any]) -> str:
    """Its kind, its form and what sets its size."""
    circuit = f"{head.get('ansatz', 'pz')}, {head.get('reps')} repetitions"
    forms = {
        "QKAN": f", {circuit}",
        "HQKAN": f", {head.get('latent')} latent nodes, {circuit}",
        "MLP": f", {' and '.join(map(str, head.get('hidden', [])))} hidden nodes, "
        f"{head.get('activation')}",
    }
    return head["kind"] + forms.get(head["kind"], "")


def _count(parts: list[int]) -> str:
    train, validation, test = parts
    return f"{train:,} images to train, {validation:,} to validate, {test:,} to test"


def _chosen(settings: dict[str, Any]) -> str:
    """How a model was picked, and on how many seeds the numbers stand."""
    (trials,) = set(settings["trials"].values())
    seeds = len(settings["seeds"])
    spread = f"mean ± standard deviation of {seeds} seeds" if seeds > 1 else "one seed"
    return (
        f"{spread}, {trials} trials a kind of {settings['trial_epochs']} epochs, chosen on "
        "validation, tested once"
    )


def _ahead(row: dict[str, Any]) -> str:
    """Which of QKAN and MLP has the higher mean."""
    first = "The QKAN" if row["mean"] > 0 else "The MLP"
    return f"{first} is ahead by {100 * abs(row['mean']):.2f} points of test accuracy in the mean"


def _signed(row: dict[str, Any]) -> str:
    return ", ".join(f"{100 * value:+.2f}" for value in row["values"])


def _percent(row: dict[str, Any]) -> str:
    return f"{row['mean']:.2%}" + ("" if row["sd"] is None else f" ± {row['sd']:.2%}")
