"""Shorten a composed formula: merge constants, fit its numbers again, and simplify them.

All numbers in a formula are parameters that are fitted together to the model's outputs. Then each
number is set to a simple value (a whole or half number, a multiple of π/2), the nearest first, and
all others are fitted again; it keeps that value if the error hardly grows.

This module needs sympy, so it is imported only when a formula is refitted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from qkan.circuits import require

sympy: Any = require("sympy", "symbolic")

_MOST_NUMBERS = 60
"""A formula with more numbers than this is not fitted again."""
_NEAR = 0.1
"""The largest relative distance of a simple value from the number that it replaces."""
_GROWTH = 1.05
"""The largest factor by which one simple value may raise the root mean square error."""


@dataclass
class _Fit:
    """The numbers of a formula, which of them are free, and their error."""

    values: np.ndarray
    free: np.ndarray
    rmse: float


def merge_constants(expr: Any) -> Any:
    """Take constants out of exponents, and multiples of π out of phases."""

    def split(u: Any) -> Any:
        number, rest = u.as_coeff_Add()
        return sympy.Float(math.exp(number)) * sympy.exp(rest) if number.is_Float else sympy.exp(u)

    def turn(u: Any) -> Any:
        number, rest = u.as_coeff_Add()
        turns = round(float(number) / math.pi)
        return (-1) ** turns * sympy.sin(rest + (number - turns * sympy.pi.evalf()))

    for _ in range(2):
        expr = sympy.expand_mul(expr, deep=False)
        expr = expr.replace(sympy.exp, split).replace(sympy.sin, turn)
    return expr


def refit(
    expr: Any, symbols: tuple[Any, ...], data: tuple[np.ndarray, np.ndarray]
) -> tuple[Any, Any]:
    """Fit all numbers of an expression to data, and set them to simple values where possible.

    Args:
        expr: An expression in `symbols`.
        symbols: The symbols of the inputs.
        data: x (b, i) and y (b,).

    Returns:
        The expression with its numbers fitted, and the same with some of them set to simple values.
        With too many numbers or none, both only have their constants merged.
    """
    expr = merge_constants(expr)
    skeleton, numbers = _skeleton(expr)
    if not 0 < len(numbers) <= _MOST_NUMBERS:
        return expr, expr
    parameters = list(numbers)
    function = sympy.lambdify([symbols, parameters], skeleton, modules=["scipy", "numpy"])
    columns, y = tuple(data[0].T), data[1]

    def residual(values: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            error = function(columns, values) - y
        return np.where(np.isfinite(error), error, 1e6)

    start = np.array(list(numbers.values()))
    fit = _solve(residual, start, np.ones(len(start), dtype=bool))
    simple = _simplified(residual, fit)
    return tuple(_with_numbers(skeleton, parameters, found) for found in (fit, simple))


def _with_numbers(skeleton: Any, parameters: list[Any], fit: _Fit) -> Any:
    """Replace symbols by numbers, which are exact for those that were set to simple values."""
    numbers = zip(parameters, fit.values.tolist(), fit.free, strict=True)
    # a number that is still free remains a float even if it looks whole
    return skeleton.xreplace({p: sympy.Float(v) if free else _simple(v) for p, v, free in numbers})


def _skeleton(expr: Any) -> tuple[Any, dict[Any, float]]:
    """Replace each float of an expression by a symbol; return the floats by symbol as well."""
    numbers: dict[Any, float] = {}

    def walk(node: Any) -> Any:
        if node.is_Float:
            symbol = sympy.Dummy(f"p{len(numbers)}", real=True)
            numbers[symbol] = float(node)
            return symbol
        return node.func(*map(walk, node.args)) if node.args else node

    return walk(expr), numbers


def _solve(residual: Any, values: np.ndarray, free: np.ndarray) -> _Fit:
    """Fit the free numbers by least squares, from their values."""
    from scipy.optimize import least_squares

    def part(some: np.ndarray) -> np.ndarray:
        every = values.copy()
        every[free] = some
        error: np.ndarray = residual(every)
        return error

    if free.any():
        scale = np.maximum(np.abs(values[free]), 0.1)
        found = least_squares(part, values[free], x_scale=scale, max_nfev=200)
        values = values.copy()
        values[free] = found.x
    return _Fit(values, free, math.sqrt(np.mean(residual(values) ** 2)))


def _simplified(residual: Any, fit: _Fit) -> _Fit:
    """Set numbers to simple values one by one, nearest first, while the error hardly grows."""
    refused: set[tuple[int, float]] = set()
    while True:
        tries = sorted(
            (abs(value - simple) / max(1.0, abs(simple)), n, simple)
            for n, value in enumerate(fit.values.tolist())
            if fit.free[n]
            for simple in _simple_values(value)
            if (n, simple) not in refused
        )
        for _, n, simple in tries:
            values, free = fit.values.copy(), fit.free.copy()
            values[n], free[n] = simple, False
            trial = _solve(residual, values, free)
            if trial.rmse <= fit.rmse * _GROWTH + 1e-13:
                fit = trial
                break
            refused.add((n, simple))
        else:
            return fit


def _simple_values(value: float) -> list[float]:
    """Whole and half numbers and multiples of π/2 near the value."""
    near = [round(2 * value) / 2, round(2 * value / math.pi) * math.pi / 2]
    return [
        simple
        for simple in dict.fromkeys(near)
        if abs(value - simple) < _NEAR * max(1.0, abs(simple))
    ]


def round_numbers(expr: Any, digits: int | None) -> Any:
    """Round every float of an expression to so many decimals, and drop those that become 0."""
    if digits is None:
        return expr
    short = {f: sympy.Float(round(float(f), digits)) for f in expr.atoms(sympy.Float)}
    return expr.xreplace({f: v if v else sympy.Integer(0) for f, v in short.items()})


def _simple(value: float) -> Any:
    """An exact number for a simple value."""
    if float(2 * value).is_integer():
        return sympy.Rational(int(2 * value), 2)
    return sympy.Rational(round(2 * value / math.pi), 2) * sympy.pi
