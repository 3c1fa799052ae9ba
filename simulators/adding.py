"""`add_waves`: sums of sinusoids of all inputs in one compiled pass, and another for gradients."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .autocast import without_autocast
from .bridge import are_many, graph_of_gradients, is_observed
from .call import Gradients, has_values
from .cpu.compiled import DTYPES, INSTALLED
from .waves import Recipe, array_of

_WIDTH = 1024
"""The number of inputs of a row if all inputs share one activation."""
_CELLS = 1 << 15
"""The number of inputs of a unit of work, which has at least one row."""


class Known(NamedTuple):
    """An activation whose derivative is known.

    Attributes:
        value: The function of x.
        backward: The gradient by x, from the gradient by the value and from x.
    """

    value: Callable[[Tensor], Tensor]
    backward: Callable[[Tensor, Tensor], Tensor]


@functools.lru_cache(maxsize=64)
def _no_products(count: int) -> Recipe:
    return np.array([(w, -1, -1, 1) for w in range(count)], np.int64).reshape(-1)


def add_waves(
    x: Tensor, base: Tensor | Known, terms: Tensor, recipe: Recipe | None = None
) -> Tensor:
    """Return base + terms[0] + Σ_f A_f·cos ω_f·x + B_f·sin ω_f·x, elementwise.

    On a CPU one compiled pass computes the sum and another its derivatives, for which only x and
    the terms are kept. If the base is known, the passes add to its new value and gradient in place.
    On other devices, and under a compiler, a tracer or a transform, plain torch operators are used.

    Args:
        x: (…, i).
        base: (…, i) values to which the waves are added, or a known activation that computes them.
        terms: (1 + 3·count, g) as `wave_terms` returns them; input i uses column ⌊i·g/in⌋.
        recipe: The waves that are products of others, as `wave_recipe` returns them; None for none.

    Returns:
        (…, i), in the dtype of the base.
    """
    given = x if isinstance(base, Known) else base
    if _is_compiled(x, given, terms):
        recipe = _no_products(len(terms) // 3) if recipe is None else recipe
        known = base if isinstance(base, Known) else None
        tensor = None if isinstance(base, Known) else base
        return _Waves.apply(x, tensor, terms, recipe, known)  # type: ignore[no-any-return, no-untyped-call]
    return _plain(x, base, terms)


def _plain(x: Tensor, base: Tensor | Known, terms: Tensor) -> Tensor:
    """The sum in torch's operators, differentiable to any order."""
    base = base.value(x) if isinstance(base, Known) else base
    with without_autocast(x):
        wide, columns = x.to(terms.dtype), terms.shape[1]
        index = torch.arange(x.shape[-1], device=terms.device) * columns // x.shape[-1]
        terms = terms[:, index]
        total = terms[0].expand_as(wide)
        for wave in terms[1:].unflatten(0, (-1, 3)).unbind(0):
            frequency, cosine, sine = wave.unbind(0)
            angle = frequency * wide
            total = total + cosine * angle.cos() + sine * angle.sin()
        return base + total.to(base.dtype)


def _is_compiled(x: Tensor, base: Tensor, terms: Tensor) -> bool:
    """Whether the compiled kernels can take this call."""
    # a compiler or a tracer evaluates only the first condition
    return (
        has_values(x)
        and not is_observed()
        and INSTALLED
        and type(x) is Tensor
        and x.is_cpu
        and x.dtype in DTYPES
        and x.dtype == base.dtype == terms.dtype
        and x.shape == base.shape
        and x.numel() > 0
    )


class _Waves(torch.autograd.Function):
    """The sum as one node of the graph; second derivatives use torch's operators."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, base: Tensor | None, terms: Tensor, recipe: Recipe,
        known: Known | None,
    ) -> Tensor:  # fmt: skip
        ctx.save_for_backward(x, terms)
        ctx.recipe, ctx.known = recipe, known
        if base is not None:
            out = base.clone(memory_format=torch.contiguous_format)
        else:
            assert known is not None
            out = _fresh(known.value(x), x)
        for rows, parts in _spans((x, out), terms):
            _run("waves_task", (*parts, 1, _flat(terms), recipe), rows)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, terms = ctx.saved_tensors
        needs = (ctx.needs_input_grad[0], ctx.needs_input_grad[2])
        by_base = grad if ctx.known is None else None
        if torch.is_grad_enabled() or are_many(grad):
            dx, dterms = _differentiable_backward(ctx.known, x, terms, grad, needs)
            return dx, by_base, dterms, None, None
        if ctx.known is None or not needs[0]:
            found = torch.empty_like(x, memory_format=torch.contiguous_format)
        else:
            found = _fresh(ctx.known.backward(grad, x), grad)
        adds = int(ctx.known is not None and needs[0])
        by_terms = torch.zeros_like(terms, memory_format=torch.contiguous_format)
        for rows, parts in _spans((grad, x, found), terms):
            sums = torch.empty(rows.units, *terms.shape, dtype=terms.dtype)
            _run("waves_backward_task", (*parts, adds, _flat(terms), ctx.recipe, _flat(sums)), rows)
            by_terms += sums.sum(0)
        return found if needs[0] else None, by_base, by_terms, None, None


def _fresh(value: Tensor, given: Tensor) -> Tensor:
    """Return a value that may be overwritten: neither the given tensor nor a view of it."""
    shared = value.untyped_storage().data_ptr() == given.untyped_storage().data_ptr()
    return value.clone() if shared else value.contiguous()


class _Rows(NamedTuple):
    """Rows of inputs for one kernel call, which processes a block of them at a time."""

    height: int
    width: int
    groups: int
    block: int

    @property
    def units(self) -> int:
        return -(-self.height // self.block)


def _flat(tensor: Tensor) -> np.ndarray:
    """A tensor's numbers as a vector."""
    return array_of(tensor).reshape(-1)


def _spans(given: Sequence[Tensor], terms: Tensor) -> Iterator[tuple[_Rows, list[np.ndarray]]]:
    """Yield equal rows, and the corresponding parts of the tensors' values."""
    vectors, groups = [_flat(tensor) for tensor in given], terms.shape[1]
    size, width, at = vectors[0].size, given[0].shape[-1], 0
    if groups == 1:
        width = min(size, _WIDTH)
    while at < size:
        width = min(width, size - at)
        count = (size - at) // width
        end = at + count * width
        yield _Rows(count, width, groups, max(1, _CELLS // width)), [v[at:end] for v in vectors]
        at = end


@functools.lru_cache(maxsize=64)
def _starts(width: int, groups: int) -> np.ndarray:
    """The first of `width` inputs of each group, and the end."""
    return np.append(np.searchsorted(np.arange(width) * groups // width, np.arange(groups)), width)


def _run(task: str, args: Sequence[Any], rows: _Rows) -> None:
    from .cpu import waves as kernels
    from .cpu.threads import Task
    from .cpu.threads import run as do

    height, width, groups, block = rows
    count = len(args[-1 if task == "waves_task" else -2]) // 4
    shape, counter = (height, width, groups, count), np.zeros(1, np.int64)
    do(
        Task(getattr(kernels, task), *args, _starts(width, groups), shape, block, counter),
        torch.get_num_threads() if rows.units > 1 else 1,
    )


def _differentiable_backward(
    known: Known | None, x: Tensor, terms: Tensor, grad: Tensor, needs: tuple[bool, bool]
) -> Gradients:
    """The gradients by x and the terms as a graph that can be differentiated again."""
    with torch.enable_grad():
        total = _plain(x, torch.zeros_like(x) if known is None else known, terms)
    return graph_of_gradients(total, (x, terms), needs, grad)
