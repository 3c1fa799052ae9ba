"""Export to PennyLane: a quantum function that runs all samples and edges on one wire at once.

Letters: o outputs, i inputs, k theta slots, u encodings, n values of one call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .angles import bound_gates, gate_angles
from .circuit import Circuit
from .errors import CircuitError
from .require import require
from .scales import resolve_scale


def to_pennylane(circuit: Circuit, *, measure: bool = True) -> Callable[..., Any]:
    """Export a circuit to PennyLane, as a quantum function of x and the parameters.

    `f(x, theta, scale=None, shift=None, *, wires=0)` computes φ = ⟨M⟩ of every value in one
    broadcast circuit. Arguments are arrays of any framework that PennyLane can differentiate:

    * theta (k,), scale and shift (u,): one circuit, and x of any shape (…);
    * theta (o, i, k), scale and shift (o, i, u) or (u,): every edge of a layer, and x (…, i).

    scale may also be the name of a fixed encoding or u numbers, and None means "linear"; for shift
    None means 0. Angles are radians. For |e| ≥ 1 an arccos has the derivative 0, as in every
    engine. The function returns the values of (…), or of (…, o, i), in order along one axis (n,),
    and a single value without an axis.

    PennyLane has three limits. Its parameter shift and finite differences cannot differentiate
    broadcast circuits: split them with `qml.transforms.broadcast_expand`, or use `qkan.qnode`. The
    values of default.qubit are in double precision whatever the dtype of the angles is. Lightning's
    adjoint passes plain numbers to PyTorch, which get torch's default dtype.

    Args:
        circuit: Any circuit.
        measure: Whether to return the expectation value of the circuit's observable, or a tuple
            with one for each of several observables. If not, the function only applies the gates,
            so that several circuits can be applied on different wires before `pennylane_observable`
            measures them.

    Returns:
        The quantum function. It raises a `CircuitError` for shapes that do not fit the circuit.

    Raises:
        ImportError: PennyLane is not installed; the extra "pennylane" installs it.

    Example:
        >>> import numpy as np
        >>> import pennylane as qml
        >>> from qkan.circuits import ansatz, to_pennylane
        >>> node = qml.QNode(to_pennylane(ansatz("pz", reps=1)), qml.device("default.qubit"))
        >>> node(np.linspace(-1, 1, 5), np.zeros(4)).round(3) + 0.0
        array([0., 0., 0., 0., 0.])
    """
    qml = require("pennylane", "pennylane")
    singles = [circuit.with_observable(observable) for observable in circuit.observables]

    def function(
        x: Any, theta: Any, scale: Any = None, shift: Any = None, *, wires: Any = 0
    ) -> Any:
        angles, shape = broadcast_angles(circuit, x, theta, scale, shift)
        if shape:
            angles = [qml.math.reshape(angle, (-1,)) for angle in angles]
        apply_gates(circuit, angles, wires)
        if not measure:
            return None
        each = [qml.expval(pennylane_observable(one, wires)) for one in singles]
        return tuple(each) if circuit.reads_several else each[0]

    return function


def pennylane_observable(circuit: Circuit, wires: Any = 0) -> Any:
    """Return the circuit's observable on a wire: a Pauli operator, or a sum for a 3-vector.

    Example:
        >>> from qkan.circuits import RX, Circuit, Encoding
        >>> pennylane_observable(Circuit([RX(Encoding(0))], observable="X"))
        X(0)
    """
    qml = require("pennylane", "pennylane")
    paulis = {"X": qml.PauliX, "Y": qml.PauliY, "Z": qml.PauliZ}
    vector = circuit.observable_vector
    if isinstance(circuit.observable, str):
        return paulis[circuit.observable](wires)
    terms = [(n, paulis[axis](wires)) for axis, n in zip("XYZ", vector, strict=True) if n]
    return qml.dot(*map(list, zip(*terms, strict=True)))


def apply_gates(circuit: Circuit, angles: Sequence[Any], wires: Any = 0) -> None:
    """Queue a circuit's gates in PennyLane, with an angle (n,) or () for each parametric gate."""
    qml = require("pennylane", "pennylane")
    plain = {"H": qml.Hadamard, "X": qml.PauliX, "Z": qml.PauliZ}
    rotations = {"RX": qml.RX, "RY": qml.RY, "RZ": qml.RZ}
    for name, angle in bound_gates(circuit, angles):
        if angle is None:
            plain[name](wires)
        else:
            rotations[name](angle, wires)


def broadcast_angles(
    circuit: Circuit, x: Any, theta: Any, scale: Any = None, shift: Any = None
) -> tuple[list[Any], tuple[int, ...]]:
    """Return the angle of each parametric gate, in time order, and their common shape.

    The arguments are those of the function that `to_pennylane` returns.

    Raises:
        CircuitError: The shapes do not fit the circuit.
    """
    qml = require("pennylane", "pennylane")
    x, theta = _array(x), _array(theta)
    scale = _scale(circuit, scale)
    shift = (0.0,) * circuit.num_encodings if shift is None else _array(shift)
    shape = _shape(circuit, x, theta, {"scale": scale, "shift": shift})
    inputs = x if theta.ndim == 1 else x[..., None, :]
    angles = gate_angles(circuit, inputs, theta, scale, shift, qml.math)
    for k, angle in enumerate(angles):
        if shape and tuple(angle.shape) != shape:
            # zeros are added since some frameworks cannot differentiate a broadcast
            zeros = qml.math.convert_like(np.zeros(shape), angle)
            angles[k] = angle + qml.math.cast_like(zeros, angle)
    return angles, shape


def _array(value: Any) -> Any:
    return value if hasattr(value, "shape") else np.asarray(value, dtype=float)


def _scale(circuit: Circuit, scale: Any) -> Any:
    """The scales as an array, or as a tuple of one number for each encoding."""
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
            f"x has shape {tuple(x.shape)} and theta {tuple(theta.shape)}; wanted x of any shape "
            f"and theta ({k},), or x (…, i) and theta (o, i, {k}) with the same i."
        )
    rows = tuple(theta.shape[:-1])
    for name, values in encoded.items():
        shape = tuple(getattr(values, "shape", (u,)))
        if shape not in ((u,), (*rows, u)):
            raise CircuitError(
                f"{name} has shape {shape}; wanted {(*rows, u)}, one number for each circuit and "
                f"encoding, for theta {tuple(theta.shape)}."
            )
    inputs = tuple(x.shape) if single else (*x.shape[:-1], 1, x.shape[-1])
    return np.broadcast_shapes(inputs, rows)
