"""Convert a circuit to JSON values and back, so that a saved model contains data and no code."""

from __future__ import annotations

from typing import Any

from .ansatz import ansatz, ansatze
from .circuit import Circuit
from .errors import CircuitError
from .gates import Gate


def to_json(circuit: Circuit) -> dict[str, Any]:
    """Return `{"gates": [...], "observable": ...}` of strings, numbers and lists.

    A circuit made by `ansatz` also has its name, so that it can be extended after loading.

    Example:
        >>> from qkan.circuits import Circuit, Encoding, H, RZ
        >>> to_json(Circuit([H, RZ(Encoding(0))]))
        {'gates': [['H'], ['RZ', 'Encoding', 0, False]], 'observable': 'Z'}
    """
    values = [each if isinstance(each, str) else list(each) for each in circuit.observables]
    data: dict[str, Any] = {
        "gates": [gate.to_json() for gate in circuit.gates],
        "observable": values if circuit.reads_several else values[0],
    }
    name = getattr(circuit.builder, "name", None)
    return data if name is None else {**data, "ansatz": name}


def from_json(data: dict[str, Any]) -> Circuit:
    """Return the circuit that `to_json` described.

    Raises:
        CircuitError: The data do not describe a circuit.
    """
    try:
        gates = tuple(map(Gate.from_json, data["gates"]))
        circuit = Circuit(gates, data["observable"])
    except (KeyError, TypeError, IndexError) as error:
        raise CircuitError(f"This does not describe a circuit: {data!r:.200}") from error
    name = data.get("ansatz")
    if name in ansatze():
        named = ansatz(name, circuit.num_encodings)
        # if the name means another circuit here, the function must not change
        known = [named, *map(named.with_observable, (circuit.observable, "trainable"))]
        return next((one for one in known if one == circuit), circuit)
    return circuit
