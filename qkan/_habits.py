"""Answers to calls that follow the habits of other packages: what to write here instead."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

from .circuits import did_you_mean

Args = ParamSpec("Args")
Result = TypeVar("Result")

LAYER = {
    "width": "QKAN takes its sizes as a list: QKAN([2, 5, 1])",
    "hidden": "QKAN takes all its sizes as a list, inputs and outputs too: QKAN([2, 5, 1])",
    "grid": "a circuit has no grid; reps=… sets how fast an activation can vary, and "
    "KAN(…, basis='spline') has splines",
    "k": "a circuit has no spline degree; reps=… sets how fast an activation can vary, and "
    "KAN(…, basis='spline') has splines",
    "seed": "pass generator=torch.Generator().manual_seed(0)",
    "random_state": "pass generator=torch.Generator().manual_seed(0)",
    "base_fun": "pass base='silu', or another of its names",
    "activation": "the activation is the circuit; pass base='silu' for the one beside it",
    "solver": "pass engine=…, see engines()",
    "num_layers": "every size stands in the list: QKAN([2, 5, 5, 1]) has three layers",
    "n_qubits": "every activation has one qubit; pass reps=… for a longer circuit",
    "in_dim": "pass in_features",
    "out_dim": "pass out_features",
}
"""What to write instead of an option that a layer or a network does not have."""

FIT = {
    "epochs": "pass steps=…, which counts steps of the optimizer: with batch_size an epoch has "
    "samples/batch_size of them, without it one",
    "max_iter": "pass steps=…",
    "n_epochs": "pass steps=…",
    "learning_rate": "pass lr=…",
    "opt": "pass optimizer='lbfgs', 'adam' or another",
    "loss_fn": "pass loss=…",
    "criterion": "pass loss=…",
    "validation_data": "pass validation=(x, y)",
    "validation_split": "pass validation=0.2, or another fraction",
    "validation_fraction": "pass validation=0.2, or another fraction",
    "early_stopping": "pass patience=… with validation=0.2",
    "batch": "pass batch_size=…",
    "verbose": "pass progress=True or False",
    "callbacks": "patience=…, scheduler=… and checkpoint=… are what fit has; for more write a loop",
    "random_state": "pass seed=…",
    "lamb": "use `with sparse_loss(model, 1e-3) as loss:` and fit(…, loss=loss)",
    "y": "pass a pair: fit(model, (x, y), steps=20)",
}
"""What to write instead of an option that `fit` does not have."""


def guided(
    habits: Mapping[str, str], *, positional: int, instead: str
) -> Callable[[Callable[Args, Result]], Callable[Args, Result]]:
    """Decorate a function so that wrong calls of it say what to write instead.

    Args:
        habits: What to do instead, for names of options that the function does not have.
        positional: The number of arguments that it takes without their names, self included.
        instead: A right call, shown for one with too many arguments or too few.
    """

    def decorate(function: Callable[Args, Result]) -> Callable[Args, Result]:
        signature = inspect.signature(function)
        known = {name: p for name, p in signature.parameters.items() if p.kind not in _VARIABLE}
        open_ended = len(known) < len(signature.parameters)
        wanted = {name for name, p in known.items() if p.default is inspect.Parameter.empty}
        order = [*known]

        @functools.wraps(function)
        def call(*args: Args.args, **kwargs: Args.kwargs) -> Result:
            for name in kwargs:
                if name not in known and (name in habits or not open_ended):
                    hint = habits.get(name) or did_you_mean(name, known)
                    raise TypeError(f"{_name(function)} has no option {name!r}: {hint}.")
            missing = wanted - set(order[: len(args)]) - set(kwargs)
            if len(args) > positional or missing:
                found = f"lacks {', '.join(sorted(missing))}" if missing else "was given too much"
                raise TypeError(f"{_name(function)} {found}: write {instead}.")
            return function(*args, **kwargs)

        return call

    return decorate


def tensor_of(name: str, value: object, dtype: str = "") -> str:
    """The code that makes a tensor from an array, a list or a data frame of that name."""
    array = f"{name}.to_numpy()" if hasattr(value, "to_numpy") else name
    return f"torch.as_tensor({array}{dtype and f', dtype={dtype}'})"


_VARIABLE = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)


def _name(function: Callable[..., Any]) -> str:
    return function.__qualname__.removesuffix(".__init__")
