"""Five small tables: QKAN, gradient boosting, an MLP and a linear model, nested cross-validation.

Run     python experiments tables      (ten minutes on one core; if interrupted, it goes on)
Writes  out/tables/tables.json and tables.png

diabetes, breast_cancer, wine and digits are part of scikit-learn, friedman1 is drawn. Five outer
folds, shuffled and stratified by class. In each one every kind has eight trials drawn from `SPACES`
by the fold's number; the best mean of three inner folds chooses, by what is reported: R² or
accuracy (of digits, the largest table, only the first inner fold). The chosen settings are fitted
on the whole training part and tested once. All kinds stand behind the same pipeline: inputs, and
the targets of a regression, standardised on what is trained on. The linear model, ridge or logistic
regression, shows what a table needs at all.

Before, five settings of the QKAN, and one of each other kind, were scored by three folds of each
whole table; after that the spaces were set. The standard deviation is that of the five folds, whose
training parts overlap. Seconds are CPU seconds of the last fit, one thread.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import loguniform
from shared.record import ROOT, spread, write
from shared.runs import Runs
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import RandomizedSearchCV
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from qkan import AliasingWarning, QKANClassifier, QKANRegressor
from tables.data import NOISE, Arrays, friedman1, packaged, splitter

FOLDS, INNER_FOLDS, TRIALS = 5, 3, 8
SAMPLES = 600
"""Of friedman1."""


@dataclass(frozen=True)
class Table:
    """Where samples (n, features) and targets (n,) come from, and how they are judged.

    Attributes:
        load: Returns them.
        classes: Whether targets are classes.
        inner: How many of the inner folds are held out in turn.
    """

    load: Callable[[], Arrays]
    classes: bool
    inner: int = INNER_FOLDS

    @property
    def score(self) -> str:
        return "accuracy" if self.classes else "r2"


TABLES = {
    "diabetes": Table(packaged("diabetes"), classes=False),
    "friedman1": Table(friedman1(SAMPLES), classes=False),
    "breast_cancer": Table(packaged("breast_cancer"), classes=True),
    "wine": Table(packaged("wine"), classes=True),
    "digits": Table(packaged("digits"), classes=True, inner=1),
}

SPACES: dict[str, dict[str, Any]] = {
    "QKAN": {
        "hidden": [(), (), (3,), (8,)],
        "reps": [1, 2, 3],
        "encoding": ["linear", "trainable"],
        "base": ["silu", None],
        "optimizer": ["adam"],
        "batch_size": [64],
        "dtype": ["float32"],
        "lr": loguniform(3e-3, 3e-2),
        "steps": [100, 200, 400],
        "early_stopping": [False, True],
    },
    "gradient boosting": {
        "learning_rate": loguniform(0.02, 0.3),
        "max_iter": [50, 100, 150],
        "max_leaf_nodes": [4, 8, 16, 31],
        "min_samples_leaf": [5, 10, 20, 40],
        "l2_regularization": loguniform(1e-3, 10),
    },
    "MLP": {
        "hidden_layer_sizes": [(16,), (64,), (128,), (32, 32)],
        "activation": ["relu", "tanh"],
        "alpha": loguniform(1e-4, 10),
        "learning_rate_init": loguniform(1e-3, 1e-2),
        "max_iter": [100, 200, 400],
        "early_stopping": [False, True],
    },
    "linear": {"strength": loguniform(1e-3, 1e2)},
}
MODELS = {
    "QKAN": (QKANRegressor, QKANClassifier),
    "gradient boosting": (HistGradientBoostingRegressor, HistGradientBoostingClassifier),
    "MLP": (MLPRegressor, MLPClassifier),
    "linear": (Ridge, LogisticRegression),
}
FIXED = {"QKAN": {"alpha": 0.0}}
"""The QKAN's spaces are of sizes and of stopping early; its penalty has a study of its own."""

STRENGTH = {Ridge: "alpha", LogisticRegression: "C"}
"""What the two linear models call `strength`: more of the one regularises, of the other fits."""


def estimator(kind: str, classes: bool, seed: int) -> Any:
    """The pipeline of a kind, as all of them are."""
    model = MODELS[kind][classes](random_state=seed, **FIXED.get(kind, {}))
    pipeline = Pipeline([("scale", StandardScaler()), ("model", model)])
    if classes:
        return pipeline
    return TransformedTargetRegressor(regressor=pipeline, transformer=StandardScaler())


def space(kind: str, classes: bool) -> dict[str, Any]:
    """The settings to draw from, under the names that `estimator(...).set_params` knows."""
    prefix = "model__" if classes else "regressor__model__"
    renamed = {"strength": STRENGTH.get(MODELS[kind][classes])}
    return {prefix + (renamed.get(name) or name): value for name, value in SPACES[kind].items()}


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings of trials that are bad: those lose by themselves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", AliasingWarning)
        yield


def run(table: Table, kind: str, fold: int) -> dict[str, Any]:
    """Choose on the training part of one outer fold, fit on all of it, test once."""
    X, y = table.load()
    train, test = [*splitter(table.classes, FOLDS, 0).split(X, y)][fold]
    model = estimator(kind, table.classes, fold)
    inner = splitter(table.classes, INNER_FOLDS, fold).split(X[train], y[train])
    search = RandomizedSearchCV(
        model, space(kind, table.classes), n_iter=TRIALS, scoring=table.score, refit=False,
        cv=[*inner][: table.inner], random_state=fold, error_score="raise",
    )  # fmt: skip
    with quiet():
        begin = time.process_time()
        search.fit(X[train], y[train])
        between = time.process_time()
        best = clone(model).set_params(**search.best_params_).fit(X[train], y[train])
        end = time.process_time()
    return {
        "score": best.score(X[test], y[test]),
        "inner_score": search.best_score_,
        "inner_scores": search.cv_results_["mean_test_score"].tolist(),
        "chosen": {name.rsplit("__", 1)[1]: value for name, value in search.best_params_.items()},
        "cpu_seconds": end - between,
        "search_cpu_seconds": between - begin,
    }


def study(runs: Runs) -> list[dict[str, Any]]:
    """Every kind on every fold of every table."""
    jobs = [(name, kind, fold) for name in TABLES for kind in SPACES for fold in range(FOLDS)]
    found = []
    for name, kind, fold in tqdm(jobs, desc="tables", unit="run", disable=None):
        settings = {
            "table": name, "kind": kind, "fold": fold,
            "folds": [FOLDS, INNER_FOLDS, TABLES[name].inner], "trials": TRIALS,
        }  # fmt: skip

        def do(name: str = name, kind: str = kind, fold: int = fold) -> dict[str, Any]:
            return run(TABLES[name], kind, fold)

        found.append({"table": name, "kind": kind, "fold": fold} | runs.get(settings, do))
    return found


def summary(found: list[dict[str, Any]]) -> dict[str, Any]:
    """By table and kind: the scores, and QKAN minus the kind fold by fold."""
    table: dict[str, Any] = {}
    for name, of_classes in ((name, table.classes) for name, table in TABLES.items()):
        rows = {kind: [r for r in found if (r["table"], r["kind"]) == (name, kind)]
                for kind in SPACES}  # fmt: skip
        qkan = [row["score"] for row in rows["QKAN"]]
        table[name] = {
            "score": "accuracy" if of_classes else "R²",
            "kinds": {
                kind: {
                    **spread([row["score"] for row in same]),
                    "cpu_seconds": statistics.median(row["cpu_seconds"] for row in same),
                }
                for kind, same in rows.items()
            },
            "qkan_minus_others": {
                kind: spread([a - row["score"] for a, row in zip(qkan, same, strict=True)])
                for kind, same in rows.items()
                if kind != "QKAN"
            },
        }
    return table


def print_summary(table: dict[str, Any]) -> None:
    for name, row in table.items():
        print(f"\n{name}, {row['score']}, {FOLDS} folds: mean ± sd, CPU s of a fit, QKAN minus it")
        for kind, found in row["kinds"].items():
            ahead = row["qkan_minus_others"].get(kind)
            difference = f"{ahead['mean']:+.4f} ± {ahead['sd'] or 0:.4f}" if ahead else ""
            print(
                f"  {kind:<18} {found['mean']:.4f} ± {found['sd'] or 0:.4f} "
                f"{found['cpu_seconds']:>7.2f}   {difference}"
            )


def figure(table: dict[str, Any], path: Path) -> Path:
    """A panel a table: every fold's score and the mean by kind."""
    from shared import figures
    from shared.figures import plt

    colours = (figures.BLUE, figures.GREEN, figures.ORANGE, figures.GREY)
    with plt.rc_context(figures.STYLE):
        drawing, axes = plt.subplots(
            1, len(table), figsize=(2.4 * len(table) + 1, 2.4), layout="constrained",
            sharey=True, squeeze=False,
        )  # fmt: skip
        for ax, (name, row) in zip(axes[0], table.items(), strict=True):
            for n, (found, colour) in enumerate(zip(row["kinds"].values(), colours, strict=True)):
                ax.plot(found["values"], [n] * len(found["values"]), "o", color=colour, alpha=0.6)
                ax.plot(found["mean"], n, "|", color="black", markersize=16)
            ax.set(title=name, xlabel=row["score"])
        axes[0][0].set_yticks(range(len(SPACES)), list(SPACES))
        axes[0][0].set_ylim(len(SPACES) - 0.5, -0.5)
        return figures.save(drawing, path)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "tables")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    # kernels are compiled at their first use, which no time should contain
    for classes, target in ((False, np.arange(8.0)), (True, np.arange(8) % 2)):
        estimator("QKAN", classes, 0).fit(np.random.default_rng(0).random((8, 2)), target)
    found = study(Runs(options.out / "runs.json"))
    table = summary(found)
    print_summary(table)
    path = write(
        options.out / "tables.json",
        experiment="five tables: QKAN, gradient boosting, MLP and linear, nested cross-validation",
        settings={
            "folds": FOLDS, "inner_folds": INNER_FOLDS,
            "inner_folds_held_out": {name: table.inner for name, table in TABLES.items()},
            "trials": dict.fromkeys(SPACES, TRIALS),
            "friedman1": {"samples": SAMPLES, "noise": NOISE, "random_state": 0},
            "outer_seed": 0, "seed": "the fold's number, of the trials, inner folds and models",
            "spaces": {
                kind: {name: describe(values) for name, values in options.items()}
                for kind, options in SPACES.items()
            },
            "selection": "best mean of the inner folds, of R² or accuracy", "threads": 1,
        },
        summary=table,
        samples=found,
    )  # fmt: skip
    print(f"\nWrote {path}\n      {figure(table, options.out / 'tables.png')}")


def describe(values: Any) -> Any:
    """A list as it is, a distribution in words."""
    if isinstance(values, list):
        return values
    low, high = values.support()
    return f"log-uniform, {low:g} to {high:g}"
