"""Write the formula of a model layer by layer, with ranges and error bounds.

This module needs sympy, so it is imported only when a formula is written.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qkan.circuits import require
from qkan.nn.layer import QKANLayer
from qkan.nn.network import QKAN

from .edge_formula import ExactEdge, Range, number, short, write_edge
from .edges import as_seen, bias_of, edge_outputs
from .forms import Fitted, Form, rank
from .formula import EdgeFormula, Formula, evaluate
from .search import search

sympy: Any = require("sympy", "symbolic")

_POINTS = 400
"""The number of samples of an edge to which a form is fitted."""
_TINY = 1e-300


@dataclass(frozen=True)
class Settings:
    """The options of `symbolic`.

    Attributes:
        tolerance: The largest change of an edge, relative to the spread of the node to which it
            leads.
        digits: The number of decimals to round to, or None.
        library: The elementary forms to try, or None.
        search: Whether to search for a formula if none of them fits.
    """

    tolerance: float
    digits: int | None
    library: list[Form] | None
    search: bool = False


class Writer:
    """Writes the formula of one network on one set of data.

    Args:
        network: The network, as `exact_network` returns it.
        values: The values of every node, as `node_values` returns them.
        settings: The options.
    """

    def __init__(self, network: QKAN, values: list[Tensor], settings: Settings) -> None:
        self.network, self.values, self.settings = network, values, settings
        self.seen = [as_seen(network, n, value) for n, value in enumerate(values)]
        self.edges: list[EdgeFormula] = []

    def write(self, inputs: tuple[Any, ...]) -> Formula:
        """Return the formula in these symbols of the inputs; its error is not measured yet."""
        written, symbols = [], inputs
        errors = [0.0] * len(inputs)
        for n, layer in enumerate(self.network.rows):
            outputs = self._symbols(n, layer, inputs)
            nodes = self._layer(n, layer, symbols, errors)
            written.append([(s, expr) for s, (expr, _) in zip(outputs, nodes, strict=True)])
            symbols, errors = outputs, [error for _, error in nodes]
        bound = None if any(math.isinf(error) for error in errors) else max(errors)
        return Formula(inputs, written, self.edges, bound)

    def _symbols(self, n: int, layer: QKANLayer, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Symbols for the outputs of a layer: h_layer_node, or f for the last layer."""
        taken = {symbol.name.partition("_")[0] for symbol in inputs}
        hidden = n < len(self.network.layers) - 1
        letter = next(c for c in ("h" if hidden else "f", "z", "u", "v", "w") if c not in taken)
        name = f"{letter}_{n + 1}" if hidden else letter
        alone = not hidden and layer.out_features == 1
        names = [name] if alone else [f"{name}_{o + 1}" for o in range(layer.out_features)]
        return tuple(sympy.Symbol(text, real=True) for text in names)

    def _layer(
        self, n: int, layer: QKANLayer, symbols: tuple[Any, ...], errors: list[float]
    ) -> list[tuple[Any, float]]:
        """Each output's expression with a bound on its error, which is infinite if unknown."""
        outputs, biases = edge_outputs(layer, self.seen[n]).numpy(), bias_of(layer).tolist()
        nodes = []
        for o in range(layer.out_features):
            bias = short(biases[o], self.settings.digits)
            terms, bound = [number(bias)], abs(bias - biases[o])
            for i in range(layer.in_features):
                edge = ExactEdge.of(layer, o, i)
                found = self._edge((n, o, i), edge, symbols[i], errors[i], outputs[:, o, i])
                self.edges.append(found)
                terms.append(found.expr)
                if found.name != "none":
                    bound += math.inf if found.bound is None else found.bound
                    bound += edge.slack(errors[i])
            nodes.append((sympy.Add(*terms), bound))
        return nodes

    def _edge(
        self,
        place: tuple[int, int, int],
        edge: ExactEdge,
        symbol: Any,
        before: float,
        y: np.ndarray,
    ) -> EdgeFormula:
        """Return the formula of one edge: a form if one fits, otherwise the exact expression.

        Args:
            place: Layer, output and input.
            edge: Its parameters.
            symbol: The symbol of its input node.
            before: The bound on that node's error.
            y: The edge's values on the data.
        """
        n, o, i = place
        x, settings = self.values[n][:, i].numpy(), self.settings
        spread = max(float(self.values[n + 1][:, o].std(correction=0)), _TINY)
        limit = settings.tolerance * spread
        candidates: tuple[Fitted, ...] = ()
        if np.abs(y).max() > 0:
            some = _evenly_ranked(x, y)
            if settings.library is not None:
                floor = settings.tolerance / 50 + 1e-10
                candidates = tuple(rank(settings.library, *some, spread, floor))
            if candidates and candidates[0].rmse <= limit:
                best = candidates[0]
                expr = best.expr(sympy, symbol)
                return EdgeFormula(*place, best.form.name, expr, best.rmse, None, candidates)
            if settings.search:
                expr, rmse = search(*some, symbol)
                if rmse <= limit:
                    return EdgeFormula(*place, "search", expr, rmse, None, candidates)
        where = _range(self.seen[n][:, i], before)
        t = self._mapped(symbol) if n == 0 else symbol
        name, expr, bound = write_edge(edge, t, where, limit, settings.digits)
        rmse = float(np.sqrt(np.mean((evaluate((symbol,), expr, x[:, None]) - y) ** 2)))
        return EdgeFormula(*place, name, expr, rmse, bound, candidates)

    def _mapped(self, symbol: Any) -> Any:
        """An input as `input_range` maps it for the first layer."""
        if self.network.input_range is None:
            return symbol
        low, high = (sympy.nsimplify(v, rational=True) for v in self.network.input_range)
        return sympy.pi * (symbol - (low + high) / 2) / (high - low)


def _evenly_ranked(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Samples that cover the range evenly in rank."""
    picked = x.argsort()[np.linspace(0, len(x) - 1, min(_POINTS, len(x))).astype(int)]
    return x[picked], y[picked]


def _range(values: Tensor, error: float) -> Range:
    """The range of a node's values, widened by the bound on their error."""
    low, high = torch.aminmax(values)
    half = float(high - low) / 2 + (0.0 if math.isinf(error) else error)
    return Range(float(high + low) / 2, max(half, 1e-12))
