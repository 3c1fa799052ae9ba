"""Tensors of a recurrent sequence to its compiled kernels, and the matrix products around them."""

from __future__ import annotations

import functools
from collections.abc import Sequence as Listed
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .threads import Task, run

_SMALL = 64
"""Hidden units up to which the kernel multiplies by the recurrent weights itself."""
_BLOCK = 8
"""Samples of a unit of work, whatever the number of threads: so it changes no bit of a result."""
_ALONE = 1 << 12
"""Gate values up to which a second thread would cost more than it does."""


class Sequence:
    """A sequence as the kernels take it, forward and backward.

    Args:
        gates: Number m of gates, 4 of an LSTM and 3 of a GRU.
        spans: First row and number of rows of the steps, in the order of their computation.
        x: (n, m·h).
        h: (b, h).
        terms: (1 + 3·count, m·g).
    """

    def __init__(
        self, gates: int, spans: Listed[tuple[int, int]], x: Tensor, h: Tensor, terms: Tensor
    ) -> None:
        self.gates, (self.samples, self.units) = gates, h.shape
        self.width, self.dtype, self.rows = self.gates * self.units, x.dtype, len(x)
        self.spans = np.array(spans, np.int64)
        self.is_small, self.count = self.units <= _SMALL, len(terms) // 3
        columns, self.starts = _columns(self.width, terms.shape[1])
        self.terms = terms.detach().numpy()[:, columns].reshape(-1)
        kind_of = self.terms.dtype.type
        self.fastest = kind_of(terms[1::3].detach().abs().max() if self.count else 0)

    def calls(self) -> list[np.ndarray]:
        """Spans of the steps that one call of the kernel takes: all of them, or each its own."""
        return [self.spans.reshape(-1)] if self.is_small else [*self.spans]

    def new(self, *shape: int) -> Tensor:
        """A tensor to write to."""
        return torch.empty(*shape, dtype=self.dtype)

    def shape(self, samples: int) -> tuple[int, ...]:
        """Sizes as the kernels take them."""
        return self.gates, self.units, samples, self.count

    def run(self, task: Any, args: Listed[Any], spans: np.ndarray) -> None:
        """Call a kernel for some steps."""
        samples = int(spans[1::2].max())
        rest = (self.shape(samples), self.fastest, _BLOCK, np.zeros(1, np.int64))
        work = int(spans[1::2].sum()) * self.width
        run(Task(task, *args, *rest), 1 if work <= _ALONE else torch.get_num_threads())


@functools.lru_cache(maxsize=64)
def _columns(width: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """For each unit of each gate its column of the terms, and for each column its first unit."""
    columns = np.arange(width) * count // width
    return columns, np.searchsorted(columns, np.arange(count))


def _flat(*tensors: Tensor) -> tuple[np.ndarray, ...]:
    """The numbers of contiguous tensors as vectors."""
    return tuple(tensor.detach().view(-1).numpy() for tensor in tensors)


def _own(tensor: Tensor) -> Tensor:
    return tensor.detach().resolve_neg().contiguous()


def forward(
    own: Sequence, x: Tensor, weight: Tensor, h: Tensor, c: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, ...]]:
    """Return hidden states of all rows, the last h and c, and what `backward` needs.

    Args:
        own: The sequence.
        x: (n, m·h).
        weight: (m·h, h).
        h: (b, h).
        c: (b, h).
        bias: (m·h,), or None.
    """
    from .recurrent import forward_task

    h, c = (_own(state).clone() for state in (h, c))
    x, weight = _own(x), weight.detach()
    kept = (own.new(own.rows, own.width), *(own.new(own.rows, own.units) for _ in range(2)))
    out, product = own.new(own.rows, own.units), own.new(own.samples, own.width)
    added = torch.zeros(own.width, dtype=x.dtype) if bias is None else _own(bias)
    matrix = _own(weight.T) if own.is_small else own.new(0)
    given = _flat(x, matrix, added, product)
    args = (*given, _flat(h, c), own.terms)
    written = _flat(*kept, out)
    for spans in own.calls():
        if not own.is_small:
            size = int(spans[1])
            torch.addmm(added, h[:size], weight.T, out=product[:size])
        own.run(forward_task, (*args, spans, written), spans)
    return out, h, c, kept


def backward(
    own: Sequence, weight: Tensor, bias: Tensor | None, kept: Listed[Tensor], grads: Listed[Tensor]
) -> tuple[Tensor | None, ...]:
    """Return the gradients by x, weight, h, c, terms and bias.

    Args:
        own: The sequence, as `forward` was given it.
        weight: (m·h, h).
        bias: (m·h,), or None.
        kept: What `forward` returned last.
        grads: The gradients by the hidden states of all rows, and by the last h and c.
    """
    from .recurrent_grad import backward_task

    grad, dh, dc = (_own(g) for g in grads)
    dh, dc, weight = dh.clone(), dc.clone(), _own(weight)
    is_gru = own.gates == 3
    dx = own.new(own.rows, own.width)
    drecurrent = own.new(own.rows, own.units) if is_gru else own.new(0)
    size = (1 + 3 * own.count) * own.width
    total = np.zeros(size, own.terms.dtype)
    head = (*_flat(grad, weight if own.is_small else own.new(0)), _flat(dh, dc), own.terms)
    written = _flat(dx, drecurrent)
    for spans in reversed(own.calls()):
        first, samples = int(spans[0]), int(spans[1::2].max())
        sums = np.empty(-(-samples // _BLOCK) * size, own.terms.dtype)
        own.run(backward_task, (*head, spans, _flat(*kept), written, sums), spans)
        total += sums.reshape(-1, size).sum(0)
        if not own.is_small:
            part = slice(first, first + samples)
            dh[:samples].addmm_(_recurrent(dx[part], drecurrent[part], is_gru), weight)
    dproduct = _recurrent(dx, drecurrent, is_gru)
    dterms = np.add.reduceat(total.reshape(1 + 3 * own.count, -1), own.starts, axis=1)
    return (
        dx, dproduct.T @ kept[2], dh, dc, torch.from_numpy(dterms),
        None if bias is None else dproduct.sum(0),
    )  # fmt: skip


def _recurrent(dx: Tensor, drecurrent: Tensor, is_gru: bool) -> Tensor:
    """The gradient by the product of hidden states and weights."""
    return torch.cat([dx[:, : 2 * drecurrent.shape[1]], drecurrent], 1) if is_gru else dx
