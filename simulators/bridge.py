"""The bridge from engines to torch: `run` evaluates a layer call by an engine.

An engine only computes values and gradients. The bridge adds what torch users expect: autograd;
second derivatives, forward mode and `torch.func` transforms, by the torch engine; `vmap` over
parameters; and one operator with a shape rule for `torch.compile` and for meta and fake tensors.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from qkan.circuits import Program, from_json

from .autocast import without_autocast
from .axes import call_of_each, joined
from .base_activations import BASES
from .bloch import TorchEngine
from .call import Gradients, LayerCall, LayerTensors, has_values, layer_call, masked
from .engine import Engine
from .registry import get_engine, select

_FALLBACK = TorchEngine()


def run(engine: Engine, call: LayerCall) -> Tensor:
    """Evaluate a call by an engine that does not refuse it.

    Returns:
        The output (b, o), or without a weight the values of all edges (b, o, i), differentiable in
        every tensor of the call. Several observables add an axis a at the end.
    """
    program = call.request.program
    if program.axes is not None and not engine.reads_several:
        out = run(engine, call_of_each(engine, call))
        return joined(out, program.axes, call.request.per_edge)
    if engine.plain(call):
        return engine.forward(call)[0]
    request, tensors, _ = call
    if tensors.mask is not None and tensors.mask.requires_grad:
        return _FALLBACK.forward(call)[0]
    # a compiler evaluates only the first condition of `has_values`
    if not has_values(tensors.x) or is_observed():
        return _run_recorded(engine, call)
    if not torch.is_grad_enabled():
        return engine.forward(call)[0]
    return _Layer.apply(engine, request, *tensors)  # type: ignore[no-any-return, no-untyped-call]


def is_observed() -> bool:
    """Whether forward mode or a dispatch mode needs to see every operator."""
    return forward_ad._current_level >= 0 or torch._C._len_torch_dispatch_stack() > 0


def are_many(grad: Tensor) -> bool:
    """Whether a gradient is a batch of gradients, as from `is_grads_batched`."""
    functorch = torch._C._functorch
    return bool(
        functorch.is_legacy_batchedtensor(grad) or functorch.is_functorch_wrapped_tensor(grad)
    )


def _run_recorded(engine: Engine, call: LayerCall) -> Tensor:
    """Evaluate a call that is compiled, traced, transformed or observed, or has no values.

    Transforms that differentiate operators themselves get plain operators; all others get one
    operator.
    """
    transformed = torch._C._are_functorch_transforms_active() and not _only_vmap()
    traced = not torch.compiler.is_compiling() and (
        torch._C._is_tracing() or forward_ad._current_level >= 0
    )
    return _FALLBACK.forward(call)[0] if transformed or traced else _operator(engine, call)


def _only_vmap() -> bool:
    """Whether all active `torch.func` transforms are `vmap`."""
    stack = torch._C._functorch.get_interpreter_stack() or []
    kind = torch._C._functorch.TransformType.Vmap
    return all(interpreter.key() == kind for interpreter in stack)


# a compiler then calls it instead of tracing it; the public decorator would import the compiler
_only_vmap._dynamo_marked_constant = True  # type: ignore[attr-defined]


class _Layer(torch.autograd.Function):
    """A call as one node of autograd's graph.

    If the backward pass is differentiated again, or gets many gradients at once, the torch engine
    computes it.
    """

    @staticmethod
    def forward(ctx: Any, engine: Engine, request: Any, *tensors: Tensor | None) -> Tensor:
        ctx.engine, ctx.request = engine, request
        ctx.save_for_backward(*tensors)
        call = LayerCall(request, LayerTensors(*tensors))  # type: ignore[arg-type]
        out, ctx.state = engine.forward(call)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Gradients:
        call = LayerCall(ctx.request, LayerTensors(*ctx.saved_tensors), ctx.needs_input_grad[2:])
        if torch.is_grad_enabled() or are_many(grad):
            found = _differentiable_backward(call, grad)
        else:
            with without_autocast(grad):
                found = ctx.engine.backward(call, grad, ctx.state)
        return (None, None, *found)


def _differentiable_backward(call: LayerCall, grad: Tensor) -> Gradients:
    """The gradients by the torch engine, as a graph that can be differentiated again."""
    with torch.enable_grad():
        output = _FALLBACK.forward(call)[0]
    return graph_of_gradients(output, call.tensors, call.needs, grad)


def graph_of_gradients(
    output: Tensor, tensors: Sequence[Tensor | None], needs: Sequence[bool], grad: Tensor
) -> Gradients:
    """Return differentiable gradients of an output by the tensors that need one."""
    wanted: Any = [tensor for tensor, need in zip(tensors, needs, strict=True) if need]
    with torch.enable_grad():
        found = iter(
            torch.autograd.grad(output, wanted, grad, create_graph=True, allow_unused=True)
        )
    return tuple(next(found) if need else None for need in needs)


_TENSORS = ", ".join(
    f"Tensor{'?' if name in LayerTensors._field_defaults else ''} {name}"
    for name in LayerTensors._fields
)
_OPTIONS = "str engine, str circuit, float[]? fixed_scale, str? base"


@functools.lru_cache(maxsize=1024)
def _program(text: str) -> Program:
    return from_json(json.loads(text.replace("'", '"'))).program


def _from_arguments(
    engine: str, circuit: str, fixed: Sequence[float] | None, base: str | None,
    *tensors: Tensor | None,
) -> tuple[Engine, LayerCall]:  # fmt: skip
    """The engine and the call for the arguments of an operator."""
    held = LayerTensors(*tensors)  # type: ignore[arg-type]
    scales = None if fixed is None else tuple(fixed)
    return get_engine(engine), layer_call(_program(circuit), held, scales, base)


def _operator(engine: Engine, call: LayerCall) -> Tensor:
    """Evaluate a call as one operator, for graphs, dispatch modes and tensors without values."""
    request = call.request
    return _layer(  # type: ignore[no-any-return]
        # a compiler that writes C++ puts the text between quotes without escaping it
        engine.name,
        request.program.text.replace('"', "'"),
        request.fixed_scale,
        request.base,
        *call.tensors,
    )


def _layer_values(*arguments: Any) -> Tensor:
    engine, call = _from_arguments(*arguments)
    return engine.forward(call)[0]


def _layer_gradients(*arguments: Any) -> list[Tensor]:
    """The gradients, with an empty tensor where none is needed."""
    options, needs, grad, tensors = arguments[:4], arguments[4], arguments[5], arguments[6:]
    engine, call = _from_arguments(*options, *tensors)
    found = engine.backward(call._replace(needs=needs), grad, None)
    return [grad.new_empty(0) if g is None else g for g in found]


_layer: Any = torch.library.custom_op(
    "qkan::layer", _layer_values, mutates_args=(), schema=f"({_OPTIONS}, {_TENSORS}) -> Tensor"
)
_layer_backward: Any = torch.library.custom_op(
    "qkan::layer_backward", _layer_gradients, mutates_args=(),
    schema=f"({_OPTIONS}, bool[] needs, Tensor grad, {_TENSORS}) -> Tensor[]",
)  # fmt: skip


@_layer.register_fake  # type: ignore[untyped-decorator]
def _(engine: str, circuit: str, fixed: Any, base: Any, *tensors: Tensor | None) -> Tensor:
    x, theta, _, _, weight, *_ = LayerTensors(*tensors)  # type: ignore[arg-type]
    shape = (x.shape[0], theta.shape[-3])
    ends = (x.shape[1] if weight is None else None, _program(circuit).axes)
    return x.new_empty((*shape, *(size for size in ends if size is not None)))


@_layer_backward.register_fake  # type: ignore[untyped-decorator]
def _(
    engine: str, circuit: str, fixed: Any, base: Any, needs: Sequence[bool], grad: Tensor,
    *tensors: Tensor | None,
) -> list[Tensor]:  # fmt: skip
    wanted = LayerTensors(*needs)._replace(base_weight=needs[5] and base is not None)  # type: ignore[arg-type]
    return [
        torch.empty_like(tensor) if need and tensor is not None else grad.new_empty(0)
        for tensor, need in zip(tensors, wanted, strict=True)
    ]


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.options = inputs[:4]
    ctx.save_for_backward(*inputs[4:])


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    tensors, needs = ctx.saved_tensors, list(ctx.needs_input_grad[4:])
    with without_autocast(grad):
        found = _layer_backward(*ctx.options, needs, grad, *tensors)
    # the gradient is empty for a tensor that the layer does not use: a base weight without a base
    gradients = (
        g if need and g.shape == tensor.shape else None
        for g, tensor, need in zip(found, tensors, needs, strict=True)
    )
    return (None, None, None, None, *gradients)


_layer.register_autograd(_backward, setup_context=_save_for_backward)


@_layer.register_vmap  # type: ignore[untyped-decorator]
def _(
    info: Any, in_dims: tuple[int | None, ...], engine: str, circuit: str, fixed: Any, base: Any,
    *tensors: Tensor | None,
) -> tuple[Tensor, int]:  # fmt: skip
    """Map the operator over a dimension of its tensors.

    If only x is mapped, the samples join the batch. If parameters are mapped and each set has one
    sample, this becomes a call with parameters per sample. Otherwise there is a call for each.
    """
    mapped = LayerTensors(*(dim is not None for dim in in_dims[4:]))  # type: ignore[arg-type]
    moved = [
        t if t is None or dim is None else t.movedim(dim, 0)
        for t, dim in zip(tensors, in_dims[4:], strict=True)
    ]
    held = LayerTensors(*moved)  # type: ignore[arg-type]
    program, fixed = _program(circuit), None if fixed is None else tuple(fixed)
    own = max(t.ndim - bool(m) for t, m in zip(held[1:4], mapped[1:4], strict=True)) > 3
    if not own and not any(mapped[1:]):
        joined = held._replace(x=held.x.flatten(0, 1))
        out = run(get_engine(engine), layer_call(program, joined, fixed, base))
        return out.unflatten(0, held.x.shape[:2]), 0
    if not own and held.x.shape[-2] == 1:
        return _own_parameters(program, held, mapped, fixed, base, info.batch_size), 0
    calls = []
    for n in range(info.batch_size):
        one = (t[n] if t is not None and m else t for t, m in zip(held, mapped, strict=True))
        calls.append(layer_call(program, LayerTensors(*one), fixed, base))  # type: ignore[arg-type]
    return torch.stack([run(select("auto", call.request), call) for call in calls]), 0


def _own_parameters(
    program: Program, held: LayerTensors, mapped: LayerTensors,
    fixed: tuple[float, ...] | None, base: str | None, batch: int,
) -> Tensor:  # fmt: skip
    """Evaluate one sample for each set of parameters, (batch, 1, …), in a single call."""
    x, theta, scale, shift, weight, base_weight, bias, mask = held
    x = x.squeeze(1) if mapped.x else x.expand(batch, -1)
    if fixed is not None:
        scale = theta.new_tensor(fixed)
    parts = LayerTensors(x, theta, scale, shift, None if weight is None else masked(weight, mask))
    call = layer_call(program, parts, fixed)
    out = run(select("auto", call.request), call)
    beside = x.new_zeros(1, 1) if bias is None else bias
    if base is not None and base_weight is not None:
        beside = (BASES[base](x).unsqueeze(-2) * masked(base_weight, mask)).sum(-1) + beside
    return (out + (beside if program.axes is None else beside.unsqueeze(-1))).unsqueeze(1)
