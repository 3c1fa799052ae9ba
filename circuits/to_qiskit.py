"""A circuit in Qiskit and in OpenQASM 3, gate for gate, with the same parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .circuit import Circuit
from .errors import CircuitError
from .gates import Encoding, Fixed, Theta
from .require import require

if TYPE_CHECKING:
    from qiskit import QuantumCircuit


def to_qiskit(
    circuit: Circuit, angles: Sequence[float] | None = None, *, measure: bool = False
) -> QuantumCircuit:
    """Export a circuit to Qiskit: one qubit, the same gates in the same order.

    Args:
        circuit: Any circuit.
        angles: (p,) radians, one for each of `circuit.parametric_gates`, in time order, to bind
            them. None keeps parameters: the vectors θ (one entry a theta slot) and e (one an
            encoding; e is what the rotation turns by, arccos already taken).
        measure: Rotate the observable to Z and measure into a register `c`.

    Returns:
        A `qiskit.QuantumCircuit`; `circuit_observable(circuit)` is what to estimate on it.

    Raises:
        CircuitError: Not p finite real angles.
        ImportError: Qiskit is absent.

    Example:
        >>> from qkan.circuits import ansatz, to_qiskit
        >>> to_qiskit(ansatz("rpz", reps=1)).count_ops()["ry"]
        2
    """
    qiskit = require("qiskit", "qiskit")
    built = qiskit.QuantumCircuit(1)
    values = None if angles is None else iter(_checked(circuit, angles))
    names = _Names(circuit)
    for gate in circuit.gates:
        append = getattr(built, gate.name.lower())
        if gate.angle is None:
            append(0)
        elif isinstance(gate.angle, Fixed):
            append(gate.angle.value, 0)
        else:
            append(names.of(gate.angle) if values is None else next(values), 0)
    if measure:
        _measure(built, circuit)
    return built


def to_openqasm3(circuit: Circuit, angles: Sequence[float] | None = None) -> str:
    """Export a circuit to OpenQASM 3, measured into a bit register `c`.

    Args:
        circuit: Any circuit. Another observable than Z is rotated to Z before the measurement.
        angles: As in `to_qiskit`; None declares the parameters as `input float`.

    Example:
        >>> from qkan.circuits import Circuit, Encoding, RX, to_openqasm3
        >>> print(to_openqasm3(Circuit([RX(Encoding(0))])).splitlines()[0])
        OPENQASM 3.0;
    """
    qasm3 = require("qiskit.qasm3", "qiskit")
    return str(qasm3.dumps(to_qiskit(circuit, angles, measure=True)))


def circuit_observable(circuit: Circuit) -> Any:
    """The circuit's observable as a `qiskit.quantum_info.SparsePauliOp`."""
    info = require("qiskit.quantum_info", "qiskit")
    terms = zip("XYZ", circuit.observable_vector, strict=True)
    return info.SparsePauliOp.from_list([(axis, n) for axis, n in terms if n])


class _Names:
    """The Qiskit parameters of a circuit's slots."""

    def __init__(self, circuit: Circuit) -> None:
        vector = require("qiskit.circuit", "qiskit").ParameterVector
        self._theta = vector("θ", circuit.num_theta)
        self._encoding = vector("e", circuit.num_encodings)

    def of(self, angle: Theta | Encoding) -> Any:
        vector = self._theta if isinstance(angle, Theta) else self._encoding
        return vector[angle.index]


def _measure(built: QuantumCircuit, circuit: Circuit) -> None:
    from .isa import to_z

    for axis, turn in to_z(circuit.observable_vector):
        if turn.constant:
            getattr(built, ("rx", "ry", "rz")[axis])(turn.constant, 0)
    register = require("qiskit", "qiskit").ClassicalRegister(1, "c")
    built.add_register(register)
    built.measure(0, register[0])


def _checked(circuit: Circuit, angles: Sequence[float]) -> list[float]:
    import numpy as np

    needed = len(circuit.parametric_gates)
    array = np.asarray(angles)
    if array.shape != (needed,) or array.dtype.kind not in "fiu":
        raise CircuitError(
            f"Angles of shape {array.shape} and dtype {array.dtype}, but the circuit has {needed} "
            f"parametric gates: pass ({needed},) real numbers, one a gate in time order."
        )
    if not np.isfinite(array).all():
        raise CircuitError(f"The angles {array.tolist()} are not all finite.")
    return [float(value) for value in array]
