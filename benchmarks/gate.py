"""The correctness gate: no figure without outputs and gradients equal to the float64 truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TOLERANCE = 1e-5
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Verdict:
    """What the gate found.

    Attributes:
        errors: For each array the largest error over the truth's largest size.
        reason: Why the candidate fails; None when it passes.
    """

    errors: dict[str, float]
    reason: str | None

    @property
    def passed(self) -> bool:
        """Whether its times may be reported."""
        return self.reason is None


def judge(found: Arrays, truth: Arrays, tolerance: float = TOLERANCE) -> Verdict:
    """Compare a candidate's arrays with the truth's, each on the scale of the whole array.

    Args:
        found: Outputs `forward` (as without gradients) and `y` (as in a step) of shape (b, o), and
            a gradient "grad …" of each input and parameter that the truth differentiates.
        truth: The same, in float64. A gradient that only the candidate has is an error, too: it
            would have computed something else.
        tolerance: On max|found - truth| / max|truth|.
    """
    errors: dict[str, float] = {}
    reasons = [f"it has no {name}" for name in truth if name not in found]
    reasons += [f"it has a {name} that there is not" for name in found if name not in truth]
    for name in truth.keys() & found.keys():
        ours, exact = found[name], truth[name]
        if ours.shape != exact.shape:
            reasons.append(f"{name} has shape {ours.shape}, wanted {exact.shape}")
            continue
        errors[name] = relative_error(ours, exact)
        # written so that NaN fails
        if not errors[name] <= tolerance:
            reasons.append(f"{name} is off by {errors[name]:.2g}, allowed {tolerance:.2g}")
    return Verdict(dict(sorted(errors.items())), "; ".join(sorted(reasons)) or None)


def relative_error(found: np.ndarray, exact: np.ndarray) -> float:
    """max|found - exact| / max|exact|; the absolute error where the truth is zero everywhere."""
    if not exact.size:
        return 0.0
    size = float(np.abs(exact).max())
    error = float(np.abs(found.astype(np.float64) - exact).max())
    return error / size if size else error
