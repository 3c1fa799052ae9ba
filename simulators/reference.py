"""The `reference` engine: statevectors in numpy, one circuit at a time. Slow, short, the truth.

It runs the circuit's own gates, not the lowered program, and its gradients are the parameter-shift
rule, so that it shares nothing with what it is compared to.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qkan.circuits import Circuit, Encoding, Theta

from .bloch import TorchEngine, differentiable_backward
from .engine import Engine, Request

_FIXED = {
    "H": np.array([[1, 1], [1, -1]], dtype=complex) / math.sqrt(2),
    "X": np.array([[0, 1], [1, 0]], dtype=complex),
    "Z": np.array([[1, 0], [0, -1]], dtype=complex),
}
_PAULI = {"X": _FIXED["X"], "Y": np.array([[0, -1j], [1j, 0]]), "Z": _FIXED["Z"]}


def statevector(circuit: Circuit, angles: np.ndarray) -> np.ndarray:
    """U|0⟩ as two amplitudes; `angles` in radians, one for each parametric gate, in time order."""
    state = np.array([1, 0], dtype=complex)
    values = iter(angles)
    for gate in circuit.gates:
        if gate.angle is None:
            state = _FIXED[gate.name] @ state
        else:
            a = next(values) if isinstance(gate.angle, Theta | Encoding) else gate.angle.value
            pauli = _PAULI[gate.name[1]]
            state = (np.cos(a / 2) * np.eye(2) - 1j * np.sin(a / 2) * pauli) @ state
    return state


def measure(circuit: Circuit, angles: np.ndarray) -> float:
    """⟨M⟩ of one circuit with bound angles."""
    with np.errstate(invalid="ignore"):  # an infinite angle gives NaN, as in every engine
        state = statevector(circuit, angles)
    matrix = sum(n * _PAULI[axis] for n, axis in zip(circuit.observable_vector, "XYZ", strict=True))
    return float((state.conj() @ matrix @ state).real)


def bind(
    circuit: Circuit, x: Any, theta: np.ndarray, scale: np.ndarray, shift: np.ndarray
) -> np.ndarray:
    """The angle of each parametric gate on one edge at one input."""
    angles = []
    for gate in circuit.parametric_gates:
        if isinstance(gate.angle, Theta):
            angles.append(theta[gate.angle.index])
        elif isinstance(gate.angle, Encoding):
            e = scale[gate.angle.index] * x + shift[gate.angle.index]
            angles.append(np.arccos(np.clip(e, -1, 1)) if gate.angle.arccos else e)
    return np.array(angles)


def gradient(
    circuit: Circuit, x: Any, theta: np.ndarray, scale: np.ndarray, shift: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
    """∂φ/∂x, ∂φ/∂theta, ∂φ/∂scale, ∂φ/∂shift on one edge by the parameter-shift rule."""
    angles = bind(circuit, x, theta, scale, shift)
    dx = 0.0
    dtheta, dscale, dshift = (np.zeros_like(array) for array in (theta, scale, shift))
    for position, gate in enumerate(circuit.parametric_gates):
        step = np.zeros_like(angles)
        step[position] = np.pi / 2
        slope = (measure(circuit, angles + step) - measure(circuit, angles - step)) / 2
        if isinstance(gate.angle, Theta):
            dtheta[gate.angle.index] += slope
        elif isinstance(gate.angle, Encoding):
            u = gate.angle.index
            if gate.angle.arccos:
                e = scale[u] * x + shift[u]
                slope = -slope / math.sqrt(1 - e * e) if abs(e) < 1 else 0.0
            dx += scale[u] * slope
            dscale[u] += x * slope
            dshift[u] += slope
    return dx, dtheta, dscale, dshift


class ReferenceEngine(Engine):
    """Ground truth for tests; `auto` never takes it."""

    name = "reference"

    def refuse(self, request: Request) -> str | None:
        """Noise, parameters per sample, and anything but the CPU."""
        if request.noise:
            return "it knows pure states only; noise runs on the torch engine"
        if request.batched_theta:
            return "parameters that differ per sample need the torch engine"
        if request.device.type != "cpu":
            return f"it runs on the CPU, and the tensors are on {request.device}"
        return None

    def cost(self, request: Request) -> float:
        """About a millisecond a circuit and its parameter shifts."""
        return 1.0 + 1e-3 * request.batch * request.edges

    def edges(
        self, request: Request, x: Tensor, theta: Tensor, scale: Tensor, shift: Tensor
    ) -> Tensor:
        """φ on every edge."""
        shape = (*theta.shape[:-1], request.program.num_encodings)
        scale, shift = scale.expand(shape), shift.expand(shape)
        return _Reference.apply(request, x, theta, scale, shift)  # type: ignore[no-any-return, no-untyped-call]


def _arrays(*tensors: Tensor) -> list[np.ndarray]:
    return [tensor.detach().double().numpy() for tensor in tensors]


class _Reference(torch.autograd.Function):
    """The reference with its parameter-shift gradient; twice differentiated, the torch engine."""

    @staticmethod
    def forward(
        ctx: Any, request: Request, x: Tensor, theta: Tensor, scale: Tensor, shift: Tensor
    ) -> Tensor:
        ctx.request = request
        ctx.save_for_backward(x, theta, scale, shift)
        xs, t, w, s = _arrays(x, theta, scale, shift)
        circuit = request.program.circuit
        values = np.empty((xs.shape[0], *t.shape[:2]))
        for b, o, i in np.ndindex(values.shape):
            values[b, o, i] = measure(circuit, bind(circuit, xs[b, i], t[o, i], w[o, i], s[o, i]))
        return torch.from_numpy(values).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        inputs = ctx.saved_tensors
        if torch.is_grad_enabled():
            needed = ctx.needs_input_grad[1:]
            edges = functools.partial(TorchEngine().edges, ctx.request)
            return (None, *differentiable_backward(lambda t: edges(*t), grad, inputs, needed))
        return (None, *_shift_backward(ctx.request.program.circuit, grad, inputs))


def _shift_backward(
    circuit: Circuit, grad: Tensor, inputs: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    g, x, theta, scale, shift = _arrays(grad, *inputs)
    totals = [np.zeros_like(array) for array in (x, theta, scale, shift)]
    for b, o, i in np.ndindex(g.shape):
        slopes = gradient(circuit, x[b, i], theta[o, i], scale[o, i], shift[o, i])
        places = ((b, i), (o, i), (o, i), (o, i))
        for total, place, slope in zip(totals, places, slopes, strict=True):
            total[place] += g[b, o, i] * slope
    return tuple(
        torch.from_numpy(total).to(like.dtype) for total, like in zip(totals, inputs, strict=True)
    )
