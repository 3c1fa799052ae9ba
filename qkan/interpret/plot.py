"""`plot` and its kin: a network with its activations, and single edges three ways.

Every function returns a matplotlib `Figure` of its own, made without pyplot: save it with
`figure.savefig("network.pdf")`, as vectors, or leave it as the last line of a notebook cell.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from qkan.circuits import fourier_series, require
from qkan.errors import QKANError
from qkan.nn.layer import QKANLayer
from qkan.nn.network import QKAN
from qkan.nn.watch import unwrapped
from qkan.simulators import expectation
from qkan.tabular.table_model import TableModel

from .draw_edge import draw_bloch, draw_circuit, draw_spectrum
from .draw_network import STYLE, Curve, Level, draw, grid_of
from .edges import check_inputs, edge_outputs, edge_parameters, exact_layers, map_input, node_values
from .formula import Formula
from .importance import importance

_LONG_TITLE = 120
_RAISED, _LOWERED = "⁰¹²³⁴⁵⁶⁷⁸⁹", "₀₁₂₃₄₅₆₇₈₉"
Edge = tuple[int, int, int]


def plot(
    model: nn.Module,
    x: Tensor,
    *,
    names: Sequence[str] | None = None,
    outputs: Sequence[str] | None = None,
    formula: Formula | None = None,
    most: int = 16,
) -> Any:
    """Draw a network from its inputs at the bottom to its outputs at the top.

    In a box on every edge: what it adds to its node, weight and base activation included, over
    the range of inputs that the data bring it, in the units of the data. Every box has a scale of
    its own; how dark an edge is says how much it matters (attribution, see `importance`, relative
    to the most important in its layer). Pruned edges are left out. An untrained model is drawn too.

    Args:
        model: A `QKAN` or a `QKANLayer`; or a `TableModel`, which is drawn in the units of its
            table.
        x: (…, i) data, two samples or more.
        names: Of the inputs; when None those of a table's columns, or x₁, x₂, ….
        outputs: Names of the outputs; when None those of a table's targets or classes, or f.
        formula: What `symbolic` returned for this model: its forms are written over their boxes,
            and the formula on top where it is short.
        most: Boxes a layer; of more edges the most important are shown, and it says how many.

    Returns:
        A matplotlib `Figure`.

    Raises:
        QKANError: A model or data that cannot be right, or not finite: the message names the layer.
        ImportError: matplotlib is absent; the extra "plot" installs it.

    Example:
        >>> import torch
        >>> from qkan import QKAN, plot
        >>> figure = plot(QKAN([2, 3, 1]), torch.rand(50, 2), names=["mass", "speed"])
        >>> len(figure.axes)  # nine boxes and what is behind them
        10
    """
    model, x, units = _plain(model, x)
    layers = exact_layers(model, "plot")
    data = check_inputs(model, x, "plot")
    if not isinstance(most, int) or isinstance(most, bool) or most < 1:
        raise QKANError(f"most={most!r}: a whole number of boxes, 1 or more.")
    ends = (
        _names("names", units.names if names is None else names, layers[0].in_features, "x"),
        _names(
            "outputs", units.outputs if outputs is None else outputs, layers[-1].out_features, "f"
        ),
    )
    labels = _labels(formula, layers)
    # scored in double precision, as it is drawn
    scores = importance(_exact(model, layers), data)
    values = node_values(model, data)
    levels = []
    for n, layer in enumerate(layers):
        grid = grid_of(values[n])
        seen = map_input(model, grid) if n == 0 else grid
        added = edge_outputs(layer, seen)
        if n == 0:
            grid = units.mean + units.scale * grid
        curves = (grid, added * units.target_scale if n == len(layers) - 1 else added)
        levels.append(_level(layer, curves, scores[f"layers.{n}"].edges, labels[n], most))
    with require("matplotlib", "plot").rc_context(STYLE):
        return draw(_figure(), levels, ends, _title(formula))


def plot_circuit(model: nn.Module, edge: Edge = (0, 0, 0)) -> Any:
    """Draw the circuit of one edge with its trained values.

    Args:
        model: A `QKAN`, a `QKANLayer` or a `TableModel`.
        edge: Layer, output and input, each from 0 on.

    Returns:
        A matplotlib `Figure`.

    Raises:
        QKANError: No such edge, or a model that cannot be right.
    """
    model, _, _ = _plain(model)
    layer, parameters = _edge(model, edge, "plot_circuit")
    with require("matplotlib", "plot").rc_context(STYLE):
        return draw_circuit(_figure(), layer.circuit, parameters, _place(edge))


def plot_spectrum(model: nn.Module, edge: Edge = (0, 0, 0)) -> Any:
    """Draw the Fourier coefficients of one edge's φ, exact, per unit of its input.

    Args:
        model: A `QKAN`, a `QKANLayer` or a `TableModel`.
        edge: Layer, output and input, each from 0 on.

    Returns:
        A matplotlib `Figure`.

    Raises:
        QKANError: No such edge, or a model that cannot be right.
        CircuitError: An arccos encoding, which has no spectrum.
    """
    model, _, units = _plain(model)
    layer, (theta, scale, shift) = _edge(model, edge, "plot_spectrum")
    low, high = _unit(model, edge)
    # the spectrum over the user's x, where the first layer sees slope·x + constant
    slope, constant = high - low, low
    if edge[0] == 0:
        mean, spread = (float(part[edge[2] % len(part)]) for part in (units.mean, units.scale))
        slope, constant = slope / spread, constant - slope * mean / spread
    series = fourier_series(
        layer.circuit, theta.numpy(), (scale * slope).numpy(), (shift + scale * constant).numpy()
    )
    with require("matplotlib", "plot").rc_context(STYLE):
        return draw_spectrum(_figure(), series, ", radians per unit of the input", _place(edge))


def plot_bloch(
    model: nn.Module, x: Tensor, edge: Edge = (0, 0, 0), *, name: str | None = None
) -> Any:
    """Draw where one edge's qubit ends on the Bloch sphere as its input runs over its range.

    φ is the component along the arrow.

    Args:
        model: A `QKAN` or a `QKANLayer`; or a `TableModel`, in the units of its table.
        x: (…, i) data, which sets the range.
        edge: Layer, output and input, each from 0 on.
        name: Of the edge's input; when None that of a table's column, or x.

    Returns:
        A matplotlib `Figure`.

    Raises:
        QKANError: No such edge, or a model or data that cannot be right.
    """
    model, x, units = _plain(model, x)
    layer, parameters = _edge(model, edge, "plot_bloch")
    values = node_values(model, check_inputs(model, x, "plot_bloch"))
    grid = grid_of(values[edge[0]], 400)
    seen = (map_input(model, grid) if edge[0] == 0 else grid)[:, edge[2]]
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
    if edge[0] == 0:
        grid = units.mean + units.scale * grid
        name = units.names[edge[2]] if name is None and units.names else name
    inputs, name = grid[:, edge[2]].numpy(), name or "x"
    with require("matplotlib", "plot").rc_context(STYLE):
        return draw_bloch(
            _figure(), path.numpy(), inputs, layer.circuit.observable_vector, (_place(edge), name)
        )


class _Units(NamedTuple):
    """The units and the names that a network's first inputs and last outputs are drawn in."""

    mean: Tensor
    scale: Tensor
    target_scale: Tensor
    names: tuple[str, ...] | None = None
    outputs: tuple[str, ...] | None = None


def _plain(model: nn.Module, x: Any = None) -> tuple[nn.Module, Any, _Units]:
    """The network inside a `TableModel`, x as that reads it, and the table's units."""
    if not isinstance(model, TableModel):
        one = torch.ones(1, dtype=torch.float64)
        return model, x, _Units(0 * one, one, one[:, None])
    outputs = model.targets
    if model.classes is not None:
        last = model.classes if len(model.classes) > 2 else model.classes[1:]
        outputs = tuple(f"{model.targets[0]}={label}" for label in last)
    parts = (part.detach().cpu() for part in (model.mean, model.scale, model.target_scale))
    mean, scale, target_scale = parts
    units = _Units(mean, scale, target_scale[:, None], model.columns, outputs)
    return model.network, None if x is None else model.standardised(x), units


def _figure() -> Any:
    require("matplotlib.figure", "plot")
    from .figure import NotebookFigure

    return NotebookFigure


def _exact(model: nn.Module, layers: list[QKANLayer]) -> nn.Module:
    """The model in double precision, as one row of layers."""
    inner = unwrapped(model)
    input_range = inner.input_range if isinstance(inner, QKAN) else None
    return QKAN.from_layers(layers, input_range=input_range)


def _edge(
    model: nn.Module, edge: Edge, what: str
) -> tuple[QKANLayer, tuple[Tensor, Tensor, Tensor]]:
    """The layer of an edge, and its theta (k,), scale and shift (u,)."""
    layers = exact_layers(model, what)
    n, o, i = edge
    if not (
        0 <= n < len(layers) and 0 <= o < layers[n].out_features and 0 <= i < layers[n].in_features
    ):
        sizes = [(layer.out_features, layer.in_features) for layer in layers]
        raise QKANError(
            f"{what}: edge={edge} is (layer, output, input), but the layers have "
            f"(outputs, inputs) {sizes}."
        )
    theta, scale, shift = (value[o, i] for value in edge_parameters(layers[n]))
    return layers[n], (theta, scale, shift)


def _unit(model: nn.Module, edge: Edge) -> tuple[float, float]:
    """What the layer of an edge sees for inputs of 0 and 1 in the user's units."""
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    low, high = (map_input(model, ends) if edge[0] == 0 else ends).tolist()
    return low, high


def _place(edge: Edge) -> str:
    n, o, i = edge
    return f"Layer {n}, edge from input {i} to output {o}"


def _names(option: str, names: Sequence[str] | None, count: int, letter: str) -> list[str]:
    if names is None:
        lowered = str.maketrans("0123456789", _LOWERED)
        numbers = [f"{n + 1}".translate(lowered) for n in range(count)]
        return [letter] if count == 1 else [letter + number for number in numbers]
    if len(names) != count:
        raise QKANError(f"{option}={list(names)}: wanted {count} names.")
    return [str(name) for name in names]


def _labels(formula: Formula | None, layers: list[QKANLayer]) -> list[dict[tuple[int, int], str]]:
    """The recognised form of each edge, by layer."""
    labels: list[dict[tuple[int, int], str]] = [{} for _ in layers]
    for edge in () if formula is None else formula.edges:
        if edge.layer >= len(layers) or edge.output >= layers[edge.layer].out_features:
            raise QKANError("plot: the formula belongs to another model; pass symbolic(model, x).")
        if edge.bound is None:
            label = re.sub(r"\^(\d)", lambda power: _RAISED[int(power[1])], edge.name)
            labels[edge.layer][edge.output, edge.input] = label
    return labels


def _title(formula: Formula | None) -> str:
    """The composed formula where it is one short line."""
    if formula is None or len(formula.layers) > 1 or len(formula.outputs) > 1:
        return ""
    latex = require("sympy", "symbolic").latex(formula.expr)
    return f"${formula.outputs[0]} = {latex}$" if len(latex) < _LONG_TITLE else ""


def _level(
    layer: QKANLayer,
    curves: tuple[Tensor, Tensor],
    scores: Tensor,
    labels: dict[tuple[int, int], str],
    most: int,
) -> Level:
    """The most important edges of a layer, with their curves."""
    grid, outputs = curves
    alive = [(float(scores[o, i]), int(o), int(i)) for o, i in layer.mask.nonzero().tolist()]
    shown = sorted(alive, key=lambda edge: (-edge[0], edge[1:]))[:most]
    drawn = [
        Curve(o, i, score, grid[:, i], outputs[:, o, i], labels.get((o, i), ""))
        for score, o, i in shown
    ]
    total = sum(score for score, _, _ in alive)
    share = sum(score for score, _, _ in shown) / total if total > 0 else 0.0
    return Level(layer, drawn, len(alive), share)
