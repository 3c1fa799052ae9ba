"""Draw a network with its activations, and single edges in three ways.

Every function returns a new matplotlib `Figure`, which is made without pyplot: save it with
`figure.savefig("network.pdf")`, or make it the last line of a notebook cell.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from qkan._data_units import DataUnits, InDataUnits
from qkan._options import check_size
from qkan.circuits import fourier_series, require
from qkan.errors import QKANError
from qkan.nn.layer import QKANLayer
from qkan.nn.network import QKAN
from qkan.simulators import expectation

from .activation import curves, exact_activation, layer_of, spans
from .draw_activation import draw_activation
from .draw_edge import draw_bloch, draw_circuit, draw_spectrum
from .draw_network import STYLE, Curve, Level, draw_network, grid_of
from .edges import (
    as_seen,
    check_inputs,
    edge_outputs,
    edge_parameters,
    exact_network,
    node_values,
)
from .formula import Formula
from .importance import importance

_LONG_TITLE = 120
"""The most characters of LaTeX in a title."""
_RAISED, _LOWERED = "⁰¹²³⁴⁵⁶⁷⁸⁹", "₀₁₂₃₄₅₆₇₈₉"
Edge = tuple[int, int, int]
"""Layer, output and input."""


def plot(
    model: nn.Module,
    x: Tensor | None = None,
    *,
    names: Sequence[str] | None = None,
    outputs: Sequence[str] | None = None,
    formula: Formula | None = None,
    most: int = 16,
) -> Any:
    """Draw a network from its inputs at the bottom to its outputs at the top.

    The box on an edge shows what the edge adds to its node, weight and base activation included,
    over the range of its inputs on the data, in the units of the data. Every box has its own scale.
    A darker edge matters more: the shade is its attribution (see `importance`) relative to the
    largest one in its layer. Pruned edges are left out. An untrained model can be drawn, too.

    For a `DARUAN`, the curve of each group is drawn: its base, what its circuit adds, and their
    sum.

    Args:
        model: A `QKAN` or a `QKANLayer`; a `TableModel`, which is drawn in the units of its table;
            or a `DARUAN`.
        x: (…, i) data, at least two samples. For a `DARUAN` they give the range of each group,
            which is ±4 when None.
        names: The names of the inputs; None takes those of a table's columns, or x₁, x₂, ….
        outputs: The names of the outputs; None takes those of a table's targets or classes, or f.
        formula: The result of `symbolic` for this model. Its forms are written over the boxes, and
            a short formula is written on top.
        most: The most boxes of a layer. Of more edges the most important ones are shown, and a note
            says how many there are. Of a `DARUAN` the first groups are shown.

    Returns:
        A matplotlib `Figure`.

    Raises:
        QKANError: The model is of another kind, the data have another width, a value is not finite,
            or names or formula do not fit; the message says which.
        ImportError: matplotlib is not installed; the extra "plot" installs it.

    Example:
        >>> import torch
        >>> from qkan import QKAN, plot
        >>> figure = plot(QKAN([2, 3, 1]), torch.rand(50, 2), names=["mass", "speed"])
        >>> len(figure.axes)  # nine boxes and what is behind them
        10
    """
    check_size("most", most)
    activation = exact_activation(model, "plot")
    if activation is not None:
        return _drawn(
            draw_activation, curves(activation, spans(activation, x, "plot")),
            min(most, activation.group), activation.amplitude.tolist(),
        )  # fmt: skip
    network, units = _opened(model, "plot")
    if x is None:
        raise QKANError(
            f"plot: a {type(model).__name__} is drawn over data; pass them as plot(model, x)."
        )
    layers = network.rows
    if units is not None:
        names = units.inputs if names is None else names
        outputs = units.outputs if outputs is None else outputs
    ends = (
        names_of("names", names, layers[0].in_features, "x"),
        names_of("outputs", outputs, layers[-1].out_features, "f"),
    )
    labels = labels_of(formula, layers, "plot")
    values = _node_values(model, network, x, "plot")
    scores = importance(network, values[0])
    levels = []
    for n, layer in enumerate(layers):
        grid = grid_of(values[n])
        added = edge_outputs(layer, as_seen(network, n, grid))
        if units is not None and n == 0:
            grid = units.mean + units.scale * grid
        if units is not None and n == len(layers) - 1:
            added = added * units.target_scale[:, None]
        score = scores[f"layers.{n}"].edges.tolist()
        edges = [
            Curve(o, i, score[o][i], grid[:, i], added[:, o, i], labels.get((n, o, i), ""))
            for o, i in layer.mask.nonzero().tolist()
        ]
        edges.sort(key=lambda curve: (-curve.importance, curve.output, curve.input))
        levels.append(Level(layer.in_features, layer.out_features, edges, most))
    return _drawn(draw_network, levels, ends, _title(formula))


def plot_circuit(model: nn.Module, edge: Edge = (0, 0, 0)) -> Any:
    """Draw the circuit of one edge with its trained values.

    Args:
        model: A `QKAN`, a `QKANLayer`, a `TableModel` or a `DARUAN`.
        edge: Layer, output and input, each from 0 on; (0, 0, group) of a `DARUAN`.

    Returns:
        A matplotlib `Figure`.

    Raises:
        QKANError: No such edge, a model that is no QKAN, or numbers that are not finite.
    """
    layer, parameters = _edge(_opened(model, "plot_circuit")[0], edge, "plot_circuit")
    return _drawn(draw_circuit, layer.circuit, parameters, _place(edge))


def plot_spectrum(model: nn.Module, edge: Edge = (0, 0, 0)) -> Any:
    """Draw the Fourier coefficients of one edge's φ, exact, per unit of its input.

    Args:
        model: A `QKAN`, a `QKANLayer`, a `TableModel` or a `DARUAN`.
        edge: Layer, output and input, each from 0 on; (0, 0, group) of a `DARUAN`.

    Returns:
        A matplotlib `Figure`.

    Raises:
        QKANError: No such edge, a model that is no QKAN, or numbers that are not finite.
        CircuitError: The circuit has an arccos encoding, so φ has no spectrum.
    """
    network, units = _opened(model, "plot_spectrum")
    layer, (theta, scale, shift) = _edge(network, edge, "plot_spectrum")
    # the layer reads constant + slope·x of an input x in the user's units
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    constant, high = as_seen(network, edge[0], ends).tolist()
    slope = high - constant
    if edge[0] == 0 and units is not None:
        mean, spread = float(units.mean[edge[2]]), float(units.scale[edge[2]])
        slope, constant = slope / spread, constant - slope * mean / spread
    series = fourier_series(
        layer.circuit, theta.numpy(), (scale * slope).numpy(), (shift + scale * constant).numpy()
    )
    return _drawn(draw_spectrum, series, ", radians per unit of the input", _place(edge))


def plot_bloch(
    model: nn.Module, x: Tensor, edge: Edge = (0, 0, 0), *, name: str | None = None
) -> Any:
    """Draw the path of one edge's final Bloch vector as its input runs over its range.

    φ is the component of the path along the arrow.

    Args:
        model: A `QKAN`, a `QKANLayer` or a `DARUAN`; or a `TableModel`, in the units of its table.
        x: (…, i) data, which give the range.
        edge: Layer, output and input, each from 0 on; (0, 0, group) of a `DARUAN`.
        name: The name of the edge's input; None takes that of a table's column, or x.

    Returns:
        A matplotlib `Figure`.

    Raises:
        QKANError: There is no such edge, the model is of another kind, the data have another width,
            or a value is not finite.
    """
    network, units = _opened(model, "plot_bloch")
    layer, parameters = _edge(network, edge, "plot_bloch")
    grid = grid_of(_node_values(model, network, x, "plot_bloch")[edge[0]], 400)
    seen = as_seen(network, edge[0], grid)[:, edge[2]]
    path = torch.stack(
        [
            expectation(
                layer.circuit.with_observable(axis), seen[:, None],
                *(value[None, None] for value in parameters),
            ).flatten()
            for axis in "XYZ"
        ],
        -1,
    )  # fmt: skip
    if edge[0] == 0 and units is not None:
        grid = units.mean + units.scale * grid
        name = units.inputs[edge[2]] if name is None else name
    inputs, text = grid[:, edge[2]].numpy(), (_place(edge), name or "x")
    return _drawn(draw_bloch, path.numpy(), inputs, layer.circuit.observable_vector, text)


def _opened(model: nn.Module, what: str) -> tuple[QKAN, DataUnits | None]:
    """Return a model's network in double precision, and the units of its data if known."""
    activation = exact_activation(model, what)
    if activation is not None:
        return exact_network(layer_of(activation), what), None
    units = model.data_units() if isinstance(model, InDataUnits) else None
    return exact_network(model if units is None else units.network, what), units


def _node_values(model: nn.Module, network: QKAN, x: Tensor, what: str) -> list[Tensor]:
    """Return the values of all nodes of the network, for data x (…, i) in the user's units."""
    activation = exact_activation(model, what)
    if activation is not None:
        return [spans(activation, x, what)]
    x = model.standardised(x) if isinstance(model, InDataUnits) else x
    return node_values(network, check_inputs(network, x, what))


def _edge(network: QKAN, edge: Edge, what: str) -> tuple[QKANLayer, tuple[Tensor, Tensor, Tensor]]:
    """Return the layer of an edge, and its theta (k,), scale and shift (u,)."""
    layers, (n, o, i) = network.rows, edge
    sizes = [(layer.out_features, layer.in_features) for layer in layers]
    if not (0 <= n < len(layers) and 0 <= o < sizes[n][0] and 0 <= i < sizes[n][1]):
        raise QKANError(
            f"{what}: there is no edge={edge}, which means (layer, output, input); the layers have "
            f"(outputs, inputs) {sizes}."
        )
    return layers[n], edge_parameters(layers[n], o, i)


def _drawn(draw: Callable[..., Any], *contents: Any) -> Any:
    """Return a figure in the package's own style, whatever style is set."""
    with require("matplotlib", "plot").rc_context(STYLE):
        from .figure import NotebookFigure

        return draw(NotebookFigure, *contents)


def _place(edge: Edge) -> str:
    n, o, i = edge
    return f"Layer {n}, edge from input {i} to output {o}"


def names_of(option: str, names: Sequence[str] | None, count: int, letter: str) -> list[str]:
    """Return the given names, checked, or the letter with numbers from 1 on."""
    if names is None:
        lowered = str.maketrans("0123456789", _LOWERED)
        numbers = [f"{n + 1}".translate(lowered) for n in range(count)]
        return [letter] if count == 1 else [letter + number for number in numbers]
    if len(names) != count:
        raise QKANError(f"{option}={list(names)}; wanted {count} names.")
    return [str(name) for name in names]


def labels_of(formula: Formula | None, layers: list[QKANLayer], what: str) -> dict[Edge, str]:
    """Return the names of the elementary forms in a formula, by edge.

    Raises:
        QKANError: The formula is not a formula, or one of another network; the message begins with
            `what`.
    """
    if formula is not None and not isinstance(formula, Formula):
        found = type(formula).__name__
        raise QKANError(f"{what}: formula is {found}; pass the result of symbolic(model, x).")
    labels: dict[Edge, str] = {}
    for edge in () if formula is None else formula.edges:
        if edge.layer >= len(layers) or edge.output >= layers[edge.layer].out_features:
            raise QKANError(
                f"{what}: the formula belongs to another model; pass symbolic(model, x)."
            )
        if edge.bound is None:
            label = re.sub(r"\^(\d)", lambda power: _RAISED[int(power[1])], edge.name)
            labels[edge.layer, edge.output, edge.input] = label
    return labels


def _title(formula: Formula | None) -> str:
    """The composed formula if it fits in one short line, otherwise ""."""
    if formula is None or len(formula.layers) > 1 or len(formula.outputs) > 1:
        return ""
    latex = require("sympy", "symbolic").latex(formula.expr)
    return f"${formula.outputs[0]} = {latex}$" if len(latex) < _LONG_TITLE else ""
