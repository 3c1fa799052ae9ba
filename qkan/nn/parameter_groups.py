"""`param_groups`: the parameter groups that AdamW needs, angles without weight decay."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from .kan import KANLayer
from .layer import QKANLayer

_ANGLES = ("theta", "scale", "shift")


def param_groups(model: nn.Module, lr: float, weight_decay: float = 0.01) -> list[dict[str, Any]]:
    """Put trainable parameters in two groups, one with weight decay and one without.

    Weight decay pulls a parameter to 0, which is no better than any other value of an angle. So
    theta, scale and shift of every `QKANLayer` and of every circuit in a `KAN` are spared, and
    parameters with fewer than two dimensions, such as biases and gains of norms. If an angle is
    computed from parameters, by `torch.nn.utils.parametrize` or by a hook, those are spared.

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
    spared = {id(parameter) for angle in angles for parameter in _leaves(angle)}
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
    """Return the angles, scales and shifts of the circuits that a module holds itself."""
    if isinstance(module, QKANLayer):
        return [getattr(module, name) for name in _ANGLES]
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
