"""A library of elementary functions, fitted by scipy as forms a·f(b·x + c) + d.

Only those of b and c are free that change the form's shape: in exp(b·x + c), c is only a factor,
and in (b·x + c)², b is. The linear a and d are solved exactly for every trial of b and c (variable
projection, Golub and Pereyra 1973), and the arguments of log, √ and 1/u stay inside their domain on
the data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from qkan.errors import QKANError

_FINEST = 3
"""The number of starts that are refined, the best ones first."""
_TOO_LARGE = 100.0
"""A fit whose constant exceeds the data by this factor is ranked last."""


@dataclass(frozen=True)
class Form:
    """An elementary function, and which of b and c are free.

    Attributes:
        name: The name in `forms=`.
        function: A function from a numpy array to a numpy array.
        build: A function from the sympy module and an expression u to f(u).
        moves: "none" (u = x), "centre" (x + c), "rate" (b·x), "pole" (±x + c > 0 on the data), or
            "wave" and "step" (b·x + c with b and c free; started as frequencies and phases, or as
            widths and centres).
        complexity: The cost in the ranking; each unit must reduce the error by a factor of 4.
    """

    name: str
    function: Callable[[np.ndarray], np.ndarray]
    build: Callable[[Any, Any], Any]
    moves: str
    complexity: int


@dataclass(frozen=True)
class Fitted:
    """A function a·f(b·x + c) + d with its errors on the data to which it was fitted."""

    form: Form
    a: float
    b: float
    c: float
    d: float
    rmse: float
    worst: float

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return the values at x, of any shape."""
        return self.a * self.form.function(self.b * x + self.c) + self.d

    def expr(self, sympy: Any, x: Any) -> Any:
        """Return the sympy expression at x, without b or c where they are exactly 1 or 0."""
        u = (x if self.b == 1 else sympy.Float(self.b) * x) + (sympy.Float(self.c) if self.c else 0)
        return sympy.Float(self.a) * self.form.build(sympy, u) + sympy.Float(self.d)


def _power(n: int) -> Callable[[Any, Any], Any]:
    return lambda sympy, u: u**n


FORMS: dict[str, Form] = {
    form.name: form
    for form in (
        Form("constant", np.zeros_like, lambda sympy, u: sympy.Integer(0), "none", 0),
        Form("x", lambda u: u, lambda sympy, u: u, "none", 1),
        Form("x^2", np.square, _power(2), "centre", 2),
        Form("exp", np.exp, lambda sympy, u: sympy.exp(u), "rate", 2),
        Form("x^3", lambda u: u**3, _power(3), "centre", 3),
        Form("abs", np.abs, lambda sympy, u: sympy.Abs(u), "centre", 3),
        Form("1/x", lambda u: 1 / u, _power(-1), "pole", 3),
        Form("log", np.log, lambda sympy, u: sympy.log(u), "pole", 3),
        Form("sqrt", np.sqrt, lambda sympy, u: sympy.sqrt(u), "pole", 3),
        Form("sin", np.sin, lambda sympy, u: sympy.sin(u), "wave", 3),
        Form("x^4", lambda u: u**4, _power(4), "centre", 4),
        Form("1/x^2", lambda u: 1 / u**2, _power(-2), "pole", 4),
        Form("tanh", np.tanh, lambda sympy, u: sympy.tanh(u), "step", 4),
        Form("gauss", lambda u: np.exp(-(u**2)), lambda sympy, u: sympy.exp(-(u**2)), "step", 4),
        Form("atan", np.arctan, lambda sympy, u: sympy.atan(u), "step", 4),
    )
}
"""The library, by name."""


def resolve_forms(forms: str | Iterable[str | Form]) -> list[Form]:
    """Return the forms of the library for "elementary", or the named ones, or a user's own forms.

    Raises:
        QKANError: A name is unknown, or there is no form.
    """
    if forms == "elementary":
        return list(FORMS.values())
    wanted = [forms] if isinstance(forms, str) else list(forms)
    unknown = [form for form in wanted if not isinstance(form, Form) and form not in FORMS]
    if unknown or not wanted:
        raise QKANError(
            f"forms={wanted}: pass 'elementary', or at least one of {', '.join(FORMS)} or a Form."
        )
    return [form if isinstance(form, Form) else FORMS[form] for form in wanted]


def fit_form(form: Form, x: np.ndarray, y: np.ndarray) -> Fitted:
    """Fit a, b, c and d of one form by least squares.

    Args:
        form: The form.
        x: (n,).
        y: (n,).
    """
    # positions in [-1, 1], so that one set of starts serves every range
    low, high = float(x.min()), float(x.max())
    middle, half = (high + low) / 2, (high - low) / 2 or 1.0
    t = (x - middle) / half
    starts = _STARTS[form.moves]
    order = np.argsort([_residual(form, t, y, b, c)[0] for b, c in starts])
    found = [starts[n] for n in order[:_FINEST]]
    free = _FREE[form.moves]
    if free:
        found = [_refined(form, t, y, start, free) for start in found]
    b, c = min(found, key=lambda bc: _residual(form, t, y, *bc)[0])
    b, c = b / half, c - b * middle / half
    if form.moves in ("none", "centre", "pole"):
        # f(u·s) differs from f(u) only by a factor or a constant, so the slope stays 1 or -1
        b, c = math.copysign(1.0, b), c * half
    _, a, d, error = _residual(form, x, y, b, c)
    return Fitted(form, a, b, c, d, float(np.sqrt(np.mean(error**2))), float(np.abs(error).max()))


_FREE = {"none": (), "centre": (1,), "rate": (0,), "pole": (1,), "wave": (0, 1), "step": (0, 1)}
"""The indices of those of (b, c) that the refinement changes."""


_STARTS: dict[str, list[tuple[float, float]]] = {
    "none": [(1.0, 0.0)],
    "centre": [(1.0, c) for c in np.linspace(-3, 3, 25).tolist()],
    "rate": [(sign * b, 0.0) for b in np.geomspace(0.05, 12, 20).tolist() for sign in (1, -1)],
    "pole": [(sign, 1 + gap) for gap in np.geomspace(1e-3, 30, 20).tolist() for sign in (1, -1)],
    "wave": [(b, n * math.pi / 8) for b in np.geomspace(0.3, 40, 60).tolist() for n in range(8)],
    "step": [
        (b, -b * centre)
        for b in np.geomspace(0.3, 20, 12).tolist()
        for centre in np.linspace(-1.5, 1.5, 13).tolist()
    ],
}
"""Values of (b, c) that are tried first, for positions in [-1, 1]."""


def _residual(
    form: Form, x: np.ndarray, y: np.ndarray, b: float, c: float
) -> tuple[float, float, float, np.ndarray]:
    """The sum of squares, a, d and the residual, at the best a and d for these b and c."""
    with np.errstate(all="ignore"):
        f = form.function(b * x + c)
    if not np.isfinite(f).all() or np.abs(f).max() > 1e12:
        return math.inf, 0.0, 0.0, np.full_like(y, 1e6)
    centred = f - f.mean()
    power = centred @ centred
    a = float(centred @ y / power) if power > 1e-24 * len(x) else 0.0
    d = float(y.mean() - a * f.mean())
    error = a * f + d - y
    return float(error @ error), a, d, error


def _refined(
    form: Form, t: np.ndarray, y: np.ndarray, start: tuple[float, float], free: tuple[int, ...]
) -> tuple[float, float]:
    """The local optimum of (b, c) next to a start."""
    from scipy.optimize import least_squares

    def at(values: np.ndarray) -> tuple[float, float]:
        moved = dict(zip(free, map(float, values), strict=True))
        return moved.get(0, start[0]), moved.get(1, start[1])

    low = np.full(len(free), -np.inf)
    if form.moves == "pole":
        low[0] = 1 + 1e-6
    solution = least_squares(
        lambda values: _residual(form, t, y, *at(values))[3], [start[n] for n in free],
        bounds=(low, np.inf), xtol=1e-12, ftol=1e-12, gtol=1e-12,
    )  # fmt: skip
    return at(solution.x)


def rank(
    forms: Iterable[Form], x: np.ndarray, y: np.ndarray, scale: float, floor: float = 1e-10
) -> list[Fitted]:
    """Fit all forms, and sort them by log4(error / scale) + complexity.

    Args:
        forms: The forms to fit.
        x: (n,).
        y: (n,).
        scale: The unit of errors, such as the spread of the node to which the edge leads.
        floor: Relative errors below this count as equal, so that the simpler form wins.
    """
    if x.max() == x.min():
        forms = [FORMS["constant"]]
    fits = [fit_form(form, x, y) for form in forms]
    height = _TOO_LARGE * max(float(np.abs(y).max()), 1e-300)

    def score(fit: Fitted) -> tuple[bool, float]:
        # a form with large terms that cancel only imitates another form
        cancels = max(abs(fit.d), abs(fit.a) / _TOO_LARGE) > height
        error = max(fit.rmse / scale, floor)
        return cancels, math.log(error, 4) + fit.form.complexity

    return sorted(fits, key=score)
