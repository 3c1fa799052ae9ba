"""Feed-forward blocks to compare: HQKAN and what it has to beat, each made from plain settings."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from qkan import effective_parameters
from qkan.hybrid import HQKAN
from qkan.hybrid.hqkan import START_SIZE

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
    """

    def __init__(
        self, width: int, *, latent: int, activation: str, middle: int = 0, closing: bool = True
    ) -> None:
        super().__init__()
        self.down = nn.Linear(width, latent)
        self.middle = nn.ModuleList(nn.Linear(latent, latent) for _ in range(middle))
        self.up = nn.Linear(latent, width)
        self.activation = ACTIVATIONS[activation]()
        self.closing = closing
        linears = [self.down, *self.middle, self.up]
        for linear in linears:
            size = START_SIZE if linear is self.up else 1.0
            nn.init.normal_(linear.weight, std=size / math.sqrt(linear.in_features))
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(…, width) → (…, width)."""
        x = self.down(x)
        for linear in self.middle:
            x = linear(self.activation(x))
        if self.closing or not self.middle:
            x = self.activation(x)
        out: Tensor = self.up(x)
        return out


def make_ffn(width: int, shape: dict[str, Any]) -> nn.Module:
    """Return the block that `shape` describes: the options of `HQKAN` or of `Bottleneck`."""
    return Bottleneck(width, **shape) if "activation" in shape else HQKAN(width, **shape)


def parameters(width: int, shape: dict[str, Any]) -> int:
    """Return the effective parameters of the block that `shape` describes."""
    with torch.random.fork_rng():
        return effective_parameters(make_ffn(width, shape))
