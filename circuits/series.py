"""The exact Fourier series of an activation, carried through its `Program` term by term."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .ansatz import fixed_scale
from .circuit import Circuit
from .errors import CircuitError
from .program import Program, lower, rotation_matrix

_LIMIT = 200_000
_ROUNDING = 9

Terms = dict[float, tuple[float, np.ndarray]]
"""Frequency, rounded so that equal ones meet: the frequency itself and its Bloch coefficients."""


def fourier_series(
    circuit: Circuit,
    theta: Sequence[float] | np.ndarray,
    scale: str | Sequence[float] | np.ndarray = "linear",
    shift: Sequence[float] | np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return k, a, b with φ(x) = Σ_n a_n cos k_n·x + b_n sin k_n·x, exactly.

    Each frequency is a sum Σ_u s_u·scale[u] with s_u ∈ {-1, 0, 1} (arXiv 2008.08605); the scales
    may be any numbers. The Bloch vector is carried as a trigonometric polynomial in x.

    Args:
        circuit: Any circuit without an arccos encoding.
        theta: (k,) radians.
        scale: "linear", "binary", "ternary", or (u,) numbers.
        shift: (u,) radians, 0 when None.

    Returns:
        Frequencies ≥ 0, ascending, with their cosine and sine coefficients, each (n,). Those whose
        coefficients vanish to rounding are left out.

    Raises:
        CircuitError: An arccos encoding, numbers that do not fit, over 200,000 frequencies.

    Example:
        >>> import numpy as np
        >>> from qkan.circuits import RY, RZ, Circuit, Encoding, H, Theta
        >>> circuit = Circuit([H, RZ(Encoding(0)), RY(Theta(0))])
        >>> k, a, b = fourier_series(circuit, [-np.pi / 2], shift=[np.pi / 2])
        >>> print(k, a.round(3) + 0.0, b.round(3))
        [1.] [0.] [-1.]
    """
    refuse_arccos(circuit, "fourier_series")
    scales = resolve_scale(circuit, scale if isinstance(scale, str) else list(map(float, scale)))
    angles = _numbers("theta", theta, circuit.num_theta)
    u = circuit.num_encodings
    shifts = np.zeros(u) if shift is None else _numbers("shift", shift, u)
    program = lower(circuit)
    found: dict[float, tuple[float, complex]] = {}
    for key, (k, vector) in carry(program, angles, scales, shifts).items():
        value = complex(np.array(program.observable) @ vector)
        # e^{ikx} and e^{-ikx} have conjugate coefficients: c e^{ikx} + c̄ e^{-ikx}
        if key >= 0:
            found[key] = (k, value if key == 0 else 2 * value)
    kept = [found[key] for key in sorted(found) if abs(found[key][1]) > 1e-15]
    values = np.array([value for _, value in kept], dtype=complex)
    return np.array([k for k, _ in kept]), values.real, -values.imag


def resolve_scale(circuit: Circuit, scale: str | Sequence[float]) -> tuple[float, ...]:
    """Return one float an encoding from the name of a fixed encoding or from numbers."""
    if isinstance(scale, str):
        return fixed_scale(scale, circuit.num_encodings)
    values = tuple(float(value) for value in scale)
    if len(values) != circuit.num_encodings or not np.isfinite(values).all():
        raise CircuitError(
            f"scale {values}: the circuit has {circuit.num_encodings} encodings, "
            "and each needs one finite number."
        )
    return values


def carry(
    program: Program, theta: np.ndarray, scale: tuple[float, ...], shift: np.ndarray
) -> Terms:
    """The final Bloch vector v(x) = Σ_k v_k e^{ikx} as its terms."""
    terms: Terms = {0.0: (0.0, np.array(program.initial, dtype=complex))}
    for rotation in program.rotations:
        angle = rotation.constant + sum(theta[k] for k in rotation.thetas)
        if rotation.encoding is None:
            matrix = rotation_matrix(rotation.axis, angle)
            terms = {key: (k, matrix @ v) for key, (k, v) in terms.items()}
        else:
            angle += shift[rotation.encoding]
            terms = _encode(terms, rotation.axis, angle, scale[rotation.encoding])
    return terms


def refuse_arccos(circuit: Circuit, what: str) -> None:
    """Raise for a circuit whose φ is no trigonometric polynomial."""
    if circuit.uses_arccos:
        raise CircuitError(
            f"{what}: an arccos encoding makes φ a polynomial in e and √(1-e²), which has no "
            "finite frequency spectrum. Use an ansatz without arccos, such as 'pz'."
        )


def _encode(terms: Terms, axis: int, angle: float, scale: float) -> Terms:
    """Rotate by `scale·x + angle`: each frequency k feeds k - scale, k and k + scale."""
    fixed = np.zeros((3, 3))
    fixed[axis, axis] = 1.0
    # R(α) = fixed + e^{iα} up + e^{-iα} conj(up)
    up = (rotation_matrix(axis, 0.0) - fixed - 1j * (rotation_matrix(axis, np.pi / 2) - fixed)) / 2
    up = up * np.exp(1j * angle)
    steps = ((0.0, fixed.astype(complex)), (scale, up), (-scale, up.conj()))
    result: Terms = {}
    for k, vector in terms.values():
        for step, matrix in steps:
            key = round(k + step, _ROUNDING) + 0.0
            known = result.get(key)
            moved = matrix @ vector
            result[key] = (k + step, moved) if known is None else (known[0], known[1] + moved)
    result = {key: term for key, term in result.items() if np.abs(term[1]).max() > 1e-16}
    if len(result) > _LIMIT:
        raise CircuitError(
            f"Over {_LIMIT} frequencies; pass fewer repetitions or commensurate scales."
        )
    return result


def _numbers(name: str, values: Sequence[float] | np.ndarray, count: int) -> np.ndarray:
    array = np.asarray(values, dtype=float)
    if array.shape != (count,) or not np.isfinite(array).all():
        raise CircuitError(
            f"{name} of shape {array.shape}: the circuit needs {count} finite numbers."
        )
    return array
