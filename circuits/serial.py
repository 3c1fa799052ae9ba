"""A circuit as plain JSON values and back: what a saved model carries, evaluated by nobody."""

from __future__ import annotations

from typing import Any

from .ansatz import ansatz, ansatze
from .circuit import Circuit
from .errors import CircuitError
from .gates import Angle, Encoding, Fixed, Gate, Theta


def to_json(circuit: Circuit) -> dict[str, Any]:
    """Return `{"gates": [...], "observable": ...}` of strings, numbers and lists.

    A circuit made by `ansatz` also names it, so that it can still be extended after loading.

    Example:
        >>> from qkan.circuits import Circuit, Encoding, H, RZ
        >>> to_json(Circuit([H, RZ(Encoding(0))]))
        {'gates': [['H'], ['RZ', 'Encoding', 0, False]], 'observable': 'Z'}
    """
    observable = circuit.observable
    data: dict[str, Any] = {
        "gates": [[gate.name, *_angle_to_json(gate.angle)] for gate in circuit.gates],
        "observable": observable if isinstance(observable, str) else list(observable),
    }
    name = getattr(circuit.builder, "name", None)
    return data if name is None else {**data, "ansatz": name}


def from_json(data: dict[str, Any]) -> Circuit:
    """Return the circuit that `to_json` described.

    Raises:
        CircuitError: The description is not one.
    """
    try:
        gates = [Gate(name, _angle_from_json(angle)) for name, *angle in data["gates"]]
        observable = data["observable"]
        vector = observable if isinstance(observable, str) else tuple(observable)
        circuit = Circuit(tuple(gates), vector)
    except (KeyError, TypeError, IndexError) as error:
        raise CircuitError(f"Not the description of a circuit: {data!r:.200}") from error
    name = data.get("ansatz")
    if name in ansatze():
        named = ansatz(name, circuit.num_encodings)
        # a name that means another circuit here must not change the function
        return named if named == circuit else circuit
    return circuit


def _angle_to_json(angle: Angle | None) -> list[Any]:
    if angle is None:
        return []
    if isinstance(angle, Fixed):
        return ["Fixed", angle.value]
    if isinstance(angle, Theta):
        return ["Theta", angle.index]
    return ["Encoding", angle.index, angle.arccos]


def _angle_from_json(values: list[Any]) -> Angle | None:
    if not values:
        return None
    kinds: dict[str, type[Fixed] | type[Theta] | type[Encoding]] = {
        "Fixed": Fixed, "Theta": Theta, "Encoding": Encoding,
    }  # fmt: skip
    return kinds[values[0]](*values[1:])
