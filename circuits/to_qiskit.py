"""Export to Qiskit and OpenQASM 3, gate by gate and with the circuit's parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .angles import bound_gates
from .circuit import Circuit
from .errors import CircuitError
from .gates import Encoding, Theta
from .isa import to_z
from .require import require

if TYPE_CHECKING:
    from qiskit import QuantumCircuit


def to_qiskit(
    circuit: Circuit, angles: Sequence[float] | None = None, *, measure: bool = False
) -> QuantumCircuit:
    """Export a circuit to Qiskit, with the same gates on one qubit in the same order.

    Args:
        circuit: Any circuit.
        angles: (p,) radians to bind, one for each of `circuit.parametric_gates`, in time order.
            None keeps parameters: a vector θ with an entry for each theta slot, and a vector e with
            the angle of each encoding, after its arccos if it has one.
        measure: Whether to rotate the observable to Z and measure into a register `c`.

    Returns:
        A `qiskit.QuantumCircuit`, for which `circuit_observable(circuit)` gives the observable.

    Raises:
        CircuitError: The angles are not p finite real numbers.
        ImportError: Qiskit is not installed.

    Example:
        >>> from qkan.circuits import ansatz, to_qiskit
        >>> to_qiskit(ansatz("rpz", reps=1)).count_ops()["ry"]
        2
    """
    qiskit = require("qiskit", "qiskit")
    built = qiskit.QuantumCircuit(1)
    values = _parameters(circuit) if angles is None else _checked(circuit, angles)
    for name, angle in bound_gates(circuit, values):
        append = getattr(built, name.lower())
        append(0) if angle is None else append(angle, 0)
    if measure:
        _measure(built, circuit)
    return built


def to_openqasm3(circuit: Circuit, angles: Sequence[float] | None = None) -> str:
    """Export a circuit to OpenQASM 3, with a measurement into a bit register `c`.

    Args:
        circuit: Any circuit. An observable other than Z is rotated to Z before the measurement.
        angles: (p,) radians to bind, as in `to_qiskit`; None declares parameters, `input float`.

    Example:
        >>> from qkan.circuits import Circuit, Encoding, RX, to_openqasm3
        >>> print(to_openqasm3(Circuit([RX(Encoding(0))])).splitlines()[0])
        OPENQASM 3.0;
    """
    qasm3 = require("qiskit.qasm3", "qiskit")
    return str(qasm3.dumps(to_qiskit(circuit, angles, measure=True)))


def circuit_observable(circuit: Circuit) -> Any:
    """Return the circuit's observable as a `qiskit.quantum_info.SparsePauliOp`."""
    info = require("qiskit.quantum_info", "qiskit")
    terms = zip("XYZ", circuit.observable_vector, strict=True)
    return info.SparsePauliOp.from_list([(axis, n) for axis, n in terms if n])


def _parameters(circuit: Circuit) -> list[Any]:
    """A Qiskit parameter for each parametric gate."""
    vector = require("qiskit.circuit", "qiskit").ParameterVector
    theta, e = vector("θ", circuit.num_theta), vector("e", circuit.num_encodings)
    return [
        theta[angle.index] if isinstance(angle, Theta) else e[angle.index]
        for angle in (gate.angle for gate in circuit.gates)
        if isinstance(angle, Theta | Encoding)
    ]


def _measure(built: QuantumCircuit, circuit: Circuit) -> None:
    for axis, turn in to_z(circuit.observable_vector):
        if turn.constant:
            getattr(built, ("rx", "ry", "rz")[axis])(turn.constant, 0)
    register = require("qiskit", "qiskit").ClassicalRegister(1, "c")
    built.add_register(register)
    built.measure(0, register[0])


def _checked(circuit: Circuit, angles: Sequence[float]) -> list[float]:
    needed = len(circuit.parametric_gates)
    array = np.asarray(angles)
    if array.shape != (needed,) or array.dtype.kind not in "fiu":
        raise CircuitError(
            f"The angles have shape {array.shape} and dtype {array.dtype}; pass ({needed},) real "
            "numbers, one for each parametric gate in time order."
        )
    if not np.isfinite(array).all():
        raise CircuitError(f"The angles {array.tolist()} are not all finite; pass finite radians.")
    return [float(value) for value in array]
