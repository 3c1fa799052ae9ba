"""Checks and conversions of an estimator's options: numbers, sizes, scales and names."""

from __future__ import annotations

import math
import numbers
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional as F

from qkan._options import check_size
from qkan.errors import QKANError
from qkan.training.fit import AliasingWarning

from .columns import Array


def moments(values: Array, weight: Array) -> tuple[Array, Array]:
    """Weighted mean and standard deviation of each column; the latter is 1 if it is constant."""
    mean = np.average(values, axis=0, weights=weight)
    # in units of a power of 2, so that squares neither overflow nor underflow
    apart = values - mean
    unit = np.ldexp(1.0, np.frexp(np.abs(apart).max(0))[1] - 1)
    spread = unit * np.sqrt(np.average((apart / unit) ** 2, axis=0, weights=weight))
    # rounding gives a constant column a small spread
    noise = 10 * np.finfo(np.float64).eps * np.abs(mean)
    return mean, np.where(spread > noise, spread, 1.0)


def target_names(count: int, columns: Sequence[str]) -> list[str]:
    """Return y, or y_1, y_2, …, with "target_" before them while a column has such a name."""
    names = ["y"] if count == 1 else [f"y_{o + 1}" for o in range(count)]
    while {*names} & {*columns}:
        names = [f"target_{name}" for name in names]
    return names


def number(name: str, value: Any) -> Any:
    """Return a real number of any type, such as numpy's, as a float, and None unchanged."""
    if value is None:
        return None
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real):
        raise QKANError(f"{name}={value!r}; wanted a number.")
    return float(value)


def sizes(hidden: Any) -> tuple[int, ...]:
    """Return the sizes of the hidden layers; a single size may be given as a number."""
    listed = hidden if isinstance(hidden, Sequence | np.ndarray) else [hidden]
    return tuple(check_size("hidden", size, "Or pass () for no hidden layer.") for size in listed)


NETWORK = ("hidden", "ansatz", "reps", "encoding", "group", "base", "engine", "dtype")
"""The options that define the network, which further training cannot change."""


def network_options(estimator: Any, hidden: tuple[int, ...]) -> dict[str, Any]:
    """Return the options in `NETWORK` as values that can be compared, with the actual sizes."""
    found = {name: getattr(estimator, name) for name in NETWORK}
    if not isinstance(found["encoding"], str):
        found["encoding"] = tuple(map(float, found["encoding"]))
    return {**found, "hidden": hidden}


def check_same_network(built: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raise `QKANError` if the options are not those that the network was built with."""
    for name, value in built.items():
        if wanted[name] != value:
            raise QKANError(
                f"{name}={wanted[name]!r}, but the network to be trained further has "
                f"{name}={value!r}. Set it back, or begin anew: fit with warm_start=False."
            )


def logit_factor(logits: Tensor, labels: Tensor, weight: Tensor) -> float:
    """Return the factor of all logits that calibrates the probabilities, 1/temperature.

    It minimises Σ weight·(cross entropy) + (log factor)²/(2·`TEMPERATURE_SPREAD`²), and is at most
    1: training makes a model too confident, and a few samples without an error say nothing about
    it.

    Args:
        logits: (n, classes) of samples that were not trained on.
        labels: (n,) their classes, as whole numbers.
        weight: (n,) their weights, about 1.
    """

    def cost(log_factor: float) -> float:
        losses = F.cross_entropy(math.exp(log_factor) * logits, labels, reduction="none")
        return float((losses * weight).sum()) + 0.5 * (log_factor / TEMPERATURE_SPREAD) ** 2

    return math.exp(minimize_scalar(cost, bounds=(-2.0, 0.0), method="bounded").x)


TEMPERATURE_SPREAD = 0.25
"""The standard deviation of the logarithm of a temperature that is expected before any data."""


@contextmanager
def own_advice(encoding: Any) -> Iterator[None]:
    """Change the advice of an `AliasingWarning`, since an estimator has no input_range."""
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
