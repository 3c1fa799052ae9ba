"""What an estimator makes of options and columns: numbers of any kind, scales, units, names."""

from __future__ import annotations

import dataclasses
import numbers
import operator
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from qkan.errors import QKANError
from qkan.interpret.formula import Formula
from qkan.training.fit import AliasingWarning

Array = np.ndarray


def moments(values: Array, weight: Array) -> tuple[Array, Array]:
    """Weighted mean and standard deviation of each column; 1 for a constant one."""
    mean = np.average(values, axis=0, weights=weight)
    # in units of a power of 2, whose squares neither overflow nor vanish
    apart = values - mean
    unit = np.ldexp(1.0, np.frexp(np.abs(apart).max(0))[1] - 1)
    spread = unit * np.sqrt(np.average((apart / unit) ** 2, axis=0, weights=weight))
    # rounding leaves a constant column a spread of its own
    noise = 10 * np.finfo(np.float64).eps * np.abs(mean)
    return mean, np.where(spread > noise, spread, 1.0)


def target_names(count: int, columns: Sequence[str]) -> list[str]:
    """y, or y_1, y_2, …; with so many "target_" before as no column has."""
    names = ["y"] if count == 1 else [f"y_{o + 1}" for o in range(count)]
    while {*names} & {*columns}:
        names = [f"target_{name}" for name in names]
    return names


def whole(name: str, value: Any) -> Any:
    """A whole number of any kind, such as numpy's, as Python's; anything else as it is."""
    if isinstance(value, bool | np.bool_):
        raise QKANError(f"{name}={value!r}: wanted a whole number.")
    try:
        return operator.index(value)
    except TypeError:
        return value


def number(name: str, value: Any) -> Any:
    """A real number of any kind, such as numpy's, as Python's float; None as it is."""
    if value is None:
        return None
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real):
        raise QKANError(f"{name}={value!r}: wanted a number.")
    return float(value)


def in_units(found: Formula, inputs: tuple[Array, Array], targets: tuple[Array, Array]) -> Formula:
    """A formula of standardised numbers in the units of the data, of (mean, scale) each."""
    known = {
        symbol: (symbol - float(m)) / float(s)
        for symbol, m, s in zip(found.inputs, *inputs, strict=True)
    }
    layers = [list(nodes) for nodes in found.layers]
    layers[0] = [(symbol, expr.xreplace(known)) for symbol, expr in layers[0]]
    layers[-1] = [
        (symbol, float(m) + float(s) * expr)
        for (symbol, expr), m, s in zip(layers[-1], *targets, strict=True)
    ]
    fitted = tuple(
        float(m) + float(s) * expr.xreplace(known)
        for expr, m, s in zip(found.fitted, *targets, strict=False)
    )
    bound = None if found.bound is None else found.bound * float(targets[1].max())
    return dataclasses.replace(found, layers=layers, fitted=fitted, bound=bound)


@contextmanager
def own_advice(encoding: Any) -> Iterator[None]:
    """Say of aliasing what can be done about it here: an estimator has no input_range."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        message: Warning | str = warning.message
        if issubclass(warning.category, AliasingWarning):
            message = (
                f"encoding={encoding!r} repeats with a period, and some features have values so "
                "many standard deviations from their mean that the activations cannot tell them "
                "from others. Use encoding='trainable', or transform or clip these features."
            )
        warnings.warn(message, warning.category, stacklevel=4)
