"""A character-level GPT of nanoGPT's size whose feed-forward blocks are handed in.

Pre-norm blocks of causal self-attention and a feed-forward module, learned positions, no biases
outside the feed-forward module, and an output head that is the embedding transposed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MakeFFN = Callable[[int], nn.Module]
"""From the width to a module (…, width) → (…, width)."""


@dataclass(frozen=True)
class Size:
    """nanoGPT's configuration for a CPU, on the 65 characters of tinyshakespeare."""

    symbols: int = 65
    layers: int = 4
    heads: int = 4
    width: int = 128
    context: int = 64


class Attention(nn.Module):
    """Causal self-attention with several heads."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        b, t, width = x.shape
        split = self.qkv(x).view(b, t, 3, self.heads, width // self.heads)
        q, k, v = split.permute(2, 0, 3, 1, 4)  # each (b, heads, t, width / heads)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(y.transpose(1, 2).reshape(b, t, width))


class Block(nn.Module):
    """x + attention(norm(x)), then x + ffn(norm(x))."""

    def __init__(self, size: Size, make_ffn: MakeFFN) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(size.width, bias=False)
        self.attention = Attention(size.width, size.heads)
        self.norm2 = nn.LayerNorm(size.width, bias=False)
        self.ffn = make_ffn(size.width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.ffn(self.norm2(x))


class CharGPT(nn.Module):
    """The language model; the weights start from torch's default generator.

    Args:
        make_ffn: Makes the feed-forward module of each block; its own start is kept.
        size: Of everything else.
    """

    def __init__(self, make_ffn: MakeFFN, size: Size | None = None) -> None:
        super().__init__()
        self.size = size = size or Size()
        self.embedding = nn.Embedding(size.symbols, size.width)
        self.position = nn.Embedding(size.context, size.width)
        self.blocks = nn.ModuleList(Block(size, make_ffn) for _ in range(size.layers))
        self.norm = nn.LayerNorm(size.width, bias=False)
        for embedding in (self.embedding, self.position):
            nn.init.normal_(embedding.weight, std=0.02)
        for block in self.blocks:
            nn.init.normal_(block.attention.qkv.weight, std=0.02)
            nn.init.normal_(block.attention.out.weight, std=residual_std(size.layers))

    def forward(self, tokens: Tensor) -> Tensor:
        """(b, t) symbols → (b, t, symbols) logits of the next symbol."""
        where = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.embedding(tokens) + self.position(where)
        for block in self.blocks:
            x = block(x)
        return F.linear(self.norm(x), self.embedding.weight)


def residual_std(layers: int) -> float:
    """GPT-2's start of what is added to the residual stream, twice a layer."""
    return 0.02 / math.sqrt(2 * layers)
