"""`qkan plot`: pictures of a saved model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from torch import Tensor, nn

from qkan.circuits import did_you_mean
from qkan.edges import spread_points
from qkan.errors import QKANError
from qkan.io import load
from qkan.plot import plot, plot_bloch, plot_circuit, plot_spectrum
from qkan.table_model import TableModel

from .inputs import check_out, read_inputs
from .terminal import Drop, Json, Model, explaining, show, typer

KINDS = ("network", "spectrum", "bloch", "circuit")


def plot_command(
    model: Model,
    table: Annotated[
        Path | None, typer.Argument(help="Its inputs, which set the ranges: CSV or .npy.")
    ] = None,
    kind: Annotated[
        str, typer.Option(help="network, or of one edge: spectrum, bloch or circuit.")
    ] = "network",
    edge: Annotated[
        str | None, typer.Option(help="Layer, output and input, each from 0 on; 0,0,0 if none.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The picture: .svg, .pdf or .png; beside the model if none."),
    ] = None,
    drop: Drop = None,
    as_json: Json = False,
) -> None:
    """Draw a model, or one of its edges.

    Without a table the ranges are those of the model's input_range, or ±π/2. A model that
    `qkan fit` wrote reads standardised inputs, and its pictures are in these units.
    """
    with explaining():
        check_request(kind, edge, table, drop)
        suffix = ".svg" if kind == "network" else f"-{kind}.svg"
        target = out or model.with_name(model.stem + suffix)
        check_out(target)
        figure = draw(load(model), table, kind, parse_edge(edge or "0,0,0"), drop)
        save_figure(figure, target)
        show({"figure": str(target), "kind": kind} if as_json else f"Written to {target}")


def check_request(kind: str, edge: str | None, table: Path | None, drop: list[str] | None) -> None:
    """Raise where an option would be without effect.

    Raises:
        QKANError: An unknown kind, or an option that it does not take.
    """
    if kind not in KINDS:
        raise QKANError(f"--kind {kind}. {did_you_mean(kind, KINDS)}")
    if kind == "network" and edge is not None:
        raise QKANError(f"--edge {edge}: the network has all; choose another --kind for one edge.")
    if kind in ("spectrum", "circuit") and table is not None:
        raise QKANError(f"--kind {kind} shows no range, so {table} is not needed; leave it out.")
    if drop and table is None:
        raise QKANError("--drop leaves out a table's columns; pass the table.")


def draw(
    model: nn.Module,
    table: Path | None,
    kind: str,
    edge: tuple[int, int, int],
    drop: list[str] | None = None,
) -> Any:
    """The figure of one kind in `KINDS`; the table sets the ranges.

    Raises:
        QKANError: A model, an edge or a table that cannot be right.
    """
    network: Any = model.network if isinstance(model, TableModel) else model
    if kind == "circuit":
        return plot_circuit(network, edge)
    if kind == "spectrum":
        return plot_spectrum(network, edge)
    x = _inputs(model, table, drop)
    if kind == "bloch":
        names = model.columns if isinstance(model, TableModel) and edge[0] == 0 else ()
        return plot_bloch(network, x, edge, name=names[edge[2]] if edge[2] < len(names) else "x")
    if not isinstance(model, TableModel):
        return plot(network, x)
    outputs = model.targets if len(model.targets) == network.widths[-1] else None
    if model.classes is not None and outputs is None:
        outputs = tuple(map(str, model.classes))
    return plot(network, x, names=model.columns, outputs=outputs)


def _inputs(model: nn.Module, table: Path | None, drop: list[str] | None) -> Tensor:
    if table is None:
        return spread_points(model.network if isinstance(model, TableModel) else model)
    x = read_inputs(table, model, drop)
    return model.standardised(x) if isinstance(model, TableModel) else x


def save_figure(figure: Any, target: Path) -> None:
    """Write a figure in the format that the file's ending names.

    Raises:
        QKANError: An ending that names none.
    """
    known = figure.canvas.get_supported_filetypes()
    if target.suffix[1:].lower() not in known:
        raise QKANError(f"--out {target}: wanted an ending of {', '.join(sorted(known))}.")
    figure.savefig(target)


def parse_edge(text: str) -> tuple[int, int, int]:
    """Layer, output and input of "0,2,1".

    Raises:
        QKANError: Something else.
    """
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 3 or not all(map(str.isdecimal, parts)):
        raise QKANError(f"--edge {text}: wanted layer, output and input, such as 0,2,1.")
    n, o, i = map(int, parts)
    return n, o, i
