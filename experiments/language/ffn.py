"""Feed-forward blocks to compare: HQKAN and what it has to beat, each made from plain settings."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from qkan import HQKAN, QKANLayer, effective_parameters
from qkan.nn.hqkan import START_SIZE, frequency

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "relu": nn.ReLU,
    "identity": nn.Identity,
}


class Bottleneck(nn.Module):
    """Linear → activation → (Linear → activation …) → Linear, started as an `HQKAN` is.

    Args:
        width: Inputs and outputs.
        latent: Nodes inside.
        activation: "gelu", "silu", "relu" or "identity".
        middle: Linear maps from latent to latent: `HQKAN` has one in each of its layers.
        closing: Whether an activation follows the last of them too.
        gate: Whether a linear function of the input multiplies the nodes, as in `HQKAN`.
    """

    def __init__(
        self,
        width: int,
        *,
        latent: int,
        activation: str,
        middle: int = 0,
        closing: bool = True,
        gate: bool = False,
    ) -> None:
        super().__init__()
        self.down = nn.Linear(width, latent)
        self.gate = nn.Linear(width, latent) if gate else None
        self.middle = nn.ModuleList(nn.Linear(latent, latent) for _ in range(middle))
        self.up = nn.Linear(latent, width)
        self.activation = ACTIVATIONS[activation]()
        self.closing = closing
        linears = [self.down, *self.middle, self.up]
        for linear in linears:
            size = START_SIZE if linear is self.up else 1.0
            nn.init.normal_(linear.weight, std=size / math.sqrt(linear.in_features))
            nn.init.zeros_(linear.bias)
        if self.gate is not None:
            nn.init.zeros_(self.gate.weight)
            nn.init.zeros_(self.gate.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(…, width) → (…, width)."""
        hidden = self.down(x)
        for linear in self.middle:
            hidden = linear(self.activation(hidden))
        if self.closing or not self.middle:
            hidden = self.activation(hidden)
        if self.gate is not None:
            hidden = hidden * (1 + self.gate(x))
        out: Tensor = self.up(hidden)
        return out


def linear_qkan(width: int, *, latent: int, **options: Any) -> nn.Sequential:
    """Linear → QKANLayer: an `HQKAN` without `up`, for the layer's own sum is a linear map.

    With groups it is an MLP of `latent` nodes whose activations are learnt, and has about as many
    parameters as one. It starts as an `HQKAN` does.
    """
    down, layer = nn.Linear(width, latent), QKANLayer(latent, width, **options)
    nn.init.normal_(down.weight, std=1 / (frequency(layer) * math.sqrt(width)))
    nn.init.zeros_(down.bias)
    with torch.no_grad():
        for part in (layer.weight, layer.base_weight, layer.bias):
            if part is not None:
                part.mul_(START_SIZE)
    return nn.Sequential(down, layer)


def make_ffn(width: int, shape: dict[str, Any]) -> nn.Module:
    """Return the block that `shape` describes: by its options a `Bottleneck` or an `HQKAN`.

    "up": False among them leaves out the last linear map of an `HQKAN`.
    """
    if "activation" in shape:
        return Bottleneck(width, **shape)
    options = {name: value for name, value in shape.items() if name != "up"}
    return HQKAN(width, **options) if shape.get("up", True) else linear_qkan(width, **options)


def parameters(width: int, shape: dict[str, Any]) -> int:
    """Return the effective parameters of the block that `shape` describes."""
    with torch.random.fork_rng():
        return effective_parameters(make_ffn(width, shape))
