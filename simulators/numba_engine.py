"""The `numba` engine: the fused kernel on a CPU for trainable scales and any circuit."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from .base import LayerTensors
from .compiled import arrays, as_tensors, refuse_on_cpu, shared_scale, tables
from .engine import Request
from .fused import FusedEngine, Gradients, Inputs

if TYPE_CHECKING:
    import numpy as np

_PLAIN = (Tensor, torch.nn.Parameter)


class NumbaEngine(FusedEngine):
    """Forward and adjoint in one compiled pass over tiles of samples; nothing large is stored."""

    name = "numba"

    def refuse(self, request: Request) -> str | None:
        """Noise, parameters per sample, other devices and dtypes, no numba."""
        return refuse_on_cpu(request)

    def cost(self, request: Request) -> float:
        """A call, and the arithmetic of each data rotation on each edge and sample.

        Fitted to `benchmarks/`, two cores: 0.3 ms at 8×4→4, 13 ms at 1024×64→64 with 3 rotations.
        """
        data = sum(r.encoding is not None for r in request.program.rotations)
        wide = 1.0 if request.dtype == torch.float32 else 2.0
        return 250e-6 + 1.1e-9 * wide * request.batch * request.edges * max(data, 1)

    def forward(self, request: Request, inputs: Inputs) -> Tensor:
        """The values, (b, o) or per edge (b, o, i)."""
        from . import kernels

        x, theta, scale, shift, weight = arrays(inputs)
        scale = shared_scale(request, scale)
        t, threads = tables(request.program), torch.get_num_threads()
        if weight is None:
            out = kernels.edges(t, x, theta, scale, shift, threads)
        else:
            out = kernels.forward(t, x, theta, scale, shift, weight, threads)
        return torch.from_numpy(out)

    def backward(
        self,
        request: Request,
        grad: Tensor,
        inputs: Inputs,
        needs: Sequence[bool],
        state: Any = None,
    ) -> Gradients:
        """The gradients, recomputing the states."""
        from . import kernels

        x, theta, scale, shift, weight = arrays(inputs)
        scale = shared_scale(request, scale)
        (g,) = arrays((grad,))
        t, threads = tables(request.program), torch.get_num_threads()
        if weight is None:
            found = kernels.edges_backward(t, g, x, theta, scale, shift, needs[:4], threads)
            return (*as_tensors(found), None)
        return as_tensors(kernels.backward(t, g, x, theta, scale, shift, weight, needs, threads))

    def whole_keeping(
        self, request: Request, x: Tensor, tensors: LayerTensors
    ) -> tuple[Tensor, Any]:
        """The output of a layer; of a small one in a single compiled call."""
        found = _small_call(request, x, tensors)
        if found is None:
            return super().whole_keeping(request, x, tensors)
        from . import _small

        small, at, _copies = found
        out = torch.empty(small.shape[:2], dtype=request.dtype)
        _small.forward(*small.program, at, out.data_ptr(), small.shape, small.base)
        return out, None

    def whole_backward(
        self,
        request: Request,
        grad: Tensor,
        x: Tensor,
        tensors: LayerTensors,
        needs: Sequence[bool],
        state: Any,
    ) -> Gradients:
        """The gradients of a layer; of a small one in a single compiled call."""
        # not the addresses of the forward pass: a saved tensor may have moved since
        call = _small_call(request, x, tensors)
        if call is None or grad.dtype is not request.dtype:
            return super().whole_backward(request, grad, x, tensors, needs, state)
        from . import _small

        small, at, _copies = call
        given = (x, *tensors[:-1])
        found = [
            torch.empty(tensor.shape, dtype=tensor.dtype) if need and tensor is not None else None
            for tensor, need in zip(given, needs, strict=False)
        ]
        to = tuple(0 if tensor is None else tensor.data_ptr() for tensor in found)
        grad = grad.contiguous()
        _small.backward(*small.program, at, grad.data_ptr(), to, small.shape, small.base)
        return (*found, None)


class _SmallRequest(NamedTuple):
    """A call that is over in no time: what the compiled code needs besides the tensors.

    Attributes:
        program: Integers and numbers of the program, and fixed scales (u,) or nothing.
        shape: (batch, out, in).
        base: Number of the base activation.
        sizes: Numbers in x and in each of the layer's tensors.
    """

    program: tuple[np.ndarray, np.ndarray, np.ndarray]
    shape: tuple[int, int, int]
    base: int
    sizes: tuple[int, ...]


@functools.lru_cache(maxsize=1024)
def _small_request(request: Request) -> _SmallRequest | None:
    """What a small call needs, or None for a large one."""
    import numpy as np

    from . import _small, kernels

    t = tables(request.program)
    if not kernels.is_small(t, request.batch, request.edges):
        return None
    kind = np.dtype(np.float32 if request.dtype == torch.float32 else np.float64)
    program = (t.code, t.consts[kind], np.array(request.fixed_scale or (), kind))
    batch, outs, ins = shape = (request.batch, request.out_features, request.in_features)
    edges, k, u = outs * ins, request.program.num_theta, request.program.num_encodings
    sizes = (batch * ins, edges * k, edges * u, edges * u, edges, edges, outs, edges)
    return _SmallRequest(program, shape, _small.BASES.index(request.base), sizes)


def _small_call(
    request: Request, x: Tensor, tensors: LayerTensors
) -> tuple[_SmallRequest, tuple[int, ...], list[Tensor]] | None:
    """What a small call needs, its tensors' addresses, and copies to keep until it is over.

    None where a tensor is not as many plain numbers as it must be: that goes the general way.
    """
    small = _small_request(request)
    if small is None:
        return None
    at, copies = [], []
    for tensor, size in zip((x, *tensors), small.sizes, strict=True):
        if tensor is None:
            at.append(0)
            continue
        if (
            tensor.dtype is not request.dtype
            or type(tensor) not in _PLAIN
            or tensor.numel() != size
        ):
            return None
        if not tensor.is_contiguous():
            copies.append(tensor := tensor.contiguous())
        at.append(tensor.data_ptr())
    return small, tuple(at), copies
