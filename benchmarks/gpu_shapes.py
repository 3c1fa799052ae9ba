"""All launch shapes of the CUDA kernels on a few layers, beside the one that the rule takes.

`gpu.py` runs it. What comes out tells how far the rule is off on this card, and what its numbers
(`PREPARE`, `BUSY` in `simulators/cuda/plan.py`) should be.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from gpu_time import Clock
from session import Plan
from torch import Tensor

import qkan
from qkan.simulators import Request, get_engine
from qkan.simulators.cuda import calls as _cuda_calls
from qkan.simulators.cuda.calls import Call
from qkan.simulators.cuda.plan import (
    Sizes,
    backward_shape,
    backward_shapes,
    backward_steps,
    forward_shape,
    forward_shapes,
    forward_steps,
)
from qkan.simulators.cuda.source import Kernel

LAYERS = (
    (1000, 100, 100), (1, 10, 10), (64, 768, 10), (1000, 1, 1), (8192, 64, 64), (1024, 256, 256),
)  # fmt: skip
"""Batch, inputs, outputs."""
REPEATS = 10


class _Problem(NamedTuple):
    """A layer to launch, its output's gradient, and what the shapes depend on."""

    call: Call
    grad: Tensor
    there: Sizes
    back: Sizes


def sweep(plan: Plan, clock: Clock) -> dict[str, Any]:
    """Milliseconds of every launch shape by layer, forward and backward; none after the time."""
    sweeps = [_layer(*layer, plan) for layer in LAYERS if clock.left() > 0]
    ratios = {
        f"{'×'.join(map(str, one['layer']))} {direction}": one[direction]["rule_over_best"]
        for one in sweeps
        for direction in ("forward", "backward")
    }
    return {"rule_over_best": ratios, "sweeps": sweeps}


def _layer(batch: int, ins: int, outs: int, plan: Plan) -> dict[str, Any]:
    p = _problem(batch, ins, outs)
    kept = _cuda_calls.forward_shape, _cuda_calls.backward_shape
    found: dict[str, Any] = {"layer": (batch, ins, outs)}
    try:
        times = {}
        for shape in forward_shapes(p.there):
            _cuda_calls.forward_shape = lambda _, shape=shape: shape
            times[shape] = (_milliseconds(p.call.forward, plan), forward_steps(p.there, shape))
        found["forward"] = _told(times, forward_shape(p.there))
        times = {}
        for shape in backward_shapes(p.back):
            _cuda_calls.backward_shape = lambda _, shape=shape: shape
            back = lambda: p.call.backward(p.grad, (True,) * 7)  # noqa: E731
            times[shape] = (_milliseconds(back, plan), backward_steps(p.back, shape))
        found["backward"] = _told(times, backward_shape(p.back))
    finally:
        _cuda_calls.forward_shape, _cuda_calls.backward_shape = kept
    return found


def _problem(batch: int, ins: int, outs: int) -> _Problem:
    torch.manual_seed(0)
    layer = qkan.QKANLayer(ins, outs).cuda()
    x = torch.randn(batch, ins, device="cuda")
    kernel = Kernel(layer.program, x.dtype, None, "silu")
    engine: Any = get_engine("cupy")
    reason = engine.refuse(Request(layer.program, batch, outs, ins, device=x.device))
    if reason is not None:
        raise RuntimeError(f"The engine cupy refuses: {reason}")
    card = engine.card(kernel, x.device)
    tensors = (
        layer.theta, layer.scale, layer.shift, layer.weight, layer.base_weight, layer.bias, None,
    )  # fmt: skip
    call = Call(card, kernel, x, tensors)
    return _Problem(
        call, torch.randn(batch, outs, device="cuda"), call.sizes("layer_forward"),
        call.sizes("layer_backward"),
    )  # fmt: skip


def _told(times: dict[Any, tuple[float, float]], rule: Any) -> dict[str, Any]:
    """Every shape with its time and the rule's estimate of it, the best one and the rule's."""
    best = min(times, key=lambda shape: times[shape][0])
    return {
        "best": best._asdict(),
        "rule": rule._asdict(),
        "rule_over_best": round(times[rule][0] / times[best][0], 3),
        "shapes": [
            {**shape._asdict(), "ms": float(f"{ms:.4g}"), "steps": round(steps)}
            for shape, (ms, steps) in times.items()
        ],
    }


def _milliseconds(action: Any, plan: Plan) -> float:
    """The least time of a call over a few turns of `REPEATS` calls, by events on the device."""
    action()
    found = []
    for _ in range(max(2, plan.rounds // 3)):
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(REPEATS):
            action()
        stop.record()
        stop.synchronize()
        found.append(start.elapsed_time(stop) / REPEATS)
    return min(found)
