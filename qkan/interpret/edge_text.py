"""Write one edge as a short line of text that stays close to its curve, and measure how close.

This module needs sympy, so it is imported only when a formula is written.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from qkan.simulators import BASE_ACTIVATIONS

from .edge_formula import ExactEdge, Range, drop_small_terms, number, sympy, write_edge
from .formula import EdgeFormula, evaluate

_CLOSE = 0.01
"""The largest difference of a text from its curve, as a share of the curve's height."""
_DIGITS = (4, 6, 9, 12, 17)
"""The numbers of digits to try, from the left; inputs such as dates need many digits."""
Values = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Place:
    """A curve in the user's units.

    Attributes:
        constant: The layer's input is constant + slope·x for an input x of the user.
        slope: See `constant`; not 0.
        size: The output in the user's units when the layer's output is 1.
        x: (n,) inputs.
        y: (n,) outputs of the edge.
    """

    constant: float
    slope: float
    size: float
    x: np.ndarray
    y: np.ndarray


def edge_text(edge: ExactEdge, place: Place, form: EdgeFormula | None = None) -> tuple[str, float]:
    """Write an edge as a function of x.

    Args:
        edge: Its parameters.
        place: Its curve.
        form: The formula that `symbolic` found, in the units of the network; or None.

    Returns:
        The text, and the largest difference from the curve at the points of `place`.
    """
    height = float(np.ptp(place.y))
    for digits in _DIGITS:
        if form is None:
            text, values = _own_text(edge, place, digits)
        else:
            text, values = expression_text(_in_units(form, place), digits)
        error = float(np.abs(values(place.x) - place.y).max())
        if form is not None or error <= 2 * _CLOSE * height:
            break
    return text, error


def _in_units(form: EdgeFormula, place: Place) -> Any:
    (own,) = form.expr.free_symbols or {sympy.Symbol("x", real=True)}
    seen = number(place.constant) + number(place.slope) * sympy.Symbol("x", real=True)
    return number(place.size) * form.expr.xreplace({own: seen})


def _own_text(edge: ExactEdge, place: Place, digits: int) -> tuple[str, Values]:
    """The edge's waves, or the closed form of its circuit, plus its base by name."""
    seen = sorted(place.constant + place.slope * place.x[[0, -1]])
    where = Range(float(sum(seen)) / 2, float(seen[1] - seen[0]) / 2)
    budget = _CLOSE * float(np.ptp(place.y)) / place.size
    plain = edge.layer.readout == "z" and not edge.layer.circuit.uses_arccos
    if plain:
        cut = drop_small_terms(edge.series(), edge.read_budget(budget), where)[0]
        cut[:, 1:] *= edge.weight * place.size
        text, values = _waves(cut, place, digits)
    else:
        bare = dataclasses.replace(edge, base_weight=0.0)
        symbol = number(place.constant) + number(place.slope) * sympy.Symbol("x", real=True)
        expr = write_edge(bare, symbol, where, budget, None)[1]
        text, values = expression_text(number(place.size) * expr, digits)
    if not edge.base_weight:
        return text, values
    weight = _rounded(edge.base_weight * place.size, digits)
    constant, slope = _rounded(place.constant, digits), _rounded(place.slope, digits)
    name = str(edge.layer.base)

    def with_base(x: np.ndarray) -> np.ndarray:
        inner = torch.from_numpy(constant + slope * x)
        base: np.ndarray = BASE_ACTIVATIONS[name].value(inner).numpy()
        return weight * base + values(x)

    first = f"{_written(weight, digits)}·{name}({_line(constant, slope, digits)})"
    return _sum([first, text]), with_base


def _waves(terms: np.ndarray, place: Place, digits: int) -> tuple[str, Values]:
    """Σ amplitude·cos(frequency·x + phase) of rows (frequency, cosine, sine coefficient)."""
    parts, rows = [], []
    for k, a, b in sorted(terms.tolist()):
        amplitude, phase = math.hypot(a, b), k * place.constant - math.atan2(b, a)
        frequency = k * place.slope
        if k == 0:
            frequency, amplitude, phase = 0.0, a, 0.0
        elif frequency < 0:
            frequency, phase = -frequency, -phase
        phase = math.remainder(phase, 2 * math.pi)
        row = [_rounded(value, digits) for value in (amplitude, frequency, phase)]
        if row[0]:
            rows.append(row)
            wave = f"·cos({_line(row[2], row[1], digits)})" if k else ""
            parts.append(_written(row[0], digits) + wave)
    found = np.array(rows).reshape(-1, 3)

    def values(x: np.ndarray) -> np.ndarray:
        waves = found[:, 0] * np.cos(found[:, 1] * x[:, None] + found[:, 2])
        return np.asarray(waves.sum(-1))

    # the constant comes last, as in handwriting
    return _sum([*(p for p in parts if "cos" in p), *(p for p in parts if "cos" not in p)]), values


def expression_text(expr: Any, digits: int = 4) -> tuple[str, Values]:
    """Return a sympy expression in x as text, with rounded numbers, and its values."""
    floats = expr.atoms(sympy.Float)
    short = expr.xreplace({value: sympy.Float(value, digits) for value in floats})
    exact = short.xreplace({v: sympy.Float(str(v), 17) for v in short.atoms(sympy.Float)})
    symbols = tuple(expr.free_symbols) or (sympy.Symbol("x", real=True),)
    text = str(short).replace("**", "^").replace("*", "·").replace("-", "−")
    return text, lambda x: evaluate(symbols, exact, x[:, None])


def _line(constant: float, slope: float, digits: int) -> str:
    """The text of slope·x + constant."""
    factor = "x" if slope == 1 else f"{_written(slope, digits)}·x"
    return _sum([factor, *([_written(constant, digits)] if constant else [])])


def _sum(parts: list[str]) -> str:
    return " + ".join(part for part in parts if part).replace("+ −", "− ") or "0"


def _rounded(value: float, digits: int) -> float:
    return float(f"{value:.{digits}g}")


def _written(value: float, digits: int) -> str:
    return f"{value:.{digits}g}".replace("-", "−")
