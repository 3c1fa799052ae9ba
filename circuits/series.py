"""`fourier_series`: an activation with given parameters as an exact Fourier series."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .circuit import Circuit
from .errors import CircuitError
from .scales import resolve_scale
from .trigonometric import carry, refuse_arccos


def fourier_series(
    circuit: Circuit,
    theta: Sequence[float] | np.ndarray,
    scale: str | Sequence[float] | np.ndarray = "linear",
    shift: Sequence[float] | np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return k, a, b with φ(x) = Σ_n a_n cos k_n·x + b_n sin k_n·x, exactly.

    Each frequency is a sum Σ_u s_u·scale[u] with s_u ∈ {-1, 0, 1} (arXiv 2008.08605); the scales
    may be any numbers.

    Args:
        circuit: Any circuit without an arccos encoding.
        theta: (k,) radians.
        scale: "linear", "binary", "ternary", or (u,) numbers.
        shift: (u,) radians, 0 when None.

    Returns:
        Frequencies ≥ 0, ascending, with their cosine and sine coefficients, each (n,). Frequencies
        whose coefficients vanish up to rounding are left out.

    Raises:
        CircuitError: There is an arccos encoding, the numbers do not fit, or there are over 200,000
            frequencies.

    Example:
        >>> import numpy as np
        >>> from qkan.circuits import RY, RZ, Circuit, Encoding, H, Theta
        >>> circuit = Circuit([H, RZ(Encoding(0)), RY(Theta(0))])
        >>> k, a, b = fourier_series(circuit, [-np.pi / 2], shift=[np.pi / 2])
        >>> print(k, a.round(3) + 0.0, b.round(3))
        [1.] [0.] [-1.]
    """
    program = circuit.program
    refuse_arccos(program, "fourier_series")
    scales = resolve_scale(circuit, scale if isinstance(scale, str) else list(map(float, scale)))
    angles = _numbers("theta", theta, circuit.num_theta)
    u = circuit.num_encodings
    shifts = np.zeros(u) if shift is None else _numbers("shift", shift, u)
    found: dict[float, tuple[float, complex]] = {}
    for key, (k, vector) in carry(program, angles, scales, shifts).items():
        value = complex(np.array(program.observable) @ vector)
        # e^{ikx} and e^{-ikx} have conjugate coefficients: c e^{ikx} + c̄ e^{-ikx}
        if key >= 0:
            found[key] = (k, value if key == 0 else 2 * value)
    kept = [found[key] for key in sorted(found) if abs(found[key][1]) > 1e-15]
    values = np.array([value for _, value in kept], dtype=complex)
    return np.array([k for k, _ in kept]), values.real, -values.imag


def _numbers(name: str, values: Sequence[float] | np.ndarray, count: int) -> np.ndarray:
    array = np.asarray(values, dtype=float)
    if array.shape != (count,) or not np.isfinite(array).all():
        raise CircuitError(
            f"{name} has the shape {array.shape}; the circuit needs {count} finite numbers."
        )
    return array
