"""Optimizers and schedulers by name, and the parameter groups that AdamW needs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, ReduceLROnPlateau

from qkan.circuits import did_you_mean
from qkan.errors import QKANError
from qkan.nn.kan import KANLayer
from qkan.nn.layer import QKANLayer

OptimizerLike = str | torch.optim.Optimizer | Callable[[Any], torch.optim.Optimizer]
"""A name, an optimizer, or what makes one from a list of parameters."""

SchedulerLike = str | Callable[[torch.optim.Optimizer], LRScheduler]
"""A name, or what makes a scheduler from an optimizer."""

SCHEDULERS = ("cosine", "plateau")
"""Schedulers by name: CosineAnnealingLR over all steps, and ReduceLROnPlateau."""

_DEFAULT_LR = {"LBFGS": 1.0, "Adam": 1e-2, "AdamW": 1e-3}
_ANGLES = ("theta", "scale", "shift")


def param_groups(model: nn.Module, lr: float, weight_decay: float = 0.01) -> list[dict[str, Any]]:
    """Trainable parameters in two groups: with weight decay, and without.

    Weight decay pulls a parameter to 0, and 0 means nothing to an angle: theta, scale and shift
    of every `QKANLayer` and of every edge of a `KAN` that is a circuit are spared, and so is what
    has fewer than two dimensions, biases and the gains of norms. Where an angle is computed from
    parameters, by `torch.nn.utils.parametrize` or by a hook, those are spared.

    Args:
        model: Any module.
        lr: Learning rate of both groups.
        weight_decay: Of the first group.

    Returns:
        Groups for any torch optimizer; an empty one is left out.

    Example:
        >>> import torch
        >>> from qkan import QKANLayer
        >>> groups = param_groups(QKANLayer(3, 2), lr=1e-3, weight_decay=0.1)
        >>> [(group["weight_decay"], len(group["params"])) for group in groups]
        [(0.1, 2), (0.0, 4)]
        >>> optimizer = torch.optim.AdamW(groups)
    """
    angles = [angle for module in model.modules() for angle in _angles(module)]
    spared = {id(parameter) for angle in angles for parameter in _sources(angle)}
    groups: list[dict[str, Any]] = [
        {"params": [], "lr": lr, "weight_decay": weight_decay},
        {"params": [], "lr": lr, "weight_decay": 0.0},
    ]
    for parameter in model.parameters():
        if parameter.requires_grad:
            groups[parameter.ndim < 2 or id(parameter) in spared]["params"].append(parameter)
    return [group for group in groups if group["params"]]


@torch.enable_grad()
def _angles(module: nn.Module) -> list[Tensor]:
    """The angles, scales and shifts of the circuits that a module holds itself."""
    if isinstance(module, QKANLayer):
        return [getattr(module, name) for name in _ANGLES]
    if isinstance(module, KANLayer):
        circuits = zip(module.bases, module.coefficients, strict=True)
        own: Any = [part for basis, part in circuits if basis.name == "daruan"]
        return [angle for part in own for angle in part.values()]
    return []


def _sources(value: Tensor) -> Iterator[Tensor]:
    """The tensors that autograd leads a value back to; the value itself where it is one."""
    if value.grad_fn is None:
        yield value
    seen, waiting = set[Any](), [value.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [before for before, _ in node.next_functions]
            if hasattr(node, "variable"):
                yield node.variable


def make_optimizer(
    optimizer: OptimizerLike, model: nn.Module, lr: float | None
) -> torch.optim.Optimizer:
    """Return the optimizer that `fit(model, optimizer=…, lr=…)` asks for.

    Raises:
        QKANError: An unknown name, an lr that cannot be right or that has no place here, nothing
            to train, or an optimizer of other parameters.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trainable:
        raise QKANError(
            "Nothing to train: the model has no parameter with requires_grad; "
            "unfreeze some with parameter.requires_grad_()."
        )
    if lr is not None and not (isinstance(lr, Real | Tensor) and math.isfinite(lr) and lr > 0):
        raise QKANError(f"lr={lr!r}: a finite number above 0, or None.")
    if isinstance(optimizer, str):
        return _of_class(_by_name(optimizer), model, trainable, lr)
    if isinstance(optimizer, type) and issubclass(optimizer, torch.optim.Optimizer):
        return _of_class(optimizer, model, trainable, lr)
    if lr is not None:
        raise QKANError(
            f"lr={lr!r} beside an optimizer of your own: set the learning rate there, "
            "and leave lr out."
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
    """Return the scheduler that `fit(scheduler=…, steps=…)` asks for.

    Raises:
        QKANError: An unknown name, or a function that makes no scheduler.
    """
    if scheduler is None:
        return None
    if isinstance(scheduler, str):
        if scheduler not in SCHEDULERS:
            raise QKANError(
                f"Unknown scheduler {scheduler!r}. {did_you_mean(scheduler, SCHEDULERS)} "
                "Or a function from an optimizer to a scheduler."
            )
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
    """Say which optimizer this is: its class, and the options of its parameter groups."""
    groups = [
        {name: value for name, value in group.items() if name not in ("params", "param_names")}
        for group in optimizer.param_groups
    ]
    return f"{type(optimizer).__qualname__} {groups}"


def describe_scheduler(scheduler: LRScheduler | None) -> str:
    """Say which scheduler this is: its class, and its options as far as they are plain values."""
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
    if name.lower() not in known:
        raise QKANError(f"Unknown optimizer {name!r}. {did_you_mean(name.lower(), known)}")
    return known[name.lower()]


def _of_class(
    cls: type[torch.optim.Optimizer],
    model: nn.Module,
    trainable: list[nn.Parameter],
    lr: float | None,
) -> torch.optim.Optimizer:
    lr = _DEFAULT_LR.get(cls.__name__) if lr is None else lr
    options: dict[str, Any] = {} if lr is None else {"lr": lr}
    if issubclass(cls, torch.optim.LBFGS):
        return cls(trainable, max_iter=20, line_search_fn="strong_wolfe", **options)
    if issubclass(cls, torch.optim.AdamW) and lr is not None:
        return cls(param_groups(model, lr), **options)
    return cls(trainable, **options)
