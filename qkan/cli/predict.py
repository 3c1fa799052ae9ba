"""`qkan predict`: predictions for the rows of a table."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from qkan.errors import QKANError

from .terminal import Decimal, Delimiter, Drop, Json, Model, show, tell, typer

if TYPE_CHECKING:
    from torch import Tensor, nn


def predict_command(
    model: Model,
    table: Annotated[
        Path, typer.Argument(help="A CSV file with the columns of training, or .npy.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="A CSV file to write to; by default it is printed.")
    ] = None,
    proba: Annotated[
        bool, typer.Option("--proba", help="Add the probability of each class.")
    ] = False,
    drop: Drop = None,
    delimiter: Delimiter = None,
    decimal: Decimal = None,
    as_json: Json = False,
) -> None:
    """Predict the rows of a table, in the order of the rows.

    Columns are found by their names; the target and the columns that `qkan fit` dropped may be
    among them. A model without a table takes all columns in their order. A note says which rows are
    far outside the ranges of training, and which other values are new to the model.
    """
    from qkan._files import write_whole
    from qkan.io.files import load
    from qkan.tabular.reading import Dialect

    from .inputs import check_out, noted_inputs

    check_out(out)
    network = load(model)
    x, outside, notes = noted_inputs(table, network, drop, Dialect(delimiter, decimal))
    found = predictions(network, x, proba=proba)
    text = _csv(found)
    if out is not None:
        write_whole(out, text.encode())
        tell(f"Written to {out}")
    if as_json:
        told = {"outside": outside, "notes": notes}
        show({"model": str(model), "table": str(table), "predictions": found, **told})
    elif out is None:
        show(text.rstrip("\n"))


def predictions(model: nn.Module, x: Tensor, *, proba: bool = False) -> dict[str, list[Any]]:
    """Return columns of predictions by name, or as y0, y1, … if the model has no names.

    Args:
        model: A `TableModel`, or any other model.
        x: (n, in) inputs.
        proba: Whether to add each class's probability.

    Raises:
        QKANError: Probabilities are asked for, but the model has no classes; the inputs are not
            rows.
    """
    from qkan.tabular.table_model import TableModel, row_outputs

    if not isinstance(model, TableModel):
        if proba:
            raise QKANError(
                "--proba: this model has no classes; leave it out, or train a classifier by `qkan "
                "fit`."
            )
        return {f"y{o}": part for o, part in enumerate(row_outputs(model, x).T.tolist())}
    found = model.predict(x)
    by_target = found.reshape(len(found), -1).T.tolist()
    columns = dict(zip(model.targets, by_target, strict=True))
    if proba:
        chances = model.predict_proba(x).T.tolist()
        columns |= {
            f"p({name})": part for name, part in zip(model.classes or (), chances, strict=True)
        }
    return columns


def _csv(columns: dict[str, list[Any]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return buffer.getvalue()
