"""LSTM and GRU over a sequence, with gates that are known functions plus waves.

A gate's value is base(z) + C + Σ_f A_f·cos ω_f·z + B_f·sin ω_f·z, where z is the sum of the cell's
linear maps of the input and of the state, and the base is the sigmoid or the hyperbolic tangent of
the classical cell. The terms of the waves depend on parameters only, so they are computed once for
each sequence.

The rows of a sequence are those of a `PackedSequence`: first the samples of the first step, then
those of the second, and so on; a step never has more samples than the one before. Letters: n rows,
b samples of the first step, m gates, h hidden units, t steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from .adding import add_waves
from .autocast import autocast_dtype
from .bridge import are_many, graph_of_gradients, is_observed
from .call import has_values
from .cpu.compiled import DTYPES, INSTALLED
from .registry import is_exporting

GATES = {"LSTM": 4, "GRU": 3}
"""The number of gates of a cell; the third is a hyperbolic tangent, the others are sigmoids."""

_TANH = 2

Gate = Callable[[Tensor, int, int], Tensor]
"""A function of z (…, w·h), the number of its first gate and that after its last: (…, w·h)."""


class Cell(NamedTuple):
    """The recurrent part of a cell.

    Attributes:
        kind: A name in `GATES`.
        weight: (m·h, h), the matrix that multiplies the hidden state.
        bias: (m·h,), which is added to this product, or None.
    """

    kind: str
    weight: Tensor
    bias: Tensor | None = None


class Steps(NamedTuple):
    """The order of the rows of a sequence.

    Attributes:
        sizes: The numbers of samples of the steps, which never grow.
        reverse: Whether the last step is the first to be computed.
    """

    sizes: tuple[int, ...]
    reverse: bool = False

    @property
    def spans(self) -> list[tuple[int, int]]:
        """Return the first row and the number of rows of each step, in the order of computation."""
        found, at = [], 0
        for size in self.sizes:
            found.append((at, size))
            # under a tracer sizes are tensors, which must not change in place
            at = at + size
        return found[::-1] if self.reverse else found


def base_gates(z: Tensor, first: int, last: int) -> Tensor:
    """Return the values of gates first to last - 1 of the classical cell at z."""
    if not first <= _TANH < last:
        return z.sigmoid()
    parts = z.chunk(last - first, -1)
    return torch.cat(
        [p.tanh() if k == _TANH else p.sigmoid() for k, p in enumerate(parts, first)], -1
    )


def gates_of(terms: Tensor, kind: str) -> Gate:
    """Return the gates of a cell of that kind, base plus waves, from their terms.

    Args:
        terms: (1 + 3·count, m·g), as `wave_terms` returns them, the gates one after the other.
        kind: A name in `GATES`.
    """
    each = terms.shape[1] // GATES[kind]

    def gate(z: Tensor, first: int, last: int) -> Tensor:
        return add_waves(z, base_gates(z, first, last), terms[:, first * each : last * each])

    return gate


def step(cell: Cell, x: Tensor, h: Tensor, c: Tensor, gate: Gate) -> tuple[Tensor, Tensor]:
    """Compute one step by torch's operators; this defines what the compiled kernels compute.

    Args:
        cell: The recurrent part.
        x: (b, m·h), the contribution of the input to the gates.
        h: (b, h), the hidden state.
        c: (b, h), the memory of an LSTM; a GRU returns it unchanged.
        gate: The gates.

    Returns:
        The next h and c.
    """
    recurrent = F.linear(h, cell.weight, cell.bias)
    if cell.kind == "LSTM":
        taken, kept, new, shown = gate(x + recurrent, 0, 4).chunk(4, -1)
        c = kept * c + taken * new
        return shown * c.tanh(), c
    width = h.shape[-1]
    sums = x[..., : 2 * width] + recurrent[..., : 2 * width]
    reset, update = gate(sums, 0, 2).chunk(2, -1)
    new = gate(x[..., 2 * width :] + reset * recurrent[..., 2 * width :], 2, 3)
    return new + update * (h - new), c


def plain(
    cell: Cell, x: Tensor, h: Tensor, c: Tensor, gate: Gate, steps: Steps,
    added: Callable[[int, int, Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Compute a sequence step by step by torch's operators.

    Args:
        cell: The recurrent part.
        x: (n, m·h), what the inputs contribute to the gates.
        h: (b, h), the hidden states before the first step.
        c: (b, h), the memories before the first step.
        gate: The gates.
        steps: The order of the rows.
        added: A function of the first row of a step, the row after its last, and the hidden states
            (size, h) that returns what is added to x there; None adds nothing.

    Returns:
        Hidden states of all rows (n, h), and h and c (b, h) after the last step of each sample.
    """
    rows = []
    spans = steps.spans
    for at, size in spans:
        now = x[at : at + size]
        before = h[:size]
        if added is not None:
            now = now + added(at, at + size, before)
        new, memory = step(cell, now, before, c[:size], gate)
        rows.append(new)
        h = new if size == h.shape[0] else torch.cat([new, h[size:]])
        c = memory if size == c.shape[0] else torch.cat([memory, c[size:]])
    return torch.cat(rows[::-1] if steps.reverse else rows), h, c


def recurrence(
    cell: Cell, x: Tensor, h: Tensor, c: Tensor, terms: Tensor, steps: Steps
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute a sequence whose gates are a base plus waves.

    On a CPU one compiled call computes all steps if the state is small; if it is large, there is
    one call for each step beside torch's matrix product. The same holds for the derivatives. A
    compiler sees one operator. On other devices, and under an exporter or a transform, `plain` is
    used.

    Args:
        cell: The recurrent part.
        x: (n, m·h), what the inputs contribute to the gates.
        h: (b, h), the hidden states before the first step.
        c: (b, h), the memories before the first step.
        terms: (1 + 3·count, m·g), as `wave_terms` returns them, the gates one after the other.
        steps: The order of the rows.

    Returns:
        Hidden states of all rows (n, h), and h and c (b, h) after the last step of each sample.
    """
    tensors = (x, cell.weight, h, c, terms, cell.bias)
    # a compiler would unroll the steps
    if torch.compiler.is_compiling() and not is_exporting() and _are_alike(tensors):
        found = _operator(cell.kind, steps.sizes, steps.reverse, *tensors)
        return found[0], found[1], found[2]
    if _is_compiled(tensors):
        return _Recurrence.apply(cell.kind, steps, *tensors)  # type: ignore[no-any-return, no-untyped-call]
    return plain(cell, x, h, c, gates_of(terms, cell.kind), steps)


def _is_compiled(tensors: Sequence[Tensor | None]) -> bool:
    """Whether the compiled kernels can take these tensors."""
    x = tensors[0]
    assert x is not None
    # a tracer evaluates only the first condition
    return (
        has_values(x)
        and not is_observed()
        and all(t is None or type(t.data) is Tensor for t in tensors)
        and _are_alike(tensors)
    )


def _are_alike(tensors: Sequence[Tensor | None]) -> bool:
    """Whether the kernels can take tensors of this kind, and none is empty."""
    x = tensors[0]
    assert x is not None
    return (
        INSTALLED
        and autocast_dtype("cpu") is None
        and x.dtype in DTYPES
        and x.numel() > 0
        and all(t is None or (t.device.type == "cpu" and t.dtype == x.dtype) for t in tensors)
    )


class _Recurrence(torch.autograd.Function):
    """A sequence as one node of the graph; second derivatives use torch's operators."""

    @staticmethod
    def forward(ctx: Any, kind: str, steps: Steps, *tensors: Any) -> tuple[Tensor, ...]:
        from .cpu.recurrent_calls import Sequence as Compiled
        from .cpu.recurrent_calls import forward

        x, weight, h, c, terms, bias = tensors
        own = Compiled(GATES[kind], steps.spans, x, h, terms)
        out, h, c, kept = forward(own, x, weight, h, c, bias)
        ctx.kind, ctx.steps, ctx.own = kind, steps, own
        ctx.save_for_backward(*tensors, *kept)
        return out, h, c

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        from .cpu.recurrent_calls import backward

        # activation checkpointing allows them to be read only once
        saved = ctx.saved_tensors
        tensors, kept = saved[:6], saved[6:]
        if torch.is_grad_enabled() or any(are_many(grad) for grad in grads):
            found = _differentiable_backward(ctx, tensors, grads)
        else:
            found = backward(ctx.own, tensors[1], tensors[5], kept, grads)
        return (None, None, *found)


def _differentiable_backward(
    ctx: Any, tensors: Sequence[Any], grads: Sequence[Tensor]
) -> tuple[Tensor | None, ...]:
    """The gradients as a graph that can be differentiated again."""
    x, weight, h, c, terms, bias = tensors
    with torch.enable_grad():
        cell = Cell(ctx.kind, weight, bias)
        found = plain(cell, x, h, c, gates_of(terms, ctx.kind), ctx.steps)
        pairs = zip(found, grads, strict=True)
        total = sum(((value * grad).sum() for value, grad in pairs), x.new_zeros(()))
    return graph_of_gradients(total, tensors, ctx.needs_input_grad[2:], torch.ones_like(total))


_CELL = "str kind, SymInt[] sizes, bool reverse"


def _operator_values(kind: str, sizes: Sequence[int], reverse: bool, *tensors: Any) -> list[Tensor]:
    from .cpu.recurrent_calls import Sequence as Compiled
    from .cpu.recurrent_calls import forward

    x, weight, h, c, terms, bias = tensors
    own = Compiled(GATES[kind], Steps(tuple(sizes), reverse).spans, x, h, terms)
    out, h, c, kept = forward(own, x, weight, h, c, bias)
    return [out, h, c, *kept]


def _operator_gradients(
    kind: str, sizes: Sequence[int], reverse: bool, *tensors: Any
) -> list[Tensor]:
    """The gradients, with an empty tensor for a missing bias."""
    from .cpu.recurrent_calls import Sequence as Compiled
    from .cpu.recurrent_calls import backward

    (weight, terms, bias), kept, grads = tensors[:3], tensors[3:6], tensors[6:]
    spans = Steps(tuple(sizes), reverse).spans
    own = Compiled(GATES[kind], spans, kept[0], grads[1], terms)
    found = backward(own, weight, bias, kept, grads)
    return [weight.new_empty(0) if g is None else g for g in found]


_operator: Any = torch.library.custom_op(
    "qkan::recurrence", _operator_values, mutates_args=(),
    schema=f"({_CELL}, Tensor x, Tensor weight, Tensor h, Tensor c, Tensor terms, Tensor? bias)"
    " -> Tensor[]",
)  # fmt: skip
_operator_backward: Any = torch.library.custom_op(
    "qkan::recurrence_backward", _operator_gradients, mutates_args=(),
    schema=f"({_CELL}, Tensor weight, Tensor terms, Tensor? bias, Tensor z, Tensor extra,"
    " Tensor hidden, Tensor grad, Tensor dh, Tensor dc) -> Tensor[]",
)  # fmt: skip


@_operator.register_fake  # type: ignore[untyped-decorator]
def _(kind: str, sizes: Any, reverse: bool, *tensors: Any) -> list[Tensor]:
    x, _, h, c, *_ = tensors
    rows = [x.new_empty(x.shape[0], h.shape[1]) for _ in range(3)]
    return [rows[0], h.new_empty(h.shape), c.new_empty(c.shape), x.new_empty(x.shape), *rows[1:]]


@_operator_backward.register_fake  # type: ignore[untyped-decorator]
def _(kind: str, sizes: Any, reverse: bool, *tensors: Any) -> list[Tensor]:
    weight, terms, bias, z, _, _, _, dh, dc = tensors
    like = (z, weight, dh, dc, terms, weight.new_empty(0) if bias is None else bias)
    return [tensor.new_empty(tensor.shape) for tensor in like]


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: Sequence[Tensor]) -> None:
    _, weight, _, _, terms, bias = inputs[3:]
    ctx.options, ctx.has_bias = inputs[:3], bias is not None
    ctx.save_for_backward(weight, terms, bias, *output[3:])


def _backward(ctx: Any, grads: Sequence[Tensor]) -> tuple[Any, ...]:
    weight, terms, bias, *kept = ctx.saved_tensors
    found = _operator_backward(*ctx.options, weight, terms, bias, *kept, *grads[:3])
    return (None, None, None, *found[:5], found[5] if ctx.has_bias else None)


_operator.register_autograd(_backward, setup_context=_save_for_backward)
