"""The `reference` engine: statevectors in numpy, one circuit at a time, slow and easy to check.

Tests compare the other engines with it. It shares no code with them: it runs the gates of the
circuit instead of the lowered program, and computes gradients by the parameter-shift rule.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qkan.circuits import Circuit, Encoding, Theta

from .axes import weighted
from .base import with_base
from .call import Gradients, LayerCall, LayerTensors, Request
from .engine import Engine

_FIXED = {
    "H": np.array([[1, 1], [1, -1]], dtype=complex) / math.sqrt(2),
    "X": np.array([[0, 1], [1, 0]], dtype=complex),
    "Z": np.array([[1, 0], [0, -1]], dtype=complex),
}
_PAULI = {"X": _FIXED["X"], "Y": np.array([[0, -1j], [1j, 0]]), "Z": _FIXED["Z"]}


def statevector(circuit: Circuit, angles: np.ndarray) -> np.ndarray:
    """Return U|0⟩ as two amplitudes, for one angle in radians for each parametric gate."""
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


def measure(circuit: Circuit, angles: np.ndarray) -> Any:
    """Return ⟨M⟩ of a circuit with bound angles, (), or (a,) for several observables."""
    # an infinite angle gives NaN, as in every engine
    with np.errstate(invalid="ignore"):
        state = statevector(circuit, angles)
    values = []
    for vector in circuit.observable_vectors:
        matrix = sum(n * _PAULI[axis] for n, axis in zip(vector, "XYZ", strict=True))
        values.append((state.conj() @ matrix @ state).real)
    return np.array(values) if circuit.reads_several else values[0]


def bind(
    circuit: Circuit, x: Any, theta: np.ndarray, scale: np.ndarray, shift: np.ndarray
) -> np.ndarray:
    """Return the angle of each parametric gate on one edge at one input."""
    angles = []
    for gate in circuit.parametric_gates:
        if isinstance(gate.angle, Theta):
            angles.append(theta[gate.angle.index])
        elif isinstance(gate.angle, Encoding):
            e = scale[gate.angle.index] * x + shift[gate.angle.index]
            angles.append(np.arccos(np.clip(e, -1, 1)) if gate.angle.arccos else e)
    return np.array(angles)


def gradient(
    circuit: Circuit,
    x: Any,
    theta: np.ndarray,
    scale: np.ndarray,
    shift: np.ndarray,
    grad: Any = 1.0,
) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
    """Return ∂φ/∂x, ∂φ/∂theta, ∂φ/∂scale, ∂φ/∂shift on one edge by the parameter-shift rule.

    They are multiplied by `grad`; for several observables it is (a,), and the products are summed.
    """
    angles = bind(circuit, x, theta, scale, shift)
    dx = 0.0
    dtheta, dscale, dshift = (np.zeros_like(array) for array in (theta, scale, shift))
    for position, gate in enumerate(circuit.parametric_gates):
        step = np.zeros_like(angles)
        step[position] = np.pi / 2
        difference = measure(circuit, angles + step) - measure(circuit, angles - step)
        slope = float((grad * difference).sum()) / 2
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
    """The engine with which tests compare the others; `auto` never takes it."""

    name = "reference"
    reads_several = True

    def refuse(self, request: Request) -> str | None:
        """Refuse noise, parameters per sample, and tensors that are not on the CPU."""
        if request.noise:
            return "it computes pure states only; noise runs on the torch engine"
        if request.batched_theta:
            return "parameters per sample need the torch engine"
        if request.device.type != "cpu":
            return f"it runs on the CPU, but the tensors are on {request.device}"
        return None

    def cost(self, request: Request) -> float:
        """Return about a millisecond for each circuit with its parameter shifts."""
        return 1.0 + 1e-3 * request.batch * request.edges

    def forward(self, call: LayerCall) -> tuple[Tensor, None]:
        """Compute the output from one statevector for each sample and edge."""
        x, theta, scale, shift = _arrays(*call.tensors[:4])
        circuit = _circuit(call)
        edges, axes = (x.shape[0], *theta.shape[:2]), call.request.program.axes
        found = np.empty(edges if axes is None else (*edges, axes))
        for b, o, i in np.ndindex(edges):
            angles = bind(circuit, x[b, i], theta[o, i], scale[o, i], shift[o, i])
            found[b, o, i] = measure(circuit, angles)
        return _sum(call, torch.from_numpy(found).to(call.tensors.x.dtype)), None

    def backward(self, call: LayerCall, grad: Tensor, state: Any) -> Gradients:
        """Compute the gradients of circuits by parameter shift, and all others by autograd."""
        edges = self.forward(call._replace(tensors=call.tensors._replace(weight=None)))[0]
        with torch.enable_grad():
            held = LayerTensors(*(
                None if t is None else t.detach().requires_grad_() for t in call.tensors
            ))  # type: ignore[arg-type]  # fmt: skip
            edges.requires_grad_()
            out = _sum(call._replace(tensors=held), edges)
            inputs = [edges, *(t for t in (held.x, *held[4:]) if t is not None)]
            found = iter(torch.autograd.grad(out, inputs, grad, materialize_grads=True))
        dedges, dx = next(found), next(found)
        beside = [None if t is None else next(found) for t in held[4:]]
        shifted = _shift_backward(_circuit(call), dedges, call.tensors[:4])
        gradients = (dx + shifted[0], *shifted[1:], *beside)
        return tuple(g if need else None for g, need in zip(gradients, call.needs, strict=True))


def _sum(call: LayerCall, edges: Tensor) -> Tensor:
    """The output of a layer whose edges have these values; without a weight the values."""
    weight = call.circuits[-1]
    if weight is None:
        return edges
    several = call.request.program.axes is not None
    return with_base(weighted(edges, weight, several), call.tensors, call.request.base)


def _circuit(call: LayerCall) -> Circuit:
    return Circuit(call.request.program.gates, call.request.program.measured)


def _arrays(*tensors: Tensor) -> list[np.ndarray]:
    return [tensor.detach().double().numpy() for tensor in tensors]


def _shift_backward(
    circuit: Circuit, grad: Tensor, inputs: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    g, x, theta, scale, shift = _arrays(grad, *inputs)
    totals = [np.zeros_like(array) for array in (x, theta, scale, shift)]
    for b, o, i in np.ndindex(g.shape[:3]):
        slopes = gradient(circuit, x[b, i], theta[o, i], scale[o, i], shift[o, i], g[b, o, i])
        places = ((b, i), (o, i), (o, i), (o, i))
        for total, place, slope in zip(totals, places, slopes, strict=True):
            total[place] += slope
    return tuple(
        torch.from_numpy(total).to(like.dtype) for total, like in zip(totals, inputs, strict=True)
    )
