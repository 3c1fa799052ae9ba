"""One edge as a formula: its exact series or closed form, cut and rounded under a true bound."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from qkan.circuits import fourier_series, to_sympy
from qkan.nn.layer import QKANLayer
from qkan.simulators import BASE_ACTIVATIONS

from .edges import edge_parameters, edge_weights
from .forms import Fitted

_SHOWN = 100
"""Characters of an expression that an edge shows of itself."""


@dataclass(frozen=True)
class Range:
    """Where an edge's input lies: at most `half` away from `middle`."""

    middle: float
    half: float

    @property
    def largest(self) -> float:
        """The largest absolute value."""
        return abs(self.middle) + self.half


@dataclass(repr=False)
class EdgeFormula:
    """What became of one edge.

    Attributes:
        layer: Its layer, from 0 on.
        output: Its output node o.
        input: Its input node i.
        name: "series", "closed form", "none" when masked, or the name of an elementary form.
        expr: The sympy expression in the symbol of its input node.
        rmse: Root mean square difference from the edge over the data.
        bound: What |expr - edge| cannot exceed for inputs in the data's range; None for a form,
            which is only known to fit the data.
        candidates: Every form tried, best first.
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


@dataclass(frozen=True)
class Exact:
    """One edge's parameters, ready to be written down.

    Attributes:
        layer: Where it is from.
        theta: (k,) radians.
        scale: (u,).
        shift: (u,) radians.
        weight: Mask included.
        base_weight: Mask included.
    """

    layer: QKANLayer
    theta: np.ndarray
    scale: np.ndarray
    shift: np.ndarray
    weight: float
    base_weight: float

    def series(self) -> np.ndarray:
        """(n, 3): frequency, cosine and sine coefficient of φ."""
        return np.stack(
            fourier_series(self.layer.circuit, self.theta, self.scale, self.shift), axis=-1
        )

    def slack(self, error: float) -> float:
        """How far the edge can move when its input moves by at most `error`."""
        if error == 0 or math.isinf(error):
            return error
        base = 0.0
        if self.layer.base is not None:
            base = abs(self.base_weight) * BASE_ACTIVATIONS[self.layer.base].steepest * error
        moved = 0.0
        for rotation in self.layer.program.rotations:
            if rotation.encoding is not None:
                # |∂φ/∂angle| ≤ 1, and |arccos a - arccos b| ≤ π√(|a - b|/2)
                turn = abs(self.scale[rotation.encoding]) * error
                moved += math.pi * math.sqrt(turn / 2) if rotation.arccos else turn
        return base + abs(self.weight) * self.read_error(min(moved, 2.0))

    def read_error(self, error: float) -> float:
        """The readout's error for one of ⟨M⟩: |√a - √b| ≤ √|a - b| twice for the amplitude."""
        return math.sqrt(2 * error) if self.layer.readout == "amplitude" else error

    def read_budget(self, budget: float) -> float:
        """The error of ⟨M⟩ that the edge's budget leaves: the inverse of `read_error`."""
        share = budget / max(abs(self.weight), 1e-300)
        return share**2 / 2 if self.layer.readout == "amplitude" else share


def exact_edges(layer: QKANLayer) -> list[list[Exact]]:
    """Every edge of a layer, [o][i]."""
    theta, scale, shift = (t.numpy() for t in edge_parameters(layer))
    weight, base_weight = (t.numpy() for t in edge_weights(layer))
    return [
        [
            Exact(
                layer, theta[o, i], scale[o, i], shift[o, i],
                float(weight[o, i]), float(base_weight[o, i]),
            )
            for i in range(layer.in_features)
        ]
        for o in range(layer.out_features)
    ]  # fmt: skip


def thin(terms: np.ndarray, budget: float, where: Range) -> tuple[np.ndarray, float]:
    """Drop small harmonics, or merge them with a near one, while the error stays in the budget.

    A harmonic of amplitude A costs A when dropped, and A·|Δk|·half when it takes the frequency of
    a neighbour and keeps its phase at the middle of the range. The cheapest goes first.

    Args:
        terms: (n, 3) frequency, cosine, sine.
        budget: The most that the series may change anywhere in the range.
        where: The range.

    Returns:
        The terms left, and the bound on the change that was spent.
    """
    terms, spent = terms.copy(), 0.0
    while len(terms):
        k, amplitude = terms[:, 0], np.hypot(terms[:, 1], terms[:, 2])
        gap = np.abs(k[:, None] - k) + np.where(np.eye(len(k)), np.inf, 0)
        cost = amplitude * np.minimum(1, gap.min(1) * where.half)
        n = int(cost.argmin())
        if spent + cost[n] > budget:
            break
        spent += float(cost[n])
        if gap[n].min() * where.half < 1:
            into = int(gap[n].argmin())
            terms[into, 1:] += _retuned(terms[n], k[into] - k[n], where.middle)
        terms = np.delete(terms, n, axis=0)
    return terms, spent


def _retuned(term: np.ndarray, change: float, middle: float) -> np.ndarray:
    """Cosine and sine coefficients at another frequency, equal at the middle of the range."""
    value = (term[1] - 1j * term[2]) * np.exp(-1j * change * middle)
    return np.array([value.real, -value.imag])


def rounded(terms: np.ndarray, digits: int | None, where: Range) -> tuple[np.ndarray, float]:
    """All numbers to so many decimals, and the bound on what that changes in the range."""
    if digits is None or not len(terms):
        return terms, 0.0
    short = terms.round(digits)
    change = np.abs(short - terms)
    amplitude = np.hypot(terms[:, 1], terms[:, 2])
    error = change[:, 0] * where.largest * amplitude + change[:, 1] + change[:, 2]
    return short[np.abs(short[:, 1:]).max(1) > 0], float(error.sum())


def write_edge(
    sympy: Any, edge: Exact, t: Any, where: Range, options: tuple[float, int | None]
) -> tuple[str, Any, float]:
    """Write an edge down.

    Args:
        sympy: The module.
        edge: Which.
        t: The expression of its input, as the layer sees it.
        where: The range of that input.
        options: The budget for changing it, and the decimals to round to or None.

    Returns:
        Its kind, its expression, and the bound on its error in the range.
    """
    if edge.weight == 0 and edge.base_weight == 0:
        return "none", sympy.Integer(0), 0.0
    budget, digits = options
    if edge.layer.circuit.uses_arccos:
        name, z, error = "closed form", _closed_form(edge, t, where), 0.0
    else:
        name = "series"
        factor = 1.0 if edge.layer.readout == "amplitude" else edge.weight
        terms, cut = thin(edge.series(), edge.read_budget(budget), where)
        terms[:, 1:] *= factor
        terms, lost = rounded(terms, digits, where)
        z = _sum(sympy, terms, t)
        error = cut + lost / max(abs(factor), 1e-300)
    bound = abs(edge.weight) * edge.read_error(error)
    if edge.layer.readout == "amplitude":
        z = _amplitude(sympy, z)
    phi = z if name == "series" and edge.layer.readout == "z" else number(sympy, edge.weight) * z
    base = round(edge.base_weight, digits) if digits is not None else edge.base_weight
    # every base activation satisfies |base(t)| ≤ |t|
    bound += abs(base - edge.base_weight) * where.largest
    if base:
        phi = phi + number(sympy, base) * BASE_ACTIVATIONS[str(edge.layer.base)].formula(sympy, t)
    return name, phi, bound


def _closed_form(edge: Exact, t: Any, where: Range) -> Any:
    middle = edge.scale * where.middle + edge.shift
    clamp = bool((np.abs(middle) + np.abs(edge.scale) * where.half > 1).any())
    theta, scale, shift = (v.tolist() for v in (edge.theta, edge.scale, edge.shift))
    return to_sympy(edge.layer.circuit, x=t, theta=theta, scale=scale, shift=shift, clamp=clamp)


def _sum(sympy: Any, terms: np.ndarray, t: Any) -> Any:
    parts = []
    for k, a, b in terms.tolist():
        angle = number(sympy, k) * t
        parts += [number(sympy, a) * sympy.cos(angle)] if a else []
        parts += [number(sympy, b) * sympy.sin(angle)] if b and k else []
    return sympy.Add(*parts)


def number(sympy: Any, value: float) -> Any:
    """A sympy number, whole where the value is."""
    return sympy.Integer(value) if float(value).is_integer() else sympy.Float(value)


def _amplitude(sympy: Any, z: Any) -> Any:
    return sympy.sqrt(sympy.Max(0, (1 + z) / 2)) - sympy.sqrt(sympy.Max(0, (1 - z) / 2))
