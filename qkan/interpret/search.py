"""Find a formula for an edge that no elementary form fits, by genetic programming."""

from __future__ import annotations

from typing import Any

import numpy as np

from qkan.circuits import require

SYMBOLS = "add,sub,mul,div,exp,log,sin,cos,sqrt,square,constant,variable"
"""The symbols that a formula may contain."""
_LONGEST = 16
_GENERATIONS = 60
_POPULATION = 400


def search(x: np.ndarray, y: np.ndarray, symbol: Any) -> tuple[Any, float]:
    """Search for a short formula of one variable.

    Among the formulas that pyoperon finds, the one with the least description length, of itself and
    of its errors, is chosen. It runs in one thread with a fixed seed, so the same data give the
    same formula.

    Args:
        x: (n,).
        y: (n,).
        symbol: The sympy symbol that stands for x in the formula.

    Returns:
        The sympy expression, and its root mean square error on the data.

    Raises:
        ImportError: pyoperon is not installed.
    """
    sympy = require("sympy", "symbolic")
    regressor = require("pyoperon.sklearn", "operon").SymbolicRegressor(
        allowed_symbols=SYMBOLS, max_length=_LONGEST, generations=_GENERATIONS,
        population_size=_POPULATION, pool_size=_POPULATION, optimizer_iterations=5,
        n_threads=1, random_state=0,
    )  # fmt: skip
    regressor.fit(x[:, None], y)
    text = regressor.get_model_string(regressor.model_, 12).replace("^", "**")
    names = {"X1": symbol, "square": lambda u: u**2, "abs": sympy.Abs}
    error = regressor.predict(x[:, None]).ravel() - y
    return sympy.parse_expr(text, local_dict=names), float(np.sqrt(np.mean(error**2)))
