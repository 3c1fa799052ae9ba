"""Writes a model down layer by layer, and carries ranges and error bounds along."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from qkan.nn.layer import QKANLayer
from qkan.nn.network import QKAN

from .edge_formula import EdgeFormula, Exact, Range, exact_edges, number, write_edge
from .edges import bias_of, edge_outputs, exact_layers, map_input
from .forms import Fitted, Form, rank
from .formula import Formula, evaluate
from .search import search

_POINTS = 400
"""Samples of an edge that a form is fitted to."""
_TINY = 1e-300


@dataclass(frozen=True)
class Settings:
    """What a formula may change.

    Attributes:
        tolerance: Of an edge, relative to the spread of the node it leads to.
        digits: Decimals to round numbers to, or None.
        library: The forms to recognise, or None.
        search: Whether to search for a formula where none of them fits.
    """

    tolerance: float
    digits: int | None
    library: list[Form] | None
    search: bool = False


class Writer:
    """One model on one set of data.

    Args:
        sympy: The module.
        model: A `QKAN` or a `QKANLayer`.
        values: Of every node, as `node_values` returns them.
        settings: What may be changed.
    """

    def __init__(
        self, sympy: Any, model: nn.Module, values: list[Tensor], settings: Settings
    ) -> None:
        self.sympy, self.model, self.values, self.settings = sympy, model, values, settings
        self.layers = exact_layers(model, "symbolic")
        self.seen = [map_input(model, values[0]), *values[1:]]
        self.edges: list[EdgeFormula] = []

    def write(self, inputs: tuple[Any, ...]) -> Formula:
        """The formula in these symbols of the inputs, its error not measured yet."""
        written, symbols = [], inputs
        errors = [0.0] * len(inputs)
        for n, layer in enumerate(self.layers):
            outputs = self._symbols(n, layer, inputs)
            nodes = self._layer(n, layer, symbols, errors)
            written.append([(s, expr) for s, (expr, _) in zip(outputs, nodes, strict=True)])
            symbols, errors = outputs, [error for _, error in nodes]
        bound = None if any(math.isinf(error) for error in errors) else max(errors)
        return Formula(inputs, written, self.edges, bound)

    def _symbols(self, n: int, layer: QKANLayer, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Names for the outputs of a layer: h_layer_node, of the last one f."""
        taken = {symbol.name.partition("_")[0] for symbol in inputs}
        hidden = n < len(self.layers) - 1
        letter = next(c for c in ("h" if hidden else "f", "z", "u", "v", "w") if c not in taken)
        name = f"{letter}_{n + 1}" if hidden else letter
        numbers = range(1, layer.out_features + 1)
        alone = not hidden and layer.out_features == 1
        names = [name] if alone else [f"{name}_{o}" for o in numbers]
        return tuple(self.sympy.Symbol(text, real=True) for text in names)

    def _layer(
        self, n: int, layer: QKANLayer, symbols: tuple[Any, ...], errors: list[float]
    ) -> list[tuple[Any, float]]:
        """Each output's expression with the bound on its error; infinite where none is known."""
        outputs, biases = edge_outputs(layer, self.seen[n]), bias_of(layer).tolist()
        nodes = []
        for o, row in enumerate(exact_edges(layer)):
            spread = float(self.values[n + 1][:, o].std(correction=0))
            short = self._short(biases[o])
            terms, bound = [number(self.sympy, short)], abs(short - biases[o])
            for i, edge in enumerate(row):
                found = self._edge(
                    (n, o, i), edge, symbols[i], errors[i], (outputs[:, o, i], spread)
                )
                self.edges.append(found)
                terms.append(found.expr)
                if found.name != "none":
                    bound += math.inf if found.bound is None else found.bound
                    bound += edge.slack(errors[i])
            nodes.append((self.sympy.Add(*terms), bound))
        return nodes

    def _short(self, value: float) -> float:
        return value if self.settings.digits is None else round(value, self.settings.digits)

    def _edge(
        self,
        place: tuple[int, int, int],
        edge: Exact,
        symbol: Any,
        before: float,
        wanted: tuple[Tensor, float],
    ) -> EdgeFormula:
        """One edge, as a form if one fits, else written out.

        Args:
            place: Layer, output and input.
            edge: Its parameters.
            symbol: Of its input node.
            before: The bound on that node's error.
            wanted: The edge's values on the data, and the spread of the node it leads to.
        """
        n, i = place[0], place[2]
        true, spread = wanted
        x, limit = self.values[n][:, i].numpy(), self.settings.tolerance * max(spread, _TINY)
        candidates = self._recognise(x, true.numpy(), max(spread, _TINY))
        if candidates and candidates[0].rmse <= limit:
            best = candidates[0]
            expr = best.expr(self.sympy, symbol)
            return EdgeFormula(*place, best.form.name, expr, best.rmse, None, candidates)
        if self.settings.search and np.abs(true.numpy()).max() > 0:
            expr, rmse = search(self.sympy, *_picked(x, true.numpy()), symbol)
            if rmse <= limit:
                return EdgeFormula(*place, "search", expr, rmse, None, candidates)
        options = (limit, self.settings.digits)
        where = _range(self.seen[n][:, i], before)
        t = self._mapped(symbol) if n == 0 else symbol
        name, expr, bound = write_edge(self.sympy, edge, t, where, options)
        found = evaluate(self.sympy, (symbol,), expr, x[:, None])
        rmse = float(np.sqrt(np.mean((found - true.numpy()) ** 2)))
        return EdgeFormula(*place, name, expr, rmse, bound, candidates)

    def _recognise(self, x: np.ndarray, y: np.ndarray, spread: float) -> tuple[Fitted, ...]:
        """Every form fitted to an edge, best first; none where nothing is asked or to be found."""
        if self.settings.library is None or not np.abs(y).max() > 0:
            return ()
        floor = self.settings.tolerance / 50 + 1e-10
        return tuple(rank(self.settings.library, *_picked(x, y), spread, floor))

    def _mapped(self, symbol: Any) -> Any:
        """An input as the first layer sees it."""
        if not isinstance(self.model, QKAN) or self.model.input_range is None:
            return symbol
        low, high = (self.sympy.nsimplify(v, rational=True) for v in self.model.input_range)
        return self.sympy.pi * (symbol - (low + high) / 2) / (high - low)


def _picked(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Samples that cover the range evenly in rank."""
    picked = x.argsort()[np.linspace(0, len(x) - 1, min(_POINTS, len(x))).astype(int)]
    return x[picked], y[picked]


def _range(values: Tensor, error: float) -> Range:
    """Where a node's values lie, with room for an error on them."""
    low, high = torch.aminmax(values)
    half = float(high - low) / 2 + (0.0 if math.isinf(error) else error)
    return Range(float(high + low) / 2, max(half, 1e-12))
