"""Export to sympy: the exact closed form of an activation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from .circuit import Circuit
from .errors import CircuitError
from .program import Rotation
from .require import require
from .scales import resolve_scale

_LIMIT = 100_000


def to_sympy(
    circuit: Circuit,
    *,
    x: Any = None,
    theta: Sequence[Any] | None = None,
    scale: str | Sequence[Any] | None = None,
    shift: Sequence[Any] | None = None,
    clamp: bool = False,
) -> Any:
    """Return φ(x) = ⟨M⟩ as a sympy expression, from the rotations of the circuit's program.

    An angle a + arccos e contributes cos a·e - sin a·√(1-e²) and sin a·e + cos a·√(1-e²) for its
    cosine and sine, so that the result is free of arccos.

    Args:
        circuit: Any circuit.
        x: A sympy expression for the input; the symbol x when None.
        theta: (k,) numbers or expressions, radians; the symbols theta_0, theta_1, … when None.
        scale: (u,) numbers or expressions, or the name of a fixed encoding; the symbols scale_0, …
            when None.
        shift: (u,) numbers or expressions, radians; the symbols shift_0, … when None.
        clamp: Whether an e under an arccos is clamped to [-1, 1], as in the engines. Otherwise the
            expression is valid for |e| ≤ 1.

    Returns:
        A sympy expression, not expanded.

    Raises:
        CircuitError: The numbers do not fit the circuit, or the expression has over 100,000 terms.
        ImportError: sympy is not installed; the extra "symbolic" installs it.

    Example:
        >>> from qkan.circuits import ansatz
        >>> to_sympy(ansatz("rpz", reps=1), scale="linear", shift=[0])
        -sin(theta_0)*cos(theta_1) - sin(theta_1)*cos(theta_0)*cos(x)
    """
    sympy = require("sympy", "symbolic")
    program = circuit.program
    u = circuit.num_encodings
    scale = resolve_scale(circuit, scale) if isinstance(scale, str) else scale
    thetas = _values(sympy, "theta", theta, circuit.num_theta)
    scales, shifts = _values(sympy, "scale", scale, u), _values(sympy, "shift", shift, u)
    symbol = sympy.Symbol("x", real=True) if x is None else sympy.sympify(x)
    vector = [_number(sympy, value) for value in program.initial]
    sizes = [1, 1, 1]
    for rotation in program.rotations:
        c, s = _cos_sin(sympy, rotation, symbol, (thetas, scales, shifts), clamp)
        a, b = (rotation.axis + 1) % 3, (rotation.axis + 2) % 3
        vector[a], vector[b] = c * vector[a] - s * vector[b], s * vector[a] + c * vector[b]
        sizes[a] = sizes[b] = sizes[a] + sizes[b]
        if max(sizes) > _LIMIT:
            raise CircuitError(
                f"to_sympy: there are over {_LIMIT} terms for {u} encodings. Pass numbers to "
                "fourier_series(circuit, theta, scale, shift), which adds up equal frequencies."
            )
    terms = zip(program.observable, vector, strict=True)
    return sum((_number(sympy, n) * v for n, v in terms if n), sympy.Integer(0))


def _cos_sin(
    sympy: Any, rotation: Rotation, x: Any, parameters: tuple[list[Any], ...], clamp: bool
) -> tuple[Any, Any]:
    """Cosine and sine of the rotation's angle."""
    thetas, scales, shifts = parameters
    angle = _angle(sympy, rotation.constant) + sum(thetas[k] for k in rotation.thetas)
    if rotation.encoding is None:
        return sympy.cos(angle), sympy.sin(angle)
    e = scales[rotation.encoding] * x + shifts[rotation.encoding]
    if not rotation.arccos:
        return sympy.cos(angle + e), sympy.sin(angle + e)
    e = sympy.Max(-1, sympy.Min(1, e)) if clamp else e
    c, s, root = sympy.cos(angle), sympy.sin(angle), sympy.sqrt(1 - e**2)
    return c * e - s * root, s * e + c * root


def _values(sympy: Any, name: str, values: Sequence[Any] | None, count: int) -> list[Any]:
    if values is None:
        return [sympy.Symbol(f"{name}_{n}", real=True) for n in range(count)]
    found = [_number(sympy, value) for value in values]
    if len(found) != count or any(v is sympy.nan or v.is_finite is False for v in found):
        raise CircuitError(
            f"to_sympy: {name}={found}; the circuit needs {count} finite numbers or expressions."
        )
    return found


def _number(sympy: Any, value: Any) -> Any:
    """Make whole numbers exact and other numbers floats; expressions stay unchanged."""
    if isinstance(value, sympy.Basic):
        return value
    number = float(value)
    return sympy.Integer(number) if number.is_integer() else sympy.Float(number)


def _angle(sympy: Any, value: float) -> Any:
    """A fixed angle, which is exact if it is a simple fraction of π."""
    turns = Fraction(value / math.pi).limit_denominator(24)
    if abs(float(turns) * math.pi - value) < 1e-15:
        return sympy.Rational(turns.numerator, turns.denominator) * sympy.pi
    return sympy.Float(value)
