"""A composed formula made short: merged affinely, its numbers fitted again and set to simple ones.

Every number in a formula is a parameter; together they are fitted to the model's outputs. Then,
nearest first, each is tried at a simple value (a whole or half number, a multiple of π/2) with all
others fitted again, and stays there if the error hardly grows.

This module needs sympy, so it is imported where a formula is refitted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from qkan.circuits import require

sympy: Any = require("sympy", "symbolic")

_MOST_NUMBERS = 60
"""A formula of more numbers than these is left as composed."""
_NEAR = 0.1
"""How far a simple value may be from the number that it replaces, relative to itself."""
_GROWTH = 1.05
"""How much one simple number may cost in root mean square error, as a factor."""


@dataclass
class _Fit:
    """Numbers of a formula, which of them are free, and the error they leave."""

    values: np.ndarray
    free: np.ndarray
    rmse: float


def merge_constants(expr: Any) -> Any:
    """Take constants out of exponents, and half turns out of phases."""

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
    """Fit all numbers of an expression to data, and set those to simple values that allow it.

    Args:
        expr: An expression in `symbols`.
        symbols: The symbols of the inputs.
        data: x (b, i) and y (b,).

    Returns:
        The expression with its numbers fitted, and with some of these set to simple values. Both
        are only merged, and not fitted, where there are too many numbers or none.
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
    """The expression with numbers for its symbols, exact ones for those that were set."""
    numbers = zip(parameters, fit.values.tolist(), fit.free, strict=True)
    # a number that is still free stays a float even where it looks whole
    return skeleton.xreplace({p: sympy.Float(v) if free else _simple(v) for p, v, free in numbers})


def _skeleton(expr: Any) -> tuple[Any, dict[Any, float]]:
    """The expression with a symbol in place of each float, and the floats by symbol."""
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
    """Whole and half numbers and multiples of π/2 within a tenth of the value."""
    near = [round(2 * value) / 2, round(2 * value / math.pi) * math.pi / 2]
    return [
        simple
        for simple in dict.fromkeys(near)
        if abs(value - simple) < _NEAR * max(1.0, abs(simple))
    ]


def round_numbers(expr: Any, digits: int | None) -> Any:
    """Round every float of an expression to so many decimals; those that round to 0 vanish."""
    if digits is None:
        return expr
    short = {f: sympy.Float(round(float(f), digits)) for f in expr.atoms(sympy.Float)}
    return expr.xreplace({f: v if v else sympy.Integer(0) for f, v in short.items()})


def _simple(value: float) -> Any:
    """An exact number for a simple value."""
    if float(2 * value).is_integer():
        return sympy.Rational(int(2 * value), 2)
    return sympy.Rational(round(2 * value / math.pi), 2) * sympy.pi
