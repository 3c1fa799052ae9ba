"""`feynman`: the 120 equations of AI Feynman as data to fit.

feynman_equations.csv lists them: name, output, formula in sympy's syntax, and the ranges from which
the variables are drawn, in order: "m1 m2 1 2, x1 3 4" means m1 and m2 in [1, 2], x1 in [3, 4].
Equations 1 to 100 have the numbers of the Feynman Lectures, and the others are the bonus equations.
Source: Udrescu and Tegmark 2020, AI Feynman, tables 4 to 6 (arXiv 1905.11481). The reduced Planck
constant of these tables is written `h/(2*pi)`; III.9.52 has sinc here, which is finite at omega =
omega_0.
"""

from __future__ import annotations

import csv
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from typing import Any

import torch
from torch import Tensor

from qkan.circuits import did_you_mean, require
from qkan.errors import QKANError

_FUNCTIONS = ("acos", "asin", "cos", "exp", "log", "sin", "sqrt", "tanh")


@dataclass(frozen=True)
class FeynmanEquation:
    """One equation of physics, with the ranges that its variables are drawn from.

    Attributes:
        number: 1 to 120.
        name: The number in the Feynman Lectures, such as "I.16.6"; for equations from 101 on, a
            title or the number in another book.
        output: The name of the quantity on the left-hand side.
        formula: The right-hand side, in sympy's syntax.
        variables: The names of the variables, in the order of the columns of x.
        ranges: (low, high) of each variable.
    """

    number: int
    name: str
    output: str
    formula: str
    variables: tuple[str, ...]
    ranges: tuple[tuple[float, float], ...]

    def __repr__(self) -> str:
        return f"{self.number}. {self.name}: {self.output} = {self.formula}"

    @property
    def symbols(self) -> tuple[Any, ...]:
        """The variables as real sympy symbols; needs sympy."""
        sympy = require("sympy", "symbolic")
        return tuple(sympy.Symbol(name, real=True) for name in self.variables)

    @property
    def expression(self) -> Any:
        """The right-hand side as a sympy expression in `symbols`; needs sympy."""
        sympy = require("sympy", "symbolic")
        # some names, such as I and beta, have another meaning in sympy
        return sympy.sympify(self.formula, dict(zip(self.variables, self.symbols, strict=True)))

    def __call__(self, x: Tensor) -> Tensor:
        """Evaluate the expression at x (…, v), with a column for each variable, to get (…, 1).

        Raises:
            QKANError: x has another number of columns, or is not a tensor of real floats.
        """
        if not isinstance(x, Tensor) or not x.dtype.is_floating_point:
            found = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise QKANError(f"{self.name}: x is {found}; pass a torch tensor of real floats.")
        if x.ndim == 0 or x.shape[-1] != len(self.variables):
            raise QKANError(
                f"{self.name}: x has shape {tuple(x.shape)}; pass (…, {len(self.variables)}) with "
                f"the columns {', '.join(self.variables)}."
            )
        return _compiled(self)(*x.unbind(-1)).unsqueeze(-1)

    def sample(
        self,
        n: int,
        generator: torch.Generator | None = None,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Draw n samples uniformly from the ranges: x (n, v) and y (n, 1), a pair that `fit` takes.

        Args:
            n: The number of samples, at least 1.
            generator: Torch's default generator when None.
            device: Torch's default device when None.
            dtype: Torch's default dtype when None.

        Raises:
            QKANError: n is not a whole number of at least 1.
        """
        if not isinstance(n, int) or isinstance(n, bool) or n < 1:
            raise QKANError(
                f"{self.name}: sample({n!r}); wanted a whole number of samples, 1 or more."
            )
        options: dict[str, Any] = {"device": device, "dtype": dtype}
        low, high = torch.tensor(self.ranges, **options).unbind(-1)
        unit = torch.rand(n, len(self.variables), generator=generator, **options)
        x = low + (high - low) * unit
        return x, self(x)


def feynman(equation: str | int) -> FeynmanEquation:
    """Return an equation of the Feynman Symbolic Regression Database by name or number.

    The function, its expression and its samples all come from one formula. Source: Udrescu and
    Tegmark 2020, AI Feynman (arXiv 1905.11481). `feynman_names()` lists the names.

    Args:
        equation: A number from 1 to 120, or a name such as "I.16.6".

    Raises:
        QKANError: No equation has that name or number; the message suggests the nearest name.
        ImportError: On use, if sympy is not installed; the message says how to install it.

    Example:
        >>> import torch
        >>> from qkan import feynman
        >>> law = feynman("I.16.6")
        >>> law
        20. I.16.6: v1 = (u + v)/(1 + u*v/c**2)
        >>> law(torch.tensor([[2.0, 1.0, 1.0]]))
        tensor([[1.6000]])
        >>> x, y = law.sample(1000, torch.Generator().manual_seed(0))
        >>> x.shape, y.shape
        (torch.Size([1000, 3]), torch.Size([1000, 1]))
    """
    table = _table()
    if isinstance(equation, int) and not isinstance(equation, bool):
        if not 1 <= equation <= len(table):
            raise QKANError(
                f"feynman({equation}): there is no such equation; the numbers go from 1 to "
                f"{len(table)}."
            )
        return list(table.values())[equation - 1]
    if equation not in table:
        raise QKANError(
            f"feynman({equation!r}): there is no such equation. {did_you_mean(equation, table)}"
        )
    return table[equation]


def feynman_names() -> tuple[str, ...]:
    """Return the names of all equations, in the order of their numbers.

    Example:
        >>> names = feynman_names()
        >>> len(names), names[0], names[-1]
        (120, 'I.6.20a', 'Schwarz 13.132')
    """
    return tuple(_table())


@functools.cache
def _table() -> dict[str, FeynmanEquation]:
    text = (resources.files(__package__) / "feynman_equations.csv").read_text("utf-8")
    found = {}
    for number, row in enumerate(csv.DictReader(text.splitlines()), start=1):
        ranges = {
            variable: (float(low), float(high))
            for part in row.pop("ranges").split(",")
            for *variables, low, high in [part.split()]
            for variable in variables
        }
        found[row["name"]] = FeynmanEquation(
            number, **row, variables=tuple(ranges), ranges=tuple(ranges.values())
        )
    return found


@functools.cache
def _compiled(equation: FeynmanEquation) -> Callable[..., Tensor]:
    """The expression as a function of one tensor for each variable."""
    sympy = require("sympy", "symbolic")
    names: dict[str, Any] = {name: _elementwise(name) for name in _FUNCTIONS}
    names |= {"pi": math.pi, "sinc": lambda value: torch.sinc(value / math.pi)}
    function: Callable[..., Tensor] = sympy.lambdify(equation.symbols, equation.expression, [names])
    return function


def _elementwise(name: str) -> Callable[[Any], Any]:
    """A function that takes tensors, and also the numbers in a formula."""
    return lambda value: getattr(torch if isinstance(value, Tensor) else math, name)(value)
