"""A circuit as a PennyLane quantum function, all samples and edges broadcast on one wire.

Letters: o outputs, i inputs, k theta slots, u encodings, n values of one call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .circuit import Circuit
from .errors import CircuitError
from .gates import Encoding, Fixed, Theta
from .require import require
from .scales import resolve_scale


def to_pennylane(circuit: Circuit, *, measure: bool = True) -> Callable[..., Any]:
    """Export a circuit to PennyLane: a function of x and the parameters that applies its gates.

    `f(x, theta, scale=None, shift=None, *, wires=0)` computes φ = ⟨M⟩ of every value in one
    broadcast circuit. Arguments are arrays of any framework that PennyLane differentiates:

    * theta (k,), scale and shift (u,): one circuit, and x of any shape (…);
    * theta (o, i, k), scale and shift (o, i, u) or (u,): every edge of a layer, and x (…, i).

    scale may also be the name of a fixed encoding or u numbers, and None is "linear"; shift None
    is 0. Angles are radians. Where |e| ≥ 1 an arccos has the derivative 0, as in every engine.
    Inside the function that calls it the values are one axis (n,): those of (…), or of (…, o, i),
    in order; a single value has none.

    PennyLane's limits: parameter shift and finite differences do not differentiate broadcast
    circuits, which `qml.transforms.broadcast_expand` splits first and `qkan.qnode` need not.
    The values of default.qubit are double whatever the angles are; lightning's adjoint hands
    PyTorch plain numbers, which become torch's default dtype.

    Args:
        circuit: Any circuit.
        measure: Return the expectation value of the circuit's observable. Without, apply the
            gates only: several circuits on wires of their own are applied first, and then
            measured by `pennylane_observable`.

    Returns:
        The quantum function. It raises a `CircuitError` for shapes that do not fit the circuit.

    Raises:
        ImportError: PennyLane is absent; the extra "pennylane" installs it.

    Example:
        >>> import numpy as np
        >>> import pennylane as qml
        >>> from qkan.circuits import ansatz, to_pennylane
        >>> node = qml.QNode(to_pennylane(ansatz("pz", reps=1)), qml.device("default.qubit"))
        >>> node(np.linspace(-1, 1, 5), np.zeros(4)).round(3) + 0.0
        array([0., 0., 0., 0., 0.])
    """
    qml = require("pennylane", "pennylane")

    def function(
        x: Any, theta: Any, scale: Any = None, shift: Any = None, *, wires: Any = 0
    ) -> Any:
        angles, shape = gate_angles(circuit, x, theta, scale, shift)
        if shape:
            angles = [qml.math.reshape(angle, (-1,)) for angle in angles]
        apply_gates(circuit, angles, wires)
        return qml.expval(pennylane_observable(circuit, wires)) if measure else None

    return function


def pennylane_observable(circuit: Circuit, wires: Any = 0) -> Any:
    """The circuit's observable on a wire: a Pauli operator, or a sum of them for a 3-vector.

    Example:
        >>> from qkan.circuits import RX, Circuit, Encoding
        >>> pennylane_observable(Circuit([RX(Encoding(0))], observable="X"))
        X(0)
    """
    qml = require("pennylane", "pennylane")
    paulis = {"X": qml.PauliX, "Y": qml.PauliY, "Z": qml.PauliZ}
    if isinstance(circuit.observable, str):
        return paulis[circuit.observable](wires)
    terms = [
        (n, paulis[axis](wires)) for axis, n in zip("XYZ", circuit.observable, strict=True) if n
    ]
    return qml.dot(*map(list, zip(*terms, strict=True)))


def apply_gates(circuit: Circuit, angles: Sequence[Any], wires: Any = 0) -> None:
    """Queue a circuit's gates in PennyLane, one bound angle, (n,) or (), a parametric gate."""
    qml = require("pennylane", "pennylane")
    plain = {"H": qml.Hadamard, "X": qml.PauliX, "Z": qml.PauliZ}
    turns = {"RX": qml.RX, "RY": qml.RY, "RZ": qml.RZ}
    bound = iter(angles)
    for gate in circuit.gates:
        if gate.angle is None:
            plain[gate.name](wires)
        else:
            angle = gate.angle.value if isinstance(gate.angle, Fixed) else next(bound)
            turns[gate.name](angle, wires)


def gate_angles(
    circuit: Circuit, x: Any, theta: Any, scale: Any = None, shift: Any = None
) -> tuple[list[Any], tuple[int, ...]]:
    """The angle of each parametric gate, in time order, and the shape that each of them has.

    Args:
        circuit: Any circuit.
        x: As `to_pennylane` describes them all, of any framework.
        theta: See there.
        scale: See there.
        shift: See there.

    Raises:
        CircuitError: Shapes that do not fit the circuit.
    """
    qml = require("pennylane", "pennylane")
    x, theta = _array(x), _array(theta)
    scale = _scale(circuit, scale)
    shift = (0.0,) * circuit.num_encodings if shift is None else _array(shift)
    shape = _shape(circuit, x, theta, {"scale": scale, "shift": shift})
    inputs = x if theta.ndim == 1 else x[..., None, :]
    angles = []
    for gate in circuit.parametric_gates:
        if isinstance(gate.angle, Theta):
            angle = theta[..., gate.angle.index]
        else:
            encoding = gate.angle
            assert isinstance(encoding, Encoding)
            u = encoding.index
            angle = _at(scale, u) * inputs + _at(shift, u)
            angle = _arccos(qml.math, angle) if encoding.arccos else angle
        if shape and tuple(angle.shape) != shape:
            # added, for not every framework can broadcast to further dimensions and differentiate
            angle = angle + qml.math.cast_like(qml.math.convert_like(np.zeros(shape), angle), angle)
        angles.append(angle)
    return angles, shape


def _array(value: Any) -> Any:
    return value if hasattr(value, "shape") else np.asarray(value, dtype=float)


def _at(values: Any, u: int) -> Any:
    return values[u] if isinstance(values, tuple) else values[..., u]


def _scale(circuit: Circuit, scale: Any) -> Any:
    """Numbers, one an encoding, or an array."""
    if scale is None or isinstance(scale, str | list | tuple):
        return resolve_scale(circuit, "linear" if scale is None else scale)
    return _array(scale)


def _shape(circuit: Circuit, x: Any, theta: Any, encoded: dict[str, Any]) -> tuple[int, ...]:
    """The shape of the values, (…) or (…, o, i)."""
    k, u = circuit.num_theta, circuit.num_encodings
    single = theta.ndim == 1
    if (
        theta.ndim in (0, 2)
        or theta.shape[-1] != k
        or (not single and (x.ndim < 1 or x.shape[-1] != theta.shape[-2]))
    ):
        raise CircuitError(
            f"x {tuple(x.shape)} and theta {tuple(theta.shape)}: wanted x of any shape and theta "
            f"({k},), or x (…, i) and theta (o, i, {k}) with the same i."
        )
    rows = tuple(theta.shape[:-1])
    for name, values in encoded.items():
        shape = tuple(getattr(values, "shape", (u,)))
        if shape not in ((u,), (*rows, u)):
            raise CircuitError(
                f"{name} {shape}: wanted {(*rows, u)}, one number a circuit and encoding, for "
                f"theta {tuple(theta.shape)}."
            )
    inputs = tuple(x.shape) if single else (*x.shape[:-1], 1, x.shape[-1])
    return np.broadcast_shapes(inputs, rows)


def _arccos(xp: Any, e: Any) -> Any:
    """Arccos of e clamped to [-1, 1]; its derivative is 0 where |e| ≥ 1, and NaN stays NaN."""
    inside = xp.abs(e) < 1
    # a sign has the derivative 0 in every framework; torch's sign of NaN is 0
    edge = xp.where(e == e, (math.pi / 2) * (1 - xp.sign(e)), e)
    return xp.where(inside, xp.arccos(xp.where(inside, e, 0.0)), edge)
