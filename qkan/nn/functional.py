"""`qkan_layer`: the computation of a layer as a function of plain tensors.

Letters: b samples, o outputs, i inputs, g groups, k theta slots, u encodings.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from qkan.circuits import Program
from qkan.errors import QKANError
from qkan.simulators import BASES as BASES
from qkan.simulators import (
    LayerTensors,
    Request,
    autocast_dtype,
    is_tracing,
    layer_call,
    masked,
    run,
    select,
    with_base,
)
from qkan.simulators.adding import Known, add_waves
from qkan.simulators.axes import weighted
from qkan.simulators.call import has_values
from qkan.simulators.cpu.compiled import DTYPES, INSTALLED
from qkan.simulators.waves import (
    MOST_WAVES,
    count_waves,
    wave_recipe,
    wave_request,
    wave_terms,
)

READOUTS = ("z", "amplitude")
"""Readouts by name: the expectation value itself, or |α| - |β|, the readout of qkan 0.2.3."""

Activations = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""A function of x (b, i), theta (o, i, k), scale and shift (o, i, u): readout(φ), (b, o, i). With
groups o is 1, since all outputs share them. Several observables add an axis a at the end."""


def qkan_layer(
    x: Tensor,
    theta: Tensor,
    scale: Tensor,
    shift: Tensor,
    weight: Tensor,
    base_weight: Tensor | None = None,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    *,
    program: Program,
    fixed_scale: tuple[float, ...] | None = None,
    base: str | None = "silu",
    readout: str = "z",
    engine: str = "auto",
    activations: Activations | None = None,
) -> Tensor:
    """out[b,o] = Σ_i weight[o,i]·φ_oi(x[b,i]) + Σ_i base_weight[o,i]·base(x[b,i]) + bias[o].

    Args:
        x: (…, i), of a floating-point dtype, in any memory layout.
        theta: (o, i, k) radians; or (…, o, i, k) with the leading dimensions of x, where every
            sample has its own angles; or (g, k), where input i uses group ⌊i·g/in_features⌋ and
            each activation is evaluated once for each sample and input.
        scale: (o, i, u), or (…, o, i, u), or (g, u).
        shift: (o, i, u) radians, or (…, o, i, u), or (g, u).
        weight: (o, i), or (…, o, i).
        base_weight: (o, i), or None for no base activation.
        bias: (o,), or None.
        mask: (o, i) of zeros and ones that multiplies both edge terms, or None.
        program: The lowered circuit, `circuit.program`.
        fixed_scale: The values of `scale` if they are fixed and equal on every edge.
        base: A name in `BASES`, or None.
        readout: A name in `READOUTS`.
        engine: "auto" or one of `engines()`.
        activations: A function that computes the activations in place of an engine, as a device
            does.

    Returns:
        (…, o), or (…, o, a) where the program reads several observables. Half precision is computed
        in float32 and the amplitude readout in float64; both are returned in the dtype of the
        weight.

    Raises:
        QKANError: x does not fit the parameters, or they do not fit each other.
        SimulatorError: The named engine refuses.
    """
    # while tracing, sizes are tensors, and a check of them would warn
    if not is_tracing():
        own = _check(x, theta, scale, shift, weight, program)
        _check_beside(weight, base_weight, bias, mask)
        if own:
            theta, scale, shift = (_rows(t, 3) for t in (theta, scale, shift))
            weight = _rows(weight, 2)
    flat = x if x.ndim == 2 else x.reshape(-1, x.shape[-1])
    tensors = LayerTensors(flat, theta, scale, shift, weight, base_weight, bias, mask)
    compute = compute_dtype(weight.dtype, readout)
    # a mixed precision policy may cast the parameters and leave the buffers, or the reverse
    plain = weight.dtype == x.dtype and not _in_autocast(x)
    plain = plain and (fixed_scale is None or scale.dtype == shift.dtype == x.dtype)
    call = chosen = None
    if plain and theta.ndim > 2 and readout == "z" and activations is None:
        call = layer_call(program, tensors, fixed_scale, base)
        request = call.request
        request = request if compute == x.dtype else request._replace(dtype=compute)
        chosen = select(engine, request)
    if call is not None and chosen is not None and (compute == x.dtype or chosen.computes_half):
        out = run(chosen, call)
    else:
        angles = (flat, theta, scale, shift, masked(weight, mask))
        out = _quantum(
            *(tensor.to(compute) for tensor in angles),
            program=program, fixed_scale=fixed_scale, readout=readout, engine=engine,
            activations=activations,
        ).to(torch.float32 if _in_autocast(x) else weight.dtype)  # fmt: skip
        out = with_base(out, tensors, base)
    return out if x.ndim == 2 else out.reshape(*x.shape[:-1], *out.shape[1:])


def _quantum(
    x: Tensor,
    theta: Tensor,
    scale: Tensor,
    shift: Tensor,
    weight: Tensor,
    *,
    program: Program,
    fixed_scale: tuple[float, ...] | None,
    readout: str,
    engine: str,
    activations: Activations | None,
) -> Tensor:
    """Σ_i weight[o,i]·readout(φ_oi(x[b,i])), (b, o), or (b, o, a) of several observables."""
    shared, several = theta.ndim == 2, program.axes is not None
    plain = not several and activations is None and readout == "z" and engine == "auto"
    if shared and plain and has_values(x) and sums_waves(x, program, fixed_scale):
        one = theta.new_ones(len(theta))
        terms = wave_terms(program, theta, scale, shift, one, fixed_scale=fixed_scale)
        nothing = Known(torch.zeros_like, lambda grad, x: torch.zeros_like(x))
        return F.linear(add_waves(x, nothing, terms, wave_recipe(program, fixed_scale)), weight)
    if shared:
        theta, scale, shift = (expand_groups(t, x.shape[-1]) for t in (theta, scale, shift))
    if activations is not None:
        return weighted(activations(x, theta, scale, shift), weight, several)
    per_edge = shared or readout != "z"
    tensors = LayerTensors(x, theta, scale, shift, None if per_edge else weight)
    call = layer_call(program, tensors, fixed_scale)
    values = run(select(engine, call.request), call)
    if not per_edge:
        return values
    if readout == "amplitude":
        values = amplitude(values)
    if shared and several:
        return F.linear(values.squeeze(1).mT, weight).mT
    return F.linear(values.squeeze(1), weight) if shared else weighted(values, weight, several)


def sums_waves(x: Tensor, program: Program, fixed_scale: tuple[float, ...] | None) -> bool:
    """Whether shared activations of inputs x are computed as sums of waves.

    For few inputs, finding the waves costs more than evaluating the circuits.
    """
    if not x.is_cpu or x.dtype not in DTYPES or not INSTALLED or x.numel() < _MANY:
        return False
    count = count_waves(program, fixed_scale)
    return count is not None and count <= MOST_WAVES


def layer_request(
    x: Tensor,
    theta: Tensor,
    program: Program,
    fixed_scale: tuple[float, ...] | None,
    readout: str,
    shared: bool,
    base: str | None = None,
) -> Request:
    """Return the request of a layer to its engine for inputs x (b, i)."""
    if shared and readout == "z" and sums_waves(x, program, fixed_scale):
        return wave_request(program, theta.to(x.dtype), fixed_scale)
    outs, per_edge = (1 if shared else theta.shape[0]), shared or readout != "z"
    return Request(
        program, x.shape[0], outs, x.shape[1], x.dtype, x.device, fixed_scale, per_edge, base=base
    )


def compute_dtype(dtype: torch.dtype, readout: str) -> torch.dtype:
    """Return the precision that the activations are computed in."""
    # near |z| = 1 the amplitude magnifies the rounding of z without bound
    if readout == "amplitude":
        return torch.float64
    return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype


def amplitude(z: Tensor) -> Tensor:
    """Compute the readout |α| - |β| = √((1+z)/2) - √((1-z)/2) of ⟨Z⟩ = z.

    Its slope is infinite at |z| = 1, where the gradient is taken as 0.
    """
    return _safe_root((1 + z) / 2) - _safe_root((1 - z) / 2)


def _safe_root(p: Tensor) -> Tensor:
    positive = p > 0
    # the second branch keeps NaN and gives 0 where rounding has left p just below 0
    return torch.where(positive, torch.where(positive, p, 1.0).sqrt(), 0 * p.detach())


def expand_groups(shared: Tensor, in_features: int) -> Tensor:
    """Turn one row for each group, (g, n), into one row for each input, (1, i, n)."""
    groups = shared.shape[0]
    if not is_tracing() and groups == in_features:
        return shared.unsqueeze(0)
    index = torch.arange(in_features, device=shared.device) * groups // in_features
    return shared[index].unsqueeze(0)


_MANY = 1 << 14
"""The number of inputs from which on shared activations are computed as sums of waves."""


def _in_autocast(x: Tensor) -> bool:
    return autocast_dtype(x.device.type) is not None


def check_features(x: Tensor, size: int, dtype: torch.dtype, name: str = "in_features") -> None:
    """Raise `QKANError` unless x fits a layer of that many inputs and parameters of that dtype.

    The message calls the number of inputs by its name as an argument of the layer.
    """
    if not isinstance(x, Tensor) or not x.dtype.is_floating_point:
        found = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise QKANError(f"The input is {found}; pass a torch tensor of real floats, x.float().")
    if x.layout is not torch.strided:
        raise QKANError(f"The input is {x.layout}; pass x.to_dense().")
    if x.ndim == 0 or x.shape[-1] != size:
        raise QKANError(
            f"The input has shape {tuple(x.shape)}, but the layer has {name}={size}; pass "
            f"(…, {size})."
        )
    if x.dtype != dtype and not _in_autocast(x):
        raise QKANError(
            f"The input is {x.dtype} and the layer's parameters are {dtype}; "
            f"use x.to({dtype}) or layer.to({x.dtype})."
        )


def _rows(tensor: Tensor, own: int) -> Tensor:
    """Flatten the leading dimensions of parameters that differ between samples."""
    return tensor if tensor.ndim <= own + 1 else tensor.flatten(0, -own - 1)


def _check(
    x: Tensor, theta: Tensor, scale: Tensor, shift: Tensor, weight: Tensor, program: Program
) -> bool:
    """Check x and the parameters, and return whether every sample has its own parameters."""
    check_features(x, weight.shape[-1], weight.dtype)
    k, u = program.num_theta, program.num_encodings
    rows, edges = theta.shape[:-1], weight.shape[-2:]
    if (
        weight.ndim == 2
        and len(rows) <= 2
        and (rows == edges or (len(rows) == 1 and rows[0] <= edges[-1]))
        and theta.shape[-1] == k
        and scale.shape == shift.shape == (*rows, u)
    ):
        return False
    samples = x.shape[:-1]
    # numbers of dimensions first: tuples of unequal length would be compared element by element,
    # and an exporter take a batch as large as the outputs for a size that never changes
    for t, n in ((theta, (k,)), (scale, (u,)), (shift, (u,)), (weight, ())):
        own = (*edges, *n) if t.ndim == 2 + len(n) else (*samples, *edges, *n)
        if t.shape != own:
            break
    else:
        return True
    raise QKANError(
        f"theta {tuple(theta.shape)}, scale {tuple(scale.shape)}, shift {tuple(shift.shape)}, "
        f"weight {tuple(weight.shape)}: wanted (o, i, {k}), (o, i, {u}), (o, i, {u}), (o, i) for "
        f"this circuit, each of them with the leading dimensions {tuple(x.shape[:-1])} of x where "
        f"every sample has its own; or (g, {k}), (g, {u}), (g, {u}) with g shared activations."
    )


def _check_beside(
    weight: Tensor, base_weight: Tensor | None, bias: Tensor | None, mask: Tensor | None
) -> None:
    """Check the tensors that all samples share, which an engine would silently broadcast."""
    edges = weight.shape[-2:]
    wanted = (("base_weight", base_weight, edges), ("bias", bias, edges[:1]), ("mask", mask, edges))
    for name, tensor, shape in wanted:
        if tensor is not None and tensor.shape != shape:
            raise QKANError(
                f"{name} is {tuple(tensor.shape)} and weight {tuple(weight.shape)}: wanted "
                f"{tuple(shape)} for {name}."
            )
