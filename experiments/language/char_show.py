"""The character model's results as tables on the terminal and as a figure."""

from __future__ import annotations

import itertools
import statistics
from pathlib import Path
from typing import Any


def print_tables(
    trials: dict[str, Any], by_encoding: list[dict[str, Any]], table: dict[str, Any]
) -> None:
    for kind, tried in trials.items():
        print(f"\n{kind}, {len(tried)} trials, the best five by validation loss:")
        for t in sorted(tried, key=lambda t: t["validation_loss"])[:5]:
            print(f"  {t['validation_loss']:.4f}  rate {t['rate']:g}  {t['shape']}")
    print("\nencodings of the default HQKAN, validation loss of each seed:")
    for (name, rate), same in itertools.groupby(by_encoding, lambda t: (t["encoding"], t["rate"])):
        losses = "  ".join(f"{t['validation_loss']:.4f}" for t in same)
        print(f"  {name:<10} rate {rate:g}   {losses}")
    print(f"\n{'':<18} {'a block':>9} {'validation':>17} {'test':>17} {'e^':>6} {'bits':>6}")
    for kind, row in table.items():
        validation, test = row["validation_loss"], row["test_loss"]
        print(
            f"{kind:<18} {row['block_parameters']:>9,} {_plus_minus(validation):>17} "
            f"{_plus_minus(test):>17} {row['test_perplexity']:>6.3f} {row['test_bits']:>6.3f}"
        )


def _plus_minus(row: dict[str, Any]) -> str:
    return f"{row['mean']:.4f}" + ("" if row["sd"] is None else f" ± {row['sd']:.4f}")


COLOURS = {
    "full MLP": "#6b6b6b", "MLP": "#E69F00", "identity": "#CC79A7",
    "HQKAN": "#0072B2", "Linear → QKANLayer": "#009E73",
}  # fmt: skip


def figure(found: dict[str, list[dict[str, Any]]], table: dict[str, Any], path: Path) -> Path:
    """Validation loss over the steps, and the test loss of every seed."""
    from shared import figures
    from shared.figures import plt

    with plt.rc_context(figures.STYLE):
        drawing, (curves, ends) = plt.subplots(1, 2, figsize=(9.6, 3.8), layout="constrained")
        for row, (kind, trained) in enumerate(found.items()):
            label = f"{kind}, {table[kind]['block_parameters']:,} a block"
            losses = zip(*([point[-1] for point in run["curve"]] for run in trained), strict=True)
            steps = [point[0] for point in trained[0]["curve"]]
            means = [statistics.mean(values) for values in losses]
            curves.plot(steps, means, color=COLOURS[kind], label=label, marker=".", linewidth=1.4)
            tests = [run["test_loss"] for run in trained]
            ends.plot(tests, [row] * len(tests), "o", color=COLOURS[kind], alpha=0.7)
            ends.plot(statistics.mean(tests), row, "|", color="black", markersize=16)
        # where training begins is alike for all and far above
        top = max(run["curve"][1][-1] for trained in found.values() for run in trained)
        curves.set_ylim(top=top)
        curves.set(xlabel="step", ylabel="validation loss (nats a character)")
        curves.legend(fontsize=7.5)
        ends.set_yticks(range(len(found)), list(found))
        ends.invert_yaxis()
        ends.set(xlabel="test loss (dots: seeds; bar: mean)")
        count = len(next(iter(found.values())))
        seeds = f"mean of {count} seeds" if count > 1 else "one seed"
        curves.set_title(f"character GPT, {seeds}", loc="left")
        ends.set_title("after training, tested once", loc="left")
        return figures.save(drawing, path)
