"""`QKANAttention`: attention with learnable activations of the scores in place of a softmax."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Unpack

from qkan._options import check_layer_options, check_probability, check_size
from qkan.errors import QKANError

from .layer import LayerOptions, QKANLayer, reject_unknown


class QKANAttention(nn.Module):
    """Multi-head attention with a learnable low-rank function of each row of scores.

    For each head, with the scores s[q,k] = query_q·key_k/√d of the keys that query q may attend
    to, and s[q,k] = 0 at all other places up to `length`:

        h[q,p] = QKANLayer(s[q,:])[p],  p = 1 … rank
        a[q,k] = Σ_p up[k,p]·h[q,p] + up_bias[k]  for keys that q may attend to, else 0
        out[q] = Σ_k a[q,k]·value_k

    in place of a = softmax(s) (KArAt, arXiv 2503.10632, here with circuits as functions). With
    `keep_softmax` a = softmax(s + Σ_p up·h + up_bias) over those keys. A key that a query may not
    attend to has no influence on that query's output, and neither has the amount of padding. Each
    position has its own activations, which is why the module has a `length`.

    The projections start as in `torch.nn.MultiheadAttention`. Without the softmax, up_bias begins
    at 1/length, the mean over the keys, and up adds weights of the size 1/length. With the softmax,
    up and up_bias begin at 0, so that the module computes what a `torch.nn.MultiheadAttention` with
    the same projections computes. Their names are the same:
    `load_state_dict(attention.state_dict(), strict=False)`.

    Args:
        embed_dim: Number of features of queries, keys, values and outputs.
        num_heads: Number of heads, a divisor of embed_dim.
        length: The largest number of keys.
        rank: Number of outputs of each head's layer.
        dropout: Probability that an attention weight is zeroed while training.
        keep_softmax: Whether the layer only corrects the scores, and a softmax follows.
        **options: Options of every `QKANLayer`, by name; `bias` applies to the linear maps too.

    Attributes:
        in_proj_weight: (3·embed_dim, embed_dim): queries, keys, values.
        in_proj_bias: (3·embed_dim,), or None.
        out_proj: Linear, embed_dim → embed_dim.
        rows: For each head its `QKANLayer`, length → rank.
        up: For each head the linear map, rank → length.

    Shapes:
        query (b, q, embed_dim), key and value (b, k, embed_dim), all three with b or without →
        (b, q, embed_dim), as `torch.nn.MultiheadAttention` with batch_first=True.

    Raises:
        QKANError: A size or an option is wrong, or inputs or masks do not fit.

    Example:
        >>> import torch
        >>> from qkan import QKANAttention
        >>> attention = QKANAttention(32, 4, length=16, group=1)
        >>> x = torch.randn(2, 10, 32)
        >>> out, weights = attention(x, x, x, is_causal=True)
        >>> out.shape, weights.shape, weights[0, 0, 1:].any().item()
        (torch.Size([2, 10, 32]), torch.Size([2, 10, 10]), False)
    """

    batch_first = True
    # torch's encoder layers read this, and call the module's forward method where it is false
    _qkv_same_embed_dim = False
    in_proj_bias: nn.Parameter | None

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        length: int,
        *,
        rank: int = 8,
        dropout: float = 0.0,
        keep_softmax: bool = False,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__()
        reject_unknown(options, QKANAttention)
        check_layer_options("QKANAttention", options)
        self.embed_dim, self.num_heads = embed_dim, check_size("num_heads", num_heads)
        if check_size("embed_dim", embed_dim) % num_heads:
            raise QKANError(f"num_heads={num_heads} does not divide embed_dim={embed_dim}.")
        self.length, self.rank = check_size("length", length), check_size("rank", rank)
        self.dropout, self.keep_softmax = check_probability(dropout), keep_softmax
        rows = [QKANLayer(length, rank, **options) for _ in range(num_heads)]
        linear: dict[str, Any] = {name: options.get(name) for name in ("device", "dtype")}
        self._assemble(rows, options.get("bias", True), linear)
        self._reset_linears(options.get("generator"))

    def _assemble(self, rows: list[QKANLayer], bias: bool, factory: dict[str, Any]) -> None:
        n = self.embed_dim
        self.in_proj_weight = nn.Parameter(torch.empty(3 * n, n, **factory))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * n, **factory)) if bias else None
        self.out_proj = nn.Linear(n, n, bias=bias, **factory)
        self.rows = nn.ModuleList(rows)
        up = [nn.Linear(self.rank, self.length, bias=bias, **factory) for _ in rows]
        self.up = nn.ModuleList(up)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw new values, as the class describes."""
        rows: Any = self.rows
        for row in rows:
            row.reset_parameters(generator)
        self._reset_linears(generator)

    @torch.no_grad()
    def _reset_linears(self, generator: torch.Generator | None) -> None:
        nn.init.xavier_uniform_(self.in_proj_weight, generator=generator)
        bound = 1 / math.sqrt(self.embed_dim)
        self.out_proj.weight.uniform_(-bound, bound, generator=generator)
        for bias in (self.in_proj_bias, self.out_proj.bias):
            if bias is not None:
                bias.zero_()
        size = 0.0 if self.keep_softmax else 1 / self.length
        maps: Any = self.up
        for up in maps:
            up.weight.normal_(std=size / math.sqrt(self.rank), generator=generator)
            if up.bias is not None:
                up.bias.fill_(size)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Compute the attention of the queries to the keys.

        Args:
            query: (b, q, n), or (q, n).
            key: (b, k, n), or (k, n).
            value: The shape of key.
            key_padding_mask: (b, k), or (k,): true, or -inf, where a key is padding; other numbers
                are added to the scores.
            need_weights: Whether to return the weights a.
            attn_mask: (q, k) or (b·heads, q, k): true, or -inf, where a query may not attend; other
                numbers are added to the scores.
            average_attn_weights: Whether to return their mean over the heads.
            is_causal: Whether query q may only attend to the keys up to its own position.

        Returns:
            The outputs, and the weights (b, q, k) or (b, heads, q, k), or None without
            `need_weights`; without b where the inputs are. A query without a key to attend to has
            weights of 0.
        """
        batched = query.ndim == 3
        if not batched:
            query, key, value = query[None], key[None], value[None]
            key_padding_mask = None if key_padding_mask is None else key_padding_mask[None]
        self._check(query, key, value)
        queries, keys, values = self._project(query, key, value)
        scores = queries @ keys.transpose(-1, -2) / math.sqrt(queries.shape[-1])
        allowed, added = self._masks(scores, key_padding_mask, attn_mask, is_causal)
        weights = self._weights(scores if added is None else scores + added, allowed)
        dropped = F.dropout(weights, self.dropout, self.training)
        out: Tensor = self.out_proj((dropped @ values).transpose(1, 2).flatten(2))
        seen = (weights.mean(1) if average_attn_weights else weights) if need_weights else None
        if batched:
            return out, seen
        return out[0], None if seen is None else seen[0]

    def _project(self, *inputs: Tensor) -> list[Tensor]:
        """Queries, keys and values (b, heads, q or k, d)."""
        weights = self.in_proj_weight.chunk(3)
        biases = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        return [
            F.linear(x, weight, bias).unflatten(2, (self.num_heads, -1)).transpose(1, 2)
            for x, weight, bias in zip(inputs, weights, biases, strict=True)
        ]

    def _weights(self, scores: Tensor, allowed: Tensor) -> Tensor:
        """The attention weights (b, heads, q, k) of scores of that shape."""
        keys = scores.shape[-1]
        scores = torch.where(allowed, scores, 0.0)
        filled = F.pad(scores, (0, self.length - keys))
        learnt = [
            up(row(filled[:, head]))[..., :keys]
            for head, (row, up) in enumerate(zip(self.rows, self.up, strict=True))
        ]
        found = torch.stack(learnt, 1)
        if self.keep_softmax:
            lowest = torch.finfo(scores.dtype).min
            found = torch.where(allowed, scores + found, lowest).softmax(-1)
        return torch.where(allowed, found, 0.0)

    def _masks(
        self, scores: Tensor, padding: Tensor | None, mask: Tensor | None, is_causal: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Return where a query may attend, and what is added to the scores; both broadcast."""
        b, heads, q, k = scores.shape
        allowed = torch.ones(q, k, dtype=torch.bool, device=scores.device)
        allowed = allowed.tril() if is_causal else allowed
        added: Tensor | None = None
        for given in (
            _shaped("key_padding_mask", padding, {(b, k): (b, 1, 1, k)}),
            _shaped("attn_mask", mask, {(q, k): (1, 1, q, k), (b * heads, q, k): scores.shape}),
        ):
            if given is None:
                continue
            if given.dtype == torch.bool:
                allowed = allowed & ~given
            else:
                forbidden = given == -math.inf
                finite = torch.where(forbidden, 0.0, given)
                allowed, added = allowed & ~forbidden, finite if added is None else added + finite
        return allowed, added

    def _check(self, query: Tensor, key: Tensor, value: Tensor) -> None:
        """Raise `QKANError` unless the inputs fit each other and the module."""
        n, shapes = self.embed_dim, [tuple(x.shape) for x in (query, key, value)]
        b, k = shapes[0][0], shapes[1][1] if key.ndim == 3 else 0
        if shapes[0][2:] != (n,) or not shapes[1] == shapes[2] == (b, k, n):
            raise QKANError(
                f"query, key and value have the shapes {', '.join(map(str, shapes))}; wanted (b, "
                f"q, {n}), (b, k, {n}) and (b, k, {n}), or all three without b."
            )
        if k > self.length:
            raise QKANError(f"The input has {k} keys, more than length={self.length}.")

    def config(self) -> dict[str, Any]:
        """Return what `from_config` needs to build this module again, as JSON values."""
        names = ("embed_dim", "num_heads", "length", "rank", "dropout", "keep_softmax")
        row: Any = self.rows[0]
        return {
            **{name: getattr(self, name) for name in names},
            "bias": self.in_proj_bias is not None,
            "row": row.config(),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], **factory: Any) -> QKANAttention:
        """Build the module that `config` described; `factory` is device and dtype."""
        sizes = {name: value for name, value in config.items() if name not in ("row", "bias")}
        attention = cls(**sizes, device="meta")
        rows = [QKANLayer.from_config(config["row"], **factory) for _ in range(config["num_heads"])]
        attention._assemble(rows, config["bias"], factory)
        attention._reset_linears(None)
        return attention

    def extra_repr(self) -> str:
        """The sizes, and the options that differ from the default."""
        parts = [f"{self.embed_dim}, {self.num_heads}, length={self.length}, rank={self.rank}"]
        parts += [f"dropout={self.dropout}"] if self.dropout else []
        parts += ["keep_softmax=True"] if self.keep_softmax else []
        return ", ".join(parts)


def _shaped(
    name: str, mask: Tensor | None, shapes: dict[tuple[int, ...], tuple[int, ...]]
) -> Tensor | None:
    """Reshape a mask to the shape that `shapes` gives for its own."""
    if mask is None:
        return None
    found = tuple(mask.shape)
    if found not in shapes:
        raise QKANError(f"{name} is {found}; wanted the shape {' or '.join(map(str, shapes))}.")
    return mask.reshape(shapes[found])
