"""The tables of the pages "Should I use a QKAN?" and "Choosing", every number from the records."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from headlines import RESULTS, interval, spherical
from shared.compare import geometric_mean

Record = dict[str, Any]
Row = tuple[str, str, str]


def record(name: str) -> Record | None:
    """A study's record, or None while it has not been run."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def table(titles: Row, rows: list[Row]) -> str:
    """A Markdown table."""
    lines = [titles, ("---", "---", "---"), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def link(text: str, anchor: str) -> str:
    """A link to a study on the page of results."""
    return f"[{text}](results.md#{anchor})"


def whether() -> str:
    """What to take for which problem, and why."""
    kinds: tuple[tuple[str, Callable[[Record], list[Row]]], ...] = (
        ("functions", of_functions), ("noise", of_noise), ("formula", of_formulas),
        ("albert", of_blocks), ("char_lm", of_activations), ("defaults", of_tables),
        ("mnist", of_mnist), ("cifar", of_cifar),
    )  # fmt: skip
    return table(("Your problem", "Take", "Because"), _rows(kinds))


def choices() -> str:
    """The options of a layer, situation by situation."""
    kinds: tuple[tuple[str, Callable[[Record], list[Row]]], ...] = (
        ("regression", choose_range), ("scales", choose_encoding), ("char_lm", choose_for_blocks),
        ("defaults", choose_for_tables), ("extension", choose_reps), ("mnist", choose_ansatz),
    )  # fmt: skip
    return table(("Situation", "Choose", "Measured"), _rows(kinds))


def _rows(kinds: tuple[tuple[str, Callable[[Record], list[Row]]], ...]) -> list[Row]:
    found = [(record(name), write) for name, write in kinds]
    return [row for known, write in found if known is not None for row in write(known)]


def of_functions(known: Record) -> list[Row]:
    over_all = known["summary"]["all"]
    over = over_all["qkan_over"]
    where = "special-functions-and-the-feynman-equations"
    splines, mlp = interval(over["KAN"]), interval(over["MLP"])
    return [
        (
            "A smooth function on a sphere, or of angles", "a QKAN",
            f"{link(f'{spherical(known):.2f} times the error of an MLP', where)} of equal size "
            "over five spherical harmonics",
        ),
        (
            "A smooth function where you would take a spline KAN", "a QKAN",
            f"{link(f'{splines} times its error', where)} at equal size",
        ),
        (
            "A function of which nothing is known", "an MLP first",
            f"a QKAN has {link(f'{mlp} times its error', where)} over {over_all['functions']} "
            "functions; the MLP has the lowest error on "
            f"{over_all['wins']['MLP']} of them, the QKAN on {over_all['wins']['QKAN']}",
        ),
    ]  # fmt: skip


def of_noise(known: Record) -> list[Row]:
    levels = known["summary"]
    where = "label-noise"
    waves = _of_target(known, "J₀(20x)")
    mlp, loud = waves["MLP"], interval(levels[-1]["qkan_over"]["MLP"])
    below = [
        level for level in levels
        if level["decibels"] is not None and level["qkan_over"]["MLP"]["high"] < 1
    ]  # fmt: skip
    said = " and ".join(f"{level['decibels']} dB" for level in below)
    quiet = interval(below[0]["qkan_over"]["MLP"]) if below else ""
    rows = [
        (
            "A function that oscillates often, such as J₀(20x)", "a QKAN or a spline KAN",
            f"{link(f'{mlp:.3f} times the error of an MLP', where)} and {waves['KAN']:.2f} times "
            "that of a spline KAN, without noise",
        ),
        (
            "Targets with a little noise", "a QKAN",
            f"its error is {link(f'{quiet} times', where)} an MLP's at a signal-to-noise ratio of "
            f"{said}",
        ),
        (
            "Targets with as much noise as signal", "an MLP or a spline KAN",
            f"a QKAN has {link(f'{loud} times', where)} the MLP's error",
        ),
    ]  # fmt: skip
    return rows if below else [rows[0], rows[2]]


def _of_target(known: Record, target: str) -> dict[str, float]:
    """QKAN's error over that of each other kind on one noiseless target, over the seeds."""
    errors: dict[str, list[float]] = {"QKAN": [], "KAN": [], "MLP": []}
    for sample in known["samples"]:
        if sample["target"] == target and sample["decibels"] is None:
            for kind, values in errors.items():
                forms = [form for form in sample["forms"] if form["kind"] == kind]
                values.append(min(forms, key=lambda form: form["validation_rmse"])["test_rmse"])
    return {
        kind: geometric_mean([a / b for a, b in zip(errors["QKAN"], values, strict=True)])
        for kind, values in errors.items()
    }


def of_formulas(known: Record) -> list[Row]:
    found = known["summary"]
    said = link(f"{found['found']} of {found['seeds']} seeds", "a-formula-read-back-from-points")
    return [(
        "You want to inspect what was learnt, as curves or as a formula",
        "a small QKAN, pruned; then `symbolic`", f"exp(sin πx + y²) is recovered on {said}",
    )]  # fmt: skip


def of_blocks(known: Record) -> list[Row]:
    gaps = {share: 100 * _gap(known, share, "accuracy") for share in known["settings"]["shares"]}
    return [
        (
            f"A distilled feed-forward block with 1/{share} of the parameters",
            "an HQKAN or an MLP: compare both" if gaps[share] > 0 else "an MLP",
            f"an HQKAN has {link(f'{gaps[share]:+.1f} points of accuracy', _ALBERT)} in ALBERT "
            f"against an MLP of equal size{_in_minilm(share)}",
        )
        for share in (max(gaps), min(gaps))
    ]


_ALBERT = "albert-with-smaller-blocks"


def _gap(known: Record, share: int, number: str) -> float:
    """A number of the HQKANs of that size minus that of the MLPs, means over the seeds."""
    hqkan, mlp = (
        statistics.mean(
            run[number]
            for run in known["samples"] if (run["kind"], run["share"]) == (kind, share)
        )
        for kind in ("HQKAN", "MLP")
    )  # fmt: skip
    return hqkan - mlp


def _in_minilm(share: int) -> str:
    """What the other study of distilled blocks says of the same size."""
    known = record("minilm")
    if known is None or share not in known["settings"]["shares"]:
        return ""
    said = f"{_gap(known, share, 'cosine'):+.3f} of cosine similarity"
    return f", and {link(said, 'minilm-with-smaller-blocks')} in MiniLM"


def of_activations(known: Record) -> list[Row]:
    mine, theirs, full = (
        known["summary"][kind]["test_loss"]["values"]
        for kind in ("Linear → QKANLayer", "MLP", "full MLP")
    )
    gaps = [a - b for a, b in zip(mine, theirs, strict=True)]
    ahead = sum(gap < 0 for gap in gaps)
    said = f"{statistics.mean(gaps):+.3f} nats of test loss"
    return [(
        "A small block of a language model, trained from scratch",
        "`Linear → QKANLayer` with shared activations",
        f"{link(said, 'a-character-language-model')} against an MLP of equal size, lower on "
        f"{ahead} of {len(gaps)} seeds; a block of full size is better by "
        f"{statistics.mean(mine) - statistics.mean(full):.2f} nats",
    )]  # fmt: skip


def of_tables(known: Record) -> list[Row]:
    found = known["summary"]
    good = sum(row["verdict"]["as_good_as_better"] for row in found.values())
    best = {
        kind: sum(
            row["kinds"][kind]["mean"] == min(row["kinds"][k]["mean"] for k in kinds)
            for row in found.values()
        )
        for kinds in [("QKAN", "linear", "boosting")]
        for kind in kinds
    }
    said = f"best of the three on {best['QKAN']}, {best['linear']} and {best['boosting']} of "
    return [(
        "A table of a few thousand rows",
        "a linear model and boosting first; a QKAN beside them",
        "with default settings, the QKAN, the linear model and boosting are "
        f"{link(said + f'{len(found)} tables', _TABLES)}; the QKAN is within one standard error of "
        f"the better of the other two on {good}",
    )]  # fmt: skip


_TABLES = "the-estimators-with-default-settings"


def of_mnist(known: Record) -> list[Row]:
    points = 100 * known["qkan_minus_mlp"]["mean"]
    return [(
        "A classifier behind a convolutional body", "an MLP" if points < 0 else "a QKAN",
        f"a QKAN head has {link(f'{points:+.2f} points', 'mnist-with-under-1934-parameters')} "
        "of accuracy on MNIST against an MLP head of equal size",
    )]  # fmt: skip


def of_cifar(known: Record) -> list[Row]:
    accuracy = {name: row["test_accuracy"]["mean"] for name, row in known["summary"].items()}
    best = max(accuracy, key=accuracy.__getitem__)
    ours = max(value for name, value in accuracy.items() if name.startswith("HQKAN"))
    return [(
        "Natural images", "a linear layer or an MLP",
        f"the best head, {best}, has {link(f'{accuracy[best]:.1%}', _CIFAR)} on CIFAR-10 "
        f"compressed as JPEG, the best HQKAN head {ours:.1%}",
    )]  # fmt: skip


_CIFAR = "cifar-10-jpeg-heads-of-three-sizes"


def choose_range(known: Record) -> list[Row]:
    with_range, without = (
        known["summary"][name]["median_test_mse"] for name in ("float32", "float32, no input_range")
    )
    return [(
        "Inputs of a known range", "`input_range=(low, high)`",
        f"{link(f'median test MSE {with_range:.1e}', 'a-regression-with-fifteen-seeds')} with it, "
        f"{without:.1e} without",
    )]  # fmt: skip


def choose_encoding(known: Record) -> list[Row]:
    rows = known["summary"]
    kinds = [*rows[0]["median_test_rmse"]]
    best = {
        kind: [row for row in rows if min(row["median_test_rmse"], key=row["median_test_rmse"].get)
               == kind]
        for kind in kinds
    }  # fmt: skip
    where = "fixed-and-trained-scales"
    said = f"the lowest error in {len(best['trainable'])} of {len(rows)} tests"
    return [
        (
            "Regression of a smooth function of a few variables", '`encoding="trainable"`',
            f"{link(said, where)} at equal size; `linear` is best in {len(best['linear'])}, "
            f"`binary` in {len(best['binary'])} and `ternary` in {len(best['ternary'])}",
        ),
        (
            "One variable with a very high frequency", '`encoding="binary"`',
            link(
                "the lowest error for sums of waves with up to "
                f"{max(row['band'] for row in best['binary'])} times the fundamental frequency",
                where,
            ),
        ),
    ][: 2 if best["binary"] else 1]  # fmt: skip


def choose_for_blocks(known: Record) -> list[Row]:
    losses: dict[str, list[float]] = {}
    for run in known["encodings"]:
        losses.setdefault(run["encoding"], []).append(run["validation_loss"])
    mean = {name: statistics.mean(values) for name, values in losses.items()}
    said = ", ".join(f"{name} {value:.2f}" for name, value in mean.items())
    shape = known["summary"]["Linear → QKANLayer"]["shape"]
    trials = known["settings"]["trials"]["Linear → QKANLayer"]
    where = "a-character-language-model"
    return [
        (
            "Blocks of a transformer", '`encoding="linear"`, the default of `HQKAN`',
            f"validation loss after {known['settings']['trial_steps']} steps: {link(said, where)}; "
            "only fixed scales allow `fold`",
        ),
        (
            "`Linear → QKANLayer` in a language model",
            f"`group={shape['group']}`, `base={shape['base']}`",
            f"{link(f'chosen on validation data among {trials} trials', where)}; activations that "
            "all outputs share have few parameters",
        ),
    ]  # fmt: skip


def choose_for_tables(known: Record) -> list[Row]:
    ratio = {name: row["ratio"] for name, row in known["candidates"].items()}
    chosen = ratio["chosen"]
    said = f"{chosen:.2f} times the loss of the better of linear and boosting"

    def against(*names: str) -> str:
        others = ", ".join(f"{name} {ratio[name]:.2f}" for name in names)
        return f"{link(said, _TABLES)}; with {others}"

    return [
        (
            "Tables: width", "`hidden=None`, a node for every class and at least five",
            against("hidden (8)", "hidden (3)", "hidden ()"),
        ),
        ("Tables: repetitions", "`reps=1`", against("reps 2")),
        ("Tables: base", '`base="identity"`', against("base silu")),
        (
            "Tables: penalty", f"`alpha={known['settings']['chosen']['alpha']:g}`",
            against("alpha 0", "alpha 1", "alpha 10", "alpha 30"),
        ),
    ]  # fmt: skip


def choose_reps(known: Record) -> list[Row]:
    grown, whole = (
        known["summary"][f"2000 points, {how}"]["median_test_mse"]
        for how in ("growing", "from the start")
    )
    said = f"median test MSE {grown:.1e} when growing from 1 to 20 repetitions"
    return [(
        "A function without noise that has to be met closely", "`fit_extending`",
        f"{link(said, 'growing-repetition-by-repetition')}, {whole:.1e} with 20 from the start",
    )]  # fmt: skip


def choose_ansatz(known: Record) -> list[Row]:
    trials: dict[str, list[float]] = {}
    for trial in known["trials"]["QKAN"]:
        name = trial["head"].get("ansatz", "pz")
        trials.setdefault(name, []).append(trial["validation_accuracy"])
    said = ", ".join(f"`{name}` {max(values):.2%}" for name, values in trials.items())
    return [(
        "Ansatz", "`pz`, the default; with fixed scales `rpz` is as good",
        f"highest validation accuracy on MNIST: {link(said, 'mnist-with-under-1934-parameters')}; "
        "`px` and `real` have [fewer parameters that count](claims.md#how-many-parameters-count)",
    )]  # fmt: skip


def written(page: Path, name: str, text: str) -> str:
    """The page with `text` between the markers of that name."""
    start, end = f"<!-- {name}:start -->", f"<!-- {name}:end -->"
    before, _, rest = page.read_text().partition(start)
    _, found, after = rest.partition(end)
    if not found:
        raise SystemExit(f"{page}: needs one {start} and after it one {end}, each on a line")
    return f"{before}{start}\n{text}\n{end}{after}"
