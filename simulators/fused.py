"""Engines with a hand-written backward pass, and the one bridge from them to autograd.

A fused engine computes values and gradients on plain tensors; this file gives it what torch users
expect: autograd, second derivatives and `torch.func` transforms (through the torch engine), and a
place inside `torch.compile` (as an operator with a shape rule).
"""

from __future__ import annotations

import functools
import json
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from qkan.circuits import from_json, lower

from .base import LayerTensors, add_base_, base_backward, masked
from .bloch import TorchEngine, differentiable_backward
from .engine import Engine, Request

Inputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]
Gradients = tuple[Tensor | None, ...]


class FusedEngine(Engine):
    """An engine that implements `forward` and `backward` on detached tensors.

    `weight` is None when the value of each edge is wanted, (b, o, i), else the weighted sum over
    the inputs, (b, o). Tensors have the shapes of `Engine.edges`, with scale always (o, i, u).
    """

    @abstractmethod
    def forward(self, request: Request, inputs: Inputs) -> Tensor:
        """The values, from (x, theta, scale, shift, weight)."""

    @abstractmethod
    def backward(
        self,
        request: Request,
        grad: Tensor,
        inputs: Inputs,
        needs: Sequence[bool],
        state: Any = None,
    ) -> Gradients:
        """The gradients of Σ grad·values; None where `needs` says that nobody asks."""

    def forward_keeping(
        self, request: Request, inputs: Inputs, bias: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        """The values and a bias (o,), and what `backward` takes as its state: small, not needed."""
        out = self.forward(request, inputs)
        return out if bias is None else out.add_(bias), None

    def edges(
        self, request: Request, x: Tensor, theta: Tensor, scale: Tensor, shift: Tensor
    ) -> Tensor:
        """φ on every edge."""
        return self._apply(request, (x, theta, scale, shift, None))

    def layer(
        self,
        request: Request,
        x: Tensor,
        theta: Tensor,
        scale: Tensor,
        shift: Tensor,
        weight: Tensor,
    ) -> Tensor:
        """Σ_i weight[o, i]·φ_oi(x[b, i])."""
        return self._apply(request, (x, theta, scale, shift, weight))

    def whole(self, request: Request, x: Tensor, tensors: LayerTensors) -> Tensor:
        """A layer with its mask, base activation and bias, as one node of the graph."""
        mask = tensors.mask
        if (
            torch.compiler.is_compiling()
            or torch._C._are_functorch_transforms_active()
            or (mask is not None and mask.requires_grad)
        ):
            return super().whole(request, x, tensors)
        tensors = tensors._replace(**_expanded(request, tensors.scale, tensors.shift))
        if not torch.is_grad_enabled():
            return self.whole_keeping(request, x, tensors)[0]
        return _Whole.apply(  # type: ignore[no-any-return, no-untyped-call]
            self, request, x, *tensors
        )

    def whole_keeping(
        self, request: Request, x: Tensor, tensors: LayerTensors
    ) -> tuple[Tensor, Any]:
        """The output of a whole layer on detached tensors, and a state for `whole_backward`."""
        theta, scale, shift, weight, _, bias, mask = tensors
        inputs = (x, theta, scale, shift, masked(weight, mask))
        out, state = self.forward_keeping(request, inputs, bias)
        return add_base_(out, x, request.base, tensors), state

    def whole_backward(
        self,
        request: Request,
        grad: Tensor,
        x: Tensor,
        tensors: LayerTensors,
        needs: Sequence[bool],
        state: Any,
    ) -> Gradients:
        """The gradients of Σ grad·output by x and each tensor but the mask; None unless needed."""
        theta, scale, shift, weight, *_, mask = tensors
        inputs = (x, theta, scale, shift, masked(weight, mask))
        dx, dtheta, dscale, dshift, dweight = self.backward(request, grad, inputs, needs[:5], state)
        if dweight is not None:
            dweight = masked(dweight, mask)
        wanted = (needs[0], *needs[5:7])
        extra, dbase, dbias = base_backward(grad, x, request.base, tensors, wanted)
        if dx is not None and extra is not None:
            dx += extra
        return dx, dtheta, dscale, dshift, dweight, dbase, dbias, None

    def _apply(self, request: Request, inputs: Inputs) -> Tensor:
        x, theta, scale, shift, weight = inputs
        scale, shift = _expanded(request, scale, shift).values()
        if torch.compiler.is_compiling():
            text, fixed = request.program.text, request.fixed_scale
            return fused(  # type: ignore[no-any-return]
                self.name, text, fixed, x, theta, scale, shift, weight
            )
        if torch._C._are_functorch_transforms_active():
            return plain(request, (x, theta, scale, shift, weight))
        if not torch.is_grad_enabled():
            return self.forward(request, (x, theta, scale, shift, weight))
        return _Fused.apply(  # type: ignore[no-any-return, no-untyped-call]
            self, request, x, theta, scale, shift, weight
        )


def _expanded(request: Request, scale: Tensor, shift: Tensor) -> dict[str, Tensor]:
    """Scale and shift with one row an edge."""
    edges = (request.out_features, request.in_features, request.program.num_encodings)
    return {
        "scale": scale if scale.shape == edges else scale.expand(edges),
        "shift": shift if shift.shape == edges else shift.expand(edges),
    }


def without_autocast(tensor: Tensor) -> AbstractContextManager[object]:
    """A context in which operations on a tensor's device keep the precision of what they get."""
    kind = tensor.device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return torch.autocast(kind, enabled=False)
    return _AS_IT_IS


_AS_IT_IS = nullcontext()


def plain(request: Request, inputs: Inputs) -> Tensor:
    """The same values by the torch engine, differentiable to any order."""
    x, theta, scale, shift, weight = map(_single, inputs)
    engine = TorchEngine()
    if weight is None:
        values = engine.edges(request, x, theta, scale, shift)  # type: ignore[arg-type]
    else:
        values = engine.layer(request, x, theta, scale, shift, weight)  # type: ignore[arg-type]
    return values.to(inputs[0].dtype)


def _plain_whole(request: Request, inputs: Sequence[Tensor | None]) -> Tensor:
    """The same of a whole layer, from x and its tensors."""
    x, *tensors = map(_single, inputs)
    values = TorchEngine().whole(request, x, LayerTensors(*tensors))  # type: ignore[arg-type]
    return values if inputs[0] is None else values.to(inputs[0].dtype)


def _single(tensor: Tensor | None) -> Tensor | None:
    """Half precision as float32, in which every engine computes it."""
    return tensor.float() if tensor is not None and tensor.dtype in _HALF else tensor


_HALF = (torch.bfloat16, torch.float16)


class _Fused(torch.autograd.Function):
    """The eager bridge; a backward pass that is differentiated again goes to the torch engine."""

    @staticmethod
    def forward(ctx: Any, engine: FusedEngine, request: Request, *inputs: Tensor | None) -> Tensor:
        ctx.engine, ctx.request = engine, request
        ctx.save_for_backward(*inputs)
        values, ctx.state = engine.forward_keeping(request, inputs)  # type: ignore[arg-type]
        return values

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Gradients:
        inputs, needs = ctx.saved_tensors, ctx.needs_input_grad[2:]
        if torch.is_grad_enabled():
            gradients = differentiable_backward(
                functools.partial(plain, ctx.request), grad, inputs, needs
            )
        else:
            with without_autocast(grad):
                gradients = ctx.engine.backward(ctx.request, grad, inputs, needs, ctx.state)
        return (None, None, *gradients)


class _Whole(torch.autograd.Function):
    """The same bridge for a whole layer."""

    @staticmethod
    def forward(
        ctx: Any, engine: FusedEngine, request: Request, x: Tensor, *tensors: Tensor | None
    ) -> Tensor:
        ctx.engine, ctx.request = engine, request
        ctx.save_for_backward(x, *tensors)
        out, ctx.state = engine.whole_keeping(
            request,
            x,
            LayerTensors(*tensors),  # type: ignore[arg-type]
        )
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Gradients:
        inputs, needs, request = ctx.saved_tensors, ctx.needs_input_grad[2:], ctx.request
        if torch.is_grad_enabled():
            gradients = differentiable_backward(
                functools.partial(_plain_whole, request), grad, inputs, needs
            )
        else:
            x, *tensors = inputs
            with without_autocast(grad):
                gradients = ctx.engine.whole_backward(
                    request, grad, x, LayerTensors(*tensors), needs, ctx.state
                )
        return (None, None, *gradients)


@functools.lru_cache(maxsize=1024)
def _program(text: str) -> Any:
    return lower(from_json(json.loads(text)))


def _request(
    circuit: str, fixed_scale: Sequence[float] | None, x: Tensor, theta: Tensor, per_edge: bool
) -> Request:
    fixed = None if fixed_scale is None else tuple(fixed_scale)
    return Request(
        _program(circuit), x.shape[0], theta.shape[0], x.shape[1], x.dtype, x.device, fixed,
        per_edge,
    )  # fmt: skip


@torch.library.custom_op("qkan::fused", mutates_args=())
def fused(
    engine: str,
    circuit: str,
    fixed_scale: Sequence[float] | None,
    x: Tensor,
    theta: Tensor,
    scale: Tensor,
    shift: Tensor,
    weight: Tensor | None,
) -> Tensor:
    """The operator that stands in a compiled graph: an engine's forward by the engine's name."""
    from .registry import get_engine

    request = _request(circuit, fixed_scale, x, theta, weight is None)
    chosen: Any = get_engine(engine)
    values: Tensor = chosen.forward(request, (x, theta, scale, shift, weight))
    return values


@torch.library.custom_op("qkan::fused_backward", mutates_args=())
def fused_backward(
    engine: str,
    circuit: str,
    fixed_scale: Sequence[float] | None,
    needs: Sequence[bool],
    grad: Tensor,
    x: Tensor,
    theta: Tensor,
    scale: Tensor,
    shift: Tensor,
    weight: Tensor | None,
) -> list[Tensor]:
    """Its backward; an empty tensor where nobody asks for a gradient."""
    from .registry import get_engine

    inputs = (x, theta, scale, shift, weight)
    chosen: Any = get_engine(engine)
    request = _request(circuit, fixed_scale, x, theta, weight is None)
    found = chosen.backward(request, grad, inputs, needs)
    return [x.new_empty(0) if g is None else g for g in found]


@fused.register_fake
def _(
    engine: str,
    circuit: str,
    fixed_scale: Sequence[float] | None,
    x: Tensor,
    theta: Tensor,
    scale: Tensor,
    shift: Tensor,
    weight: Tensor | None,
) -> Tensor:
    shape = (x.shape[0], theta.shape[0])
    return x.new_empty(shape if weight is not None else (*shape, x.shape[1]))


@fused_backward.register_fake
def _(
    engine: str,
    circuit: str,
    fixed_scale: Sequence[float] | None,
    needs: Sequence[bool],
    grad: Tensor,
    x: Tensor,
    theta: Tensor,
    scale: Tensor,
    shift: Tensor,
    weight: Tensor | None,
) -> list[Tensor]:
    inputs = (x, theta, scale, shift, weight)
    return [
        x.new_empty(0) if tensor is None or not need else x.new_empty(tensor.shape)
        for tensor, need in zip(inputs, needs, strict=True)
    ]


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.options = inputs[:3]
    ctx.save_for_backward(*inputs[3:])


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    needs = list(ctx.needs_input_grad[3:])
    with without_autocast(grad):
        found = fused_backward(*ctx.options, needs, grad, *ctx.saved_tensors)
    gradients = (g if need else None for g, need in zip(found, needs, strict=True))
    return (None, None, None, *gradients)


fused.register_autograd(_backward, setup_context=_setup_context)
