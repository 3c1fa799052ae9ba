"""The Bloch vector as a trigonometric polynomial in x, computed by running a `Program` on it."""

from __future__ import annotations

import numpy as np

from .errors import CircuitError
from .program import Program, rotation_matrix

_LIMIT = 200_000
_ROUNDING = 9

Terms = dict[float, tuple[float, np.ndarray]]
"""Bloch coefficients with their frequency, by rounded frequency so that equal ones meet."""


def frequencies(program: Program, scale: tuple[float, ...]) -> np.ndarray:
    """Return the frequencies k ≥ 0 whose coefficient does not vanish at random angles, ascending.

    Raises:
        CircuitError: There is an arccos encoding, or there are over 200,000 frequencies.
    """
    refuse_arccos(program, "spectrum")
    axes = np.array(program.observables)
    found: set[float] = set()
    for seed in range(3):
        rng = np.random.default_rng(seed)
        theta = rng.uniform(-np.pi, np.pi, program.num_theta)
        shift = rng.uniform(-np.pi, np.pi, program.num_encodings)
        terms = carry(program, theta, scale, shift)
        found |= {abs(key) for key, (_, v) in terms.items() if np.abs(axes @ v).max() > 1e-10}
    return np.array(sorted(found))


def carry(
    program: Program, theta: np.ndarray, scale: tuple[float, ...], shift: np.ndarray
) -> Terms:
    """Run a program and return the terms of the final Bloch vector v(x) = Σ_k v_k e^{ikx}."""
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


def refuse_arccos(program: Program, what: str) -> None:
    """Raise a `CircuitError` if φ is not a trigonometric polynomial."""
    if program.uses_arccos:
        raise CircuitError(
            f"{what}: an arccos encoding makes φ a polynomial in e and √(1-e²), which has no "
            "finite frequency spectrum. Use an ansatz without arccos, such as 'pz'."
        )


def _encode(terms: Terms, axis: int, angle: float, scale: float) -> Terms:
    """Rotate by `scale·x + angle`: frequency k contributes to k - scale, k and k + scale."""
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
            f"There are over {_LIMIT} frequencies; pass fewer repetitions or commensurate scales."
        )
    return result
