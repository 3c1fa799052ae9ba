"""The parts of a layer beside its circuits: base activation, bias and mask."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from .base_activations import BASE_ACTIVATIONS, BASES
from .call import Gradients, LayerCall, LayerTensors, masked


def with_base(out: Tensor, tensors: LayerTensors, base: str | None) -> Tensor:
    """Return out + base(x) · base_weightᵀ + bias, for out (b, o); differentiable.

    With out (b, o, a) they are added to the value of each observable.
    """
    x, *_, base_weight, bias, mask = tensors
    if out.ndim > 2:
        return out + with_base(out.new_zeros(1, 1), tensors, base).unsqueeze(-1)
    if base is not None and base_weight is not None:
        return out + F.linear(BASES[base](x), masked(base_weight, mask), bias)
    return out if bias is None else out + bias


def add_base_(out: Tensor, call: LayerCall) -> Tensor:
    """Add base(x) · base_weightᵀ to an output in place, outside autograd."""
    base, (x, *_, base_weight, _, mask) = call.request.base, call.tensors
    if base is not None and base_weight is not None:
        out.addmm_(BASES[base](x), masked(base_weight, mask).T)
    return out


def backward_beside(call: LayerCall, grad: Tensor, circuits: Gradients) -> Gradients:
    """Add the base activation and the bias to the gradients of a layer's circuits, without
    autograd.

    Args:
        call: The call, whose `needs` say which gradients are needed.
        grad: The gradient of the output.
        circuits: The gradients by the tensors of `call.circuits`: x, theta, scale, shift, and the
            weight times the mask. The part of the base activation is added to the first one in
            place.

    Returns:
        The gradients by all tensors of the call.
    """
    dx, dtheta, dscale, dshift, dweight = circuits
    base, (x, *_, base_weight, bias, mask), needs = call.request.base, call.tensors, call.needs
    dweight = None if dweight is None else masked(dweight, mask)
    dbase = None
    if base is not None and base_weight is not None:
        if needs[5]:
            dbase = masked(grad.T @ BASES[base](x), mask)
        if needs[0]:
            extra = BASE_ACTIVATIONS[base].backward(grad @ masked(base_weight, mask), x)
            dx = extra if dx is None else dx.add_(extra)
    dbias = grad.sum(0) if needs[6] and bias is not None else None
    return dx, dtheta, dscale, dshift, dweight, dbase, dbias, None
