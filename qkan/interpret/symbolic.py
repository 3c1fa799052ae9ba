"""`symbolic`: a model as a formula, exact, with a proven bound, or in elementary functions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor, nn

from qkan._options import check_size
from qkan.circuits import require
from qkan.errors import QKANError

from .activation import activation_formula, exact_activation
from .edges import check_inputs, exact_network, node_values, spread_points
from .forms import Form, resolve_forms
from .formula import Formula


def symbolic(
    model: nn.Module,
    x: Tensor | None = None,
    *,
    forms: str | Iterable[str | Form] | None = None,
    search: bool = False,
    tolerance: float | None = None,
    digits: int | None = None,
    names: Sequence[str] | None = None,
) -> Formula:
    """Return a model as a formula, with its error against the model.

    Without options the formula is exact: each activation is a finite trigonometric polynomial with
    frequencies Σ_u s_u·scale[u], s_u ∈ {-1, 0, 1} (arXiv 2008.08605), or with an arccos the closed
    form of its circuit. Readout, base activation, weights, mask, groups, bias and `input_range` are
    included.

    With `tolerance` or `digits`, small harmonics are dropped or merged with a near one, and numbers
    are rounded; `Formula.bound` is a proven bound on the change, for inputs in the range of x.

    With `forms`, an edge that an elementary function a·f(b·x + c) + d fits is replaced by it. If
    all edges are replaced, the layers are composed into one expression for each output, and all of
    its numbers are fitted again to the model. With `search`, genetic programming (pyoperon) looks
    for a formula for edges that no form fits.

    A `DARUAN` becomes base(x) + amplitude·(sum of waves), exact or rounded to `digits`: a formula
    with one input, and an output for each group.

    Args:
        model: A `QKAN`, a `QKANLayer` or a `DARUAN`.
        x: (…, i) data, which give the range of every node and on which the formula's error is
            measured. None takes points spread over `input_range`, or over ±π/2 without one.
        forms: "elementary" for all forms of the library, or a list of their names and of `Form`s of
            your own.
        search: Whether to search for a formula for edges that no form fits. This takes seconds for
            each edge; the same data give the same formula.
        tolerance: The largest change of an edge, relative to the spread (standard deviation) of the
            node to which it leads: a bound on the terms that are dropped, or the root mean square
            error of a form. None means 0 without forms and 0.02 with them.
        digits: The number of decimals to round to. None keeps them all, or 4 with forms.
        names: The names of the inputs; x_1, x_2, … when None.

    Raises:
        QKANError: The model is of another kind, the data do not fit it, a value is not finite, a
            form is unknown, or an option is out of its range.
        ImportError: sympy is not installed (extra "symbolic"), or for a search pyoperon (extra
            "operon").

    Example:
        >>> import torch
        >>> from qkan import QKANLayer, symbolic
        >>> g = torch.Generator().manual_seed(0)
        >>> layer = QKANLayer(1, 1, encoding="linear", reps=1, base=None, generator=g)
        >>> symbolic(layer, digits=3).expr
        1.053*sin(x_1) + 0.28*cos(x_1) - 0.538
    """
    activation = exact_activation(model, "symbolic")
    if activation is not None:
        if forms is not None or search or tolerance is not None:
            raise QKANError(
                "symbolic: the formula of a DARUAN is its sum of waves, which forms, search and "
                "tolerance do not change; leave them out. digits= rounds its numbers."
            )
        chosen = ["x"] if names is None else list(names)
        (symbol,) = _symbols(chosen, 1)
        return activation_formula(activation, x, _digits(digits), str(symbol))
    network = exact_network(model, "symbolic")
    library = None if forms is None else resolve_forms(forms)
    elementary = library is not None or search
    tolerance = (0.02 if elementary else 0.0) if tolerance is None else tolerance
    if not 0 <= tolerance < 1:
        raise QKANError(
            f"tolerance={tolerance!r}; wanted a share of a node's spread, from 0 to below 1."
        )
    digits = 4 if digits is None and elementary else _digits(digits)
    data = spread_points(network) if x is None else check_inputs(network, x, "symbolic")
    symbols = _symbols(names, network.widths[0])
    # this needs sympy, which has been imported by now
    from .formula_writer import Settings, Writer

    values = node_values(network, data)
    settings = Settings(tolerance, digits, library, search)
    formula = Writer(network, values, settings).write(symbols)
    if all(edge.name == "none" or edge.bound is None for edge in formula.edges):
        _merge(formula, values, digits)
    formula.measure(values[0].numpy(), values[-1].numpy())
    return formula


def _digits(digits: int | None) -> int | None:
    return None if digits is None else check_size("digits", digits, "Or pass None.", least=0)


def _symbols(names: Sequence[str] | None, count: int) -> tuple[Any, ...]:
    """The symbols of the inputs."""
    sympy = require("sympy", "symbolic")
    chosen = [f"x_{i + 1}" for i in range(count)] if names is None else list(names)
    if len(chosen) != count or len(set(chosen)) != count or not all(map(str, chosen)):
        raise QKANError(f"names={chosen}; wanted {count} different names, one for each input.")
    return tuple(sympy.Symbol(str(name), real=True) for name in chosen)


def _merge(formula: Formula, values: list[Tensor], digits: int | None) -> None:
    """Compose the layers into one expression for each output, and fit its numbers again."""
    from .refit import refit, round_numbers

    data = values[0].numpy()
    merged, fitted = [], []
    for o, (symbol, expr) in enumerate(zip(formula.outputs, formula.exprs, strict=True)):
        numbers, simple = refit(expr, formula.inputs, (data, values[-1][:, o].numpy()))
        merged.append((symbol, round_numbers(simple, digits)))
        fitted.append(numbers)
    formula.layers, formula.fitted = [merged], tuple(fitted)
