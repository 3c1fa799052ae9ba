"""`qkan fit`: a model of a table, scored on rows held out beside two simple ones."""

from __future__ import annotations

import math
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from qkan.circuits import require
from qkan.errors import QKANError
from qkan.fit import AliasingWarning
from qkan.io import save
from qkan.layer import effective_parameters

from .inputs import Array, Table, check_out, is_number, read_table
from .terminal import INTERRUPTED, Drop, Json, Quiet, explaining, show, show_table, tell, typer

FEW_CLASSES = 10
"""Whole numbers with at most so many values are taken for classes."""

TASKS = ("auto", "regression", "classification")

Parts = tuple[tuple[Array, Array], tuple[Array, Array]]
"""Rows to train on and rows held out, each (X, y)."""

Source = Annotated[Path, typer.Argument(help="CSV with a line of names.")]
Target = Annotated[str, typer.Option(help="The column to predict.")]
Task = Annotated[
    str,
    typer.Option(
        help=f"{TASKS[1]} or {TASKS[2]}; {TASKS[0]} takes texts, and whole numbers of at most "
        f"{FEW_CLASSES} values, for classes."
    ),
]
Hidden = Annotated[str, typer.Option(help="Nodes of the hidden layers: 5, or 5,3; 0: none.")]
Reps = Annotated[int, typer.Option(help="Repetitions of the circuits.")]
Encoding = Annotated[str, typer.Option(help="trainable, linear, binary or ternary.")]
Ansatz = Annotated[str, typer.Option(help="The circuits; `qkan info` lists them.")]
Steps = Annotated[int, typer.Option(help="Steps of LBFGS, of 20 iterations each.")]
EarlyStopping = Annotated[
    bool, typer.Option("--early-stopping", help="Stop by a tenth of the training rows.")
]
Seed = Annotated[int, typer.Option(help="Of the start and of the rows held out.")]
TestSize = Annotated[float, typer.Option(help="Share of the rows to hold out, or 0.")]
Out = Annotated[Path, typer.Option(help="The model's file.")]


@dataclass(frozen=True)
class Problem:
    """What is to be learned from a table.

    Attributes:
        columns: Names of the inputs.
        target: Name of the target.
        classify: Whether it has classes.
        X: (n, columns).
        y: (n,) numbers or classes.
        unused: Columns left out.
    """

    columns: tuple[str, ...]
    target: str
    classify: bool
    X: Array
    y: Array
    unused: tuple[str, ...]

    @property
    def task(self) -> str:
        """Its name in `TASKS`."""
        return TASKS[1 + self.classify]


def fit_command(
    table: Source,
    target: Target,
    task: Task = "auto",
    hidden: Hidden = "5",
    reps: Reps = 3,
    encoding: Encoding = "trainable",
    ansatz: Ansatz = "pz",
    steps: Steps = 20,
    early_stopping: EarlyStopping = False,
    seed: Seed = 0,
    test_size: TestSize = 0.2,
    drop: Drop = None,
    out: Out = Path("model.safetensors"),
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a model to predict one column of a table from the others.

    Inputs and target are standardised inside. The scores stand beside those of the mean (or the
    most frequent class) and of a linear model on the same rows; the model has seen the training
    rows only. One file keeps everything: `qkan predict` and the commands of devices read it, and
    so does qkan.load. Ctrl-C ends the training and keeps what there is.
    """
    with explaining():
        check_out(out)
        problem = read_problem(read_table(table), target, task, drop)
        parts = split(problem, test_size, seed)
        options: dict[str, Any] = {
            "hidden": parse_hidden(hidden), "ansatz": ansatz, "reps": reps, "encoding": encoding,
            "steps": steps, "early_stopping": early_stopping, "random_state": seed,
        }  # fmt: skip
        if not as_json:
            tell(_announced(problem, parts, task))
        report = study(problem, parts, {**options, "verbose": not quiet}, out)
        _report({"table": str(table), **options, **report}, as_json)


def study(problem: Problem, parts: Parts, options: dict[str, Any], out: Path) -> dict[str, Any]:
    """Train, write the model, compare; what came of it as JSON values."""
    begin = time.perf_counter()
    estimator = trained(problem, parts[0], options)
    seconds = time.perf_counter() - begin
    module = estimator.to_module(
        columns=problem.columns, targets=[problem.target], unused=problem.unused
    )
    save(module, out)
    return {
        "model": str(out), "task": problem.task, "target": problem.target,
        "columns": [*problem.columns], "unused": [*problem.unused],
        "classes": None if module.classes is None else [*module.classes],
        "rows": {"train": len(parts[0][0]), "test": len(parts[1][0])},
        "widths": estimator.model_.widths, "parameters": effective_parameters(estimator.model_),
        "steps": len(estimator.history_), "seconds": seconds,
        "interrupted": estimator.history_.interrupted,
        "scores": compare(estimator, problem, parts),
    }  # fmt: skip


def read_problem(data: Table, target: str, task: str, drop: list[str] | None) -> Problem:
    """The inputs and the target of a table, checked.

    Raises:
        QKANError: No such column, no input left, cells that are no numbers, an unknown task, one
            class, or a class of one row.
    """
    if task not in TASKS:
        raise QKANError(f"--task {task}: wanted one of {', '.join(TASKS)}.")
    if target in (drop or ()):
        raise QKANError(f"--drop {target}: that is the target.")
    cells = data.column(target)
    columns = tuple(data.others({target}, drop))
    if not columns:
        raise QKANError(f"{data.path} has no column beside {target!r} to predict it from.")
    classify = task == "classification" or (task == "auto" and _has_classes(cells))
    y = _classes(data, target, cells) if classify else data.numbers([target])[:, 0]
    X = data.numbers(columns)
    return Problem(columns, target, classify, X, y, tuple(dict.fromkeys(drop or ())))


def _has_classes(cells: list[str]) -> bool:
    """Whether a target looks like classes: texts, or a few whole numbers."""
    if not all(map(is_number, filter(None, cells))):
        return True
    values = {float(cell) for cell in cells if cell}
    return len(values) <= FEW_CLASSES and all(map(float.is_integer, values))


def _classes(data: Table, target: str, cells: list[str]) -> Array:
    """Classes as whole numbers where all are, else as their texts."""
    if "" in cells:
        line = data.lines[cells.index("")]
        raise QKANError(f"{data.path}, line {line}: {target!r} is empty; fill it or take it out.")
    whole = all(is_number(cell) and float(cell).is_integer() for cell in cells)
    y = np.array([int(float(cell)) for cell in cells] if whole else cells)
    names, counts = np.unique(y, return_counts=True)
    if len(names) < 2 or counts.min() < 2:
        rare = [*map(str, names[counts < 2])][:5]
        found = f"classes of one row only: {rare}" if rare else f"the one class {names[0]!s}"
        raise QKANError(
            f"{data.path}: {target!r} has {found}; wanted two classes or more, of two rows or more "
            "each. For numbers use --task regression."
        )
    return y


def split(problem: Problem, share: float, seed: int) -> Parts:
    """Rows to train on and rows held out, drawn by the seed, classes in equal shares.

    Raises:
        QKANError: A share that leaves fewer than two rows on a side, or a class on none.
    """
    X, y = problem.X, problem.y
    if share == 0:
        return (X, y), (X[:0], y[:0])
    few = len({*y.tolist()}) if problem.classify else 2
    held = math.ceil(len(y) * share) if 0 < share < 1 else 0
    if not few <= held <= len(y) - few:
        raise QKANError(
            f"--test-size {share:g} of {len(y)} rows: wanted a share that leaves {few} rows or "
            "more to train on and to test on; 0 tests on none."
        )
    selection = require("sklearn.model_selection", "sklearn")
    train_X, test_X, train_y, test_y = selection.train_test_split(
        X, y, test_size=held, random_state=seed, stratify=y if problem.classify else None
    )
    return (train_X, train_y), (test_X, test_y)


def trained(problem: Problem, rows: tuple[Array, Array], options: dict[str, Any]) -> Any:
    """A fitted estimator; what it warns of is told in a line."""
    require("sklearn", "sklearn")
    from qkan.estimators import QKANClassifier, QKANRegressor

    estimator = QKANClassifier(**options) if problem.classify else QKANRegressor(**options)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", AliasingWarning)
        estimator.fit(*rows)
    for warning in caught:
        tell(f"Warning: {warning.message}")
    return estimator


def compare(model: Any, problem: Problem, parts: Parts) -> dict[str, Any]:
    """Scores of the model and of two simple ones, on the rows of each part that has any."""
    linear = require("sklearn.linear_model", "sklearn")
    scaled = require("sklearn.pipeline", "sklearn").make_pipeline
    standard = require("sklearn.preprocessing", "sklearn").StandardScaler()
    dummy = require("sklearn.dummy", "sklearn")
    if problem.classify:
        logistic = linear.LogisticRegression(max_iter=10_000)
        others = {
            "most frequent class": dummy.DummyClassifier(), "logistic": scaled(standard, logistic)
        }  # fmt: skip
    else:
        others = {"mean": dummy.DummyRegressor(), "linear": linear.LinearRegression()}
    found = {"QKAN": model, **{name: other.fit(*parts[0]) for name, other in others.items()}}
    return {
        name: {
            part: _scores(fitted, *rows, problem.classify) if len(rows[0]) else None
            for part, rows in zip(("train", "test"), parts, strict=True)
        }
        for name, fitted in found.items()
    }


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


def parse_hidden(text: str) -> tuple[int, ...]:
    """Sizes of hidden layers: "5,3" is (5, 3), "0" is ().

    Raises:
        QKANError: Something else.
    """
    parts = [part.strip() for part in text.split(",")]
    if parts == ["0"]:
        return ()
    if not all(part.isdecimal() and int(part) for part in parts):
        raise QKANError(
            f"--hidden {text}: wanted sizes such as 5 or 5,3, or 0 for no hidden layer."
        )
    return tuple(map(int, parts))


def _announced(problem: Problem, parts: Parts, task: str) -> str:
    kind = problem.task
    if problem.classify:
        kind += f" into {len({*problem.y.tolist()})} classes"
    why = " (--task says otherwise)" if task == "auto" else ""
    return (
        f"{problem.target} from {len(problem.columns)} columns: {kind}{why}; "
        f"{len(parts[0][0])} rows to train on, {len(parts[1][0])} held out"
    )


def _report(report: dict[str, Any], as_json: bool) -> None:
    if as_json:
        show(report)
    else:
        first = next(iter(report["scores"].values()))
        parts = [part for part in ("train", "test") if first[part]]
        names = [*first["train"]]
        titles = [f"{part} {name}".replace("_", " ") for part in parts for name in names]
        lines = [
            (name, *(scores[part][score] for part in parts for score in names))
            for name, scores in report["scores"].items()
        ]
        title = f"{report['widths']}, {report['parameters']} parameters, {report['seconds']:.1f} s"
        show_table(title, ("model", *titles), lines)
        show(f"Written to {report['model']}")
    if report["interrupted"]:
        tell(f"Interrupted after {report['steps']} steps; the model is what there was by then.")
        raise typer.Exit(INTERRUPTED)
