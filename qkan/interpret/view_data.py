"""The contents of the page of `view` as JSON values: nodes, edges, and values for single rows.

Letters: b samples, o outputs, i inputs, n edges.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qkan._data_units import DataUnits
from qkan.circuits import Circuit, fourier_series
from qkan.circuits.draw import role
from qkan.nn.layer import QKANLayer
from qkan.nn.network import QKAN

from .draw_edge import gate_texts
from .draw_network import grid_of
from .edges import as_seen, chosen_outputs, edge_parameters, node_values
from .formula import Formula
from .importance import importance

_POINTS = 61
"""The number of points of a curve."""
_SCORED = 1000
"""The most rows from which the importance is computed."""
Json = dict[str, Any]


@dataclass(frozen=True)
class Subject:
    """A network with the data over which it is shown.

    Attributes:
        network: The network, as `exact_network` returns it.
        x: (b, i) inputs of the network.
        outputs: (b, o) outputs in the user's units.
        names: The names of the inputs and of the outputs.
        units: The units of a table, or None.
        formula: The result of `symbolic` for this model, or None.
    """

    network: QKAN
    x: Tensor
    outputs: Tensor
    names: tuple[Sequence[str], Sequence[str]]
    units: DataUnits | None = None
    formula: Formula | None = None

    def input_scale(self, number: int, i: int) -> tuple[float, float]:
        """Return constant and slope; the layer's input i is constant + slope·(user's input)."""
        ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
        constant, high = as_seen(self.network, number, ends).tolist()
        slope = high - constant
        if number == 0 and self.units is not None:
            mean, spread = float(self.units.mean[i]), float(self.units.scale[i])
            slope, constant = slope / spread, constant - slope * mean / spread
        return constant, slope

    def output_scale(self, number: int, o: int) -> float:
        """Return output o of layer `number` in the user's units when the layer's output is 1."""
        last = number == len(self.network.rows) - 1
        return float(self.units.target_scale[o]) if last and self.units is not None else 1.0


def network_data(subject: Subject, most: int, rows: int) -> Json:
    """Return the page's data: at most `most` edges of each layer and `rows` rows of the data."""
    network, x = subject.network, subject.x
    scored = x[:: -(-len(x) // _SCORED)]
    scores = importance(network, scored)
    values = node_values(network, x)
    picked = torch.linspace(0, len(x) - 1, min(rows, len(x))).round().long()
    layers, touched = [], [set[int]() for _ in values]
    for n, layer in enumerate(network.rows):
        score = scores[f"layers.{n}"].edges
        kept = layer.mask.nonzero()
        order = score[kept[:, 0], kept[:, 1]].argsort(descending=True, stable=True)
        places = kept[order[:most]]
        touched[n] |= {*places[:, 1].tolist()}
        touched[n + 1] |= {*places[:, 0].tolist()}
        layers.append(_layer_data(subject, n, places, score, values[n], picked))
    if subject.units is not None:
        values[0] = subject.units.mean + subject.units.scale * values[0]
    values[-1] = subject.outputs
    return {
        "columns": [
            _column(subject, n, sorted(touched[n]), value[picked])
            for n, value in enumerate(values)
        ],
        "layers": layers,
        "rows": picked.tolist(),
        "samples": len(x),
    }  # fmt: skip


def _column(subject: Subject, number: int, shown: list[int], values: Tensor) -> Json:
    """The nodes of one column with a shown edge, with their values on the shown rows."""
    count = subject.network.widths[number]
    ends = {0: subject.names[0], len(subject.network.rows): subject.names[1]}
    names = ends.get(number) or [f"h{number}.{node + 1}" for node in range(count)]
    return {
        "total": count,
        "nodes": shown,
        "names": [str(names[node]) for node in shown],
        "values": [_numbers(values[:, node]) for node in shown],
    }


def _layer_data(
    subject: Subject, n: int, places: Tensor, score: Tensor, values: Tensor, picked: Tensor
) -> Json:
    """The chosen edges (n, 2) of one layer, the most important first."""
    network, layer = subject.network, subject.network.rows[n]
    seen = as_seen(network, n, values)
    grid = grid_of(values, _POINTS)
    curves = chosen_outputs(layer, as_seen(network, n, grid), places)
    added = chosen_outputs(layer, seen, places)
    total, shown = float(score.sum()), float(score[places[:, 0], places[:, 1]].sum())
    edges = []
    for number, (o, i) in enumerate(places.tolist()):
        size, (constant, slope) = subject.output_scale(n, o), subject.input_scale(n, i)
        ends = (as_seen(network, n, grid[[0, -1], i]) - constant) / slope
        edge = {
            "o": o, "i": i, "score": float(score[o, i]),
            "share": float(score[o, i]) / total if total > 0 else 0.0,
            "x": _numbers(ends), "y": _numbers(size * curves[:, number]),
            "at": _numbers(size * added[picked, number]),
            "mean": float(size * added[:, number].mean()),
        }  # fmt: skip
        edges.append(edge | edge_data(layer, (o, i), (constant, slope)))
        edges[-1] |= _formula(subject, (n, o, i), ends, size * curves[:, number])
    edges_in_all = int(layer.mask.count_nonzero())
    return {
        "edges": edges,
        "total": edges_in_all,
        "share": shown / total if total > 0 else 1.0,
        "circuit": circuit_data(layer.circuit),
    }


def circuit_data(circuit: Circuit) -> Json:
    """Return what all edges of a layer share: the role of each gate, and the observable."""
    return {"roles": [role(gate) for gate in circuit.gates], "measured": circuit.draw()._measured()}


def edge_data(layer: QKANLayer, place: tuple[int, int], input_scale: tuple[float, float]) -> Json:
    """Return the gates of one edge with their values, and its spectrum in the user's units."""
    parameters = edge_parameters(layer, *place)
    gates = [gate_texts(gate, parameters) for gate in layer.circuit.gates]
    spectrum = None
    if not layer.circuit.uses_arccos:
        theta, scale, shift = (value.numpy() for value in parameters)
        constant, slope = input_scale
        series = fourier_series(layer.circuit, theta, scale * slope, shift + scale * constant)
        rows = np.stack(series, -1).tolist()
        spectrum = [[float(f"{value:.5g}") for value in row] for row in rows]
    return {"gates": [[label.replace("\n", " "), text] for label, text in gates]} | {
        "spectrum": spectrum
    }


def _formula(subject: Subject, place: tuple[int, int, int], ends: Tensor, y: Tensor) -> Json:
    """One edge as text: the form that `symbolic` found, or otherwise its own waves."""
    n, o, i = place
    try:
        from .edge_formula import ExactEdge
        from .edge_text import Place, edge_text
    except ImportError as error:
        return {"formula": None, "note": str(error)}
    edges = subject.formula.edges if subject.formula else ()
    found = [edge for edge in edges if (edge.layer, edge.output, edge.input) == place]
    form = found[0] if found and found[0].bound is None else None
    low, high = ends.tolist()
    grid = np.linspace(low, high, _POINTS)
    where = Place(*subject.input_scale(n, i), subject.output_scale(n, o), grid, y.numpy())
    text, apart = edge_text(ExactEdge.of(subject.network.rows[n], o, i), where, form)
    return {"formula": text, "form": form and form.name, "error": apart}


def _numbers(values: Any) -> list[float]:
    """Round numbers to a hundred-thousandth of their spread, which is finer than a screen."""
    found = [float(value) for value in values.tolist()]
    spread = max(found, default=0.0) - min(found, default=0.0)
    if not 0 < spread < math.inf:
        return found
    decimals = 5 - math.floor(math.log10(spread))
    return [round(value, decimals) for value in found]
