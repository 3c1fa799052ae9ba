"""The frequencies of a circuit's activation, computed from its `Program`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .circuit import Circuit
from .program import Program, lower
from .series import carry, refuse_arccos, resolve_scale


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
    refuse_arccos(circuit, "spectrum")
    scales = resolve_scale(circuit, scale)
    program = lower(circuit)
    found: set[float] = set()
    for seed in range(3):
        found |= _frequencies(program, scales, np.random.default_rng(seed))
    return np.array(sorted({abs(k) for k in found}))


def _frequencies(
    program: Program, scale: tuple[float, ...], rng: np.random.Generator
) -> set[float]:
    """Frequencies with a non-zero coefficient at one draw of the angles."""
    theta = rng.uniform(-np.pi, np.pi, program.num_theta)
    shift = rng.uniform(-np.pi, np.pi, program.num_encodings)
    terms = carry(program, theta, scale, shift)
    observable = np.array(program.observable)
    return {key for key, (_, v) in terms.items() if abs(observable @ v) > 1e-10}
