"""Write the results section of the README from the JSON of the experiments, or check it.

Run     python experiments/report.py            after make demo and make experiments
        python experiments/report.py --check    fails if README and JSON disagree
Reads   experiments/results/{regression,digits,extension,transfer}.json, and char_lm.json,
        minilm.json and albert.json as far as they are there
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "experiments" / "results"
START, END = "<!-- results:start -->", "<!-- results:end -->"


def load(name: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return record


def replaced(readme: str, section: str) -> str:
    before, rest = readme.split(START)
    return f"{before}{START}\n{section}\n{END}{rest.split(END)[1]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    path = ROOT / "README.md"
    readme = path.read_text()
    wanted = replaced(readme, section())
    if parser.parse_args().check:
        sys.exit(None if wanted == readme else "README.md differs; run experiments/report.py")
    path.write_text(wanted)


def section() -> str:
    return "\n".join(
        [
            *_regression(load("regression")),
            "",
            *_digits(load("digits")),
            "",
            *_growing(load("extension")),
            "",
            *_transferred(load("transfer")),
            *_if_there("char_lm", _language),
            *_if_there("minilm", _sentences),
            *_if_there("albert", _reactions),
        ]
    )


def _regression(record: dict[str, Any]) -> list[str]:
    rows = [
        f"| {name} | {found['median_test_mse']:.1e} | {found['lowest_test_mse']:.1e} … "
        f"{found['highest_test_mse']:.1e} |"
        for name, found in record["summary"].items()
    ]
    return [
        "exp(sin πx + y²) with `QKAN([2, 5, 1])`, 3 repetitions, trainable encoding, 20 steps "
        "of LBFGS on 1,000 points; fifteen seeds, one start each (`experiments/regression.py`; "
        "qkan 0.2.3 reports 2.87e-5 for one run). The model has `input_range=(-1, 1)` unless "
        "the row says otherwise:",
        "",
        "| | median test MSE | lowest … highest |",
        "| --- | --- | --- |",
        *rows,
    ]


def _digits(record: dict[str, Any]) -> list[str]:
    scores = [
        f"| {kind} | {_range(found['parameters'])} | {found['test_accuracy_mean']:.2%} ± "
        f"{found['test_accuracy_sd']:.2%} |"
        for kind, found in record["summary"].items()
    ]
    trials = len(record["samples"]["QKAN"]) // 5
    return [
        "scikit-learn's handwritten digits, a third held out, mean and standard deviation of "
        f"five splits, {trials} trials a model and split chosen on a validation part "
        "(`experiments/digits.py`):",
        "",
        "| | parameters | test accuracy |",
        "| --- | --- | --- |",
        *scores,
        "",
        _verdict(record["summary"]),
    ]


def _growing(record: dict[str, Any]) -> list[str]:
    """Extension against all repetitions from the start."""
    settings = record["settings"]
    rows = [
        f"| {name} | {found['median_test_mse']:.1e} | {found['lowest_test_mse']:.1e} … "
        f"{found['highest_test_mse']:.1e} | {found['median_seconds']:.0f} |"
        for name, found in record["summary"].items()
    ]
    return [
        f"exp(sin πx + y²) again, growing from 1 to 20 repetitions with `fit_extending`, "
        f"{settings['steps_a_stage']} steps of LBFGS a stage, against 20 repetitions from the "
        f"start for as many steps; float64, {len(settings['seeds'])} seeds, one start each, none "
        "used to choose the recipe (`experiments/extension.py`; qkan 0.2.3 reports 1.24e-7 and "
        "7.66e-7, one run each):",
        "",
        "| | median test MSE | lowest … highest | seconds a seed |",
        "| --- | --- | --- | --- |",
        *rows,
    ]


def _transferred(record: dict[str, Any]) -> list[str]:
    """From circuits to splines, against splines from scratch."""
    settings = record["settings"]
    rows = [
        f"| {name} | {found['median']:.1e} | {found['lowest']:.1e} … {found['highest']:.1e} |"
        for name, found in record["summary"].items()
    ]
    return [
        f"{settings['formula']}: a trained `QKAN([2, 1, 1])` turned into a spline KAN (`to_kan`) "
        f"that trains on, against one from scratch; {len(settings['seeds'])} seeds, of "
        f"{settings['starts']} starts a method the one with the lowest training loss "
        "(`experiments/transfer.py`; qkan 0.2.3 reports 1.56e-8 and, from scratch, 2.07e-2, one "
        "seed):",
        "",
        "| | median test MSE | lowest … highest |",
        "| --- | --- | --- |",
        *rows,
    ]


def _if_there(name: str, rows: Callable[[dict[str, Any]], list[str]]) -> list[str]:
    return ["", *rows(load(name))] if (RESULTS / f"{name}.json").exists() else []


def _language(record: dict[str, Any]) -> list[str]:
    """The character language model by its feed-forward block."""
    settings = record["settings"]
    rows = [
        f"| {kind} | {row['block_parameters']:,} | {_plus_minus(row['validation_loss'])} | "
        f"{_plus_minus(row['test_loss'])} | {row['test_perplexity']:.2f} | {row['test_bits']:.3f} |"
        for kind, row in record["summary"].items()
    ]
    seeds = len(settings["seeds"])
    return [
        f"A character GPT of nanoGPT's size on tinyshakespeare, {settings['steps']:,} steps, with "
        "HQKANs as its feed-forward blocks, with an MLP (GELU, ReLU) and with bottlenecks of as "
        "many parameters, and with the full MLP; validation and test loss in nats, "
        f"{f'mean ± standard deviation of {seeds} seeds' if seeds > 1 else 'one seed'}; "
        f"{settings['trials']['HQKAN']} trials each of {settings['trial_steps']} steps, chosen on "
        "validation, tested once (`experiments/char_lm.py`):",
        "",
        "| | parameters a block | validation | test | e^loss | bits a character |",
        "| --- | --- | --- | --- | --- | --- |",
        *rows,
        "",
        f"HQKAN minus MLP of equal size, test, seed by seed: {_signed(record, 'MLP')}; minus the "
        f"full MLP: {_signed(record, 'full MLP')}. Validation by encoding after "
        f"{settings['trial_steps']} steps, mean of {len(settings['encoding_seeds'])} seeds: "
        f"{_by_encoding(record)}.",
    ]


def _signed(record: dict[str, Any], other: str) -> str:
    values = record["hqkan_minus_others"][other]["values"]
    return ", ".join(f"{value:+.3f}" for value in values)


def _by_encoding(record: dict[str, Any]) -> str:
    losses: dict[str, list[float]] = {}
    for run in record["encodings"]:
        losses.setdefault(run["encoding"], []).append(run["validation_loss"])
    return ", ".join(f"{name} {statistics.mean(found):.2f}" for name, found in losses.items())


def _plus_minus(row: dict[str, Any]) -> str:
    return f"{row['mean']:.3f}" + ("" if row["sd"] is None else f" ± {row['sd']:.3f}")


def _sentences(record: dict[str, Any]) -> list[str]:
    return _students(
        record, "cosine",
        "all-MiniLM-L6-v2 with feed-forward blocks of a half, a quarter and an eighth of the "
        "parameters, distilled; mean cosine of sentence embeddings to the original's, on sentences "
        "held out (`experiments/minilm.py`)",
    )  # fmt: skip


def _reactions(record: dict[str, Any]) -> list[str]:
    return _students(
        record, "accuracy",
        "rxnmapper's ALBERT with a shared feed-forward block of a half, a quarter and an eighth of "
        "the parameters, distilled; accuracy on masked tokens of made-up reactions "
        "(`experiments/albert.py`)",
    )  # fmt: skip


def _students(record: dict[str, Any], name: str, title: str) -> list[str]:
    """Kinds of block by their share of the parameters, the mean over seeds, and the teacher."""
    found, shares = record["samples"], record["settings"]["shares"]
    kinds = list(dict.fromkeys(run["kind"] for run in found))
    rows = []
    for kind in kinds:
        means = [
            statistics.mean(r[name] for r in found if (r["kind"], r["share"]) == (kind, share))
            for share in shares
        ]
        rows.append(f"| {kind} | " + " | ".join(f"{mean:.3f}" for mean in means) + " |")
    lines = "; ".join(f"{line}: {row[name]:.3f}" for line, row in record["lines"].items())
    seeds = len(record["settings"]["seeds"])
    blocks, whole = record["settings"]["steps"].values()
    return [
        f"{title}; {lines}. {'One seed' if seeds == 1 else f'Mean of {seeds} seeds'}, "
        f"{len(record['trials']['HQKAN'])} trials each; {blocks} steps block by block and {whole} "
        "end to end, too few to compare kinds by more than a first impression:",
        "",
        "| | " + " | ".join(f"1/{share}" for share in shares) + " |",
        "| --- |" + " --- |" * len(shares),
        *rows,
    ]


def _verdict(summary: dict[str, Any]) -> str:
    qkan, mlp = (summary[kind]["test_accuracy_mean"] for kind in ("QKAN", "MLP"))
    if qkan > mlp:
        return f"The QKAN is ahead of the MLP of equal size by {100 * (qkan - mlp):.2f} points."
    return f"The MLP of equal size is ahead by {100 * (mlp - qkan):.2f} points."


def _range(parameters: list[int]) -> str:
    low, high = min(parameters), max(parameters)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


if __name__ == "__main__":
    main()
