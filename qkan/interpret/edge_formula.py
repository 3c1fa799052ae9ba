"""Write the formula of one edge: its exact series or closed form, simplified within a bound.

This module needs sympy, so it is imported only when a formula is written.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from qkan.circuits import fourier_series, require, to_sympy
from qkan.nn.layer import QKANLayer
from qkan.simulators import BASE_ACTIVATIONS

from .edges import edge_parameters, edge_weights

sympy: Any = require("sympy", "symbolic")


@dataclass(frozen=True)
class Range:
    """The range of an edge's input: at most `half` away from `middle`."""

    middle: float
    half: float

    @property
    def largest(self) -> float:
        """The largest absolute value."""
        return abs(self.middle) + self.half


@dataclass(frozen=True)
class ExactEdge:
    """The parameters of one edge as numbers, and properties that follow from them.

    Attributes:
        layer: The layer that the edge is in.
        theta: (k,) radians.
        scale: (u,).
        shift: (u,) radians.
        weight: The weight, 0 if the edge is masked.
        base_weight: The base weight, 0 if the edge is masked.
    """

    layer: QKANLayer
    theta: np.ndarray
    scale: np.ndarray
    shift: np.ndarray
    weight: float
    base_weight: float

    @classmethod
    def of(cls, layer: QKANLayer, output: int, input: int) -> ExactEdge:
        """The edge between two nodes of a layer."""
        theta, scale, shift = (v.numpy() for v in edge_parameters(layer, output, input))
        weight, base_weight = (float(w[output, input]) for w in edge_weights(layer))
        return cls(layer, theta, scale, shift, weight, base_weight)

    def series(self) -> np.ndarray:
        """(n, 3): frequency, cosine and sine coefficient of φ."""
        return np.stack(
            fourier_series(self.layer.circuit, self.theta, self.scale, self.shift), axis=-1
        )

    def slack(self, error: float) -> float:
        """Return how far the edge's output can move when its input moves by at most `error`."""
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
        """Return the error of the readout for an error of ⟨M⟩: √(2·error) for the amplitude."""
        # |√a - √b| ≤ √|a - b|, twice
        return math.sqrt(2 * error) if self.layer.readout == "amplitude" else error

    def read_budget(self, budget: float) -> float:
        """Return the error of ⟨M⟩ within the edge's budget: the inverse of `read_error`."""
        share = budget / max(abs(self.weight), 1e-300)
        return share**2 / 2 if self.layer.readout == "amplitude" else share

    def closed_form(self, t: Any, where: Range) -> Any:
        """Return φ as an expression, clamped where an arccos would leave its domain."""
        middle = self.scale * where.middle + self.shift
        clamp = bool((np.abs(middle) + np.abs(self.scale) * where.half > 1).any())
        theta, scale, shift = (v.tolist() for v in (self.theta, self.scale, self.shift))
        return to_sympy(self.layer.circuit, x=t, theta=theta, scale=scale, shift=shift, clamp=clamp)


def drop_small_terms(terms: np.ndarray, budget: float, where: Range) -> tuple[np.ndarray, float]:
    """Drop small harmonics, or merge them with a near one, within an error budget.

    Dropping a harmonic of amplitude A costs A. Moving it by Δk to the frequency of a neighbour,
    with the same phase at the middle of the range, costs A·|Δk|·half. The cheapest change goes
    first.

    Args:
        terms: (n, 3) frequency, cosine, sine.
        budget: The largest change of the series that is allowed anywhere in the range.
        where: The range.

    Returns:
        The remaining terms, and the bound on the change that was made.
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
    """The coefficients at another frequency that agree with a term at the middle of the range."""
    value = (term[1] - 1j * term[2]) * np.exp(-1j * change * middle)
    return np.array([value.real, -value.imag])


def short(value: float, digits: int | None) -> float:
    """Round a number to so many decimals; None keeps them all."""
    return value if digits is None else round(value, digits)


def rounded(terms: np.ndarray, digits: int | None, where: Range) -> tuple[np.ndarray, float]:
    """Round all numbers; return them and a bound on the change of the series in the range."""
    if digits is None or not len(terms):
        return terms, 0.0
    found = terms.round(digits)
    change = np.abs(found - terms)
    amplitude = np.hypot(terms[:, 1], terms[:, 2])
    error = change[:, 0] * where.largest * amplitude + change[:, 1] + change[:, 2]
    return found[np.abs(found[:, 1:]).max(1) > 0], float(error.sum())


def write_edge(
    edge: ExactEdge, t: Any, where: Range, budget: float, digits: int | None
) -> tuple[str, Any, float]:
    """Write the formula of an edge.

    Args:
        edge: Its parameters.
        t: The expression of its input, as the layer sees it.
        where: The range of that input.
        budget: The largest change of the edge that is allowed by leaving out terms.
        digits: The number of decimals to round to, or None.

    Returns:
        Its kind, its expression, and the bound on its error in the range.
    """
    if edge.weight == 0 and edge.base_weight == 0:
        return "none", sympy.Integer(0), 0.0
    amplitude = edge.layer.readout == "amplitude"
    if edge.layer.circuit.uses_arccos:
        name, z, error, outside = "closed form", edge.closed_form(t, where), 0.0, edge.weight
    else:
        # the weight goes into the coefficients, unless the readout comes before it
        name = "series"
        inside, outside = (1.0, edge.weight) if amplitude else (edge.weight, 1.0)
        terms, cut = drop_small_terms(edge.series(), edge.read_budget(budget), where)
        terms[:, 1:] *= inside
        terms, lost = rounded(terms, digits, where)
        z, error = _sum(terms, t), cut + lost / max(abs(inside), 1e-300)
    bound = abs(edge.weight) * edge.read_error(error)
    if amplitude:
        z = sympy.sqrt(sympy.Max(0, (1 + z) / 2)) - sympy.sqrt(sympy.Max(0, (1 - z) / 2))
    phi = number(outside) * z
    base = short(edge.base_weight, digits)
    # every base activation satisfies |base(t)| ≤ |t|
    bound += abs(base - edge.base_weight) * where.largest
    if base:
        phi = phi + number(base) * BASE_ACTIVATIONS[str(edge.layer.base)].formula(sympy, t)
    return name, phi, bound


def _sum(terms: np.ndarray, t: Any) -> Any:
    """Σ a·cos(k·t) + b·sin(k·t) of rows (k, a, b)."""
    parts = []
    for k, a, b in terms.tolist():
        angle = number(k) * t
        parts += [number(a) * sympy.cos(angle)] if a else []
        parts += [number(b) * sympy.sin(angle)] if b and k else []
    return sympy.Add(*parts)


def number(value: float) -> Any:
    """A sympy number, which is an integer if the value is whole."""
    return sympy.Integer(value) if float(value).is_integer() else sympy.Float(value)
