"""The `numba` engine: the fused kernel on a CPU for trainable scales and any circuit."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter

from qkan.simulators.base import add_base_, backward_beside
from qkan.simulators.call import Gradients, LayerCall, Request
from qkan.simulators.engine import Engine

from .compiled import arrays, as_tensors, check_on_cpu, refuse_on_cpu, shared_scale

if TYPE_CHECKING:
    import numpy as np

_CPU = torch.device("cpu")


class NumbaEngine(Engine):
    """One compiled pass over tiles forward and one backward; nothing of size b·o·i is stored."""

    name = "numba"

    def refuse(self, request: Request) -> str | None:
        """Refuse noise, other devices and dtypes, and a machine without numba."""
        return refuse_on_cpu(request)

    def cost(self, request: Request) -> float:
        """Return the time of a call, and of each data rotation on each edge and sample.

        Fitted to `benchmarks/`, two cores: 0.3 ms at 8×4→4, 13 ms at 1024×64→64 with 3 rotations.
        """
        data = sum(r.encoding is not None for r in request.program.rotations)
        wide = 1.0 if request.dtype == torch.float32 else 2.0
        return 250e-6 + 1.1e-9 * wide * request.batch * request.edges * max(data, 1)

    def forward(self, call: LayerCall) -> tuple[Tensor, None]:
        """Compute the output; that of a small layer in a single compiled call."""
        found = _small_call(call)
        if found is None:
            check_on_cpu(call.tensors)
            out, bias = _values(call), call.tensors.bias
            return add_base_(out if bias is None else out.add_(bias), call), None
        # this is the fastest way to import, which matters in a call of a few microseconds
        from . import small as compiled

        small, at, _copies = found
        out = torch.empty(small.shape[:2], dtype=call.request.dtype, device=_CPU)
        compiled.forward(*small.program, at, out.data_ptr(), small.shape, small.base)
        return out, None

    def backward(self, call: LayerCall, grad: Tensor, state: Any) -> Gradients:
        """Compute the gradients; those of a small layer in a single compiled call."""
        # the addresses of the forward pass are of no use: a saved tensor may have moved since
        found = _small_call(call)
        if found is None or grad.dtype is not call.request.dtype:
            return backward_beside(call, grad, _gradients(call, grad))
        from . import small as compiled

        small, at, _copies = found
        room = [
            torch.empty(tensor.shape, dtype=tensor.dtype, device=_CPU)
            if need and tensor is not None
            else None
            for tensor, need in zip(call.tensors[:-1], call.needs, strict=False)
        ]
        to = tuple(0 if tensor is None else tensor.data_ptr() for tensor in room)
        grad = grad.resolve_neg().contiguous()
        compiled.backward(*small.program, at, grad.data_ptr(), to, small.shape, small.base)
        return (*room, None)


def _values(call: LayerCall) -> Tensor:
    """The circuits' part of the output, (b, o), or the value of each edge, (b, o, i)."""
    from . import kernels

    x, *parameters = arrays(call.circuits)
    parameters[1] = shared_scale(call.request, parameters[1])
    program, threads = kernels.program_arrays(call.request.program), torch.get_num_threads()
    p, same = kernels.Parameters(*parameters), call.request.same_state
    return torch.from_numpy(kernels.forward(program, x, p, threads, same))


def _gradients(call: LayerCall, grad: Tensor) -> Gradients:
    """The gradients by what `call.circuits` names."""
    from . import kernels

    g, x, *parameters = arrays((grad, *call.circuits))
    parameters[1] = shared_scale(call.request, parameters[1])
    program, threads = kernels.program_arrays(call.request.program), torch.get_num_threads()
    p = kernels.Parameters(*parameters)
    same = call.request.same_state
    return as_tensors(kernels.backward(program, g, x, p, call.needs[:5], threads, same))


class _SmallRequest(NamedTuple):
    """What the compiled code of `small` needs besides the tensors.

    Attributes:
        program: Integers and numbers of the program, and fixed scales (u,) or an empty array.
        shape: (batch, out, in).
        base: Index of the base activation in `small.BASES`.
        sizes: How many numbers each tensor of the call must have.
    """

    program: tuple[np.ndarray, np.ndarray, np.ndarray]
    shape: tuple[int, int, int]
    base: int
    sizes: tuple[int, ...]


@functools.lru_cache(maxsize=1024)
def _small_request(request: Request) -> _SmallRequest | None:
    """What a small request needs, or None for one that the general kernels take."""
    import numpy as np

    from .program_arrays import program_arrays
    from .small import BASES
    from .units import is_small

    t = program_arrays(request.program)
    small = is_small(t, request.batch, request.edges)
    if request.per_edge or request.batched_theta or not small:
        return None
    kind = np.dtype(np.float32 if request.dtype == torch.float32 else np.float64)
    program = (t.code, t.consts[kind], np.array(request.fixed_scale or (), kind))
    batch, outs, ins = shape = (request.batch, request.out_features, request.in_features)
    edges, k, u = outs * ins, request.program.num_theta, request.program.num_encodings
    sizes = (batch * ins, edges * k, edges * u, edges * u, edges, edges, outs, edges)
    return _SmallRequest(program, shape, BASES.index(request.base), sizes)


def _small_call(
    call: LayerCall,
) -> tuple[_SmallRequest, tuple[int, ...], list[Tensor]] | None:
    """What a small call needs, its tensors' addresses, and copies to keep until it is over.

    None for a large call, and where a tensor is not just as many numbers in memory as it must be:
    the general kernels take those.
    """
    request = call.request
    small = _small_request(request)
    if small is None:
        return None
    at, copies = [], []
    for tensor, size in zip(call.tensors, small.sizes, strict=True):
        if tensor is None:
            at.append(0)
            continue
        # asked of other tensors only: a parameter is never a view with all signs turned
        own = type(tensor) is Parameter
        if (
            tensor.dtype is not request.dtype
            or not tensor.is_cpu
            or not (own or type(tensor) is Tensor)
            or tensor.numel() != size
        ):
            return None
        if not tensor.is_contiguous() or (not own and tensor.is_neg()):
            copies.append(tensor := tensor.resolve_neg().contiguous())
        at.append(tensor.data_ptr())
    return small, tuple(at), copies
