"""The frequencies of a circuit's activation, computed from its `Program`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .ansatz import fixed_scale
from .circuit import Circuit
from .errors import CircuitError
from .program import Program, lower, rotation_matrix

_LIMIT = 200_000
_ROUNDING = 9


def spectrum(circuit: Circuit, scale: str | Sequence[float] = "linear") -> np.ndarray:
    """Return the frequencies k ≥ 0 of φ(x) = Σ_k c_k e^{ikx} for generic angles, ascending.

    Each is a sum Σ_u s_u·scale[u] with s_u ∈ {-1, 0, 1} (arXiv 2008.08605) whose coefficient does
    not vanish. Found by carrying the Bloch vector as a trigonometric polynomial through the
    lowered circuit at three random draws of the angles, so what a circuit cannot reach is absent.

    Args:
        circuit: Any circuit without an arccos encoding.
        scale: "linear", "binary", "ternary", or one number an encoding.

    Raises:
        CircuitError: An arccos encoding, a scale of the wrong length, or over 200,000 frequencies.

    Example:
        >>> from qkan.circuits import ansatz
        >>> ansatz("pz", reps=2).spectrum("ternary")
        array([0., 1., 2., 3., 4.])
        >>> ansatz("real", reps=3).spectrum("linear")
        array([3.])
    """
    if circuit.uses_arccos:
        raise CircuitError(
            "spectrum: an arccos encoding makes φ a polynomial in e and √(1-e²), which has no "
            "finite frequency spectrum. Use an ansatz without arccos, such as 'pz'."
        )
    scales = resolve_scale(circuit, scale)
    program = lower(circuit)
    found: set[float] = set()
    for seed in range(3):
        found |= _frequencies(program, scales, np.random.default_rng(seed))
    return np.array(sorted({abs(k) for k in found}))


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


def _frequencies(
    program: Program, scale: tuple[float, ...], rng: np.random.Generator
) -> set[float]:
    """Frequencies with a non-zero coefficient at one draw of the angles."""
    theta = rng.uniform(-np.pi, np.pi, program.num_theta)
    shift = rng.uniform(-np.pi, np.pi, program.num_encodings)
    terms: dict[float, np.ndarray] = {0.0: np.array(program.initial, dtype=complex)}
    for rotation in program.rotations:
        angle = rotation.constant + sum(theta[k] for k in rotation.thetas)
        if rotation.encoding is None:
            matrix = rotation_matrix(rotation.axis, angle)
            terms = {k: matrix @ v for k, v in terms.items()}
        else:
            angle += shift[rotation.encoding]
            terms = _encode(terms, rotation.axis, angle, scale[rotation.encoding])
    observable = np.array(program.observable)
    return {k for k, v in terms.items() if abs(observable @ v) > 1e-10}


def _encode(
    terms: dict[float, np.ndarray], axis: int, angle: float, scale: float
) -> dict[float, np.ndarray]:
    """Rotate by `scale·x + angle`: each frequency k feeds k - scale, k and k + scale."""
    fixed = np.zeros((3, 3))
    fixed[axis, axis] = 1.0
    # R(α) = fixed + e^{iα} up + e^{-iα} conj(up)
    up = (rotation_matrix(axis, 0.0) - fixed - 1j * (rotation_matrix(axis, np.pi / 2) - fixed)) / 2
    up = up * np.exp(1j * angle)
    result: dict[float, np.ndarray] = {}
    for k, vector in terms.items():
        for step, matrix in ((0.0, fixed), (scale, up), (-scale, up.conj())):
            key = round(k + step, _ROUNDING) + 0.0
            result[key] = result.get(key, 0.0) + matrix @ vector
    result = {k: v for k, v in result.items() if np.abs(v).max() > 1e-12}
    if len(result) > _LIMIT:
        raise CircuitError(
            f"spectrum: over {_LIMIT} frequencies; pass fewer repetitions or commensurate scales."
        )
    return result
