"""A product with cosines and sines of multiples of an input, for folded models.

A compiled recurrence computes the features chunk by chunk, so that few of them exist at a time.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .cpu.compiled import DTYPES, INSTALLED

_CHUNK_BYTES = 6 << 20
_FEWEST = 1 << 16
"""Inputs times multiples below which plain operators are as fast."""


def can_fuse_harmonics(x: Tensor, count: int) -> bool:
    """Whether `add_harmonics` can take these inputs and is faster than plain operators."""
    return (
        # checked first, since a compiler must not see that the size matters
        not torch.compiler.is_compiling()
        and torch._C._get_tracing_state() is None
        and x.numel() * count >= _FEWEST
        and INSTALLED
        and type(x) is Tensor
        and x.device.type == "cpu"
        and x.dtype in DTYPES
        and not (x.requires_grad and torch.is_grad_enabled())
        and not torch.is_autocast_enabled("cpu")
        and not torch._C._are_functorch_transforms_active()
    )


def add_harmonics(x: Tensor, count: int, product: Tensor, constant: Tensor) -> Tensor:
    """Return constant[o] + Σ cos(k·x[b,i])·product[2k-2,i,o] + sin(k·x[b,i])·product[2k-1,i,o].

    The sum is over the inputs i and k = 1 … count. The batch is processed in chunks that fit into
    the caches. The result is not differentiable.

    Args:
        x: (b, i), float32 or float64, on the CPU.
        count: The number of multiples of x.
        product: (2·count·i, o).
        constant: (o,).

    Returns:
        (b, o).
    """
    from .cpu import features
    from .cpu.threads import Task, run

    x, threads = x.detach().resolve_neg().contiguous(), torch.get_num_threads()
    width = 2 * count * x.shape[1]
    step = max(1, _CHUNK_BYTES // (width * x.element_size()))
    room = x.new_empty(min(step, len(x)), width)
    out = product.new_empty(len(x), product.shape[1])
    for part, rows in zip(x.split(step), out.split(step), strict=True):
        values, block = room[: len(part)], features.block(tuple(part.shape), 2 * count, threads)
        task = Task(
            features.harmonics_task, part.reshape(-1).numpy(), values.view(-1).numpy(),
            (*part.shape, count), block, features.counter(),
        )  # fmt: skip
        run(task, threads)
        torch.addmm(constant, values.to(product.dtype), product, out=rows)
    return out
