"""`QKANExperts`: a bank of routed experts, one module for each, computed together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from qkan.errors import QKANError
from qkan.nn.functional import BASES, compute_dtype
from qkan.nn.hqkan import HQKAN
from qkan.nn.layer import QKANLayer
from qkan.nn.watch import is_hooked
from qkan.simulators import fourier_coefficients, masked
from qkan.surgery.fold import FoldedLayer, fourier_request, refuse_fold


class QKANExperts(nn.ModuleList):
    """A mixture of experts behind a router that is not part of it.

    out[t] = Σ_s weights[t,s] · f(x[t]), where f is the expert with the number indices[t,s]; an
    index beyond the last expert adds nothing. It replaces the module that transformers calls
    `experts`; the router, the capacity and the balancing loss stay as they are.

    Tokens are sorted by expert. Experts that are `HQKAN`s of equal sizes and options, with scales
    that are fixed integers, engine "auto" and no groups, are computed together: the coefficients of
    all experts at once, then each of their three products expert by expert. After `fold` they are
    computed together too. Other experts are called one after the other.

    Args:
        experts: Modules from (…, n) to (…, n), such as `HQKAN`s.

    Shapes:
        x (t, n), indices (t, s) integers, weights (t, s) → (t, n), in the dtype of x.

    Raises:
        QKANError: There is no expert.

    Example:
        >>> import torch
        >>> from qkan import HQKAN, QKANExperts
        >>> bank = QKANExperts([HQKAN(16, latent=4) for _ in range(3)])
        >>> indices = torch.tensor([[0, 2], [2, 1]])
        >>> bank(torch.randn(2, 16), indices, torch.full((2, 2), 0.5)).shape
        torch.Size([2, 16])
    """

    def __init__(self, experts: Sequence[nn.Module]) -> None:
        super().__init__(experts)
        if not len(self):
            raise QKANError("QKANExperts: found no expert; pass one module for each expert.")

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Start every expert anew."""
        for expert in self:
            cast(Any, expert).reset_parameters(generator)

    def forward(self, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
        """Map (t, n), (t, s), (t, s) → (t, n)."""
        flat = top_k_index.flatten().clamp(max=len(self))
        counts = torch.bincount(flat, minlength=len(self) + 1)[: len(self)].tolist()
        # a stable sort keeps the order in which a token's experts are summed
        rows = flat.argsort(stable=True)[: sum(counts)]
        tokens = rows // top_k_index.shape[-1]
        chosen = [(self[n], count) for n, count in enumerate(counts) if count]
        out = torch.zeros_like(hidden_states)
        if not chosen:
            return out
        experts, sizes = [expert for expert, _ in chosen], [count for _, count in chosen]
        x = hidden_states[tokens]
        if _alike(experts):
            found = _together(cast(list[HQKAN], experts), x, sizes)
        else:
            found = torch.cat([e(part) for e, part in zip(experts, x.split(sizes), strict=True)])
        found = found * top_k_weights.flatten()[rows].unsqueeze(-1)
        return out.index_add(0, tokens, found.to(out.dtype))

    def config(self) -> dict[str, Any] | None:
        """Return the values for `from_config`; None unless all experts are HQKANs."""
        if not all(type(expert) is HQKAN for expert in self):
            return None
        configs = [cast(HQKAN, expert).config() for expert in self]
        alike = all(config == configs[0] for config in configs)
        return {"count": len(self), "experts": configs[:1] if alike else configs}

    @classmethod
    def from_config(cls, config: dict[str, Any], **factory: Any) -> QKANExperts:
        """Build the bank that `config` described; `factory` is device and dtype."""
        each = config["experts"] * (config["count"] // len(config["experts"]))
        return cls([HQKAN.from_config(one, **factory) for one in each])


def _signature(layer: nn.Module) -> tuple[object, ...] | None:
    """The properties that layers computed together must share; None for a layer that cannot be."""
    if isinstance(layer, FoldedLayer) and not is_hooked(layer):
        if layer.curves is not None:
            return None
        return layer.base, layer.product.shape, len(layer.frequencies)
    if not isinstance(layer, QKANLayer) or layer.engine != "auto" or layer.group is not None:
        return None
    if refuse_fold(layer) is not None:
        return None
    sizes = (layer.in_features, layer.out_features)
    return layer.program, layer.fixed_scale, layer.base, sizes, layer.bias is not None


def _alike(experts: Sequence[nn.Module]) -> bool:
    """Whether the experts can be computed together."""
    signatures = set()
    for expert in experts:
        if type(expert) is not HQKAN or any(map(is_hooked, (expert, expert.qkan))):
            return False
        layers = tuple(_signature(layer) for layer in getattr(expert.qkan, "layers", ()))
        linear = (expert.down.bias is not None, expert.gate is not None, expert.dropout.p)
        if not layers or None in layers or getattr(expert.qkan, "input_range", None) is not None:
            return False
        signatures.add((layers, linear))
    return len(signatures) == 1


def _together(experts: list[HQKAN], x: Tensor, sizes: list[int]) -> Tensor:
    """The outputs of experts for rows x (r, n), of which the first sizes[0] are the first one's."""
    hidden = _linear([expert.down for expert in experts], x, sizes)
    for place in range(len(experts[0].qkan.layers)):
        layers = [expert.qkan.layers[place] for expert in experts]
        compute = _folded_layer if isinstance(layers[0], FoldedLayer) else _layer
        hidden = compute(cast(Any, layers), hidden, sizes)
    if experts[0].gate is not None:
        hidden = hidden * (1 + _linear([cast(nn.Linear, e.gate) for e in experts], x, sizes))
    out: Tensor = experts[0].dropout(_linear([expert.up for expert in experts], hidden, sizes))
    return out


def _linear(maps: list[nn.Linear], x: Tensor, sizes: list[int]) -> Tensor:
    parts = zip(maps, x.split(sizes), strict=True)
    return torch.cat([one(part) for one, part in parts])


def _folded_layer(layers: list[FoldedLayer], x: Tensor, sizes: list[int]) -> Tensor:
    """The outputs of `FoldedLayer`s of one signature, with the waves of all rows at once."""
    first = layers[0]
    rows = first.waves(x).flatten(1).split(sizes)
    parts = [torch.addmm(e.constant, row, e.product) for e, row in zip(layers, rows, strict=True)]
    if first.base is not None:
        bases = BASES[first.base](x).split(sizes)
        parts = [
            torch.addmm(part, base, cast(Tensor, e.base_product))
            for part, base, e in zip(parts, bases, layers, strict=True)
        ]
    return torch.cat(parts)


def _layer(layers: list[QKANLayer], x: Tensor, sizes: list[int]) -> Tensor:
    """The outputs of `QKANLayer`s of one signature, with the coefficients of all edges at once."""
    first, count = layers[0], len(layers)
    wide = compute_dtype(first.weight.dtype, "z")
    theta, scale, shift = (
        torch.cat([getattr(layer, name) for layer in layers]).to(wide)
        for name in ("theta", "scale", "shift")
    )
    request = fourier_request(first)._replace(out_features=count * first.out_features)
    weight = torch.cat([masked(layer.weight, layer.mask) for layer in layers]).to(wide)
    # (f, e·o, i), of 1, cos x, sin x, cos 2x, …
    terms = fourier_coefficients(request, theta, scale, shift) * weight
    constant = terms[0].sum(-1).view(count, -1)
    order = torch.arange(1, len(terms) // 2 + 1, device=x.device, dtype=wide)
    phase = torch.tensor([math.pi / 2, 0.0], device=x.device, dtype=wide)
    angles = x.to(wide).unsqueeze(-1) * order.repeat_interleave(2)
    features = [(angles + phase.repeat(len(order))).sin().flatten(1)]
    factors = [terms[1:].unflatten(1, (count, -1)).permute(1, 3, 0, 2).flatten(1, 2)]
    if first.base is not None:
        features.append(BASES[first.base](x).to(wide))
        bases = [masked(cast(Tensor, layer.base_weight), layer.mask) for layer in layers]
        factors.append(torch.stack(bases).to(wide).transpose(1, 2))
    rows, products = torch.cat(features, 1).split(sizes), torch.cat(factors, 1)
    parts = [torch.addmm(c, row, p) for c, row, p in zip(constant, rows, products, strict=True)]
    biases = [layer.bias for layer in layers if layer.bias is not None]
    if biases:
        parts = [part + bias.to(wide) for part, bias in zip(parts, biases, strict=True)]
    return torch.cat(parts).to(x.dtype)
