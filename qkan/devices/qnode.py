"""`qnode`: a circuit on a PennyLane device as a function of torch tensors.

Letters: o outputs, i inputs, k theta slots, u encodings, n values of one call, p parametric gates,
r rotations that are shifted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from qkan._options import check_one_observable
from qkan.backends.pennylane.backend import pennylane_device
from qkan.circuits import Circuit, Rotation, pennylane_observable, require, resolve_scale
from qkan.circuits.to_pennylane import apply_gates, broadcast_angles
from qkan.errors import QKANError
from qkan.simulators.bloch import angle as rotation_angle

from .parameter_shift import angle_offsets, differentiable, needed_shifts

Scale = Tensor | str | Sequence[float] | None


def qnode(
    circuit: Circuit,
    device: Any = "default.qubit",
    *,
    diff_method: str | None = "best",
    shots: int | None = None,
) -> PennyLaneNode:
    """Return a circuit on a PennyLane device as `node(x, theta, scale=None, shift=None)`.

    All samples and edges are one broadcast circuit on the device's first wire. The arguments are
    those of `expectation`: x (…, i) and theta (o, i, k) give (…, o, i); with theta (k,), for a
    single circuit, x may have any shape. The values have the dtype of x.

    PennyLane has no parameter shift for broadcast circuits, so this package computes it: φ and the
    2r shifted values of each sample and edge are rows of one broadcast tape, which is executed in
    the forward pass. A rotation that several gates merge into is shifted once.

    Args:
        circuit: Any circuit.
        device: A PennyLane device, or the name of one.
        diff_method: "backprop", "adjoint" or another method of PennyLane; "parameter-shift" for
            that of this package; "best" for backprop if the device has it, otherwise parameter
            shift; None for no gradient.
        shots: The number of shots for each value; None leaves it to the device, which usually means
            exact values.

    Returns:
        The function; its attribute `qnode` is a `qml.QNode` of the angles of the circuit's
        parametric gates.

    Raises:
        BackendError: There is no such device.
        CircuitError: In a call, if shapes do not fit the circuit.
        QKANError: In a call, if the tensors are not real floats of one dtype, the device returns
            values of a lower precision than x, or a second derivative by parameter shift is asked
            for.
        ImportError: PennyLane is not installed; the extra "pennylane" installs it.

    Example:
        >>> import torch
        >>> from qkan import ansatz, qnode
        >>> node = qnode(ansatz("pz", reps=1), "default.qubit", diff_method="parameter-shift")
        >>> theta = torch.zeros(2, 3, 4, requires_grad=True)
        >>> node(torch.rand(5, 3), theta).shape
        torch.Size([5, 2, 3])
    """
    return PennyLaneNode(circuit, device, diff_method, shots)


class PennyLaneNode:
    """A circuit on a PennyLane device, as `qnode` returns it.

    Attributes:
        circuit: The circuit.
        device: The PennyLane device.
        shifts: Whether gradients are computed by this package's parameter shift.
        qnode: A `qml.QNode` of p angles, each of shape (n,) or ().
    """

    def __init__(
        self, circuit: Circuit, device: Any, diff_method: str | None, shots: int | None
    ) -> None:
        qml = require("pennylane", "pennylane")
        check_one_observable("qnode", circuit, "Make a node of each circuit.with_observable(…).")
        self.circuit, self.device = circuit, pennylane_device(device, wires=1)
        self._wire = self.device.wires[0] if self.device.wires else 0
        numbers = self.device.shots if shots is None else qml.measurements.Shots(shots)
        if numbers.has_partitioned_shots:
            raise QKANError(f"shots={shots!r}; wanted one number of shots.")
        if diff_method == "best":
            backprop = self._supports(qml, "backprop", numbers)
            diff_method = "backprop" if backprop else "parameter-shift"
        self.shifts = diff_method == "parameter-shift"
        # the shifted rows are plain numbers, which without an interface stay in double precision
        method = None if self.shifts else diff_method
        self.qnode = qml.QNode(
            self._function, self.device, diff_method=method, shots=numbers,
            interface="numpy" if self.shifts else "torch",
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"PennyLaneNode({self.device.name!r}, {self.circuit!r})"

    def __call__(
        self, x: Tensor, theta: Tensor, scale: Scale = None, shift: Tensor | None = None
    ) -> Tensor:
        """Return φ of every value: (…), or (…, o, i) if theta is (o, i, k)."""
        _check(x=x, theta=theta, scale=scale, shift=shift)
        angles, shape = broadcast_angles(self.circuit, x, theta, scale, shift)
        if not math.prod(shape):
            return torch.stack(angles).sum(0)
        if self.shifts:
            return self._shifted(angles, shape, x, theta, scale, shift)
        found = self.qnode(*(angle.reshape(-1) if shape else angle for angle in angles))
        if found.dtype == torch.float32 and x.dtype == torch.float64:
            raise QKANError(
                f"{self.device.name} returned float32 for angles in float64, since it passes plain "
                "numbers to torch, which uses its default dtype. Call "
                "torch.set_default_dtype(torch.float64), or use diff_method='parameter-shift'."
            )
        values: Tensor = found.to(x.dtype).reshape(shape)
        return values

    def _function(self, *angles: Any) -> Any:
        apply_gates(self.circuit, angles, self._wire)
        qml = require("pennylane", "pennylane")
        return qml.expval(pennylane_observable(self.circuit, self._wire))

    def _shifted(
        self,
        angles: Sequence[Tensor],
        shape: tuple[int, ...],
        x: Tensor,
        theta: Tensor,
        scale: Scale,
        shift: Tensor | None,
    ) -> Tensor:
        """The values with derivatives by parameter shift; all shifted rows are one tape."""
        shifts = needed_shifts(self.circuit, theta, (x, scale, shift))
        base = torch.stack([angle.detach().double().reshape(-1) for angle in angles])
        offsets = angle_offsets(self.circuit, shifts).to(base.device).unsqueeze(-1)
        rows = (base + offsets).transpose(0, 1).flatten(1).cpu().numpy()
        z = torch.as_tensor(self.qnode(*rows), dtype=torch.double, device=x.device)
        factors: Tensor | tuple[float, ...] = (
            scale
            if isinstance(scale, Tensor)
            else resolve_scale(self.circuit, "linear" if scale is None else scale)
        )
        added = theta.new_zeros(self.circuit.num_encodings) if shift is None else shift
        inputs = x if theta.ndim > 1 else x.unsqueeze(-1)

        def angle(rotation: Rotation) -> Tensor:
            found = rotation_angle(rotation, inputs, theta, factors, added)
            # a single circuit has neither axis o nor i, and without x no other axis
            return found[..., 0, 0] if theta.ndim == 1 and found.ndim > 1 else found

        values = differentiable(z.reshape(len(offsets), *shape), shifts, angle)
        # arguments without a shift still belong to the graph
        return values.to(x.dtype) + 0 * torch.stack(list(angles)).sum(0)

    def _supports(self, qml: Any, method: str, shots: Any) -> bool:
        with qml.queuing.AnnotatedQueue() as queue:
            self._function(*[0.1] * len(self.circuit.parametric_gates))
        tape = qml.tape.QuantumScript.from_queue(queue, shots=shots)
        config = qml.devices.ExecutionConfig(gradient_method=method)
        return bool(self.device.supports_derivatives(config, tape))


def _check(**named: object) -> None:
    """Raise `QKANError` unless all tensors are real floats of one dtype."""
    x = named["x"]
    for name, value in named.items():
        if name in ("scale", "shift") and value is None:
            continue
        if name == "scale" and isinstance(value, str | list | tuple):
            continue
        if not isinstance(value, Tensor) or not value.dtype.is_floating_point:
            found = value.dtype if isinstance(value, Tensor) else type(value).__name__
            raise QKANError(f"{name} is {found}; pass a torch tensor of real floats.")
        if isinstance(x, Tensor) and value.dtype != x.dtype:
            raise QKANError(f"x is {x.dtype}, but {name} is {value.dtype}; use .to({x.dtype}).")
