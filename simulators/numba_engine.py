"""The `numba` engine: the fused kernel on a CPU for trainable scales and any circuit."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from qkan.circuits import Program

from .engine import Request
from .fused import FusedEngine, Gradients, Inputs

if TYPE_CHECKING:
    import numpy as np

    from .kernels import Tables

_INSTALLED = importlib.util.find_spec("numba") is not None
DTYPES = (torch.float32, torch.float64)


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


def refuse_on_cpu(request: Request) -> str | None:
    """Why the compiled CPU kernels cannot take a request, or None."""
    if request.noise:
        return "channels act after single gates; noise runs on the torch engine"
    if request.batched_theta:
        return "parameters that differ per sample run on the torch engine"
    if request.device.type != "cpu":
        return f"it runs on the CPU, and the tensors are on {request.device}"
    if request.dtype not in DTYPES:
        return f"it computes in float32 and float64, not {request.dtype}"
    if not _INSTALLED:
        return "numba is not installed: pip install numba"
    return None


@functools.lru_cache(maxsize=1024)
def tables(program: Program) -> Tables:
    """The program as the kernels take it."""
    from .kernels import tables as build

    rotations = tuple(
        (r.axis, r.constant, r.thetas, -1 if r.encoding is None else r.encoding, r.arccos)
        for r in program.rotations
    )
    return build(
        program.initial, program.observable, rotations, program.num_theta, program.num_encodings
    )


def shared_scale(request: Request, scale: np.ndarray) -> Any:
    """One row of scales where every edge has the same fixed ones."""
    import numpy as np

    return scale if request.fixed_scale is None else np.array(request.fixed_scale, scale.dtype)


def arrays(tensors: Sequence[Tensor | None]) -> tuple[Any, ...]:
    """The tensors' memory as numpy arrays."""
    return tuple(None if t is None else t.detach().numpy() for t in tensors)


def as_tensors(found: Sequence[Any]) -> Gradients:
    """Arrays as tensors on the same memory."""
    return tuple(None if a is None else torch.from_numpy(a) for a in found)
