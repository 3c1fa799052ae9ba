"""`param_groups`: parameter groups for AdamW, with angles but without their weight decay."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from qkan._options import as_number
from qkan.errors import QKANError

from .activation import DARUAN
from .kan import KANLayer
from .layer import QKANLayer

_ANGLES = ("theta", "scale", "shift")
_FASTER = 10.0
"""The default ratio of the learning rates of a `DARUAN`'s parameters and of weights."""


def param_groups(
    model: nn.Module, lr: float, weight_decay: float = 0.01, *, angle_lr: float | None = None
) -> list[dict[str, Any]]:
    """Put trainable parameters in groups: with weight decay, without it, and those of angles.

    Weight decay pulls a parameter to 0, which is no better than any other value of an angle. So
    theta, scale and shift of every `QKANLayer` and of every circuit in a `KAN` get none, and
    neither do parameters with fewer than two dimensions, such as biases and the gains of norms. If
    an angle is computed from parameters, by `torch.nn.utils.parametrize` or by a hook, those
    parameters get none.

    The angles, scales, shifts and amplitudes of a `DARUAN` get a higher learning rate than weights:
    at the same rate, an activation hardly changes while the weights are trained.

    Args:
        model: Any module.
        lr: The learning rate of the weights.
        weight_decay: The weight decay of the first group.
        angle_lr: The learning rate of the angles, scales, shifts and amplitudes of all circuits.
            None means ten times lr for those of a `DARUAN`, and lr for those of layers.

    Returns:
        Groups for any torch optimizer; an empty one is left out.

    Raises:
        QKANError: No module, or a rate that cannot be right.

    Example:
        >>> import torch
        >>> from qkan import QKANLayer
        >>> groups = param_groups(QKANLayer(3, 2), lr=1e-3, weight_decay=0.1)
        >>> [(group["weight_decay"], len(group["params"])) for group in groups]
        [(0.1, 2), (0.0, 4)]
        >>> optimizer = torch.optim.AdamW(groups)
    """
    if not isinstance(model, nn.Module):
        raise QKANError(f"param_groups: the model is a {type(model).__name__}; pass a module.")
    for name, rate in (("lr", lr), ("weight_decay", weight_decay)):
        if not 0 <= as_number(rate) < math.inf:
            raise QKANError(f"{name}={rate!r}; wanted a finite number, 0 or more.")
    if angle_lr is not None and not 0 < as_number(angle_lr) < math.inf:
        raise QKANError(f"angle_lr={angle_lr!r}; wanted a finite number above 0, or None.")
    spared = {id(leaf): module for module in model.modules() for leaf in _spared(module)}
    decayed: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    angles: list[nn.Parameter] = []
    for parameter in model.parameters():
        module = spared.get(id(parameter))
        if not parameter.requires_grad:
            continue
        if module is not None and (angle_lr is not None or isinstance(module, DARUAN)):
            angles.append(parameter)
        elif module is not None or parameter.ndim < 2:
            rest.append(parameter)
        else:
            decayed.append(parameter)
    faster = _FASTER * lr if angle_lr is None else angle_lr
    rates = ((decayed, lr, weight_decay), (rest, lr, 0.0), (angles, faster, 0.0))
    return [
        {"params": found, "lr": rate, "weight_decay": decay}
        for found, rate, decay in rates
        if found
    ]


def _spared(module: nn.Module) -> Iterator[Tensor]:
    """Yield the parameters behind the angles that a module holds itself."""
    for angle in _angles(module):
        yield from _leaves(angle)


@torch.enable_grad()
def _angles(module: nn.Module) -> list[Tensor]:
    """Return the angles, scales and shifts of the circuits that a module holds itself."""
    if isinstance(module, QKANLayer):
        return [getattr(module, name) for name in _ANGLES]
    if isinstance(module, DARUAN):
        return [module.amplitude, *(getattr(module, name) for name in _ANGLES)]
    if isinstance(module, KANLayer):
        circuits = zip(module.bases, module.coefficients, strict=True)
        own: Any = [part for basis, part in circuits if basis.name == "daruan"]
        return [angle for part in own for angle in part.values()]
    return []


def _leaves(value: Tensor) -> Iterator[Tensor]:
    """Yield the parameters that a value was computed from, or the value itself if it is one."""
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
