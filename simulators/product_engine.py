"""A layer as one matrix product on the CPU: what `fourier` and `chebyshev` share.

The fused kernel evaluates every edge at a few nodes and makes coefficients of the values, a
compiled recurrence makes features of the inputs, and one product joins them. The batch passes in
chunks that fit the caches, so that memory stays bounded. The backward pass computes the features
again.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .autocast import without_autocast
from .base import add_base_, backward_beside
from .call import NOISE_REFUSED, Gradients, LayerCall, Request
from .cpu.compiled import arrays, as_tensors, check_on_cpu, shared_scale
from .cpu.numba_engine import NumbaEngine
from .cpu.threads import Task, run
from .engine import Engine

if TYPE_CHECKING:
    import numpy as np

_CHUNK_BYTES = 6 << 20


@dataclass(frozen=True, slots=True)
class Expansion(ABC):
    """Functions of one input that a layer is expanded in.

    Attributes:
        nodes: Where the edges are evaluated, (n,).
        transform: From values at the nodes to coefficients, (m + 1, n), that of 1 first.
        count: Features m besides the constant, for one input.
        affine: (middle, half), each (i,): the nodes are those of t = (x - middle)/half. None
            where they are those of x.
    """

    nodes: np.ndarray
    transform: np.ndarray
    count: int
    affine: tuple[np.ndarray, np.ndarray] | None = None

    @abstractmethod
    def features(self, x: np.ndarray, out: np.ndarray, threads: int) -> Task:
        """The work of writing the features of x (b, i) to out (b, m, i)."""

    @abstractmethod
    def features_backward(
        self, grad: np.ndarray, values: np.ndarray, dx: np.ndarray, threads: int
    ) -> Task:
        """The work of writing the gradient by x (b, i) to dx.

        `values` are the features (b, m, i), and `grad` is the gradient by them.
        """


class ProductEngine(Engine):
    """An engine that computes a layer as features times coefficients."""

    def refuse(self, request: Request) -> str | None:
        """It refuses noise, parameters per sample, and an arccos; engines refuse more than that."""
        if request.noise:
            return NOISE_REFUSED
        if request.batched_theta:
            return "parameters that differ per sample give each sample coefficients of its own"
        if request.program.uses_arccos:
            return "an arccos encoding makes φ no trigonometric polynomial in x"
        return None

    @abstractmethod
    def expansion(self, request: Request, x: Tensor, scale: Tensor) -> Expansion | None:
        """The expansion for these inputs, or None where the fused kernel is faster."""

    def product_dtype(self, request: Request) -> torch.dtype | None:
        """The dtype that products round their factors to, or None for that of the inputs."""
        return None

    @abstractmethod
    def plain_forward(self, call: LayerCall) -> Tensor:
        """Compute the output in plain torch operators, where the compiled kernels do not run."""

    def forward(self, call: LayerCall) -> tuple[Tensor, _Product | None]:
        """Compute the output, and keep the coefficients for the backward pass."""
        if self.plain(call):
            return self.plain_forward(call), None
        check_on_cpu(call.tensors)
        request, x = call.request, call.tensors.x
        expansion = self.expansion(request, x, call.tensors.scale)
        if expansion is None:
            return _KERNEL.forward(call)
        low = self.product_dtype(request)
        with without_autocast(x):
            product = _Product(call, expansion, low)
            return add_base_(product.forward(call.tensors.bias), call), product

    def backward(self, call: LayerCall, grad: Tensor, state: _Product | None) -> Gradients:
        """Compute the gradients, exact for the expansion."""
        if state is None:
            expansion = self.expansion(call.request, call.tensors.x, call.tensors.scale)
            if expansion is None:
                return _KERNEL.backward(call, grad, None)
            state = _Product(call, expansion, self.product_dtype(call.request))
        return backward_beside(call, grad, state.backward(grad, call.needs[:5]))


_KERNEL = NumbaEngine()
"""The engine of calls for which a product saves nothing."""


class _Scratch(threading.local):
    """Memory for one chunk, kept for the next call of the same thread.

    To fill memory that is new to the process takes twice as long.
    """

    def __init__(self) -> None:
        self.rooms: dict[Any, Any] = {}


_kept = _Scratch()


def _scratch(size: int, dtype: Any, what: str) -> Any:
    import numpy as np

    room = _kept.rooms.get((dtype, what))
    if room is None or room.size < size:
        room = _kept.rooms[dtype, what] = np.empty(size, dtype)
    return room[:size]


class _Product:
    """One call: the coefficients, and the chunks of the batch."""

    def __init__(
        self, call: LayerCall, expansion: Expansion, low: torch.dtype | None = None
    ) -> None:
        import numpy as np

        from .cpu import kernels

        request = call.request
        x, theta, scale, shift, weight = arrays(call.circuits)
        self.expansion, self.threads = expansion, torch.get_num_threads()
        self.per_edge, self.low = weight is None, low
        self.x = x if x.flags.c_contiguous else x.copy()
        scale, shift = self._at_nodes(shared_scale(request, scale), shift)
        weight = np.ones(theta.shape[:2], theta.dtype) if weight is None else weight
        self.parameters = kernels.Parameters(theta, scale, shift, weight)
        self.program = kernels.program_arrays(request.program)
        self.sizes = (request.out_features, expansion.count, request.in_features)
        self._first = self._room(0) if len(self.x) else None
        work = None if self._first is None else self._features(*self._first)
        coefficients, total = kernels.series(
            self.program, expansion.nodes, expansion.transform, self.parameters, self.threads, work
        )
        self.coefficients, self.total = torch.from_numpy(coefficients), torch.from_numpy(total)

    def _at_nodes(self, scale: Any, shift: Any) -> tuple[Any, Any]:
        """Scale and shift of t, where x = middle + half·t: the nodes are values of t."""
        import numpy as np

        if self.expansion.affine is None:
            return scale, shift
        middle, half = (array[:, None] for array in self.expansion.affine)
        return np.broadcast_to(scale * half, shift.shape), shift + scale * middle

    def _move_back(self, dscale: Any, dshift: Any) -> Any:
        """The gradient by the scale of x, from those by scale and shift of t."""
        if self.expansion.affine is None:
            return dscale
        middle, half = (array[:, None] for array in self.expansion.affine)
        return dscale * half + dshift * middle

    def _room(self, start: int) -> tuple[slice, Any]:
        """The chunk of the batch that begins at `start`, and memory for its features (b, m, i)."""
        batch, ins = self.x.shape
        row = max(self.expansion.count * ins, 1)
        step = max(1, min(batch, _CHUNK_BYTES // (row * self.x.itemsize)))
        rows = slice(start, min(start + step, batch))
        room = _scratch(step * row, self.x.dtype, "features")[: (rows.stop - start) * row]
        return rows, room.reshape(-1, self.expansion.count, ins)

    def _features(self, rows: slice, room: Any) -> Task:
        return self.expansion.features(self.x[rows], room, self.threads)

    def _chunks(self) -> Iterator[tuple[slice, Any]]:
        """Yield slices of the batch, each with its features (b, m, i)."""
        start = 0
        while start < len(self.x):
            rows, room = self._room(start)
            if self._first is None:
                run(self._features(rows, room), self.threads)
            # the first chunk was filled beside the coefficients, and its memory is used again
            self._first = None
            yield rows, room
            start = rows.stop

    def forward(self, bias: Tensor | None = None) -> Tensor:
        outs, _, ins = self.sizes
        total = self.total if bias is None else self.total + bias
        flat, constant = self.coefficients.flatten(1)[:, ins:], self.coefficients[:, 0]
        shape = (len(self.x), outs, ins) if self.per_edge else (len(self.x), outs)
        out = self.coefficients.new_empty(shape)
        for rows, features in self._chunks():
            values = torch.from_numpy(features)
            if self.per_edge:
                out[rows] = constant + torch.einsum(
                    "bmi,omi->boi", values, self.coefficients[:, 1:]
                )
            elif self.low is not None:
                out[rows] = total + self._rounded(values.flatten(1), flat.T)
            else:
                torch.addmm(total, values.flatten(1), flat.T, out=out[rows])
        return out

    def _rounded(self, one: Tensor, other: Tensor) -> Tensor:
        """The product of rounded factors, as autocast asks for."""
        return (one.to(self.low) @ other.to(self.low)).to(self.coefficients.dtype)

    def backward(self, grad: Tensor, needs: Sequence[bool]) -> Gradients:
        import numpy as np

        outs, count, ins = self.sizes
        dx = np.empty_like(self.x) if needs[0] else None
        dc = self.coefficients.new_zeros(count, ins, outs) if any(needs[1:]) else None
        for rows, features in self._chunks():
            values = torch.from_numpy(features)
            if dc is not None:
                self._add_product(dc, grad[rows], values)
            if dx is not None:
                slopes = self._slopes(grad[rows], values)
                run(
                    self.expansion.features_backward(slopes, features, dx[rows], self.threads),
                    self.threads,
                )
        parameters = self._coefficients_backward(grad, dc, needs[1:])
        return as_tensors([dx, *parameters])

    def _add_product(self, dc: Tensor, grad: Tensor, values: Tensor) -> None:
        """Add a chunk's part of the gradient by the coefficients, (m, i, o)."""
        if self.per_edge:
            dc += torch.einsum("boi,bmi->mio", grad, values)
        elif self.low is not None:
            dc += self._rounded(values.flatten(1).T, grad).view_as(dc)
        else:
            # the transpose of this product is slower
            dc.flatten(0, 1).addmm_(values.flatten(1).T, grad)

    def _slopes(self, grad: Tensor, values: Tensor) -> Any:
        """The gradient by a chunk's features (b, m, i)."""
        if self.per_edge:
            return torch.einsum("boi,omi->bmi", grad, self.coefficients[:, 1:]).numpy()
        flat = self.coefficients.flatten(1)[:, self.sizes[2] :]
        if self.low is not None:
            return self._rounded(grad, flat).view_as(values).numpy()
        room = _scratch(values.numel(), self.x.dtype, "slopes").reshape(values.shape)
        torch.mm(grad, flat, out=torch.from_numpy(room).flatten(1))
        return room

    def _coefficients_backward(
        self, grad: Tensor, dc: Tensor | None, needs: Sequence[bool]
    ) -> Sequence[Any]:
        """The gradients by the parameters, from those by all coefficients but the constant."""
        from .cpu import kernels

        if dc is None:
            return (None, None, None, None)
        full = torch.empty_like(self.coefficients)
        full[:, 0] = grad.sum(0) if self.per_edge else grad.sum(0)[:, None]
        full[:, 1:] = dc.permute(2, 0, 1)
        dtheta, dscale, dshift, dweight = needs
        wanted = (dtheta, dscale, dscale or dshift, dweight and not self.per_edge)
        found = list(kernels.series_backward(
            self.program, full.numpy(), self.expansion.nodes, self.expansion.transform,
            self.parameters, wanted, self.threads,
        ))  # fmt: skip
        found[1] = self._move_back(found[1], found[2]) if dscale else None
        found[2] = found[2] if dshift else None
        return found
