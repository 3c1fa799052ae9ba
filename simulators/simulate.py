"""`simulate`: amplitudes of a circuit for a batch of angles, in numpy, torch or CuPy arrays."""

from __future__ import annotations

import sys
from typing import Any

from qkan.circuits import Circuit
from qkan.circuits.angles import bound_gates

from .errors import SimulatorError


def simulate(circuit: Circuit, angles: Any) -> Any:
    """Return the amplitudes of U|0⟩ for a batch of bound angles.

    Args:
        circuit: Any circuit.
        angles: (…, n) radians in a numpy, torch or CuPy array, where n =
            len(circuit.parametric_gates): one angle for each gate with a Theta or an Encoding, in
            time order.

    Returns:
        (…, 2) complex amplitudes of |0⟩ and |1⟩, in an array of the same kind on the same device;
        differentiable if `angles` is a torch tensor.

    Raises:
        SimulatorError: The last dimension is not n, or the angles are not real floats.

    Example:
        >>> import numpy as np
        >>> from qkan.circuits import Circuit, Encoding, RX
        >>> simulate(Circuit([RX(Encoding(0))]), np.array([[np.pi / 2]])).round(3)
        array([[0.707+0.j   , 0.   -0.707j]])
    """
    xp = _namespace(angles)
    needed = len(circuit.parametric_gates)
    if angles.ndim < 1 or angles.shape[-1] != needed:
        raise SimulatorError(
            f"simulate: the angles have shape {tuple(angles.shape)}, but the circuit has {needed} "
            f"parametric gates; pass (…, {needed}), one angle for each gate in time order."
        )
    if not _is_real_float(angles):
        raise SimulatorError(f"simulate: the angles have dtype {angles.dtype}; pass real floats.")
    nothing = 0 * angles.sum(-1)
    zero, one = nothing + 1 + 0j, nothing + 0j
    for name, angle in bound_gates(circuit, (angles[..., column] for column in range(needed))):
        if name == "H":
            zero, one = (zero + one) * 0.5**0.5, (zero - one) * 0.5**0.5
        elif name == "X":
            zero, one = one, zero
        elif name == "Z":
            one = -one
        else:
            zero, one = _rotated(xp, name, nothing + angle, zero, one)
    return xp.stack((zero, one), -1)


def expectation_of(circuit: Circuit, amplitudes: Any) -> Any:
    """Return ⟨M⟩ of the circuit's observable from amplitudes (…, 2): real (…), or (…, a)."""
    zero, one = amplitudes[..., 0], amplitudes[..., 1]
    cross = zero.conj() * one
    population = (zero.conj() * zero).real - (one.conj() * one).real
    values = [
        2 * x * cross.real + 2 * y * cross.imag + z * population
        for x, y, z in circuit.observable_vectors
    ]
    return _namespace(amplitudes).stack(values, -1) if circuit.reads_several else values[0]


def _namespace(array: Any) -> Any:
    name = type(array).__module__.partition(".")[0]
    if name not in ("numpy", "torch", "cupy"):
        raise SimulatorError(
            f"simulate: angles are of type {type(array).__name__}; pass numpy, torch or CuPy "
            "arrays."
        )
    return sys.modules[name]


def _is_real_float(array: Any) -> bool:
    dtype = array.dtype
    if hasattr(dtype, "is_floating_point"):
        return bool(dtype.is_floating_point)
    return bool(dtype.kind == "f")


def _rotated(xp: Any, name: str, angle: Any, zero: Any, one: Any) -> tuple[Any, Any]:
    c, s = xp.cos(angle / 2), xp.sin(angle / 2)
    if name == "RX":
        return c * zero - 1j * s * one, c * one - 1j * s * zero
    if name == "RY":
        return c * zero - s * one, s * zero + c * one
    return (c - 1j * s) * zero, (c + 1j * s) * one
