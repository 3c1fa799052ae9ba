"""Several observables for engines that read one: each becomes a separate output.

The program then measures Z after two rotations that turn an observable to Z; their angles are two
more thetas, which are constant and differ between observables. Letters: b samples, o outputs, i
inputs, k theta slots, a observables.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .call import LayerCall, LayerTensors, Request
from .engine import Engine


def seen_by(engine: Engine, request: Request) -> Request:
    """Return the request for an engine, with o·a outputs if the engine reads one observable."""
    program = request.program
    if program.turned is None or engine.reads_several:
        return request
    count, rotations = len(program.turns), program.turned.rotations
    # if a turn merges with an encoding, the observables have different states
    turned = [k for r in rotations if r.encoding is not None for k in r.thetas]
    same = 1 if max([0, *turned]) >= program.num_theta else count
    outs = request.out_features * count
    return request._replace(program=program.turned, out_features=outs, same_state=same)


def call_of_each(engine: Engine, call: LayerCall) -> LayerCall:
    """Return the call whose output o·a + n is observable n of output o; differentiable."""
    turns, rest = call.request.program.turns, zip(call.tensors[2:], _OUTPUTS, strict=True)
    theta = torch.stack([padded(call.tensors.theta, turn) for turn in turns], -3).flatten(-4, -3)
    repeated = [None if t is None else t.repeat_interleave(len(turns), dim=n) for t, n in rest]
    held = LayerTensors(call.tensors.x, theta, *repeated)  # type: ignore[arg-type]
    return LayerCall(seen_by(engine, call.request), held)


def joined(values: Tensor, count: int, per_edge: bool) -> Tensor:
    """Map outputs (b, o·a) to (b, o, a), or edges (b, o·a, i) to (b, o, i, a)."""
    values = values.unflatten(1, (values.shape[1] // count, count))
    return values.movedim(2, -1) if per_edge else values


def weighted(edges: Tensor, weight: Tensor, several: bool) -> Tensor:
    """Σ_i weight·φ from the values of all edges, (b, o, i) → (b, o) or (b, o, i, a) → (b, o, a)."""
    return (edges * weight.unsqueeze(-1)).sum(-2) if several else (edges * weight).sum(-1)


_OUTPUTS = (-3, -3, -2, -2, -1, -2)
"""The dimension of the outputs in each of the tensors from scale to mask."""


def padded(theta: Tensor, turn: tuple[float, float]) -> Tensor:
    """Return theta with two more angles, without waiting for a copy from the host."""
    for angle in turn:
        theta = F.pad(theta, (0, 1), value=angle)
    return theta
