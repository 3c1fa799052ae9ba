"""For calls in the manner of other packages: what to write here instead."""

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


ESTIMATOR = {
    "hidden_layer_sizes": "pass hidden=(5,)",
    "units": "pass hidden=5",
    "layers": "pass hidden=(5, 5) for two hidden layers",
    "widths": "pass hidden=(5,); inputs and outputs follow from the data",
    "width": "pass hidden=(5,); inputs and outputs follow from the data",
    "max_iter": "pass steps=…; a step of LBFGS, the default, has 20 iterations",
    "epochs": "pass steps=…; a step of LBFGS, the default, has 20 iterations over all samples",
    "n_epochs": "pass steps=…",
    "max_epochs": "pass steps=…",
    "learning_rate": "pass lr=…",
    "learning_rate_init": "pass lr=…",
    "activation": "the activation is the circuit; pass base='silu' for the one beside it",
    "solver": "pass optimizer='lbfgs', 'adam' or another",
    "n_iter_no_change": "pass patience=…",
    "validation_split": "pass validation_fraction=… with early_stopping=True",
    "validation_data": "pass validation_fraction=… with early_stopping=True; to choose the data "
    "yourself, train a QKAN by fit(…, validation=(x, y))",
    "n_estimators": "there is one network, which hidden=… makes larger and steps=… trains longer; "
    "for an average of several: BaggingRegressor(QKANRegressor(), n_estimators=10)",
    "max_depth": "there are no trees; pass hidden=…",
    "C": "pass alpha=…, the penalty itself: where C grows, alpha falls",
    "penalty": "pass alpha=…, the strength of the one penalty",
    "l2": "pass alpha=…",
    "weight_decay": "pass alpha=…",
    "dropout": "pass alpha=… against overfitting",
    "loss": "a regressor takes the squared error and a classifier the cross entropy; for another "
    "train a QKAN by fit(…, loss=…)",
    "seed": "pass random_state=…",
    "generator": "pass random_state=…",
    "shuffle": "batches are drawn at random always",
    "callbacks": "early_stopping=… and patience=… are what there is; for more write a loop",
    "n_jobs": "torch.set_num_threads(…) sets the number of threads",
    "device": "an estimator computes on the CPU; to_module() is a torch module that moves",
    "grid": LAYER["grid"],
    "k": LAYER["k"],
    **dict.fromkeys(
        ("momentum", "nesterovs_momentum", "beta_1", "beta_2", "epsilon", "power_t"),
        "optimizers have torch's constants; with others train a QKAN by fit(…, optimizer=…)",
    ),
    "max_fun": "pass steps=… and tol=…",
}
"""What to write instead of an option that the estimators for tables do not have."""

ESTIMATOR_FIT = {
    "epochs": "options stand where it is made, QKANRegressor(steps=…)",
    "batch_size": "options stand where it is made, QKANRegressor(batch_size=…)",
    "verbose": "options stand where it is made, QKANRegressor(verbose=True)",
    "validation_split": "options stand where it is made, "
    "QKANRegressor(early_stopping=True, validation_fraction=…)",
    "validation_data": ESTIMATOR["validation_data"],
    "eval_set": ESTIMATOR["validation_data"],
    "callbacks": ESTIMATOR["callbacks"],
    "class_weight": "options stand where it is made, QKANClassifier(class_weight=…)",
}
"""What to write instead of an option that the `fit` of an estimator does not have."""


def guided(
    habits: Mapping[str, str], *, positional: int, instead: str
) -> Callable[[Callable[Args, Result]], Callable[Args, Result]]:
    """Decorate a function so that the errors of wrong calls say what to write instead.

    Args:
        habits: What to write instead, by name of an option that the function does not have.
        positional: The number of positional arguments that it takes, including self.
        instead: A correct call, shown for a call with too many arguments or too few.

    In messages, a method has the name of its object's class.
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
                    end = "" if hint.endswith(".") else "."
                    raise TypeError(f"{_name(function, args)} has no option {name!r}: {hint}{end}")
            missing = wanted - set(order[: len(args)]) - set(kwargs)
            if len(args) > positional or missing:
                found = f"lacks {', '.join(sorted(missing))}" if missing else "was given too much"
                raise TypeError(f"{_name(function, args)} {found}: write {instead}.")
            return function(*args, **kwargs)

        return call

    return decorate


def tensor_of(name: str, value: object, dtype: str = "") -> str:
    """Return the code that makes a tensor from an array, a list or a data frame of that name."""
    array = f"{name}.to_numpy()" if hasattr(value, "to_numpy") else name
    return f"torch.as_tensor({array}{dtype and f', dtype={dtype}'})"


_VARIABLE = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)


def _name(function: Callable[..., Any], args: tuple[object, ...]) -> str:
    owner, dot, name = function.__qualname__.rpartition(".")
    if dot and args:
        # the class may inherit the function
        owner = type(args[0]).__name__
    return f"{owner}{dot}{name}".removesuffix(".__init__")
