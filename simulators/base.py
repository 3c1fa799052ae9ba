"""The base activation of a layer: what stands beside the circuits on every edge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

BASES: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "relu": F.relu,
    "tanh": torch.tanh,
    "identity": lambda x: x,
}
"""Base activations by name."""

_BACKWARD: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "silu": torch.ops.aten.silu_backward,
    "gelu": torch.ops.aten.gelu_backward,
    "relu": lambda grad, x: torch.ops.aten.threshold_backward(grad, x, 0),
    "tanh": lambda grad, x: torch.ops.aten.tanh_backward(grad, x.tanh()),
    "identity": lambda grad, x: grad,
}
"""From the gradient of base(x), and x, to that of x."""


class LayerTensors(NamedTuple):
    """The parameters of a layer: o outputs, i inputs, k theta slots, u encodings.

    Attributes:
        theta: (o, i, k), radians.
        scale: (o, i, u), or (u,) when it is the same on every edge.
        shift: (o, i, u), radians.
        weight: (o, i).
        base_weight: (o, i), or None for no base activation.
        bias: (o,), or None.
        mask: (o, i) that multiplies weight and base_weight, or None.
    """

    theta: Tensor
    scale: Tensor
    shift: Tensor
    weight: Tensor
    base_weight: Tensor | None = None
    bias: Tensor | None = None
    mask: Tensor | None = None


def masked(weight: Tensor, mask: Tensor | None) -> Tensor:
    """The weights of the edges that are left, in their own dtype, whatever that of the mask."""
    return weight if mask is None else weight * mask.to(weight.dtype)


def with_base(out: Tensor, x: Tensor, base: str | None, tensors: LayerTensors) -> Tensor:
    """Return out + base(x) · base_weightᵀ + bias, for out (b, o) and x (b, i)."""
    if base is not None and tensors.base_weight is not None:
        weight = masked(tensors.base_weight, tensors.mask)
        return out + F.linear(BASES[base](x), weight, tensors.bias)
    return out if tensors.bias is None else out + tensors.bias


def add_base_(out: Tensor, x: Tensor, base: str | None, tensors: LayerTensors) -> Tensor:
    """The same, in place and outside autograd, the bias being there already."""
    if base is not None and tensors.base_weight is not None:
        out.addmm_(BASES[base](x), masked(tensors.base_weight, tensors.mask).T)
    return out


def base_backward(
    grad: Tensor, x: Tensor, base: str | None, tensors: LayerTensors, needs: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The gradients that `with_base` adds by x, and those by base_weight and bias.

    `needs` says which of the three are wanted; the others are None.
    """
    dbias = grad.sum(0) if needs[2] else None
    if base is None or tensors.base_weight is None or not (needs[0] or needs[1]):
        return None, None, dbias
    dweight = masked(grad.T @ BASES[base](x), tensors.mask) if needs[1] else None
    if not needs[0]:
        return None, dweight, dbias
    dx = _BACKWARD[base](grad @ masked(tensors.base_weight, tensors.mask), x)
    return dx, dweight, dbias
