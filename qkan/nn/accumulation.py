"""Gated sums over time, Δ_t = (1 − g_t)·δ_t + g_t·Δ_{t−1}, of whole chunks of steps at once.

Written as pairs (g, (1 − g)·δ), steps can be put together in any order. Gates are given by the
logarithms of g, "kept", and of 1 − g, "written". Letters: b samples, t and s steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint


def in_chunks(
    run: Callable[..., tuple[Tensor, Tensor]],
    parts: tuple[Tensor, ...],
    before: Tensor,
    chunk: int,
) -> tuple[list[Tensor], Tensor]:
    """Return the results of `run` for every chunk; only the sums at the ends of chunks are kept.

    The backward pass computes the inside of each chunk again.

    Args:
        run: From a chunk of every part, and the sums before it, to the chunk's outputs and the sums
            after it.
        parts: (b, t, …) each.
        before: The sums before the first step.
        chunk: Steps of a chunk.

    Returns:
        The outputs of all chunks, and the sums after the last step.
    """
    if parts[0].shape[1] <= chunk:
        out, after = run(*parts, before)
        return [out], after
    # torch.func differentiates by itself and cannot recompute a chunk
    plain = torch.compiler.is_compiling() or not torch._C._are_functorch_transforms_active()
    outs, again = [], torch.is_grad_enabled() and plain
    for part in zip(*(part.split(chunk, 1) for part in parts), strict=True):
        if again:
            out, before = checkpoint(
                run, *part, before, use_reentrant=False, preserve_rng_state=False
            )  # fmt: skip
        else:
            out, before = run(*part, before)
        outs.append(out)
    return outs, before


def last_weights(kept: Tensor, written: Tensor) -> Tensor:
    """Return how much of the change of step s is left after the last step, (b, s).

    Args:
        kept: (b, t) logarithms of the gates g.
        written: (b, t) logarithms of 1 − g.
    """
    after = F.pad(kept[:, 1:], (0, 1)).flip(1).cumsum(1).flip(1)
    return (after + written).exp()


def step_weights(kept: Tensor, written: Tensor) -> Tensor:
    """Return how much of the change of step s is left at step t, (b, t, s).

    The weights are (1 − g_s)·g_{s+1}·…·g_t for s ≤ t. They are exact because only the logarithms of
    those gates are added; a difference of two long sums would not be.

    Args:
        kept: (b, t) logarithms of the gates g.
        written: (b, t) logarithms of 1 − g.
    """
    steps = kept.shape[1]
    past = torch.ones(steps, steps, dtype=torch.bool, device=kept.device).tril()
    gates = kept.unsqueeze(2).expand(-1, -1, steps).masked_fill(~past.tril(-1), 0.0)
    exponents = gates.cumsum(1) + written.unsqueeze(1)
    return exponents.masked_fill(~past, -math.inf).exp()
