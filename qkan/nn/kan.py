"""`KANLayer` and `KAN`: like `QKANLayer` and `QKAN`, with a choice of functions on the edges.

They are controls for experiments: the formula, the shapes and the initial values are those of
`QKANLayer`, so that at equal `effective_parameters` only the functions on the edges differ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypedDict, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Unpack

from qkan._options import check_choice, check_size, factory_of

from .basis import Basis, BasisLike, Coefficients, from_json, make_bases, to_json
from .functional import BASES, check_features
from .network import LayerRow, layer_sizes


class KANOptions(TypedDict, total=False):
    """The keyword options of `KANLayer`, which `KAN` takes too."""

    basis: BasisLike
    base: str | None
    bias: bool
    generator: torch.Generator | None
    device: torch.device | str | int | None
    dtype: torch.dtype | None


class KANLayer(nn.Module):
    """out[b,o] = Σ_i weight[o,i]·f_oi(x[b,i]) + Σ_i base_weight[o,i]·base(x[b,i]) + bias[o].

    With several bases f_oi = Σ_n p_oin·f^n_oi, where p = softmax(gate), so that training can choose
    a basis for each edge; `harden` then keeps the basis with the largest share alone (S-KAN, arXiv
    2408.08338).

    Args:
        in_features: Number i of inputs.
        out_features: Number o of outputs.
        basis: "daruan", "spline", "fourier", "rational", a basis with options such as
            `Spline(intervals=8)`, or a sequence of them for a gate over several.
        base: The base activation, as in `QKANLayer`.
        bias: Whether to add a bias.
        generator: Draws the initial values; torch's default one when None.
        device: As in `torch.nn.Linear`.
        dtype: As in `torch.nn.Linear`.

    Attributes:
        bases: The families that the edges choose from.
        coefficients: Their tensors (o, i, …), one dictionary for each basis.
        weight: (o, i).
        base_weight: (o, i), or None.
        bias: (o,), or None.
        gate: (o, i, n), logits; a buffer of zeros and ones after `harden`; None for one basis.
        mask: (o, i) of ones, zero on pruned edges; a buffer.

    Shapes:
        x (…, in_features) → (…, out_features).

    Raises:
        QKANError: An option is wrong, or the input does not fit.

    Example:
        >>> import torch
        >>> from qkan import KANLayer, effective_parameters
        >>> layer = KANLayer(3, 2, basis="spline")
        >>> layer(torch.randn(7, 5, 3)).shape, effective_parameters(layer)
        (torch.Size([7, 5, 2]), 56)
    """

    mask: Tensor
    gate: Tensor | None
    base_weight: nn.Parameter | None
    bias: nn.Parameter | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        basis: BasisLike = "daruan",
        base: str | None = "silu",
        bias: bool = True,
        generator: torch.Generator | None = None,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_choice("base", base, [*BASES, None])
        self.in_features = check_size("in_features", in_features)
        self.out_features = check_size("out_features", out_features)
        self.bases, self.base = make_bases(basis), base
        self._allocate(bias, generator, factory_of(device, dtype))

    def _allocate(
        self, bias: bool, generator: torch.Generator | None, factory: dict[str, Any]
    ) -> None:
        edges = (self.out_features, self.in_features)
        with torch.no_grad():
            drawn = [basis.start(edges, generator, **factory) for basis in self.bases]
        self.coefficients = nn.ModuleList(map(nn.ParameterDict, drawn))
        # bases have a second moment near 1/2
        weight = torch.full(edges, math.sqrt(2 / self.in_features), **factory)
        self.weight = nn.Parameter(weight)
        base_weight = torch.full(edges, 1 / self.in_features, **factory)
        self.register_parameter("base_weight", nn.Parameter(base_weight) if self.base else None)
        self.register_parameter(
            "bias", nn.Parameter(torch.zeros(edges[0], **factory)) if bias else None
        )
        several = len(self.bases) > 1
        gate = nn.Parameter(torch.zeros(*edges, len(self.bases), **factory)) if several else None
        self.register_parameter("gate", gate)
        self.register_buffer("mask", torch.ones(edges, **factory))

    @property
    def hardened(self) -> bool:
        """Whether each edge has one basis only."""
        return not isinstance(self.gate, nn.Parameter)

    def shares(self) -> Tensor:
        """Return the share of each basis in each edge's function, (o, i, n), adding up to 1."""
        if self.gate is None:
            return self.weight.new_ones(*self.weight.shape, 1)
        return self.gate if self.hardened else self.gate.softmax(-1)

    @torch.no_grad()
    def harden(self) -> None:
        """Keep, in place, only the basis with the largest share on each edge.

        A basis that no edge keeps is removed. Otherwise its coefficients on the edges that do not
        keep it stay in their tensors, without effect and without gradient.
        """
        if self.hardened:
            return
        chosen = self.shares().argmax(-1)
        used = chosen.unique().tolist()
        self.bases = tuple(self.bases[n] for n in used)
        self.coefficients = nn.ModuleList(self.coefficients[n] for n in used)
        onehot = F.one_hot(chosen, max(used) + 1)[..., used].to(self.weight)
        del self.gate
        self.register_buffer("gate", onehot if len(used) > 1 else None)

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, in_features) → (…, out_features)."""
        check_features(x, self.in_features, self.weight.dtype)
        flat, weight = x.reshape(-1, self.in_features), self.weight * self.mask
        out = flat.new_zeros(()) if self.bias is None else self.bias
        for basis, values, share in self._parts():
            out = out + basis.layer(flat, values, weight * share)
        if self.base is not None and self.base_weight is not None:
            out = out + F.linear(BASES[self.base](flat), self.base_weight * self.mask)
        return out.reshape(*x.shape[:-1], self.out_features)

    def functions(self, x: Tensor) -> Tensor:
        """Return f_oi(x[b,i]) of every edge without its weight, (b, o, i), for x (b, i)."""
        check_features(x, self.in_features, self.weight.dtype)
        parts = [share * basis.edges(x, values) for basis, values, share in self._parts()]
        return torch.stack(parts).sum(0)

    def _parts(self) -> list[tuple[Basis, Coefficients, Tensor]]:
        """Each basis with its coefficients and its share (o, i)."""
        values = [dict(cast(nn.ParameterDict, part).items()) for part in self.coefficients]
        return list(zip(self.bases, values, self.shares().unbind(-1), strict=True))

    def duplicate_parameters(self) -> int:
        """Count the parameters that duplicate another one or have no effect after `harden`."""
        edges = self.weight.numel()
        if self.gate is None:
            return edges * self.bases[0].duplicates
        if not self.hardened:
            # of each edge one logit is redundant, and so are the duplicates of each basis
            return edges * (1 + sum(basis.duplicates for basis in self.bases))
        total = 0
        for basis, values, share in self._parts():
            kept = int(share.sum())
            size = sum(value.numel() for value in values.values()) // edges
            total += kept * basis.duplicates + (edges - kept) * size
        return total

    def config(self) -> dict[str, Any]:
        """Return what `from_config` needs to build this layer again, as JSON values."""
        return {
            "in_features": self.in_features,
            "out_features": self.out_features,
            "basis": [to_json(basis) for basis in self.bases],
            "base": self.base,
            "bias": self.bias is not None,
            "hardened": self.hardened,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], **factory: Any) -> KANLayer:
        """Build the layer that `config` described; `factory` is device and dtype."""
        options = {name: value for name, value in config.items() if name != "hardened"}
        options["basis"] = [from_json(basis) for basis in config["basis"]]
        layer = cls(**options, **factory)
        if config["hardened"] and layer.gate is not None:
            gate = layer.gate.detach()
            del layer.gate
            layer.register_buffer("gate", gate)
        return layer

    def extra_repr(self) -> str:
        """Return the sizes, the bases and the base activation."""
        names = ", ".join(map(repr, self.bases))
        return f"{self.in_features}, {self.out_features}, basis=[{names}], base={self.base!r}"


class KAN(LayerRow[KANLayer]):
    """A Kolmogorov-Arnold network of `KANLayer`s.

    Args:
        widths: Sizes of input, hidden layers and output.
        input_range: As in `QKAN`.
        **options: The options of every `KANLayer`, by name.

    Shapes:
        x (…, widths[0]) → (…, widths[-1]).

    Raises:
        QKANError: There are fewer than two widths, the input range is empty, or an option is wrong.

    Example:
        >>> import torch
        >>> from qkan import KAN
        >>> model = KAN([2, 5, 1], basis=["daruan", "spline"], input_range=(-1, 1))
        >>> model(torch.rand(100, 2)).shape
        torch.Size([100, 1])
        >>> model.harden()
        >>> all(layer.hardened for layer in model.layers)
        True
    """

    layer_type = KANLayer

    def __init__(
        self,
        widths: Sequence[int],
        *,
        input_range: tuple[float, float] | None = None,
        **options: Unpack[KANOptions],
    ) -> None:
        super().__init__([KANLayer(i, o, **options) for i, o in layer_sizes(widths)], input_range)

    def harden(self) -> None:
        """Harden every layer, in place."""
        for layer in self.rows:
            layer.harden()
