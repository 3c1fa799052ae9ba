"""`view`: a page for a browser that shows the edges of a model and the rows of its data."""

from __future__ import annotations

import html
import json
import os
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from qkan._data_units import InDataUnits
from qkan._files import write_whole
from qkan._options import check_size
from qkan.errors import QKANError
from qkan.nn.activation import DARUAN
from qkan.nn.hqkan import HQKAN
from qkan.nn.network import QKAN, LayerRow
from qkan.nn.watch import evaluating, unwrapped

from .activation import activation_formula, curves, exact_activation, layer_of, spans
from .edges import check_inputs, exact_network
from .formula import Formula
from .plot import labels_of, names_of
from .view_data import Subject, circuit_data, edge_data, network_data

_HEIGHT = 760
"""The height of the page in a notebook, in pixels."""
_BLOCK = (
    "This is the QKAN inside the HQKAN. Its inputs are the outputs of the first linear map, and a "
    "second linear map computes the outputs of the block from its outputs."
)


class View:
    """A page that shows a model, for a notebook or, by `save`, for a file.

    Attributes:
        html: The page. It is complete in itself and loads nothing from any host.
        title: The title of the page.
    """

    def __init__(self, title: str, data: dict[str, Any]) -> None:
        self.title = title
        # names come from data, and only "<" could end the script element
        try:
            content = json.dumps({"title": title, **data}, ensure_ascii=False, allow_nan=False)
        except ValueError as error:
            raise QKANError(
                "view: the model's outputs are too large for a floating-point number; check its "
                "parameters and x."
            ) from error
        page, style, script = (
            files("qkan.interpret").joinpath(f"view.{kind}").read_text(encoding="utf-8")
            for kind in ("html", "css", "js")
        )
        page = page.replace("{{style}}", style).replace("{{script}}", script)
        head, tail = page.replace("{{title}}", html.escape(title)).split("{{data}}")
        # a character that cannot be encoded, such as a lone surrogate, becomes a question mark
        content = content.replace("<", "\\u003c").encode(errors="replace").decode()
        self.html = head + content + tail

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the page to a file, which any browser opens.

        Args:
            path: The file; an existing file is replaced.

        Returns:
            The path.

        Raises:
            QKANError: The path is a folder, or its folder does not exist.
        """
        write_whole(Path(path), self.html.encode())
        return Path(path)

    def __repr__(self) -> str:
        return f'View({self.title}; .save("network.html") writes it for a browser)'

    def _repr_html_(self) -> str:
        # a frame keeps the pages apart from each other and from the notebook
        return (
            f'<iframe title="{html.escape(self.title)}" sandbox="allow-scripts" '
            f'style="width:100%;height:{_HEIGHT}px;border:0" '
            f'srcdoc="{html.escape(self.html)}"></iframe>'
        )


def view(
    model: Any,
    x: Any = None,
    path: str | os.PathLike[str] | None = None,
    *,
    names: Sequence[str] | None = None,
    outputs: Sequence[str] | None = None,
    formula: Formula | None = None,
    most: int = 60,
    rows: int = 100,
) -> View:
    """Show a model as a page for a browser, to look at its edges and to step through its data.

    The network is a graph from its inputs on the left to its outputs on the right. Point at an
    edge, tap it or select it by the arrow keys to see its curve, its formula, its spectrum and its
    circuit with values. A slider runs over rows of x: each edge then shows what it adds to its node
    for this row, compared with its average over the data.

    The page is one file that loads nothing from another host. A notebook shows it as the last line
    of a cell. The formulas need the extra "symbolic".

    Args:
        model: A `QKAN`, a `QKANLayer`, or an `HQKAN`, whose QKAN is shown over the latent values of
            x; a `TableModel` or an estimator, with the names and units of its table; or a `DARUAN`,
            whose groups are shown without rows.
        x: (…, i) data, at least two samples. For a `DARUAN` they give the range of each group,
            which is ±4 when None.
        path: A file to which the page is written, as by `View.save`.
        names: The names of the inputs; None takes those of a table's columns, or x₁, x₂, ….
        outputs: The names of the outputs; None takes those of a table's targets or classes, or f.
        formula: The result of `symbolic` for this model, or for the network inside a table model.
            Its forms are shown instead of the exact waves.
        most: The most edges of a layer that are shown. The most important ones are chosen (see
            `importance`), and the page says how many others there are.
        rows: The most rows of x on the slider; they are evenly spaced.

    Returns:
        The page, a `View`.

    Raises:
        QKANError: The model is of another kind, the data have another width, a value is not finite,
            or names or formula do not fit; the message says which.

    Example:
        >>> import torch
        >>> from qkan import QKAN, view
        >>> view(QKAN([2, 3, 1]), torch.rand(50, 2), names=["mass", "speed"])
        View(QKAN [2, 3, 1]; .save("network.html") writes it for a browser)
    """
    check_size("most", most)
    check_size("rows", rows)
    if hasattr(model, "to_module") and hasattr(model, "predict"):
        options = {"outputs": outputs, "formula": formula, "most": most, "rows": rows}
        shown: View = model.view(x, **options, names=names)
    elif isinstance(unwrapped(model), DARUAN):
        shown = _activation_view(model, x, most)
    else:
        subject, title, notes = _subject(model, x, (names, outputs), formula)
        data = network_data(subject, most, rows)
        shown = View(title, data | {"notes": notes})
    if path is not None:
        shown.save(path)
    return shown


def _subject(
    model: Any,
    x: Any,
    names: tuple[Sequence[str] | None, Sequence[str] | None],
    formula: Formula | None,
) -> tuple[Subject, str, list[str]]:
    """Return the network to show, a title, and notes for the reader of the page."""
    inner = unwrapped(model)
    units = inner.data_units() if isinstance(inner, InDataUnits) else None
    network = _network(inner if units is None else units.network)
    if x is None:
        kind = type(inner).__name__
        raise QKANError(f"view: this {kind} is shown over data; pass them as view(model, x).")
    data, shown = _values(inner, network, x)
    labels_of(formula, network.rows, "view")
    inputs, outputs = names
    if units is not None:
        inputs = units.inputs if inputs is None else inputs
        outputs = units.outputs if outputs is None else outputs
    block = isinstance(inner, HQKAN)
    letters = ("latent", "latent out") if block else ("x", "f")
    ends = (
        names_of("names", inputs, network.widths[0], letters[0]),
        names_of("outputs", outputs, network.widths[-1], letters[1]),
    )
    title = f"{type(inner).__name__} {network.widths}"
    if block:
        title = f"HQKAN {inner.in_features} → {inner.out_features}, with a QKAN {network.widths}"
    return Subject(network, data, shown, ends, units, formula), title, [_BLOCK] if block else []


def _values(inner: Any, network: QKAN, x: Any) -> tuple[Tensor, Tensor]:
    """Return the network's inputs for data x (…, i), and its outputs in the user's units."""
    read = _latent(inner, x) if isinstance(inner, HQKAN) else x
    scaled = isinstance(inner, InDataUnits)
    data = check_inputs(network, inner.standardised(x) if scaled else read, "view")
    if len(data) < 2:
        raise QKANError(
            "view: x has one sample, but every edge needs a range; pass at least two samples."
        )
    with torch.no_grad():
        shown: Tensor = inner(x.reshape(-1, x.shape[-1])) if scaled else network(data)
    return data, shown.cpu().double()


def _network(model: Any) -> QKAN:
    """Return the network to show, in double precision.

    Raises:
        QKANError: The model is of another kind, or has other modules between its layers.
    """
    found = model.qkan if isinstance(model, HQKAN) else model
    if not isinstance(found, nn.Module):
        raise QKANError(
            f"view: the model is {type(model).__name__}; pass a QKAN, a QKANLayer, an HQKAN, a "
            "TableModel, an estimator or a DARUAN."
        )
    if isinstance(found, LayerRow) and len(found.rows) < len(found.layers):
        other = next(part for part in found.layers if not isinstance(part, found.layer_type))
        raise QKANError(
            f"view: there is a {type(other).__name__} between the layers of the model, which view "
            "cannot show; view each QKANLayer over its own inputs."
        )
    return exact_network(found, "view")


def _latent(model: HQKAN, x: Any) -> Tensor:
    """Return the inputs of the QKAN inside an HQKAN for data x (…, in_features)."""
    if not isinstance(x, Tensor) or x.shape[-1:] != (model.in_features,):
        found = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise QKANError(f"view: x is {found}; pass a torch tensor (…, {model.in_features}).")
    with torch.no_grad(), evaluating(model):
        latent: Tensor = model.down(x.to(model.down.weight))
    return latent


def _activation_view(model: nn.Module, x: Tensor | None, most: int) -> View:
    """Return a view of the groups of a `DARUAN`, each as an edge from its input to its output."""
    activation = exact_activation(model, "view")
    assert activation is not None
    ranges = spans(activation, x, "view")
    inputs, _, whole = curves(activation, ranges)
    layer, shown = layer_of(activation), min(most, activation.group)
    try:
        formula: Formula | str = activation_formula(activation, x, None, "x")
    except ImportError as error:
        formula = str(error)
    edges = []
    for g in range(shown):
        data = {"o": g, "i": g, "score": 1.0, "share": None} | _group_formula(formula, g)
        data |= {"x": inputs[[0, -1], g].tolist(), "y": whole[:, g].tolist()}
        edges.append(data | edge_data(layer, (0, g), (0.0, 1.0)))
    names = [[f"{end} {g}" for g in range(shown)] for end in ("input", "output")]
    column = {"total": activation.group, "nodes": [*range(shown)]}
    title = f"DARUAN of {activation.group} group{'s' if activation.group > 1 else ''}"
    share = shown / activation.group
    layers = [
        {"edges": edges, "total": activation.group, "share": share,
         "circuit": circuit_data(activation.circuit)}
    ]  # fmt: skip
    notes = ["Each curve belongs to one group: the base activation plus what its circuit adds."]
    columns = [column | {"names": end} for end in names]
    content = {"columns": columns, "layers": layers, "rows": [], "samples": 0, "notes": notes}
    return View(title, content)


def _group_formula(formula: Formula | str, g: int) -> dict[str, Any]:
    """The formula of one group as text, or a message that says why there is none."""
    if isinstance(formula, str):
        return {"formula": None, "note": formula}
    from .edge_text import expression_text

    return {"formula": expression_text(formula.edges[g].expr)[0], "form": None, "error": 0.0}
