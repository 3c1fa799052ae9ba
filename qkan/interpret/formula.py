"""`Formula`: the result of `symbolic`, to read, print, evaluate and export."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qkan._text import LONG, shortened
from qkan.circuits import require
from qkan.errors import QKANError

from .forms import Fitted

_SHOWN = 100
"""The most characters of an expression that the representation of an edge shows."""


@dataclass(repr=False)
class EdgeFormula:
    """The formula of one edge.

    Attributes:
        layer: The number of its layer, from 0 on.
        output: Its output node o.
        input: Its input node i.
        name: "series", "closed form", "none" when masked, or the name of an elementary form.
        expr: The sympy expression in the symbol of its input node.
        rmse: The root mean square difference from the edge over the data.
        bound: A bound on |expr - edge| for inputs in the data's range; None for a form, which is
            only known to fit the data.
        candidates: All forms that were tried, the best one first.
    """

    layer: int
    output: int
    input: int
    name: str
    expr: Any
    rmse: float = 0.0
    bound: float | None = 0.0
    candidates: tuple[Fitted, ...] = ()

    def __repr__(self) -> str:
        text = str(self.expr)
        text = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
        return f"EdgeFormula(layer {self.layer}, {self.input} → {self.output}, {self.name}: {text})"


@dataclass
class Formula:
    """A model as a formula: definitions layer by layer, with the outputs last.

    Attributes:
        inputs: The symbols of the inputs.
        layers: For each layer, the symbols of its nodes with their expressions in the symbols of
            the layer before. There is only one layer if the formula was composed and fitted again.
        edges: The formula of each edge.
        bound: A bound on the formula's error for inputs in the data's range, apart from
            floating-point rounding; None if an edge is a fitted form.
        error: The largest absolute difference from the model on the data.
        rmse: The root mean square difference from the model on the data.
        fitted: If the formula was composed, each output with its numbers as fitted, before any was
            set to a simple value or rounded.
    """

    inputs: tuple[Any, ...]
    layers: list[list[tuple[Any, Any]]]
    edges: list[EdgeFormula]
    bound: float | None
    error: float = math.nan
    rmse: float = math.nan
    fitted: tuple[Any, ...] = ()

    @property
    def outputs(self) -> tuple[Any, ...]:
        """The symbols of the outputs."""
        return tuple(symbol for symbol, _ in self.layers[-1])

    @property
    def exprs(self) -> tuple[Any, ...]:
        """Each output as an expression in the inputs alone."""
        known: dict[Any, Any] = {}
        for nodes in self.layers:
            known = {symbol: expr.xreplace(known) for symbol, expr in nodes}
        return tuple(known.values())

    @property
    def expr(self) -> Any:
        """The expression of the only output, or the tuple of all expressions."""
        exprs = self.exprs
        return exprs[0] if len(exprs) == 1 else exprs

    def __call__(self, x: Any) -> Any:
        """Evaluate in double precision: map x (…, i), a tensor or an array, → (…, o) of the same
        kind.

        Raises:
            QKANError: x has another width, or a sample is outside the domain of a log, a root or a
                reciprocal; the message names it.
        """
        array = x.detach().cpu().numpy() if isinstance(x, Tensor) else np.asarray(x, dtype=float)
        if array.ndim < 1 or array.shape[-1] != len(self.inputs):
            raise QKANError(
                f"The formula has the inputs {self.inputs}, but x has shape {array.shape}; "
                f"pass (…, {len(self.inputs)})."
            )
        values, symbols = array.reshape(-1, array.shape[-1]).astype(float), self.inputs
        for nodes in self.layers:
            columns = [evaluate(symbols, expr, values) for _, expr in nodes]
            values, symbols = np.stack(columns, -1), tuple(symbol for symbol, _ in nodes)
        values = values.reshape(*array.shape[:-1], values.shape[-1])
        return torch.from_numpy(values).to(x.device) if isinstance(x, Tensor) else values

    def measure(self, x: np.ndarray, wanted: np.ndarray) -> None:
        """Set `error` and `rmse` on data x (b, i) with the model's outputs (b, o)."""
        difference = self(x) - wanted
        self.error = float(np.abs(difference).max())
        self.rmse = float(np.sqrt(np.mean(difference**2)))

    def latex(self, *, composed: bool = False) -> str:
        """Return LaTeX with one line for each definition, or for each output.

        Args:
            composed: Whether to write each output in terms of the inputs alone, which can be long.
        """
        sympy = require("sympy", "symbolic")
        layers = [list(zip(self.outputs, self.exprs, strict=True))] if composed else self.layers
        lines = [
            rf"{sympy.latex(symbol)} &= {sympy.latex(expr)}"
            for nodes in layers
            for symbol, expr in nodes
        ]
        return "\\begin{aligned}\n" + " \\\\\n".join(lines) + "\n\\end{aligned}"

    def table(self) -> str:
        """Return a table of the edges: the form of each, its error, and the next best forms."""
        rows = [("edge", "is", "rmse", "bound", "next best")]
        for edge in self.edges:
            others = [
                f"{c.form.name} {c.rmse:.1e}" for c in edge.candidates if c.form.name != edge.name
            ]
            bound = "" if edge.bound is None else f"{edge.bound:.1e}"
            place = f"layer {edge.layer}: {edge.input} → {edge.output}"
            rows.append((place, edge.name, f"{edge.rmse:.1e}", bound, ", ".join(others[:2])))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
            for row in rows
        )

    def __repr__(self) -> str:
        lines = [f"{symbol} = {expr}" for nodes in self.layers for symbol, expr in nodes]
        text = shortened("\n".join(lines), ".layers has them all")
        bound = "" if self.bound is None else f", never above {self.bound:.1e} in the data's range"
        return f"{text}\nerror on the data: at most {self.error:.1e}, rms {self.rmse:.1e}{bound}"

    def _repr_latex_(self) -> str | None:
        latex = self.latex()
        # without LaTeX, a notebook shows the shortened text
        return f"$\\displaystyle {latex}$" if len(latex) <= LONG else None


def evaluate(symbols: tuple[Any, ...], expr: Any, x: np.ndarray) -> np.ndarray:
    """Return the values (b,) of an expression at x (b, i).

    Raises:
        QKANError: A sample is outside the domain of a part of the expression.
    """
    sympy = require("sympy", "symbolic")

    def values_of(part: Any) -> np.ndarray:
        function = sympy.lambdify([symbols], part, modules=["scipy", "numpy"])
        # exp may overflow on the way to a finite value, as in t/(1 + exp(-t))
        with np.errstate(over="ignore"):
            return np.broadcast_to(np.asarray(function(tuple(x.T)), dtype=float), len(x))

    for part in filter(_has_domain, sympy.preorder_traversal(expr)):
        inner = part.args[0]
        values = values_of(inner)
        if not part.is_Pow:
            allowed = values > 0
        else:
            allowed = values != 0 if part.args[1].is_integer else values >= 0
        if not allowed.all():
            n = int((~allowed).argmax())
            raise QKANError(
                f"Sample {n} is outside the formula's domain: {part} at {inner} = {values[n]:.6g}. "
                "Forms are valid in the range of the data to which they were fitted; stay inside, "
                "or pass symbolic(…) data that cover it."
            )
    return values_of(expr)


def _has_domain(part: Any) -> bool:
    """Whether a part of an expression is a log, a root or a reciprocal of a variable term."""
    if not part.free_symbols:
        return False
    if part.is_Pow:
        return not (part.args[1].is_integer and part.args[1].is_nonnegative)
    return bool(part.func.__name__ == "log")
