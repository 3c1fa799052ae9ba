"""B-splines, their grids, and networks of splines as other packages store them.

Letters: b samples, o outputs, i inputs, g intervals of the grid, d the degree, n = g + d B-splines.
A grid has g + 2d + 1 knots: d of them beyond each end of the domain.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qkan._options import check_choice
from qkan.errors import QKANError

from .functional import BASES
from .network import LayerRow, check_sizes

SPLINE_BASES = ("silu", "identity")
"""Base activations that the spline KANs of other packages have."""


def bsplines(x: Tensor, grid: Tensor, degree: int) -> Tensor:
    """Evaluate B-splines by the Cox–de Boor recursion; they are 0 outside all knots.

    Args:
        x: (b, i).
        grid: (i or 1, g + 2·degree + 1) ascending knots.
        degree: 0 for steps, 3 for cubic splines.

    Returns:
        (b, i, g + degree), differentiable in x. Within the domain, grid[:, degree] to
        grid[:, -degree - 1], they are positive and add up to 1.

    Example:
        >>> grid = torch.arange(-3.0, 9.0).unsqueeze(0)
        >>> bsplines(torch.tensor([[2.5]]), grid, 3).sum()
        tensor(1.0000)
    """
    x = x.unsqueeze(-1)
    values = ((x >= grid[:, :-1]) & (x < grid[:, 1:])).to(x.dtype)
    for d in range(1, degree + 1):
        rise = (x - grid[:, : -d - 1]) / (grid[:, d:-1] - grid[:, : -d - 1])
        fall = (grid[:, d + 1 :] - x) / (grid[:, d + 1 :] - grid[:, 1:-d])
        values = rise * values[..., :-1] + fall * values[..., 1:]
    return values


def uniform_grid(low: Tensor, high: Tensor, intervals: int, degree: int) -> Tensor:
    """(i, intervals + 2·degree + 1) equidistant knots whose domain is low … high, each (i,)."""
    steps = torch.arange(-degree, intervals + degree + 1, dtype=low.dtype, device=low.device)
    return low.unsqueeze(-1) + steps * ((high - low) / intervals).unsqueeze(-1)


def edge_functions(features: Tensor, coef: Tensor) -> Tensor:
    """Σ_n coef[o,i,n]·features[b,i,n] of every edge, (b, o, i)."""
    return torch.einsum("bin,oin->boi", features, coef)


def sum_of_edges(features: Tensor, coef: Tensor, bias: Tensor | None = None) -> Tensor:
    """Σ_i Σ_n coef[o,i,n]·features[b,i,n] + bias[o], (b, o), as one matrix product."""
    return F.linear(features.flatten(1), coef.flatten(1), bias)


class SplineLayer(nn.Module):
    """out[b,o] = Σ_i Σ_n coef[o,i,n]·B_n(x[b,i]) + Σ_i base_weight[o,i]·base(x[b,i]) + bias[o].

    Each input has its own grid, which need not be uniform; `KANLayer(basis=Spline(…))` has one
    uniform grid for all inputs, and a weight on each edge.

    Args:
        grid: (i, g + 2d + 1) knots, a buffer.
        coef: (o, i, g + d) coefficients, a parameter; the degree d follows from both shapes.
        base_weight: (o, i), a parameter; None begins at 0.
        bias: (o,), a parameter; None begins at 0.
        base: "silu", "identity" or None.

    Shapes:
        x (…, i) → (…, o).

    Raises:
        QKANError: The shapes do not fit together, or the base activation is unknown.
    """

    grid: Tensor
    coef: nn.Parameter
    bias: nn.Parameter
    base_weight: nn.Parameter | None

    def __init__(
        self,
        grid: Tensor,
        coef: Tensor,
        base_weight: Tensor | None = None,
        bias: Tensor | None = None,
        *,
        base: str | None = "silu",
    ) -> None:
        super().__init__()
        check_choice("base", base, [*SPLINE_BASES, None])
        bias = coef.new_zeros(coef.shape[:1]) if bias is None else bias
        base_weight = coef.new_zeros(coef.shape[:2]) if base_weight is None else base_weight
        _check_shapes(grid, coef, base_weight, bias)
        self.degree = grid.shape[1] - 1 - coef.shape[2]
        self.base = base
        self.register_buffer("grid", grid.detach().clone())
        self.coef = nn.Parameter(coef.detach().clone())
        self.bias = nn.Parameter(bias.detach().clone())
        own = None if base is None else nn.Parameter(base_weight.detach().clone())
        self.register_parameter("base_weight", own)

    @property
    def in_features(self) -> int:
        """The number of inputs i."""
        return self.coef.shape[1]

    @property
    def out_features(self) -> int:
        """The number of outputs o."""
        return self.coef.shape[0]

    @property
    def domain(self) -> tuple[Tensor, Tensor]:
        """The lowest and the highest input (i,) that the grid covers."""
        return self.grid[:, self.degree], self.grid[:, -self.degree - 1]

    def splines(self, x: Tensor) -> Tensor:
        """Return the spline of every edge, (b, o, i), for x (b, i)."""
        return edge_functions(bsplines(x, self.grid, self.degree), self.coef)

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, i) → (…, o)."""
        flat = x.reshape(-1, x.shape[-1])
        out = sum_of_edges(bsplines(flat, self.grid, self.degree), self.coef, self.bias)
        if self.base_weight is not None and self.base is not None:
            out = out + F.linear(BASES[self.base](flat), self.base_weight)
        return out.reshape(*x.shape[:-1], self.out_features)


class SplineKAN(LayerRow[SplineLayer]):
    """A sequence of spline layers, which `to_kan` returns and `from_kan` takes.

    It can be trained with `fit` like any module. `qkan.io.kan_files` writes and reads pykan's
    checkpoints and efficient-kan's state_dict.

    Args:
        layers: Layers, each of which takes the outputs of the one before.

    Attributes:
        layers: The `SplineLayer`s.
        deviation: The root mean square of its difference from the model that `to_kan` converted,
            over the data of that conversion; None for any other network.

    Shapes:
        x (…, i) → (…, o).

    Raises:
        QKANError: There is no layer, or the sizes of two neighbours do not match.
    """

    layer_type = SplineLayer
    deviation: float | None = None

    def __init__(self, layers: Sequence[SplineLayer]) -> None:
        check_sizes(layers)
        super().__init__(layers)

    @classmethod
    def start(
        cls,
        widths: Sequence[int],
        *,
        grid: int = 5,
        degree: int = 3,
        domain: tuple[float, float] = (-1.0, 1.0),
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
    ) -> SplineKAN:
        """Build a network to train from scratch, as pykan does: small splines and random base
        weights.

        Args:
            widths: The sizes of input, hidden layers and output.
            grid: The number of intervals of each grid.
            degree: The degree of the splines.
            domain: The lowest and the highest value of every node.
            generator: Draws the initial values; torch's default one when None.
            dtype: The dtype of the parameters; torch's default one when None.
        """
        layers = []
        for i, o in itertools.pairwise(widths):
            low, high = (torch.full((i,), value, dtype=dtype) for value in domain)
            noise = torch.rand(o, i, grid + degree, generator=generator, dtype=dtype) - 0.5
            weight = (2 * torch.rand(o, i, generator=generator, dtype=dtype) - 1) / math.sqrt(i)
            knots = uniform_grid(low, high, grid, degree)
            layers.append(SplineLayer(knots, 0.3 / grid * noise / math.sqrt(i), weight))
        return cls(layers)


def _check_shapes(grid: Tensor, coef: Tensor, base_weight: Tensor, bias: Tensor) -> None:
    good = grid.ndim == 2 and coef.ndim == 3 and coef.shape[1] == grid.shape[0]
    degree = grid.shape[1] - 1 - coef.shape[2] if good else -1
    if not good or not 0 <= degree < coef.shape[2]:
        raise QKANError(
            f"grid {tuple(grid.shape)} and coef {tuple(coef.shape)}: wanted (i, g + 2d + 1) and "
            "(o, i, g + d) with the same i."
        )
    for name, value, shape in (
        ("base_weight", base_weight, coef.shape[:2]),
        ("bias", bias, coef.shape[:1]),
    ):
        if value.shape != shape:
            raise QKANError(f"{name} is {tuple(value.shape)}; wanted {tuple(shape)} for this coef.")
    if not (grid.diff(dim=1) > 0).all():
        raise QKANError("The knots of a grid must ascend; sort them and drop duplicates.")
