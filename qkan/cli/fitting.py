"""The work of `qkan fit`: train a model of a table, and compare it with two simple models."""

from __future__ import annotations

import math
import re
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qkan.circuits import require
from qkan.errors import QKANError
from qkan.io.files import save
from qkan.nn.layer import effective_parameters
from qkan.tabular.columns import (
    Array,
    Column,
    grouped,
    infer,
    is_missing,
    number,
    rewritten,
    with_unit,
)
from qkan.tabular.reading import Table

from .inputs import noting
from .terminal import FEW_CLASSES, TASKS

Parts = tuple[tuple[Array, Array], tuple[Array, Array]]
"""The rows to train on and the held-out rows, each as (X, y)."""

_WHOLE = re.compile(r"0|-?[1-9][0-9]*")


@dataclass(frozen=True)
class Reading:
    """The options of reading a table.

    Attributes:
        task: One of `TASKS`.
        drop: Columns to leave out.
        category: Columns to read as categories.
        refuse: Whether empty cells of inputs are an error.
    """

    task: str = "auto"
    drop: tuple[str, ...] = ()
    category: tuple[str, ...] = ()
    refuse: bool = False


@dataclass(frozen=True)
class Problem:
    """The problem that a model of a table is trained for.

    Attributes:
        table: The columns of inputs.
        target: The name of the target.
        classify: Whether the target has classes.
        X: (n, features), NaN for missing cells.
        y: (n,) numbers or classes.
        unused: The columns that were left out.
        notes: The kinds that were inferred for the columns.
    """

    table: tuple[Column, ...]
    target: str
    classify: bool
    X: Array
    y: Array
    unused: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def task(self) -> str:
        """The name of the problem in `TASKS`."""
        return TASKS[1 + self.classify]


def study(problem: Problem, parts: Parts, options: dict[str, Any], out: Path) -> dict[str, Any]:
    """Train, write and compare the model; return the report as JSON values."""
    begin, notes = time.perf_counter(), list[str]()
    with noting(notes):
        estimator = trained(problem, parts[0], options)
    seconds = time.perf_counter() - begin
    module = estimator.to_module(
        columns=[name for column in problem.table for name in column.features],
        targets=[problem.target], unused=problem.unused, table=problem.table,
    )  # fmt: skip
    save(module, out)
    scores = compare(estimator, problem, parts)
    return {
        "model": str(out), "task": problem.task, "target": problem.target,
        "columns": [column.name for column in problem.table], "inputs": [*module.columns],
        "unused": [*problem.unused],
        "classes": None if module.classes is None else [*module.classes],
        "rows": {"train": len(parts[0][0]), "test": len(parts[1][0])},
        "widths": estimator.model_.widths, "parameters": effective_parameters(estimator.model_),
        "steps": len(estimator.history_), "seconds": seconds,
        "interrupted": estimator.history_.interrupted,
        "scores": scores, "taken_for": [*problem.notes],
        "notes": [*(f"Warning: {note}" for note in notes), *advice(scores)],
    }  # fmt: skip


def read_problem(data: Table, target: str, reading: Reading) -> Problem:
    """Find the inputs and the target of a table, and check them.

    Raises:
        QKANError: There is no such column, or no input is left; a cell does not fit its column;
            there is only one class, or a class with one row; two inputs have the same name.
    """
    if target in reading.drop:
        raise QKANError(f"--drop {target} would drop the target; leave it out.")
    for name in reading.category:
        data.column(name)
    cells = data.column(target)
    names = data.others({target}, reading.drop)
    if not names:
        raise QKANError(f"{data.path} has no other column from which to predict {target!r}.")
    classify = reading.task == TASKS[2] or (reading.task == "auto" and _has_classes(data, cells))
    y = _classes(data, target, cells) if classify else _numbers(data, target, cells)
    columns, parts, notes = [], [], [*data.notes]
    for name in names:
        column, values = _column(data, name, reading)
        columns.append(column)
        parts.append(values)
        gaps = int(np.isnan(values).sum())
        notes += [column.describe()] if column.kind != "number" else []
        unit = with_unit(data.column(name)) if column.kind == "category" else ""
        notes += [f"{name}: {unit.rstrip(' .')}"] if unit else []
        notes += (
            [f"{name}: {gaps} of {len(values)} cells are missing; they are filled and marked"]
            if gaps
            else []
        )
    X, unused = np.hstack(parts), tuple(dict.fromkeys(reading.drop))
    _check_names(data.path, columns, X, (target, *unused))
    return Problem(tuple(columns), target, classify, X, y, unused, tuple(notes))


def _check_names(path: Path, columns: list[Column], X: Array, others: tuple[str, ...]) -> None:
    """Raise, before the training, if a category or a mark of gaps has the name of a column."""
    names = [name for column in columns for name in column.features]
    marks = [f"{names[at]} missing" for at in np.flatnonzero(np.isnan(X).any(0))]
    twice = [name for name, count in Counter([*names, *marks, *others]).items() if count > 1]
    if twice:
        raise QKANError(
            f"{path}: {twice} would be the name of two inputs, or of an input and another column, "
            "since categories and missing cells become inputs that are named after their column. "
            "Rename the column."
        )


def _column(data: Table, name: str, reading: Reading) -> tuple[Column, Array]:
    """Return a column of inputs and its numbers."""
    cells = data.column(name)
    gaps = [row for row, cell in enumerate(cells) if is_missing(cell)]
    if gaps and reading.refuse:
        raise QKANError(
            f"{data.path}, line {data.lines[gaps[0]]}: column {name!r} has {cells[gaps[0]]!r}, "
            f"which is not a value (in {len(gaps)} of {len(cells)} rows). "
            f"{data.seen(gaps[0])} --missing impute takes the mean instead."
        )
    try:
        column = infer(name, cells, data.decimal, category=name in reading.category)
    except QKANError as error:
        raise QKANError(f"{data.path}: {error}") from None
    encoded = column.encode(cells, data.decimal)
    if encoded.bad:
        raise data.complaint(
            {data.place(name): encoded.bad},
            advice=f"{grouped(cells)}Correct the cells, read the column as categories with "
            "--category, or leave it out with --drop.",
        )
    return column, encoded.values


def _has_classes(data: Table, cells: list[str]) -> bool:
    """Whether a target looks like classes: texts, or whole numbers with few values."""
    found = [number(cell, data.decimal) for cell in cells if cell]
    numbers = [value for value in found if value is not None]
    if any(re.fullmatch(r"-?0[0-9]+", cell) for cell in cells):
        return True
    if len({*numbers}) <= FEW_CLASSES and all(map(float.is_integer, numbers)):
        return True
    # a few texts among numbers are mistakes, as in a column of inputs
    return 2 * len(numbers) <= len(found)


def _numbers(data: Table, target: str, cells: list[str]) -> Array:
    """Return the numbers of a target."""
    found = [number(cell, data.decimal) for cell in cells]
    bad = [row for row, value in enumerate(found) if value is None]
    if bad:
        classes = f" For classes use --task {TASKS[2]}." * any(cells[row] for row in bad)
        advice = "Correct the cells of the target, or delete their lines."
        raise data.complaint(
            {data.place(target): bad}, advice=f"{rewritten(cells)}{advice}{classes}"
        )
    return np.array(found)


def _classes(data: Table, target: str, cells: list[str]) -> Array:
    """Return the classes as they are written, or as whole numbers if all are written as such."""
    empty = [row for row, cell in enumerate(cells) if not cell]
    if empty:
        advice = "Fill the cells of the target, or delete their lines."
        raise data.complaint({data.place(target): empty}, advice=advice)
    whole = all(_WHOLE.fullmatch(cell) and abs(int(cell)) < 2**63 for cell in cells)
    y = np.array([int(cell) for cell in cells] if whole else cells)
    names, counts = np.unique(y, return_counts=True)
    if len(names) < 2 or counts.min() < 2:
        rare = [*map(str, names[counts < 2])][:5]
        found = f"classes of one row only: {rare}" if rare else f"the one class {names[0]!s}"
        row = cells.index(rare[0]) if rare else 0
        raise QKANError(
            f"{data.path}, line {data.lines[row]}: {target!r} has {found}; wanted two classes or "
            f"more, each with two rows or more. {data.seen(row)} "
            f"{rewritten(rare) or 'For numbers use --task regression.'}".rstrip()
        )
    return y


def split(problem: Problem, share: float, seed: int) -> Parts:
    """Draw the rows to train on and the held-out rows by the seed, with equal shares of classes.

    Raises:
        QKANError: The share leaves too few rows on a side: at least two, and one for each class,
            are needed.
    """
    X, y = problem.X, problem.y
    if share == 0:
        return (X, y), (X[:0], y[:0])
    few = len({*y.tolist()}) if problem.classify else 2
    held = math.ceil(len(y) * share) if 0 < share < 1 else 0
    if not few <= held <= len(y) - few:
        raise QKANError(
            f"--test-size {share:g} of {len(y)} rows; wanted a share that leaves {few} rows or "
            "more to train on and to test on, or 0 for no test."
        )
    selection = require("sklearn.model_selection", "sklearn")
    train_X, test_X, train_y, test_y = selection.train_test_split(
        X, y, test_size=held, random_state=seed, stratify=y if problem.classify else None
    )
    return (train_X, train_y), (test_X, test_y)


def trained(problem: Problem, rows: tuple[Array, Array], options: dict[str, Any]) -> Any:
    """Fit an estimator."""
    require("sklearn", "sklearn")
    from qkan.tabular.estimators import QKANClassifier, QKANRegressor

    # without a size, the estimator has its own default
    given = {k: v for k, v in options.items() if (k, v) != ("hidden", None)}
    estimator = QKANClassifier(**given) if problem.classify else QKANRegressor(**given)
    return estimator.fit(*rows)


def compare(model: Any, problem: Problem, parts: Parts) -> dict[str, Any]:
    """Score the model and two simple models on each part that has rows."""
    linear = require("sklearn.linear_model", "sklearn")
    pipeline = require("sklearn.pipeline", "sklearn").make_pipeline
    standard = require("sklearn.preprocessing", "sklearn").StandardScaler
    filled = require("sklearn.impute", "sklearn").SimpleImputer
    dummy = require("sklearn.dummy", "sklearn")
    if problem.classify:
        others = {
            "most frequent class": dummy.DummyClassifier(),
            "logistic": linear.LogisticRegression(max_iter=10_000),
        }
    else:
        others = {"mean": dummy.DummyRegressor(), "linear": linear.LinearRegression()}
    found = {"QKAN": model}
    for name, other in others.items():
        found[name] = pipeline(filled(), standard(), other).fit(*parts[0])
    return {
        name: {
            part: _scores(fitted, *rows, problem.classify) if len(rows[0]) else None
            for part, rows in zip(("train", "test"), parts, strict=True)
        }
        for name, fitted in found.items()
    }


def advice(scores: dict[str, Any]) -> list[str]:
    """Say what to try if a simpler model is better on the held-out rows."""
    held = {name: parts["test"] for name, parts in scores.items()}
    if held["QKAN"] is None:
        return []
    score = "log_loss" if "log_loss" in held["QKAN"] else "rmse"
    better = [name for name, found in held.items() if found[score] < held["QKAN"][score]]
    if not better:
        return []
    best = min(better, key=lambda name: float(held[name][score]))
    theirs, own = (f"{held[name][score]:.3g}" for name in (best, "QKAN"))
    return [
        f"On the rows held out {best} is {'as good' if theirs == own else 'better'}, "
        f"{score.replace('_', ' ')} {theirs} against {own}. Try a larger --alpha, "
        "--hidden 0, --early-stopping, or more rows."
    ]


def _scores(model: Any, X: Array, y: Array, classify: bool) -> dict[str, float]:
    metrics = require("sklearn.metrics", "sklearn")
    if classify:
        chances = model.predict_proba(X)
        return {
            "accuracy": float(model.score(X, y)),
            "log_loss": float(metrics.log_loss(y, chances, labels=model.classes_)),
        }
    rmse = float(metrics.root_mean_squared_error(y, model.predict(X)))
    return {"r2": float(model.score(X, y)), "rmse": rmse}


def announced(problem: Problem, parts: Parts, task: str) -> str:
    """Describe the problem, and the kinds that were inferred for the columns."""
    kind = problem.task
    if problem.classify:
        classes = [str(one) for one in np.unique(problem.y)]
        shown = ", ".join(classes[:8]) + ", …" * (len(classes) > 8)
        kind += f" into {len(classes)} classes: {shown}"
    why = " (--task says otherwise)" if task == "auto" else ""
    first = (
        f"{problem.target} from {len(problem.table)} columns: {kind}{why}; "
        f"{len(parts[0][0])} rows to train on, {len(parts[1][0])} held out"
    )
    return "\n  ".join([first, *problem.notes])
