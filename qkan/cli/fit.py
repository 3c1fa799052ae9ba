"""The options and the output of `qkan fit`; the module `fitting` does the work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from qkan.errors import QKANError

from .terminal import (
    FEW_CLASSES,
    INTERRUPTED,
    TASKS,
    Decimal,
    Delimiter,
    Drop,
    Json,
    Quiet,
    show,
    show_table,
    tell,
    typer,
)

MISSING = ("impute", "refuse")


def fit_command(
    table: Annotated[
        Path, typer.Argument(help="A CSV file whose first line has the names of the columns.")
    ],
    target: Annotated[str, typer.Option(help="The column to predict.")],
    task: Annotated[
        str,
        typer.Option(
            help=f"What to learn: {TASKS[1]} or {TASKS[2]}. With {TASKS[0]}, texts are classes, "
            f"and so are whole numbers that take at most {FEW_CLASSES} values."
        ),
    ] = "auto",
    hidden: Annotated[
        str,
        typer.Option(
            help="The sizes of the hidden layers, such as 5 or 5,3; 0 means none. With auto there "
            "is one layer of 5 nodes, or with a node for every class."
        ),
    ] = "auto",
    reps: Annotated[int, typer.Option(help="How often the data enter each circuit.")] = 1,
    encoding: Annotated[
        str,
        typer.Option(help="How the data enter: trainable, linear, binary or ternary scales."),
    ] = "trainable",
    ansatz: Annotated[str, typer.Option(help="The circuit by name; `qkan info` lists all.")] = "pz",
    alpha: Annotated[
        float,
        typer.Option(help="The penalty on rough activations; raise it if the model overfits."),
    ] = 3.0,
    steps: Annotated[
        int, typer.Option(help="The number of steps of LBFGS, with 20 iterations each.")
    ] = 20,
    early_stopping: Annotated[
        bool | None,
        typer.Option(
            help="Hold out a tenth of the training rows, and stop when the predictions for them "
            "get worse. By default this is done with 200 rows or more.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="The seed of the initial values and of the held-out rows.")
    ] = 0,
    test_size: Annotated[
        float, typer.Option(help="The share of the rows to hold out, or 0.")
    ] = 0.2,
    drop: Drop = None,
    category: Annotated[
        list[str] | None,
        typer.Option(help="A column to read as categories; may be repeated.", show_default=False),
    ] = None,
    missing: Annotated[
        str,
        typer.Option(
            help="What to do with empty cells of inputs: impute takes the mean and marks them; "
            "refuse stops."
        ),
    ] = "impute",
    delimiter: Delimiter = None,
    decimal: Decimal = None,
    out: Annotated[Path, typer.Option(help="The file to write the model to.")] = Path(
        "model.safetensors"
    ),
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a model to predict one column of a table from the others.

    Inputs and target are standardised internally; each category becomes a 0 or 1, and dates become
    days. The scores are shown beside those of a constant prediction (the mean or the most frequent
    class) and of a linear model on the same rows; only the training rows are used for fitting. One
    file keeps everything that `qkan predict`, the commands for devices and qkan.load need. Ctrl-C
    ends the training and keeps the model as it is then.
    """
    from qkan.tabular.reading import Dialect, read_table

    from .fitting import Reading, announced, read_problem, split, study
    from .inputs import check_out

    check_out(out)
    _check_choices(task, missing)
    data = read_table(table, dialect=Dialect(delimiter, decimal))
    reading = Reading(task, tuple(drop or ()), tuple(category or ()), missing == "refuse")
    problem = read_problem(data, target, reading)
    parts = split(problem, test_size, seed)
    options: dict[str, Any] = {
        "hidden": parse_hidden(hidden), "ansatz": ansatz, "reps": reps, "encoding": encoding,
        "alpha": alpha, "steps": steps, "random_state": seed,
        "early_stopping": "auto" if early_stopping is None else early_stopping,
    }  # fmt: skip
    if not as_json:
        tell(announced(problem, parts, task))
    report = study(problem, parts, {**options, "verbose": not quiet}, out)
    _report({"table": str(table), **options, **report}, as_json)


def _check_choices(task: str, missing: str) -> None:
    for option, value, known in (("--task", task, TASKS), ("--missing", missing, MISSING)):
        if value not in known:
            raise QKANError(f"{option} {value}; wanted one of {', '.join(known)}.")


def parse_hidden(text: str) -> tuple[int, ...] | None:
    """Return the sizes of hidden layers: "5,3" gives (5, 3), "0" gives (), and "auto" None.

    Raises:
        QKANError: The text is something else.
    """
    parts = [part.strip() for part in text.split(",")]
    if parts == ["auto"]:
        return None
    if parts == ["0"]:
        return ()
    if not all(part.isdecimal() and int(part) for part in parts):
        raise QKANError(
            f"--hidden {text}; wanted sizes such as 5 or 5,3, or 0 for no hidden layer."
        )
    return tuple(map(int, parts))


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
    for note in report["notes"]:
        tell(note)
    if report["interrupted"]:
        tell(f"Interrupted after {report['steps']} steps; the model was written as it was then.")
        raise typer.Exit(INTERRUPTED)
