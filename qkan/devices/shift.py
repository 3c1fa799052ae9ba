"""Which angles the parameter-shift rule moves: one gate for each rotation that lowering keeps."""

from __future__ import annotations

import functools

from qkan.circuits import Circuit, Encoding, Gate, Rotation, Theta, lower


@functools.lru_cache(maxsize=256)
def shifted_gates(circuit: Circuit) -> tuple[tuple[Rotation, int], ...]:
    """The rotations that carry a parameter or x, each with a parametric gate that turns it.

    Gates that lowering merges add their angles in one rotation, so moving any one of them moves
    the rotation: it is shifted once, however many gates and parameters it holds. What cannot
    matter was dropped and is not shifted.

    Example:
        >>> from qkan.circuits import ansatz
        >>> len(shifted_gates(ansatz("pz", reps=3)))
        8
    """
    thetas: list[int] = []
    encodings: list[int] = []
    gates = []
    for gate in circuit.gates:
        position, angle = len(thetas) + len(encodings), gate.angle
        if isinstance(angle, Theta):
            angle = Theta(len(thetas))
            thetas.append(position)
        elif isinstance(angle, Encoding):
            angle = Encoding(len(encodings), angle.arccos)
            encodings.append(position)
        gates.append(Gate(gate.name, angle))
    # with a slot of its own for every gate the same rotations come out, and they name their gates
    untied = lower(Circuit(tuple(gates), circuit.observable))
    return tuple(
        (rotation, thetas[own.thetas[0]] if own.encoding is None else encodings[own.encoding])
        for rotation, own in zip(lower(circuit).rotations, untied.rotations, strict=True)
        if not own.is_constant
    )
