"""From shots to an expectation value and its standard error: one rule, simulated or measured."""

from __future__ import annotations

from typing import Any


def shot_estimate(ones: Any, shots: int) -> tuple[Any, Any]:
    """Estimate ⟨M⟩ from the number of shots that read 1 (eigenvalue -1).

    z = 1 - 2(ones + ½)/(shots + 1), stderr = √((1 - z²)/shots). The added half keeps the standard
    error above 0 where every shot agrees; it biases z by less than 1/shots.

    Args:
        ones: Counts, any shape, of a numpy array or a torch tensor of floats.
        shots: Shots a value, at least 1.

    Returns:
        z and its standard error, shaped like `ones`.

    Example:
        >>> import numpy as np
        >>> z, stderr = shot_estimate(np.array([0.0, 50.0]), shots=100)
        >>> z.round(3), stderr.round(3)
        (array([0.99, 0.  ]), array([0.014, 0.1  ]))
    """
    z = 1 - 2 * (ones + 0.5) / (shots + 1)
    return z, ((1 - z * z) / shots) ** 0.5
