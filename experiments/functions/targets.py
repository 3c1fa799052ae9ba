"""Functions to regress on: special functions, Feynman's equations, and the KAN paper's examples."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import special
from torch import Tensor

from qkan import feynman

Pair = tuple[Tensor, Tensor]
Ranges = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Target:
    """A function of several real variables.

    Attributes:
        name: In tables.
        family: What it belongs to.
        ranges: (low, high) of each variable.
        formula: (…, v) values in these ranges → (…, 1).
    """

    name: str
    family: str
    ranges: Ranges
    formula: Callable[[Tensor], Tensor]

    def sample(self, points: int, generator: torch.Generator) -> Pair:
        """Uniform samples: the inputs mapped to [-1, 1], (points, v), and the values, (points, 1).

        Raises:
            ValueError: A value that is not finite; the message names the function.
        """
        unit = torch.rand(points, len(self.ranges), generator=generator, dtype=torch.float64)
        low, high = torch.tensor(self.ranges, dtype=torch.float64).unbind(-1)
        y = self.formula(low + (high - low) * unit)
        if not y.isfinite().all():
            raise ValueError(f"{self.name} is not finite everywhere in {self.ranges}.")
        return 2 * unit - 1, y


@dataclass(frozen=True)
class Data:
    """Samples of one target; y in standard deviations of the training part, from its mean.

    So a root mean square error of 1 is that of the best constant.
    """

    train: Pair
    validation: Pair
    test: Pair


def draw(target: Target, sizes: Sequence[int], seed: int) -> Data:
    """Samples for training, validation and test, as many as `sizes` says; repeats by seed."""
    generator = torch.Generator().manual_seed(seed)
    parts = [target.sample(points, generator) for points in sizes]
    mean, sd = parts[0][1].mean(), parts[0][1].std()
    return Data(*((x, (y - mean) / sd) for x, y in parts))


def _scipy(name: str, function: Callable[..., np.ndarray], *ranges: tuple[float, float]) -> Target:
    def formula(x: Tensor) -> Tensor:
        return torch.as_tensor(function(*x.numpy().T)).unsqueeze(-1)

    return Target(name, "special", ranges, formula)


def _legendre(order: int) -> Target:
    return _scipy(
        f"lpmv({order}, v, x)", lambda v, x: special.lpmv(order, v, x), (0, 5), (-0.9, 0.9)
    )


def _harmonic(degree: int, order: int) -> Target:
    """The real part of a spherical harmonic over the polar and the azimuthal angle."""
    return _scipy(
        f"Y({degree}, {order})",
        lambda polar, azimuth: special.sph_harm_y(degree, order, polar, azimuth).real,
        (0, math.pi), (0, 2 * math.pi),
    )  # fmt: skip


SPECIAL = (
    _scipy("ellipj sn(u, m)", lambda u, m: special.ellipj(u, m)[0], (0, 6), (0, 0.95)),
    _scipy("ellipkinc(φ, m)", special.ellipkinc, (0, math.pi), (0, 0.95)),
    _scipy("ellipeinc(φ, m)", special.ellipeinc, (0, math.pi), (0, 0.95)),
    _scipy("jv(v, x)", special.jv, (0, 5), (0, 10)),
    _scipy("yv(v, x)", special.yv, (0, 2), (1, 10)),
    _scipy("kv(v, x)", special.kv, (0, 2), (0.5, 4)),
    _scipy("iv(v, x)", special.iv, (0, 3), (0, 4)),
    *(_legendre(order) for order in (0, 1, 2)),
    *(_harmonic(*numbers) for numbers in ((1, 0), (1, 1), (2, 0), (2, 1), (2, 2))),
)
"""The fifteen that the KAN paper (arXiv 2404.19756) fits, over two variables each."""

# II.11.17 is what the paper lists as II.11.7
_EQUATIONS = (
    "I.6.20 I.6.20b I.9.18 I.12.11 I.13.12 I.15.3x I.16.6 I.18.4 I.26.2 I.27.6 I.29.16 I.30.3 "
    "I.30.5 I.37.4 I.40.1 I.44.4 I.50.26 II.2.42 II.6.15a II.11.17 II.11.27 II.35.18 II.36.38 "
    "II.38.3 III.9.52 III.10.19 III.17.37"
)
_MOST_VARIABLES = 4
FEYNMAN = tuple(
    Target(name, "Feynman", feynman(name).ranges, feynman(name))
    for name in _EQUATIONS.split()
    if len(feynman(name).ranges) <= _MOST_VARIABLES
)
"""The sixteen of the KAN paper's twenty-seven equations that have at most four variables.

It makes them dimensionless first; here they have all their variables and the database's ranges.
"""


def _waves(x: Tensor) -> Tensor:
    squares = torch.sin(math.pi * (x[..., ::2] ** 2 + x[..., 1::2] ** 2))
    return torch.exp(squares.sum(-1, keepdim=True) / 2)


def _unit(variables: int) -> Ranges:
    return ((-1.0, 1.0),) * variables


EXAMPLES = (
    _scipy("J₀(20x)", lambda x: special.jv(0, 20 * x), (-1, 1)),
    Target("exp(sin πx + y²)", "example", _unit(2),
           lambda x: torch.exp(torch.sin(math.pi * x[..., :1]) + x[..., 1:] ** 2)),
    Target("xy", "example", _unit(2), lambda x: x.prod(-1, keepdim=True)),
    Target("exp(½ sin π(x₁²+x₂²) + ½ sin π(x₃²+x₄²))", "example", _unit(4), _waves),
)  # fmt: skip
"""The KAN paper's toy functions of one, two and four variables."""

TARGETS = {target.name: target for target in (*SPECIAL, *FEYNMAN, *EXAMPLES)}
