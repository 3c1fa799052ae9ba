"""What an estimator makes of its options and its columns: numbers, scales and names."""

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
    """y, or y_1, y_2, …; "target_" is put before them for as long as a column has such a name."""
    names = ["y"] if count == 1 else [f"y_{o + 1}" for o in range(count)]
    while {*names} & {*columns}:
        names = [f"target_{name}" for name in names]
    return names


def number(name: str, value: Any) -> Any:
    """Return a real number of any kind, such as numpy's, as a float, and None as it is."""
    if value is None:
        return None
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real):
        raise QKANError(f"{name}={value!r}: wanted a number.")
    return float(value)


def sizes(hidden: Any) -> tuple[int, ...]:
    """The sizes of the hidden layers, of which one may be given by itself."""
    listed = hidden if isinstance(hidden, Sequence | np.ndarray) else [hidden]
    return tuple(check_size("hidden", size, " Or () for no hidden layer.") for size in listed)


NETWORK = ("hidden", "ansatz", "reps", "encoding", "group", "base", "engine", "dtype")
"""The options that make the network, and which training that goes on cannot change."""


def network_options(estimator: Any, hidden: tuple[int, ...]) -> dict[str, Any]:
    """The options in `NETWORK` as values that can be compared, with the sizes that there are."""
    found = {name: getattr(estimator, name) for name in NETWORK}
    if not isinstance(found["encoding"], str):
        found["encoding"] = tuple(map(float, found["encoding"]))
    return {**found, "hidden": hidden}


def check_same_network(built: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raise `QKANError` if the options are not those that the network was built with."""
    for name, value in built.items():
        if wanted[name] != value:
            raise QKANError(
                f"{name}={wanted[name]!r}, but the network that training goes on with has "
                f"{name}={value!r}. Set it back, or begin anew: fit with warm_start=False."
            )


def logit_factor(logits: Tensor, labels: Tensor, weight: Tensor) -> float:
    """The factor of all logits that calibrates the probabilities, 1/temperature.

    It minimises Σ weight·(cross entropy) + (log factor)²/(2·`TEMPERATURE_SPREAD`²), and is 1 at
    most: training makes a model too sure of itself, and few samples without an error say nothing.

    Args:
        logits: (n, classes) of samples that were not trained on.
        labels: (n,) their classes, whole numbers.
        weight: (n,) their weights, about 1.
    """

    def cost(log_factor: float) -> float:
        losses = F.cross_entropy(math.exp(log_factor) * logits, labels, reduction="none")
        return float((losses * weight).sum()) + 0.5 * (log_factor / TEMPERATURE_SPREAD) ** 2

    return math.exp(minimize_scalar(cost, bounds=(-2.0, 0.0), method="bounded").x)


TEMPERATURE_SPREAD = 0.25
"""How far the logarithm of a temperature is expected to be from 0, before any data."""


@contextmanager
def own_advice(encoding: Any) -> Iterator[None]:
    """Change the advice of an `AliasingWarning`, because an estimator has no input_range."""
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
