"""The angles of a circuit's gates for given data and parameters, in any array library."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

from .circuit import Circuit
from .gates import Encoding, Fixed, Theta


def gate_angles(circuit: Circuit, x: Any, theta: Any, scale: Any, shift: Any, xp: Any) -> list[Any]:
    """Return the angle of each parametric gate in radians, in time order.

    Args:
        circuit: Any circuit; k = circuit.num_theta, u = circuit.num_encodings.
        x: (…) the data.
        theta: (…, k) radians.
        scale: (…, u), or a tuple of u numbers.
        shift: (…, u) radians, or a tuple of u numbers.
        xp: The namespace of the arrays: `numpy`, `torch` or `pennylane.math`.

    Returns:
        Arrays that broadcast to one shape: (…) of theta where the gate has a Theta, (…) of x,
        scale and shift where it encodes x. They are differentiable where the arrays are.
    """
    angles = []
    for gate in circuit.parametric_gates:
        angle = gate.angle
        if isinstance(angle, Theta):
            angles.append(theta[..., angle.index])
        elif isinstance(angle, Encoding):
            encoded = _entry(scale, angle.index) * x + _entry(shift, angle.index)
            angles.append(arccos(encoded, xp) if angle.arccos else encoded)
    return angles


def bound_gates(circuit: Circuit, angles: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    """Yield the name and the angle of each gate, in time order.

    The angle is None for H, X and Z, a number if it is fixed, and otherwise the next of `angles`,
    which has one for each of `circuit.parametric_gates`.
    """
    bound = iter(angles)
    for gate in circuit.gates:
        if gate.angle is None:
            yield gate.name, None
        else:
            yield gate.name, gate.angle.value if isinstance(gate.angle, Fixed) else next(bound)


def arccos(e: Any, xp: Any) -> Any:
    """Return arccos of e clamped to [-1, 1]; its derivative is 0 for |e| ≥ 1, and NaN stays NaN."""
    outside = abs(e) >= 1
    inner = xp.arccos(xp.where(outside, 0.0, e))
    return xp.where(e >= 1, 0.0, xp.where(e <= -1, math.pi, inner))


def _entry(values: Any, u: int) -> Any:
    return values[u] if isinstance(values, tuple) else values[..., u]
