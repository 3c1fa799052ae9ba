"""The arguments of an engine: tensors, and a request with everything except their values.

Letters: b samples, o outputs, i inputs, k theta slots, u encodings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from qkan.circuits import Program

_CPU = torch.device("cpu")


class Request(NamedTuple):
    """A request to an engine: everything except the values of the tensors.

    Attributes:
        program: The lowered circuit.
        batch: The number of samples b.
        out_features: The number of outputs o.
        in_features: The number of inputs i.
        dtype: The dtype of x and of the parameters.
        device: The device of x and of the parameters.
        fixed_scale: The scales if they are fixed and equal on every edge, otherwise None.
        per_edge: Whether to return each edge's value instead of the weighted sum over inputs.
        batched_theta: Whether each sample has its own parameters.
        noise: Whether there are channels after the gates.
        base: The base activation beside the circuits, a name in `BASES`; None for none.
        same_state: The number of consecutive outputs whose circuits only differ after the last
            encoding, so that they share the state until then.

    If the program reads several observables, outputs have an axis a at the end.
    """

    program: Program
    batch: int
    out_features: int
    in_features: int
    dtype: torch.dtype = torch.float32
    device: torch.device = _CPU
    fixed_scale: tuple[float, ...] | None = None
    per_edge: bool = False
    batched_theta: bool = False
    noise: bool = False
    base: str | None = None
    same_state: int = 1

    @property
    def edges(self) -> int:
        """The number of (output, input) edges."""
        return self.out_features * self.in_features


class LayerTensors(NamedTuple):
    """The tensors of one layer call.

    Attributes:
        x: (b, i) inputs, before scale and shift.
        theta: (o, i, k), radians; or (b, o, i, k) if each sample has its own angles.
        scale: (o, i, u), or (b, o, i, u).
        shift: (o, i, u) radians, or (b, o, i, u).
        weight: (o, i), or (b, o, i); None to get the value of each edge.
        base_weight: (o, i), or None for no base activation.
        bias: (o,), or None.
        mask: (o, i), which multiplies weight and base_weight, or None.
    """

    x: Tensor
    theta: Tensor
    scale: Tensor
    shift: Tensor
    weight: Tensor | None = None
    base_weight: Tensor | None = None
    bias: Tensor | None = None
    mask: Tensor | None = None


Gradients = tuple[Tensor | None, ...]
"""The gradients by each of `LayerTensors`, or None where none is needed."""

ALL = (True,) * len(LayerTensors._fields)

NOISE_REFUSED = "channels act after single gates; noise runs on the torch engine"
"""Why an engine that computes lowered circuits refuses noise."""


class LayerCall(NamedTuple):
    """One call of a layer: a request and its tensors, which have one dtype and are on one device.

    The output is Σ_i weight[o,i]·φ_oi(x[b,i]) + Σ_i base_weight[o,i]·base(x[b,i]) + bias[o], with
    both sums times the mask, (b, o); without a weight it is φ on every edge, (b, o, i). If the
    program reads several observables, both have an axis a at the end, and all parameters are
    shared.

    Attributes:
        request: Sizes, dtype, device, circuit and options.
        tensors: The inputs and the parameters.
        needs: For each of the tensors, whether its gradient is needed; only a backward pass uses
            this.
    """

    request: Request
    tensors: LayerTensors
    needs: Sequence[bool] = ALL

    @property
    def circuits(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
        """The tensors of the circuits: x, theta, scale, shift, and the weight times the mask."""
        x, theta, scale, shift, weight, _, _, mask = self.tensors
        return x, theta, scale, shift, None if weight is None else masked(weight, mask)


def layer_call(
    program: Program,
    tensors: LayerTensors,
    fixed_scale: tuple[float, ...] | None = None,
    base: str | None = None,
) -> LayerCall:
    """Return the call of a layer with these tensors, from whose sizes the request follows.

    Args:
        program: The lowered circuit.
        tensors: The tensors, with one dtype and device; without `weight` the value of every edge is
            computed. Scale and shift may also be (u,), for all edges.
        fixed_scale: The scales if they are fixed and equal on every edge.
        base: The base activation, a name in `BASES`.
    """
    x, theta, scale, shift, weight = tensors[:5]
    batched = False
    if not (theta.ndim == scale.ndim == shift.ndim == 3 and (weight is None or weight.ndim == 2)):
        rows = (*theta.shape[-3:-1], program.num_encodings)
        scale = scale.expand(rows) if scale.ndim == 1 else scale
        shift = shift.expand(rows) if shift.ndim == 1 else shift
        tensors = tensors._replace(scale=scale, shift=shift)
        batched = (
            max(theta.ndim, scale.ndim, shift.ndim, 0 if weight is None else weight.ndim + 1) > 3
        )
    request = Request(
        program, x.shape[0], theta.shape[-3], x.shape[-1], x.dtype, x.device, fixed_scale,
        weight is None, batched, base=base,
    )  # fmt: skip
    return LayerCall(request, tensors)


def masked(weight: Tensor, mask: Tensor | None) -> Tensor:
    """Return the weights times the mask of pruned edges, in the dtype of the weights."""
    # a mixed precision policy may cast the parameters but not the buffers
    return weight if mask is None else weight * mask.to(weight.dtype)


def is_tracing() -> bool:
    """Whether `torch.jit.trace`, or an exporter built on it, records this call."""
    # a compiler cannot trace the second condition
    return not torch.compiler.is_compiling() and torch._C._is_tracing()


def is_recorded(x: Tensor) -> bool:
    """Whether only a graph or shapes are needed, since x has no values, or not yet."""
    return (
        torch.compiler.is_compiling()
        or x.is_meta
        or torch._C._is_tracing()
        or isinstance(x, FakeTensor)
    )


def has_values(x: Tensor) -> bool:
    """Whether the values of a tensor can be read now."""
    return not (is_recorded(x) or torch._C._are_functorch_transforms_active())
