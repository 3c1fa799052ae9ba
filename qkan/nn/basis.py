"""Families of functions for the edges of a `KANLayer`: circuits, splines, Fourier, rational.

Letters: b samples, o outputs, i inputs, n functions or coefficients of an edge.
"""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from qkan._options import check_choice, check_layer_options, check_range, check_size
from qkan.circuits import Circuit, fixed_scale
from qkan.circuits import ansatz as named_ansatz
from qkan.errors import QKANError
from qkan.simulators import expectation

from .functional import qkan_layer
from .splines import bsplines, edge_functions, sum_of_edges, uniform_grid

Coefficients = dict[str, Tensor]
"""Tensors (o, i, …) by name."""


class Basis(ABC):
    """A family of functions of one variable; every edge has its own coefficients.

    Attributes:
        name: The name in `basis=` and in the files of saved models.
    """

    name: str

    @property
    def duplicates(self) -> int:
        """The number of coefficients of an edge that others duplicate, such as a common factor."""
        return 1

    @abstractmethod
    def start(
        self, edges: tuple[int, int], generator: torch.Generator | None, **factory: Any
    ) -> Coefficients:
        """Draw coefficients (o, i, …) whose functions have a second moment near 1/2."""

    @abstractmethod
    def edges(self, x: Tensor, coefficients: Coefficients) -> Tensor:
        """f_oi(x[b,i]) of every edge, (b, o, i), for x (b, i)."""

    def layer(self, x: Tensor, coefficients: Coefficients, weight: Tensor) -> Tensor:
        """Σ_i weight[o,i]·f_oi(x[b,i]), (b, o)."""
        return (self.edges(x, coefficients) * weight).sum(-1)


class _Linear(Basis):
    """Functions that are linear in their coefficients: a layer is one matrix product.

    It keeps the features (b, i, n) in memory, never anything of size b·o·i.
    """

    @abstractmethod
    def features(self, x: Tensor) -> Tensor:
        """The functions that the coefficients multiply, (b, i, n)."""

    @override
    def edges(self, x: Tensor, coefficients: Coefficients) -> Tensor:
        return edge_functions(self.features(x), coefficients["coef"])

    @override
    def layer(self, x: Tensor, coefficients: Coefficients, weight: Tensor) -> Tensor:
        return sum_of_edges(self.features(x), coefficients["coef"] * weight.unsqueeze(-1))


@dataclass(frozen=True)
class DaruanBasis(Basis):
    """The expectation value of a circuit, as in `QKANLayer`.

    Args:
        ansatz: A name from `ansatze()`.
        reps: Repetitions.
        encoding: As in `QKANLayer`, by name.
    """

    ansatz: str = "pz"
    reps: int = 3
    encoding: str = "trainable"

    name = "daruan"

    def __post_init__(self) -> None:
        # raises here for a wrong option, rather than at the first call
        assert self._circuit.num_encodings == len(self._fixed or range(self.reps))
        check_layer_options("KAN", {"ansatz": self._circuit})

    @functools.cached_property
    def _circuit(self) -> Circuit:
        return named_ansatz(self.ansatz, self.reps)

    @functools.cached_property
    def _fixed(self) -> tuple[float, ...] | None:
        return None if self.encoding == "trainable" else fixed_scale(self.encoding, self.reps)

    @property
    @override
    def duplicates(self) -> int:
        # shifts that the circuit merges with a theta
        return 0 if self._without_shift else len(self._circuit.program.merged_shifts)

    @property
    def _without_shift(self) -> bool:
        return self._fixed is not None and len(self._circuit.program.merged_shifts) == self.reps

    @override
    def start(
        self, edges: tuple[int, int], generator: torch.Generator | None, **factory: Any
    ) -> Coefficients:
        theta = torch.empty(*edges, self._circuit.num_theta, **factory)
        found = {"theta": theta.uniform_(-math.pi / 2, math.pi / 2, generator=generator)}
        if self._fixed is None:
            found["scale"] = torch.ones(*edges, self.reps, **factory)
        if not self._without_shift:
            found["shift"] = torch.zeros(*edges, self.reps, **factory)
        return found

    @override
    def edges(self, x: Tensor, coefficients: Coefficients) -> Tensor:
        scale = self._fixed or coefficients["scale"]
        return expectation(
            self._circuit, x, coefficients["theta"], scale, coefficients.get("shift")
        )

    @override
    def layer(self, x: Tensor, coefficients: Coefficients, weight: Tensor) -> Tensor:
        theta = coefficients["theta"]
        size = (*theta.shape[:2], self.reps)
        scale = coefficients["scale"] if self._fixed is None else theta.new_tensor(self._fixed)
        shift = coefficients.get("shift", theta.new_zeros(1))
        return qkan_layer(
            x, theta, scale.expand(size), shift.expand(size), weight,
            program=self._circuit.program, fixed_scale=self._fixed, base=None,
        )  # fmt: skip


@dataclass(frozen=True)
class Spline(_Linear):
    """B-splines on equidistant knots; far outside their range they are 0.

    Args:
        intervals: The number of intervals of the grid between `low` and `high`.
        degree: The degree of the splines; 3 for cubic ones.
        low: The beginning of the grid.
        high: The end of the grid; the default reaches beyond the ±π/2 that `input_range` maps to.

    Source: KAN, arXiv 2404.19756.
    """

    intervals: int = 5
    degree: int = 3
    low: float = -2.0
    high: float = 2.0

    name = "spline"

    def __post_init__(self) -> None:
        check_size("Spline: intervals", self.intervals)
        check_size("Spline: degree", self.degree, least=0)
        check_range("Spline: (low, high)", (self.low, self.high))

    @override
    def start(
        self, edges: tuple[int, int], generator: torch.Generator | None, **factory: Any
    ) -> Coefficients:
        coef = torch.empty(*edges, self.intervals + self.degree, **factory)
        # the squares of cubic splines at a point add up to about a half
        return {"coef": coef.normal_(generator=generator)}

    @override
    def features(self, x: Tensor) -> Tensor:
        low, high = x.new_tensor([self.low]), x.new_tensor([self.high])
        return bsplines(x, uniform_grid(low, high, self.intervals, self.degree), self.degree)


@dataclass(frozen=True)
class Fourier(_Linear):
    """Σ_k a_k cos kx + b_k sin kx for k = 1 … harmonics; the layer's bias is the constant term.

    Source: FourierKAN, arXiv 2406.01034.
    """

    harmonics: int = 3

    name = "fourier"

    def __post_init__(self) -> None:
        check_size("Fourier: harmonics", self.harmonics)

    @override
    def start(
        self, edges: tuple[int, int], generator: torch.Generator | None, **factory: Any
    ) -> Coefficients:
        coef = torch.empty(*edges, 2 * self.harmonics, **factory)
        return {"coef": coef.normal_(std=self.harmonics**-0.5, generator=generator) * 0.5**0.5}

    @override
    def features(self, x: Tensor) -> Tensor:
        angles = x.unsqueeze(-1) * torch.arange(
            1, self.harmonics + 1, dtype=x.dtype, device=x.device
        )
        return torch.cat([angles.cos(), angles.sin()], -1)


@dataclass(frozen=True)
class Rational(Basis):
    """P(x) / (1 + |Q(x)|), where Q has no constant term; it has no poles.

    Every edge has its own denominator, so a layer keeps (b, o, i) values in memory; use it for
    small layers. Source: Padé activation units, arXiv 1907.06732.

    Args:
        numerator: Degree of P.
        denominator: Degree of Q.
    """

    numerator: int = 3
    denominator: int = 2

    name = "rational"

    def __post_init__(self) -> None:
        check_size("Rational: numerator", self.numerator)
        check_size("Rational: denominator", self.denominator)

    @override
    def start(
        self, edges: tuple[int, int], generator: torch.Generator | None, **factory: Any
    ) -> Coefficients:
        sizes = {"above": (self.numerator + 1, 0), "below": (self.denominator, 1)}
        found = {}
        for key, (count, first) in sizes.items():
            value = torch.empty(*edges, count, **factory).normal_(std=0.5, generator=generator)
            powers = [1 / math.factorial(n) for n in range(first, first + count)]
            found[key] = value * value.new_tensor(powers)
        return found

    @override
    def edges(self, x: Tensor, coefficients: Coefficients) -> Tensor:
        x = x.unsqueeze(-2)
        above = _polynomial(x, coefficients["above"])
        below = x * _polynomial(x, coefficients["below"])
        return above / (1 + below.abs())


def _polynomial(x: Tensor, coef: Tensor) -> Tensor:
    """Σ_n coef[…, n]·x^n by Horner's rule."""
    value = coef[..., -1].expand(torch.broadcast_shapes(x.shape, coef.shape[:-1]))
    for n in range(coef.shape[-1] - 2, -1, -1):
        value = value * x + coef[..., n]
    return value


KINDS: dict[str, type[Basis]] = {
    "daruan": DaruanBasis, "spline": Spline, "fourier": Fourier, "rational": Rational,
}  # fmt: skip
"""Bases by name. All their options are JSON values."""

Daruan = DaruanBasis
"""The name of `DaruanBasis` in version 0.1.0, which its pickles hold."""

BasisLike = str | Basis | Sequence[str | Basis]
"""A name, a basis with options, or several of them to choose between."""


def make_bases(basis: BasisLike) -> tuple[Basis, ...]:
    """Return the bases that `basis=` asks for."""
    wanted = [basis] if isinstance(basis, str | Basis) else list(basis)
    if not wanted:
        raise QKANError(f"basis={basis!r}; name at least one of {', '.join(KINDS)}.")
    return tuple(map(_one_basis, wanted))


def _one_basis(basis: str | Basis) -> Basis:
    if isinstance(basis, Basis):
        return basis
    check_choice("basis", basis, KINDS)
    return KINDS[basis]()


def to_json(basis: Basis) -> dict[str, Any]:
    """Return a basis of `KINDS` as JSON values: its name and options."""
    return {"name": basis.name, **asdict(basis)}  # type: ignore[call-overload]


def from_json(data: dict[str, Any]) -> Basis:
    """Build the basis that `to_json` described."""
    return KINDS[data["name"]](**{key: value for key, value in data.items() if key != "name"})
