"""The `torch` engine: the Bloch recurrence in plain torch operations.

A pure state of one qubit is a unit vector v = (⟨X⟩, ⟨Y⟩, ⟨Z⟩), and a gate rotates it, so no complex
numbers are needed. It supports any device, any floating dtype, parameters per sample, and
derivatives of any order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from qkan.circuits import Program, Rotation, lower_gates
from qkan.circuits.angles import arccos

from .axes import weighted
from .base import with_base
from .call import LayerCall, LayerTensors, Request, is_tracing
from .engine import Engine
from .noise import Noise

Bloch = tuple[Tensor | float, Tensor | float, Tensor | float]


class TorchEngine(Engine):
    """The engine that runs everything, and that computes second derivatives for all others."""

    name = "torch"
    reads_several = True

    def refuse(self, request: Request) -> str | None:
        """Return None, since this engine refuses nothing."""
        return None

    def cost(self, request: Request) -> float:
        """Return the estimated time of all tensor operations and of their memory traffic."""
        operations = 40 * max(len(request.program.rotations), 1)
        elements = request.batch * request.edges
        return operations * (4e-6 + 1.2e-9 * elements)

    def forward(self, call: LayerCall) -> tuple[Tensor, None]:
        """Compute the output; half precision is computed in float32."""
        request, dtype = call.request, call.tensors.x.dtype
        tensors = LayerTensors(*map(_single, call.tensors))  # type: ignore[arg-type]
        x, theta, scale, shift, weight = call._replace(tensors=tensors).circuits
        out = edge_values(request.program, x, theta, request.fixed_scale or scale, shift)
        if weight is not None:
            # not einsum, since autocast would round the activations
            out = weighted(out, weight, request.program.axes is not None)
            out = with_base(out, tensors, request.base)
        return out.to(dtype), None


def _single(tensor: Tensor | None) -> Tensor | None:
    """The tensor, or a float32 copy if it is in half precision."""
    return tensor.float() if tensor is not None and tensor.dtype in _HALF else tensor


_HALF = (torch.bfloat16, torch.float16)


def edge_values(
    program: Program,
    x: Tensor,
    theta: Tensor,
    scale: Tensor | tuple[float, ...],
    shift: Tensor,
) -> Tensor:
    """Return φ on every edge by plain torch operators, differentiable to any order.

    Args:
        program: The lowered circuit.
        x: (…, i) inputs, before scale and shift.
        theta: (…, o, i, k), radians; leading dimensions broadcast with those of x.
        scale: (…, o, i, u), or (u,), or u numbers that all edges share.
        shift: (…, o, i, u) or (u,), radians.

    Returns:
        (…, o, i), or (…, o, i, a) if the program reads several observables.
    """
    vector: Bloch = program.initial
    for rotation in program.rotations:
        vector = rotate(vector, rotation.axis, angle(rotation, x, theta, scale, shift))
    if program.axes is None:
        return _project(vector, program.observable, x, theta)
    return torch.stack([_project(vector, each, x, theta) for each in program.observables], -1)


def noisy_edges(
    request: Request, noise: Noise, x: Tensor, theta: Tensor, scale: Tensor, shift: Tensor
) -> Tensor:
    """Return φ on every edge with a channel after each gate, and with readout errors."""
    program = request.program
    vector: Bloch = (0.0, 0.0, 1.0)
    for gate, rotations in zip(program.gates, lower_gates(program), strict=True):
        for rotation in rotations:
            turn = angle(rotation, x, theta, request.fixed_scale or scale, shift)
            vector = rotate(vector, rotation.axis, turn)
        channel = noise.channel(gate.name)
        vector = vector if channel is None else channel.apply(vector)
    several: Any = (program.measured,) if program.axes is None else program.measured
    values = [noise.read(_project(vector, each, x, theta)) for each in several]
    return values[0] if program.axes is None else torch.stack(values, -1)


def angle(
    rotation: Rotation,
    x: Tensor,
    theta: Tensor,
    scale: Tensor | tuple[float, ...],
    shift: Tensor,
) -> Tensor:
    """Return the angle of a rotation on every edge, broadcasting to (…, o, i), in radians."""
    total: Tensor | float = rotation.constant
    for k in rotation.thetas:
        total = total + theta[..., k]
    if rotation.encoding is not None:
        u = rotation.encoding
        # fixed scales are plain numbers, so that a low-precision buffer does not round them
        factor = scale[..., u] if isinstance(scale, Tensor) else scale[u]
        encoded = factor * x.unsqueeze(-2) + shift[..., u]
        total = total + (arccos(encoded, torch) if rotation.arccos else encoded)
    return total if isinstance(total, Tensor) else theta.new_tensor(total)


def rotate(vector: Bloch, axis: int, angle: Tensor) -> Bloch:
    """Rotate the Bloch vector about a coordinate axis by `angle` radians."""
    c, s = angle.cos(), angle.sin()
    a, b = (axis + 1) % 3, (axis + 2) % 3
    rotated = list(vector)
    rotated[a] = c * vector[a] - s * vector[b]
    rotated[b] = s * vector[a] + c * vector[b]
    return (rotated[0], rotated[1], rotated[2])


def _project(vector: Bloch, observable: Sequence[float], x: Tensor, theta: Tensor) -> Tensor:
    """The component of the vector along the observable, expanded to every edge."""
    value = sum(n * v for n, v in zip(observable, vector, strict=True) if n)
    shape = torch.broadcast_shapes((*x.shape[:-1], 1, x.shape[-1]), theta.shape[:-1])
    # under a tracer sizes are tensors, and the comparison would warn
    if not isinstance(value, Tensor) or is_tracing() or value.shape != shape:
        # a value that depends on no argument still gets a graph, in which all gradients are zero
        value = value + 0 * (x.unsqueeze(-2) + theta.sum(-1))
    return value
