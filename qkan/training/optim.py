"""The optimizers and schedulers that `fit` knows by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, ReduceLROnPlateau

from qkan._options import check_choice
from qkan.errors import QKANError
from qkan.nn.activation import DARUAN
from qkan.nn.parameter_groups import param_groups

from .lbfgs import LBFGS

OptimizerLike = str | torch.optim.Optimizer | Callable[[Any], torch.optim.Optimizer]
"""A name, an optimizer, or a function from a list of parameters to an optimizer."""

SchedulerLike = str | Callable[[torch.optim.Optimizer], LRScheduler]
"""A name, or a function from an optimizer to a scheduler."""

SCHEDULERS = ("cosine", "plateau")
"""Schedulers by name: CosineAnnealingLR over all steps, and ReduceLROnPlateau."""

_DEFAULT_LR = {"LBFGS": 1.0, "Adam": 1e-2, "AdamW": 1e-3}


def make_optimizer(
    optimizer: OptimizerLike, model: nn.Module, lr: float | None, angle_lr: float | None = None
) -> torch.optim.Optimizer:
    """Return the optimizer that `fit(model, optimizer=…, lr=…)` asks for."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trainable:
        raise QKANError(
            "Nothing to train: the model has no parameter with requires_grad; "
            "unfreeze some with parameter.requires_grad_()."
        )
    if lr is not None and not (isinstance(lr, Real | Tensor) and math.isfinite(lr) and lr > 0):
        raise QKANError(f"lr={lr!r}; wanted a finite number above 0, or None.")
    if isinstance(optimizer, str):
        return _of_class(_by_name(optimizer), model, trainable, lr, angle_lr)
    if isinstance(optimizer, type) and issubclass(optimizer, torch.optim.Optimizer):
        return _of_class(optimizer, model, trainable, lr, angle_lr)
    for name, value in (("lr", lr), ("angle_lr", angle_lr)):
        if value is not None:
            raise QKANError(
                f"{name}={value!r} was passed with an optimizer of your own; set the learning rate "
                f"there, and leave {name} out."
            )
    made: Any = optimizer
    if not isinstance(made, torch.optim.Optimizer) and callable(made):
        made = made(trainable)
    if not isinstance(made, torch.optim.Optimizer):
        raise QKANError(
            f"optimizer={optimizer!r}: wanted a name, an optimizer, or a function from a list of "
            f"parameters to a torch optimizer; got {type(made).__name__}."
        )
    held = {id(parameter) for group in made.param_groups for parameter in group["params"]}
    if not any(id(parameter) in held for parameter in trainable):
        raise QKANError("The optimizer holds none of this model's trainable parameters.")
    return made


def make_scheduler(
    scheduler: SchedulerLike | None, optimizer: torch.optim.Optimizer, steps: int
) -> LRScheduler | None:
    """Return the scheduler that `fit(scheduler=…, steps=…)` asks for."""
    if scheduler is None:
        return None
    if isinstance(scheduler, str):
        more = "Or pass a function from an optimizer to a scheduler."
        check_choice("scheduler", scheduler, SCHEDULERS, more)
        if scheduler == "cosine":
            return CosineAnnealingLR(optimizer, T_max=steps)
        return ReduceLROnPlateau(optimizer)
    made = scheduler(optimizer) if callable(scheduler) else scheduler
    if not isinstance(made, LRScheduler):
        raise QKANError(
            f"scheduler={scheduler!r}: wanted a function from an optimizer to a torch scheduler, "
            f"got {type(made).__name__}."
        )
    return made


def describe_optimizer(optimizer: torch.optim.Optimizer) -> str:
    """Identify an optimizer by its class and the options of its parameter groups."""
    groups = [
        {name: value for name, value in group.items() if name not in ("params", "param_names")}
        for group in optimizer.param_groups
    ]
    return f"{type(optimizer).__qualname__} {groups}"


def describe_scheduler(scheduler: LRScheduler | None) -> str:
    """Identify a scheduler by its class and those of its options that are plain values."""
    if scheduler is None:
        return "None"
    plain = (int, float, str)
    state = {k: v for k, v in scheduler.state_dict().items() if isinstance(v, plain)}
    return f"{type(scheduler).__qualname__} {state}"


def _by_name(name: str) -> type[torch.optim.Optimizer]:
    known = {
        key.lower(): value
        for key, value in vars(torch.optim).items()
        if isinstance(value, type)
        and issubclass(value, torch.optim.Optimizer)
        and value is not torch.optim.Optimizer
    }
    known["lbfgs"] = LBFGS
    check_choice("optimizer", name.lower(), known)
    return known[name.lower()]


def _of_class(
    cls: type[torch.optim.Optimizer],
    model: nn.Module,
    trainable: list[nn.Parameter],
    lr: float | None,
    angle_lr: float | None,
) -> torch.optim.Optimizer:
    lr = _DEFAULT_LR.get(cls.__name__) if lr is None else lr
    options: dict[str, Any] = {} if lr is None else {"lr": lr}
    if issubclass(cls, torch.optim.LBFGS):
        if angle_lr is not None:
            raise QKANError(
                f"angle_lr={angle_lr!r} with LBFGS, which finds the length of its step for all "
                "parameters at once; leave it out, or use optimizer='adam' or 'adamw'."
            )
        if not issubclass(cls, LBFGS):
            options |= {"line_search_fn": "strong_wolfe"}
        return cls(trainable, **options)
    decays = issubclass(cls, torch.optim.AdamW)
    if lr is None and angle_lr is not None:
        raise QKANError(
            f"angle_lr={angle_lr!r} was passed without lr; pass the learning rate of the weights, "
            "too."
        )
    if lr is not None and (decays or angle_lr is not None or _has_activations(model)):
        groups = param_groups(model, lr, angle_lr=angle_lr)
        if not decays:
            for group in groups:
                del group["weight_decay"]
        return cls(groups, **options)
    return cls(trainable, **options)


def _has_activations(model: nn.Module) -> bool:
    return any(isinstance(module, DARUAN) for module in model.modules())
