"""From shots to an expectation value and its standard error: one rule, simulated or measured."""

from __future__ import annotations

from typing import Any


def shot_estimate(ones: Any, shots: int) -> tuple[Any, Any]:
    """Estimate ⟨M⟩ from the number of shots that read 1 (eigenvalue -1).

    z = 1 - 2(ones + ½)/(shots + 1) and stderr = √((1 - y²)/shots) with y = 1 - 2(ones + 3/2)/
    (shots + 3). The added counts keep the standard error above 0 where every shot agrees, and wide
    enough that z ± 2 stderr holds the truth in 93 % of cases or more wherever it is; z is biased
    by less than 1/shots.

    Args:
        ones: Counts, any shape, of a numpy array or a torch tensor of floats.
        shots: Shots a value, at least 1.

    Returns:
        z and its standard error, shaped like `ones`.

    Example:
        >>> import numpy as np
        >>> z, stderr = shot_estimate(np.array([0.0, 50.0]), shots=100)
        >>> z.round(3), stderr.round(3)
        (array([0.99, 0.  ]), array([0.024, 0.1  ]))
    """
    z = 1 - 2 * (ones + 0.5) / (shots + 1)
    nearer_zero = 1 - 2 * (ones + 1.5) / (shots + 3)
    return z, ((1 - nearer_zero * nearer_zero) / shots) ** 0.5
