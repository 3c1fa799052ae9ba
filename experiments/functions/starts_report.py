"""The section of `starts.py` on the results page, every number from its record."""

from __future__ import annotations

from typing import Any


def section(record: dict[str, Any]) -> list[str]:
    """Markdown: how the starts were chosen, and the chosen one beside 1 on every task."""
    settings, choice = record["settings"], record["choice"]
    best, means = choice["best"], choice["geometric_mean_ratios"]
    worse = [row["task"] for row in record["summary"] if row["worse"]]
    return [
        "Every trained scale begins at 1. Five other starts were compared with that on "
        f"{len(settings['chosen_on'])} tasks and {len(settings['choosing_seeds'])} seeds "
        "(`experiments/functions/starts.py`). The geometric means of their test errors, divided by "
        "those of a start at 1, are "
        + ", ".join(f"{mean:.2f} ({name})" for name, mean in means.items())
        + f". The best of them, {best}, was then compared with 1 on {len(settings['seeds'])} other "
        f"seeds of each task; the last {len(settings['others'])} tasks had no part in the choice:",
        "",
        "| task | median ratio of the test errors |",
        "| --- | --- |",
        *(f"| {row['task']} | {row['median_ratio']:.2f} |" for row in record["summary"]),
        "",
        _verdict(best, worse, len(record["summary"])),
    ]


def _verdict(best: str, worse: list[str], tasks: int) -> str:
    if worse:
        return (
            f"{best} is worse by more than a standard error on {len(worse)} of {tasks} tasks "
            f"({', '.join(worse)}), so the start stays at 1."
        )
    return f"{best} is worse by more than a standard error on none of {tasks} tasks."
