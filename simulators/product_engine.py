"""A layer as one matrix product on the CPU: what `fourier` and `chebyshev` share.

Coefficients of every edge come from a few nodes by the fused kernel, features of the inputs from a
compiled recurrence, and one product joins them. The batch passes in chunks that fit the caches, so
that memory stays bounded; the backward pass recomputes the features.
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
from .call import Gradients, LayerCall, Request
from .cpu.compiled import arrays, as_tensors, check_on_cpu, shared_scale
from .cpu.numba_engine import NumbaEngine
from .cpu.threads import Task, run
from .engine import Engine

if TYPE_CHECKING:
    import numpy as np

_CHUNK_BYTES = 6 << 20


@dataclass(frozen=True, slots=True)
class Basis(ABC):
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
        """The work that writes the features of x (b, i) to out (b, m, i); threads share it."""

    @abstractmethod
    def features_backward(
        self, grad: np.ndarray, features: np.ndarray, dx: np.ndarray, threads: int
    ) -> Task:
        """The work that writes the gradient by x (b, i) to dx, from that of the features."""


class ProductEngine(Engine):
    """An engine whose layer is features times coefficients."""

    @abstractmethod
    def basis(self, request: Request, x: Tensor, scale: Tensor) -> Basis | None:
        """The basis for these inputs, or None where the fused kernel is the better bargain."""

    def product_dtype(self, request: Request) -> torch.dtype | None:
        """What the products round their factors to, or None for the precision of the inputs."""
        return None

    @abstractmethod
    def plain_forward(self, call: LayerCall) -> Tensor:
        """The output in plain torch operators, wherever the compiled kernels do not run."""

    def forward(self, call: LayerCall) -> tuple[Tensor, _Product | None]:
        """The output, and the coefficients for the backward pass."""
        if self.plain(call):
            return self.plain_forward(call), None
        check_on_cpu(call.tensors)
        request, x = call.request, call.tensors.x
        basis = self.basis(request, x, call.tensors.scale)
        if basis is None:
            return _KERNEL.forward(call)
        low = self.product_dtype(request)
        with without_autocast(x):
            product = _Product(call, basis, low)
            return add_base_(product.forward(call.tensors.bias), call), product

    def backward(self, call: LayerCall, grad: Tensor, state: _Product | None) -> Gradients:
        """The gradients of the expansion."""
        if state is None:
            basis = self.basis(call.request, call.tensors.x, call.tensors.scale)
            if basis is None:
                return _KERNEL.backward(call, grad, None)
            state = _Product(call, basis, self.product_dtype(call.request))
        return backward_beside(call, grad, state.backward(grad, call.needs[:5]))


_KERNEL = NumbaEngine()
"""What takes a call for which a product is a bad bargain."""


class _Scratch(threading.local):
    """Room for one chunk in each thread, kept: fresh pages cost as much as filling them."""

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

    def __init__(self, call: LayerCall, basis: Basis, low: torch.dtype | None = None) -> None:
        from .cpu import kernels

        request = call.request
        x, self.theta, scale, self.shift, weight = arrays(call.circuits)
        self.basis, self.threads = basis, torch.get_num_threads()
        self.per_edge, self.low = weight is None, low
        self.x = x if x.flags.c_contiguous else x.copy()
        self.scale = shared_scale(request, scale)
        self._move_to_nodes()
        self.program = kernels.program_arrays(request.program)
        self.weight = self._ones() if weight is None else weight
        self.sizes = (request.out_features, basis.count, request.in_features)
        self._first = self._room(0) if len(self.x) else None
        work = None if self._first is None else self._features(*self._first)
        self.parameters = kernels.Parameters(self.theta, self.scale, self.shift, self.weight)
        coefficients, total = kernels.series(
            self.program, basis.nodes, basis.transform, self.parameters, self.threads, work
        )
        self.coefficients, self.total = torch.from_numpy(coefficients), torch.from_numpy(total)

    def _move_to_nodes(self) -> None:
        """scale·x + shift, with x = middle + half·t, as an encoding of t."""
        import numpy as np

        if self.basis.affine is not None:
            middle, half = (array[:, None] for array in self.basis.affine)
            self.shift = self.shift + self.scale * middle
            self.scale = self.scale * half
            if self.scale.ndim == 2:
                self.scale = np.broadcast_to(self.scale, self.shift.shape)

    def _move_back(self, dscale: Any, dshift: Any) -> Any:
        """The gradient of the scale of x, from those of the encoding of t."""
        if self.basis.affine is None:
            return dscale
        middle, half = (array[:, None] for array in self.basis.affine)
        return dscale * half + dshift * middle

    def _ones(self) -> Any:
        import numpy as np

        return np.ones(self.theta.shape[:2], self.theta.dtype)

    def _room(self, start: int) -> tuple[slice, Any]:
        """The chunk of the batch that starts there, and room for its features (b, m, i)."""
        batch, ins = self.x.shape
        row = max(self.basis.count * ins, 1)
        step = max(1, min(batch, _CHUNK_BYTES // (row * self.x.itemsize)))
        rows = slice(start, min(start + step, batch))
        room = _scratch(step * row, self.x.dtype, "features")[: (rows.stop - start) * row]
        return rows, room.reshape(-1, self.basis.count, ins)

    def _features(self, rows: slice, room: Any) -> Task:
        return self.basis.features(self.x[rows], room, self.threads)

    def _chunks(self) -> Iterator[tuple[slice, Any]]:
        """Slices of the batch, each with its features (b, m, i)."""
        start = 0
        while start < len(self.x):
            rows, room = self._room(start)
            if self._first is None:
                run(self._features(rows, room), self.threads)
            # the first chunk was filled beside the coefficients; its room is soon used again
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
        """A product whose factors are rounded, as autocast asks for."""
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
                    self.basis.features_backward(slopes, features, dx[rows], self.threads),
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
            # this way round the product is faster than its transpose
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
        """The gradients by the parameters, from that by the coefficients but the first."""
        from .cpu import kernels

        if dc is None:
            return (None, None, None, None)
        full = torch.empty_like(self.coefficients)
        full[:, 0] = grad.sum(0) if self.per_edge else grad.sum(0)[:, None]
        full[:, 1:] = dc.permute(2, 0, 1)
        dtheta, dscale, dshift, dweight = needs
        wanted = (dtheta, dscale, dscale or dshift, dweight and not self.per_edge)
        found = list(kernels.series_backward(
            self.program, full.numpy(), self.basis.nodes, self.basis.transform, self.parameters,
            wanted, self.threads,
        ))  # fmt: skip
        found[1] = self._move_back(found[1], found[2]) if dscale else None
        found[2] = found[2] if dshift else None
        return found
