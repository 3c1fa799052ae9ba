"""A layer as one matrix product on the CPU: the common base of `fourier` and `chebyshev`.

The fused kernel evaluates every edge at a few nodes, from which coefficients follow; a compiled
recurrence computes features of the inputs; and one product combines both. The batch is processed in
chunks, so that memory is bounded. The backward pass computes the features again.
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

_CHUNK_BYTES = 20 << 20
"""The memory of one chunk's features. Each chunk's product prepares all coefficients anew, so that
small chunks of a wide layer would take longer."""


@dataclass(frozen=True, slots=True)
class Expansion(ABC):
    """The functions of one input in which a layer is expanded.

    Attributes:
        nodes: The points (n,) at which the edges are evaluated.
        transform: The matrix (m + 1, n) from values at the nodes to coefficients, that of 1 first.
        count: The number m of features of one input, besides the constant.
        by_input: Whether features are stored as (b, i, m) instead of (b, m, i).
        affine: (middle, half), each (i,), if the nodes are values of t = (x - middle)/half; None if
            they are values of x.
        exceptions: The inputs outside the expansion, whose features are 0: the first exception of
            each input (i + 1,), and the sample and the value x of each exception.
    """

    nodes: np.ndarray
    transform: np.ndarray
    count: int
    by_input: bool = False
    affine: tuple[np.ndarray, np.ndarray] | None = None
    exceptions: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    @abstractmethod
    def features(self, x: np.ndarray, out: np.ndarray, threads: int) -> Task:
        """Return the task that writes the features of x (b, i) to `out`, which has `SLACK` more."""

    @abstractmethod
    def features_backward(
        self, grad: np.ndarray, values: np.ndarray, x: np.ndarray, dx: np.ndarray, threads: int
    ) -> Task:
        """Return the task that writes the gradient by x (b, i) to dx.

        `values` are the features, and `grad` is the gradient by the features.
        """


SLACK = 64
"""The additional numbers at the end of arrays of features, which vector loads may reach."""


class ProductEngine(Engine):
    """An engine that computes a layer as features times coefficients."""

    def refuse(self, request: Request) -> str | None:
        """Refuse noise, parameters per sample, and an arccos; subclasses refuse more than that."""
        if request.noise:
            return NOISE_REFUSED
        if request.batched_theta:
            return "with parameters per sample, each sample would need its own coefficients"
        if request.program.uses_arccos:
            return "with an arccos encoding φ is not a trigonometric polynomial in x"
        return None

    @abstractmethod
    def expansion(self, request: Request, x: Tensor, scale: Tensor) -> Expansion | None:
        """Return the expansion for these inputs, or None if the fused kernel is faster."""

    def product_dtype(self, request: Request) -> torch.dtype | None:
        """Return the dtype to which products round factors, or None for that of the inputs."""
        return None

    @abstractmethod
    def plain_forward(self, call: LayerCall) -> Tensor:
        """Compute the output by plain torch operators, if the compiled kernels cannot run."""

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
        """Compute the gradients, which are exact for the expansion."""
        if state is None:
            expansion = self.expansion(call.request, call.tensors.x, call.tensors.scale)
            if expansion is None:
                return _KERNEL.backward(call, grad, None)
            state = _Product(call, expansion, self.product_dtype(call.request))
        return backward_beside(call, grad, state.backward(grad, call.needs[:5]))


_KERNEL = NumbaEngine()
"""The engine for calls for which a product saves nothing."""


class _Scratch(threading.local):
    """Memory for one chunk, kept for the next call of the same thread.

    Filling memory that is new to the process takes twice as long.
    """

    def __init__(self) -> None:
        self.rooms: dict[Any, Any] = {}


_kept = _Scratch()


def _scratch(size: int, dtype: Any, what: str) -> Any:
    """A row of so many numbers, followed by `SLACK` more in memory."""
    import numpy as np

    room = _kept.rooms.get((dtype, what))
    if room is None or room.size < size + SLACK:
        room = _kept.rooms[dtype, what] = np.zeros(size + SLACK, dtype)
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
        scale = shared_scale(request, scale)
        if expansion.affine is not None and scale.ndim == 1:
            scale = np.broadcast_to(scale, shift.shape)
        weight = np.ones(theta.shape[:2], theta.dtype) if weight is None else weight
        self.parameters = kernels.Parameters(theta, scale, shift, weight)
        self.program = kernels.program_arrays(request.program)
        self.sizes = (request.out_features, expansion.count, request.in_features)
        self.layout = (expansion.count, 1) if expansion.by_input else (1, request.in_features)
        self.series = self._series()
        self._first = self._room(0) if len(self.x) else None
        work = None if self._first is None else self._features(*self._first)
        found = kernels.series(
            self.program, self.series, self.layout, self.parameters, self.threads, work
        )
        self.coefficients = torch.from_numpy(found.terms)
        self.constants, self.extra = torch.from_numpy(found.constants), found.extra

    def _series(self) -> Any:
        """The expansion in the form for the kernels."""
        import numpy as np

        from .cpu.series import Series

        dtype, one = self.x.dtype, self.expansion
        none = np.empty(0, dtype)
        middle, half = (none, none) if one.affine is None else one.affine
        starts, samples, x = one.exceptions or (
            np.zeros(self.sizes[2] + 1, np.int64), np.empty(0, np.int64), none
        )  # fmt: skip
        return Series(one.nodes, one.transform.reshape(-1), middle, half, starts, samples, x)

    def _room(self, start: int) -> tuple[slice, Any]:
        """The chunk of the batch that begins at `start`, and memory for its features."""
        batch, ins = self.x.shape
        row = max(self.expansion.count * ins, 1)
        step = max(1, min(batch, _CHUNK_BYTES // (row * self.x.itemsize)))
        rows = slice(start, min(start + step, batch))
        return rows, _scratch(step * row, self.x.dtype, "features")[: (rows.stop - start) * row]

    def _features(self, rows: slice, room: Any) -> Task:
        return self.expansion.features(self.x[rows], room, self.threads)

    def _chunks(self) -> Iterator[tuple[slice, Any]]:
        """Yield slices of the batch, each with its features as a row of numbers."""
        start = 0
        while start < len(self.x):
            rows, room = self._room(start)
            if self._first is None:
                run(self._features(rows, room), self.threads)
            # the first chunk was filled together with the coefficients, and its memory is reused
            self._first = None
            yield rows, room
            start = rows.stop

    def _matrix(self, room: Any) -> Tensor:
        """A chunk's features, or gradients by them, as a matrix (b, i·m)."""
        return torch.from_numpy(room).view(-1, self.sizes[1] * self.sizes[2])

    def _by_edge(self, matrix: Tensor) -> Tensor:
        """Rows of features or coefficients, (…, i·m), as (…, i, m)."""
        _, count, ins = self.sizes
        shape = matrix.shape[:-1]
        if self.expansion.by_input:
            return matrix.view(*shape, ins, count)
        return matrix.view(*shape, count, ins).transpose(-1, -2)

    def forward(self, bias: Tensor | None = None) -> Tensor:
        from .cpu import kernels

        outs, _, ins = self.sizes
        total = self.constants.sum(0)
        total = total if bias is None else total + bias
        shape = (len(self.x), outs, ins) if self.per_edge else (len(self.x), outs)
        out = self.coefficients.new_empty(shape)
        for rows, features in self._chunks():
            values = self._matrix(features)
            if self.per_edge:
                each = self._by_edge(values), self._by_edge(self.coefficients.T)
                out[rows] = self.constants.T + torch.einsum("bim,oim->boi", *each)
            elif self.low is not None:
                out[rows] = total + self._rounded(values, self.coefficients)
            else:
                torch.addmm(total, values, self.coefficients, out=out[rows])
        kernels.add_rows(self.extra, self.series.samples, out.numpy(), self.threads)
        return out

    def _rounded(self, one: Tensor, other: Tensor) -> Tensor:
        """The product of rounded factors, as under autocast."""
        return (one.to(self.low) @ other.to(self.low)).to(self.coefficients.dtype)

    def backward(self, grad: Tensor, needs: Sequence[bool]) -> Gradients:
        import numpy as np

        dx = np.empty_like(self.x) if needs[0] else None
        wanted = any(needs[1:]) or (needs[0] and len(self.extra) > 0)
        dc = torch.zeros_like(self.coefficients) if wanted else None
        for rows, features in self._chunks():
            values = self._matrix(features)
            if dc is not None:
                self._add_product(dc, grad[rows], values)
            if dx is not None:
                slopes, work = self._slopes(grad[rows], values), self.expansion.features_backward
                run(work(slopes, features, self.x[rows], dx[rows], self.threads), self.threads)
        parameters, extra = self._coefficients_backward(grad, dc, needs[1:])
        if dx is not None and extra is not None:
            inputs = np.repeat(np.arange(self.sizes[2]), np.diff(self.series.starts))
            dx[self.series.samples, inputs] = extra
        return as_tensors([dx, *parameters])

    def _add_product(self, dc: Tensor, grad: Tensor, values: Tensor) -> None:
        """Add a chunk's part of the gradient by the coefficients, (i·m, o)."""
        if self.per_edge:
            each = torch.einsum("boi,bim->oim", grad, self._by_edge(values))
            self._by_edge(dc.T).add_(each)
        elif self.low is not None:
            dc += self._rounded(values.T, grad)
        else:
            dc.addmm_(values.T, grad)

    def _slopes(self, grad: Tensor, values: Tensor) -> Any:
        """The gradient by a chunk's features, as a row of numbers."""
        room = _scratch(values.numel(), self.x.dtype, "slopes")
        slopes = self._matrix(room)
        if self.per_edge:
            each = self._by_edge(self.coefficients.T)
            self._by_edge(slopes).copy_(torch.einsum("boi,oim->bim", grad, each))
        elif self.low is not None:
            slopes.copy_(self._rounded(grad, self.coefficients.T))
        else:
            torch.mm(grad, self.coefficients.T, out=slopes)
        return room

    def _coefficients_backward(
        self, grad: Tensor, dc: Tensor | None, needs: Sequence[bool]
    ) -> tuple[Sequence[Any], Any]:
        """The gradients by the parameters and, at the exceptions, by x."""
        from .cpu import kernels

        if dc is None:
            return (None, None, None, None), None
        constant = grad.sum(0).T.contiguous() if self.per_edge else grad.sum(0)
        dtheta, dscale, dshift, dweight = needs
        wanted = (dtheta, dscale, dshift, dweight and not self.per_edge)
        arrays = (t.resolve_neg().numpy() for t in (dc, constant, grad))
        gradients = kernels.Coefficients(*arrays)
        found, extra = kernels.series_backward(
            self.program, self.series, self.layout, gradients, self.parameters, wanted,
            self.threads,
        )  # fmt: skip
        return found, extra
