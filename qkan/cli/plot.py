"""`qkan plot` and `qkan view`: draw a saved model, or write a page for a browser."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from qkan.errors import QKANError

from .terminal import Decimal, Delimiter, Drop, Json, Model, show, typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from qkan.tabular.reading import Dialect

KINDS = ("network", "spectrum", "bloch", "circuit")


def plot_command(
    model: Model,
    table: Annotated[
        Path | None,
        typer.Argument(help="The model's inputs as CSV or .npy, which give the ranges."),
    ] = None,
    kind: Annotated[
        str,
        typer.Option(help="What to draw: network, or the spectrum, bloch or circuit of an edge."),
    ] = "network",
    edge: Annotated[
        str | None, typer.Option(help="The edge as layer,output,input, counted from 0.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The picture to write (.svg, .pdf or .png); by default beside the model."
        ),
    ] = None,
    drop: Drop = None,
    delimiter: Delimiter = None,
    decimal: Decimal = None,
    as_json: Json = False,
) -> None:
    """Draw a model, or one of its edges.

    Without a table the ranges are those of the model's input_range, or ±π/2. A model from `qkan
    fit` is drawn in the units of its table, by default over the ranges of training.
    """
    from qkan.io.files import load
    from qkan.tabular.reading import Dialect

    from .inputs import check_out

    dialect = Dialect(delimiter, decimal)
    check_request(kind, edge, table, drop)
    suffix = ".svg" if kind == "network" else f"-{kind}.svg"
    target = out or model.with_name(model.stem + suffix)
    check_out(target)
    network, place = load(model), parse_edge(edge or "0,0,0")
    figure = draw(network, kind, place, lambda: points(network, table, drop, dialect))
    save_figure(figure, target)
    show({"figure": str(target), "kind": kind} if as_json else f"Written to {target}")


def view_command(
    model: Model,
    table: Annotated[
        Path | None, typer.Argument(help="The model's inputs as CSV or .npy, which the page shows.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The page to write (.html); by default beside the model.")
    ] = None,
    most: Annotated[int, typer.Option(min=1, help="The most edges of a layer to show.")] = 60,
    drop: Drop = None,
    delimiter: Delimiter = None,
    decimal: Decimal = None,
    as_json: Json = False,
) -> None:
    """Write a page for a browser that shows a model, its edges, and their values for single rows.

    On the page, point at an edge, tap it, or use the arrow keys. The page is one file and needs no
    network. Without a table it is drawn over the ranges of training, or over those of the model.
    """
    from qkan.interpret.view import view
    from qkan.io.files import load
    from qkan.nn.activation import DARUAN
    from qkan.nn.hqkan import HQKAN
    from qkan.tabular.reading import Dialect

    from .inputs import check_out

    if drop and table is None:
        raise QKANError("--drop leaves out columns of a table; pass the table, too.")
    target = out or model.with_name(model.stem + ".html")
    if target.suffix.lower() not in (".html", ".htm"):
        raise QKANError(f"--out {target}; wanted a name with the ending .html.")
    check_out(target)
    network, x = load(model), None
    if isinstance(network, HQKAN) and table is None:
        raise QKANError("An HQKAN is shown over data; pass a table of its inputs.")
    if table is not None or not isinstance(network, DARUAN):
        x = points(network, table, drop, Dialect(delimiter, decimal))
    view(network, x, target, most=most)
    show({"page": str(target)} if as_json else f"Written to {target}; open it in a browser.")


def check_request(kind: str, edge: str | None, table: Path | None, drop: list[str] | None) -> None:
    """Raise if an option would have no effect.

    Raises:
        QKANError: The kind is unknown, or does not take one of the options.
    """
    if kind not in KINDS:
        from qkan.circuits import did_you_mean

        raise QKANError(f"Unknown --kind {kind}. {did_you_mean(kind, KINDS)}")
    if kind == "network" and edge is not None:
        raise QKANError(
            f"--edge {edge}: a network is drawn with all edges; choose another --kind for one edge."
        )
    if kind in ("spectrum", "circuit") and table is not None:
        raise QKANError(
            f"--kind {kind} does not depend on ranges, so {table} is not needed; leave it out."
        )
    if drop and table is None:
        raise QKANError("--drop leaves out columns of a table; pass the table, too.")


def draw(
    model: nn.Module, kind: str, edge: tuple[int, int, int], inputs: Callable[[], Tensor]
) -> Any:
    """Draw a figure of one kind in `KINDS`; the inputs give the ranges that it shows, if any.

    Raises:
        QKANError: The model, the edge or the table is wrong.
    """
    from qkan.interpret import plot

    if kind == "circuit":
        return plot.plot_circuit(model, edge)
    if kind == "spectrum":
        return plot.plot_spectrum(model, edge)
    if kind == "bloch":
        return plot.plot_bloch(model, inputs(), edge)
    return plot.plot(model, inputs())


def points(
    model: nn.Module, table: Path | None, drop: list[str] | None, dialect: Dialect
) -> Tensor:
    """Return a table's inputs, or points over the ranges of training or of the model."""
    from qkan.interpret.edges import exact_network, spread_points
    from qkan.tabular.table_model import TableModel

    from .inputs import noted_inputs

    if table is not None:
        return noted_inputs(table, model, drop, dialect)[0]
    if not isinstance(model, TableModel):
        return spread_points(exact_network(model, "plot"))
    found = spread_points(model.network).to(model.mean)
    if not model.ranges:
        return model.mean + model.scale * found
    low, high = model.mean.new_tensor(model.ranges).T
    lowest, highest = found.aminmax(dim=0)
    spread: Tensor = low + (high - low) * (found - lowest) / (highest - lowest)
    return spread


def save_figure(figure: Any, target: Path) -> None:
    """Write a figure in the format that the file's ending names.

    Raises:
        QKANError: The ending is not that of a known format.
    """
    known = figure.canvas.get_supported_filetypes()
    if target.suffix[1:].lower() not in known:
        raise QKANError(f"--out {target}; wanted one of the endings {', '.join(sorted(known))}.")
    figure.savefig(target)


def parse_edge(text: str) -> tuple[int, int, int]:
    """Return layer, output and input of a text such as "0,2,1".

    Raises:
        QKANError: The text is something else.
    """
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 3 or not all(map(str.isdecimal, parts)):
        raise QKANError(f"--edge {text}; wanted layer, output and input, such as 0,2,1.")
    n, o, i = map(int, parts)
    return n, o, i
