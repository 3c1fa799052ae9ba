"""The defaults of the two estimators: chosen on six tables, judged on these and six others.

Run     python experiments defaults      (half an hour on one core; if interrupted, it goes on)
Writes  out/defaults/defaults.json

The tables were named and split before any of them was looked at, except diabetes and friedman1,
which had been and so are among those for choosing. Seven are scikit-learn's or drawn, five are
files of statsmodels, of which nothing but the files is needed:
pip install --no-deps statsmodels==0.15.0. Of the large ones `MOST` rows are drawn.

Choosing: every setting of `CANDIDATES` differs in one thing from `CHOSEN` and is scored by five
folds. Before, some twenty settings were tried on the same six tables, and that centre moved once,
from a penalty of 10 to 3, which the first round had found best on them; the other six were judged
with both, and what that said was not heeded.
Its loss on a table is 1 - R² or the log loss, divided by that of the better of two others, a linear
model (ridge or logistic regression, penalty 1) and gradient boosting, both of scikit-learn as they
come; the settings are compared by the geometric mean over the six tables.

The width of a classifier was chosen later, when digits had shown that five nodes are few for ten
classes: on anes96 and five other tables of many classes (`MANY`), for digits alone could not choose
it.

Judging: five folds, twice with other seeds, of all twelve tables. The standard error of a mean
over J folds is sd·√(1/J + test/train), which allows for training parts that overlap (Nadeau and
Bengio, 2003). Seconds are CPU seconds of one fit on one thread.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.special import softmax
from shared.compare import geometric_mean
from shared.record import ROOT, write
from shared.runs import Runs
from sklearn.datasets import make_classification
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss, r2_score
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from qkan import QKANClassifier, QKANRegressor
from tables.data import Arrays, friedman1, packaged, splitter

FOLDS, REPEATS, MOST = 5, 2, 5000


@dataclass(frozen=True)
class Table:
    """Where samples (n, features) and targets come from.

    Attributes:
        load: Returns them.
        classes: Whether targets are classes.
        chooses: Whether the defaults were chosen on it.
    """

    load: Callable[[], Arrays]
    classes: bool
    chooses: bool


def statsmodels(name: str, target: str, *without: str, separator: str = ",") -> Arrays:
    """A table of statsmodels, which is not imported: it needs more than its files."""
    found = importlib.util.find_spec("statsmodels")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("The tables need: pip install --no-deps statsmodels==0.15.0")
    folder = Path(found.submodule_search_locations[0]) / "datasets" / name
    table = pd.read_csv(folder / f"{name}.csv", sep=separator)
    table.columns = [column.strip("'") for column in table.columns]
    inputs = table.drop(columns=[target, *without])
    return inputs.to_numpy(float), table[target].to_numpy()


def fair() -> Arrays:
    X, affairs = statsmodels("fair", "affairs")
    return X, (affairs > 0).astype(int)


def star98() -> Arrays:
    X, above = statsmodels("star98", "PR50M")
    # the share of those tested, and not their number
    return X[:, 1:], above / X[:, 0]


TABLES = {
    "diabetes": Table(packaged("diabetes"), False, True),
    "friedman1": Table(friedman1(500), False, True),
    "statecrime": Table(
        lambda: statsmodels("statecrime", "violent", "state", "murder"), False, True
    ),
    "breast_cancer": Table(packaged("breast_cancer"), True, True),
    "iris": Table(packaged("iris"), True, True),
    "anes96": Table(lambda: statsmodels("anes96", "PID", "vote", separator="\t"), True, True),
    "linnerud": Table(packaged("linnerud"), False, False),
    "star98": Table(star98, False, False),
    "randhie": Table(lambda: statsmodels("randhie", "mdvis"), False, False),
    "digits": Table(packaged("digits"), True, False),
    "wine": Table(packaged("wine"), True, False),
    "fair": Table(fair, True, False),
}  # fmt: skip


def tenths() -> Arrays:
    X, y = friedman1(800)()
    return X, np.searchsorted(np.quantile(y, np.arange(1, 10) / 10), y)


def drawn(rows: int, features: int, informative: int, classes: int, apart: float) -> Arrays:
    """Clouds of samples, one a class."""
    found: Arrays = make_classification(
        rows, features, n_informative=informative, n_redundant=2, n_classes=classes,
        n_clusters_per_class=1, class_sep=apart, random_state=0,
    )  # fmt: skip
    return found


MANY = {
    "anes96": TABLES["anes96"],
    "education": Table(lambda: statsmodels("anes96", "educ", separator="\t"), True, True),
    "firm": Table(lambda: statsmodels("grunfeld", "firm"), True, True),
    "tenths of friedman1": Table(tenths, True, True),
    "8 drawn classes": Table(lambda: drawn(1000, 16, 10, 8, 1.5), True, True),
    "20 drawn classes": Table(lambda: drawn(2000, 20, 12, 20, 2.0), True, True),
}
"""Tables of 7 to 20 classes, on which the width of a classifier was chosen."""

CHOSEN: dict[str, Any] = {
    "hidden": None, "reps": 1, "encoding": "trainable", "base": "identity", "alpha": 3.0,
    "optimizer": "lbfgs", "steps": 20, "tol": 1e-4, "early_stopping": "auto",
}  # fmt: skip
BEFORE = {
    **CHOSEN,
    "hidden": [5],
    "reps": 3,
    "base": "silu",
    "alpha": 0.0,
    "tol": 1e-9,
    "early_stopping": False,
}
"""The defaults of version 0.1."""

CHANGES: dict[str, dict[str, Any]] = {
    "chosen": {},
    "hidden ()": {"hidden": []}, "hidden (3)": {"hidden": [3]}, "hidden (8)": {"hidden": [8]},
    "reps 2": {"reps": 2},
    "encoding linear": {"encoding": "linear"},
    "base silu": {"base": "silu"},
    "alpha 0": {"alpha": 0.0}, "alpha 1": {"alpha": 1.0}, "alpha 10": {"alpha": 10.0},
    "alpha 30": {"alpha": 30.0},
    "tol 1e-3": {"tol": 1e-3}, "tol 1e-5": {"tol": 1e-5},
    "adam": {"optimizer": "adam", "steps": 300},
    "never stopped early": {"early_stopping": False},
    "always stopped early": {"early_stopping": True},
}  # fmt: skip
CANDIDATES = {name: {**CHOSEN, **change} for name, change in CHANGES.items()}
OTHERS = ("linear", "boosting", "frequencies")


def load(name: str) -> Arrays:
    """A table, of a large one `MOST` of its rows."""
    X, y = {**TABLES, **MANY}[name].load()
    if len(X) > MOST:
        rows = np.random.default_rng(0).permutation(len(X))[:MOST]
        X, y = X[rows], y[rows]
    return X, y


def model(options: dict[str, Any] | str, classes: bool, targets: int, seed: int) -> Any:
    """A QKAN of these options, or one of `OTHERS` as it comes."""
    if isinstance(options, dict):
        # where no size is given the estimator has its own
        given = {k: v for k, v in options.items() if (k, v) != ("hidden", None)}
        return (QKANClassifier if classes else QKANRegressor)(**given, random_state=seed)
    if options == "frequencies":
        return DummyClassifier(strategy="prior") if classes else DummyRegressor()
    if options == "linear":
        linear = LogisticRegression(max_iter=10_000) if classes else Ridge()
        return make_pipeline(StandardScaler(), linear)
    if classes:
        return HistGradientBoostingClassifier(random_state=seed)
    boosting = HistGradientBoostingRegressor(random_state=seed)
    return boosting if targets == 1 else MultiOutputRegressor(boosting)


def run(name: str, options: dict[str, Any] | str, seed: int) -> dict[str, Any]:
    """Losses, 1 - R² or the log loss, on every fold of a table, and seconds of a fit."""
    X, y = load(name)
    classes = {**TABLES, **MANY}[name].classes
    losses, seconds, hindsight = [], [], []
    for fold, (train, test) in enumerate(splitter(classes, FOLDS, seed).split(X, y)):
        chosen = model(options, classes, 1 if y.ndim == 1 else y.shape[1], FOLDS * seed + fold)
        begin = time.process_time()
        chosen.fit(X[train], y[train])
        seconds.append(time.process_time() - begin)
        if classes:
            hindsight.append(best_tempered(chosen.predict_proba(X[test]), y[test], np.unique(y)))
        losses.append(
            log_loss(y[test], chosen.predict_proba(X[test]), labels=np.unique(y))
            if classes else 1 - r2_score(y[test], chosen.predict(X[test]))
        )  # fmt: skip
    return {"losses": losses, "cpu_seconds": seconds, "rows": len(X), "hindsight": hindsight}


def best_tempered(chances: np.ndarray, y: np.ndarray, labels: np.ndarray) -> float:
    """The lowest log loss on samples that one factor of all logits could give, in hindsight."""
    logits = np.log(np.clip(chances, 1e-15, 1))
    factors = np.exp(np.linspace(-1, 1, 41))
    return min(log_loss(y, softmax(factor * logits, axis=1), labels=labels) for factor in factors)


def error(losses: list[float]) -> float:
    """The standard error of their mean, corrected for training parts that overlap."""
    return statistics.stdev(losses) * math.sqrt(1 / len(losses) + 1 / (FOLDS - 1))


def choose(runs: Runs) -> dict[str, Any]:
    """Every candidate on the tables for choosing, best geometric mean first."""
    names = [name for name, table in TABLES.items() if table.chooses]
    jobs = [(kind, name) for kind in [*OTHERS[:2], *CANDIDATES] for name in names]
    found: dict[str, dict[str, Any]] = {}
    for kind, name in tqdm(jobs, desc="choose", unit="table", disable=None):
        options = CANDIDATES.get(kind, kind)
        settings = {"table": name, "options": options, "seed": 0}

        def do(name: str = name, options: Any = options) -> dict[str, Any]:
            return run(name, options, 0)

        found.setdefault(kind, {})[name] = runs.get(settings, do)
    loss = {
        kind: {name: statistics.mean(part["losses"]) for name, part in parts.items()}
        for kind, parts in found.items()
    }
    table = {
        kind: {
            "options": CANDIDATES[kind],
            "ratio": geometric_mean(
                [loss[kind][n] / min(loss["linear"][n], loss["boosting"][n]) for n in names]
            ),
            "losses": loss[kind],
            "cpu_seconds": statistics.median(
                second for part in found[kind].values() for second in part["cpu_seconds"]
            ),
        }
        for kind in CANDIDATES
    }
    return dict(sorted(table.items(), key=lambda item: item[1]["ratio"]))


def choose_width(runs: Runs) -> dict[str, Any]:
    """Five nodes and a node for every class, on the tables of many classes."""
    kinds: dict[str, Any] = {"5 nodes": {**CHOSEN, "hidden": [5]}, "a node a class": CHOSEN}
    found: dict[str, dict[str, Any]] = {}
    for name in tqdm(MANY, desc="width", unit="table", disable=None):
        for kind, options in kinds.items():

            def do(name: str = name, options: Any = options) -> dict[str, Any]:
                return run(name, options, 0)

            done = runs.get({"table": name, "options": options, "seed": 0}, do)
            found.setdefault(name, {})[kind] = {
                "mean": statistics.mean(done["losses"]), "error": error(done["losses"]),
                "best temperature": statistics.mean(done["hindsight"]),
            }  # fmt: skip
    ratios = [row["a node a class"]["mean"] / row["5 nodes"]["mean"] for row in found.values()]
    return {"losses": found, "ratio": geometric_mean(ratios)}


def judge(runs: Runs) -> dict[str, Any]:
    """The chosen defaults, those before, and the others, on every table."""
    kinds: dict[str, Any] = {"QKAN": CHOSEN, "before": BEFORE, **{kind: kind for kind in OTHERS}}
    jobs = [(name, kind, seed) for name in TABLES for kind in kinds for seed in range(REPEATS)]
    losses: dict[str, dict[str, list[float]]] = {}
    tempered: dict[str, list[float]] = {}
    seconds: dict[str, dict[str, list[float]]] = {}
    rows = {}
    for name, kind, seed in tqdm(jobs, desc="judge", unit="table", disable=None):
        if kind == "before" and seed:
            continue
        settings = {"table": name, "options": kinds[kind], "seed": seed}

        def do(name: str = name, kind: str = kind, seed: int = seed) -> dict[str, Any]:
            return run(name, kinds[kind], seed)

        done = runs.get(settings, do)
        rows[name] = done["rows"]
        losses.setdefault(name, {}).setdefault(kind, []).extend(done["losses"])
        if kind == "QKAN":
            tempered.setdefault(name, []).extend(done["hindsight"])
        seconds.setdefault(name, {}).setdefault(kind, []).extend(done["cpu_seconds"])
    return {
        name: {
            "rows": rows[name], "score": "log loss" if table.classes else "1 - R²",
            "chooses": table.chooses,
            "best_temperature": statistics.mean(tempered[name]) if tempered[name] else None,
            "kinds": {
                kind: {
                    "mean": statistics.mean(values), "error": error(values), "values": values,
                    "cpu_seconds": statistics.median(seconds[name][kind]),
                }
                for kind, values in losses[name].items()
            },
            "verdict": verdict(losses[name]),
        }
        for name, table in TABLES.items()
    }  # fmt: skip


def verdict(losses: dict[str, list[float]]) -> dict[str, Any]:
    """How the chosen defaults stand, in standard errors of the differences fold by fold."""
    mean = {kind: statistics.mean(values) for kind, values in losses.items()}
    better = "linear" if mean["linear"] < mean["boosting"] else "boosting"

    def behind(kind: str) -> float:
        differences = [a - b for a, b in zip(losses["QKAN"], losses[kind], strict=True)]
        return statistics.mean(differences) / error(differences)

    return {
        "better": better, "errors_behind_better": behind(better),
        "errors_behind_linear": behind("linear"),
        "as_good_as_better": mean["QKAN"] <= mean[better] + error(losses["QKAN"]),
        "not_behind_linear": mean["QKAN"] <= mean["linear"] + 2 * error(losses["QKAN"]),
        "not_behind_frequencies": mean["QKAN"] <= mean["frequencies"],
    }  # fmt: skip


def print_summary(candidates: dict[str, Any], table: dict[str, Any]) -> None:
    print("\nloss over that of the better of linear and boosting, geometric mean; CPU s of a fit")
    for name, row in candidates.items():
        print(f"  {name:<22} {row['ratio']:.3f} {row['cpu_seconds']:>6.2f}")
    for chooses, title in ((True, "for choosing"), (False, "for judging only")):
        print(f"\nTables {title}: mean ± corrected standard error")
        for name, row in table.items():
            if row["chooses"] == chooses:
                cells = "  ".join(
                    f"{kind} {part['mean']:.3f} ± {part['error']:.3f}"
                    for kind, part in row["kinds"].items()
                )
                seconds = row["kinds"]["QKAN"]["cpu_seconds"]
                print(f"  {name:<13} {row['score']:<8} {cells}  ({seconds:.2f} s)")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "defaults")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    runs = Runs(options.out / "runs.json")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # kernels are compiled at their first use, which no time should contain
        QKANRegressor(steps=1).fit(np.random.default_rng(0).random((8, 2)), np.arange(8.0))
        width, table, candidates = choose_width(runs), judge(runs), choose(runs)
    print_summary(candidates, table)
    path = write(
        options.out / "defaults.json",
        experiment="defaults of the estimators, chosen on six tables and judged on twelve",
        settings={
            "folds": FOLDS, "repeats": REPEATS, "most_rows": MOST, "chosen": CHOSEN,
            "before": BEFORE, "threads": 1,
            "seeds": "0 for choosing; 0 and 1 for judging, the older defaults with 0 only",
        },
        width=width,
        candidates=candidates,
        summary=table,
    )  # fmt: skip
    print(f"\nWrote {path}")
