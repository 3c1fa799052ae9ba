"""A whole layer in one call of compiled code on one thread, for calls that are over in no time.

Where the arithmetic takes microseconds, what counts is the way there: tensors come as addresses,
and mask, base activation and bias are part of the same call. The circuits are evaluated by the
kernels of `_lanes` and `_samples`. Letters: b samples, o outputs, i inputs.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import carray, types
from numba.extending import intrinsic

from . import lanes as _lanes
from . import lanes_grad as _lanes_grad
from . import samples as _samples
from . import samples_grad as _samples_grad
from .jit import exact, inline, kernel

BASES = (None, "identity", "relu", "tanh", "silu", "gelu")
"""Base activations by the number that the kernels know them by."""

FEW = 24
"""With fewer samples than this the edges fill the vector lanes better."""


@intrinsic
def _pointer(typingctx: Any, address: Any, like: Any) -> Any:
    """An address as a pointer to numbers of the kind in `like`."""
    signature = types.CPointer(like.dtype)(address, like)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    return signature, codegen


@inline
def _view(address: int, size: int, like: Any) -> Any:
    """The memory at an address as an array; empty for address 0."""
    return carray(_pointer(address, like), size if address != 0 else 0)


@inline
def _masked(weight: Any, mask: Any) -> Any:
    """A product of both, or the weight itself where there is no mask."""
    return weight * mask if mask.size > 0 else weight


@exact
def _base(kind: int, x: Any) -> Any:
    """The base activation and its derivative."""
    one, half = type(x)(1), type(x)(0.5)
    if kind == 1:
        return x, one
    if kind == 2:
        # NaN stays NaN
        return (type(x)(0), type(x)(0)) if x <= 0 else (x, one)
    if kind == 3:
        h = math.tanh(x)
        return h, one - h * h
    if kind == 4:
        gate = one / (one + math.exp(-x))
        return x * gate, gate * (one + x * (one - gate))
    gate = half * (one + math.erf(x * type(x)(math.sqrt(0.5))))
    bell = math.exp(-half * x * x) * type(x)(1 / math.sqrt(2 * math.pi))
    return x * gate, gate + x * bell


@inline
def _transposed(source: Any, rows: int, columns: int) -> Any:
    """A matrix by columns."""
    if rows == 1 or columns == 1:
        return source
    target = np.empty(source.size, source.dtype)
    _samples.transpose(source, target, rows, columns)
    return target


@inline
def _parameters(code: Any, like: Any, shared: Any, at: Any, edges: int) -> Any:
    """Theta, scale, shift, base weight and mask, flat."""
    return (
        _view(at[1], edges * code[2], like),
        shared if shared.size > 0 else _view(at[2], edges * code[3], like),
        _view(at[3], edges * code[3], like),
        _view(at[5], edges, like),
        _view(at[7], edges, like),
    )


@kernel
def forward(
    code: Any, consts: Any, shared: Any, at: Any, to: int, shape: Any, base: int
) -> None:  # fmt: skip
    """The output of a layer.

    Args:
        code: The program's integers.
        consts: The program's numbers, of the tensors' dtype.
        shared: Scales (u,) that all edges have in common, or empty.
        at: Addresses of contiguous x, theta, scale, shift, weight, base_weight, bias, mask; 0
            for none.
        to: Address of the output (b·o,).
        shape: (batch, out, in), none of them 0.
        base: Index of the base activation in `BASES`.
    """
    batch, outs, ins = shape
    edges = outs * ins
    x, out = _view(at[0], batch * ins, consts), _view(to, batch * outs, consts)
    theta, scale, shift, base_weight, mask = _parameters(code, consts, shared, at, edges)
    bias = _view(at[6], outs, consts)
    weight = _masked(_view(at[4], edges, consts), mask)
    counter, nothing = np.zeros(1, np.int64), np.empty(0, consts.dtype)
    if batch < FEW and edges > batch:
        out[:] = 0
        _lanes.forward(
            code, consts, x, theta, scale, shift, weight, nothing, out, nothing, _lanes.SUMS, False,
            shape, outs, counter,
        )  # fmt: skip
    else:
        xt = _transposed(x, batch, ins)
        _samples.forward(
            code, consts, xt, theta, scale, shift, weight, out, shape, (outs, batch), counter
        )
    if base > 0 and base_weight.size > 0:
        share = _masked(base_weight, mask)
        for b in range(batch):
            for i in range(ins):
                h, _ = _base(base, x[b * ins + i])
                for o in range(outs):
                    out[b * outs + o] += h * share[o * ins + i]
    if bias.size > 0:
        for b in range(batch):
            for o in range(outs):
                out[b * outs + o] += bias[o]


@kernel
def backward(
    code: Any, consts: Any, shared: Any, at: Any, grad: int, to: Any, shape: Any, base: int
) -> None:  # fmt: skip
    """The gradients of `forward`.

    Args:
        code: As in `forward`, as all that is not named here.
        consts: As in `forward`.
        shared: As in `forward`.
        at: As in `forward`.
        grad: Address of the output's gradient (b·o,), contiguous.
        to: Addresses of the gradients by x, theta, scale, shift, weight, base_weight, bias; 0
            where one is not wanted.
        shape: As in `forward`.
        base: As in `forward`.
    """
    batch, outs, ins = shape
    edges = outs * ins
    x, g = _view(at[0], batch * ins, consts), _view(grad, batch * outs, consts)
    theta, scale, shift, base_weight, mask = _parameters(code, consts, shared, at, edges)
    weight = _masked(_view(at[4], edges, consts), mask)
    dx, dtheta = _view(to[0], batch * ins, consts), _view(to[1], edges * code[2], consts)
    dscale, dshift = _view(to[2], edges * code[3], consts), _view(to[3], edges * code[3], consts)
    dweight, dbase = _view(to[4], edges, consts), _view(to[5], edges, consts)
    dbias = _view(to[6], outs, consts)
    dx[:], dtheta[:], dscale[:], dshift[:] = 0, 0, 0, 0
    dweight[:], dbase[:], dbias[:] = 0, 0, 0
    grads = (dx, dtheta, dscale, dshift, dweight)
    counter, nothing = np.zeros(1, np.int64), np.empty(0, consts.dtype)
    if batch < FEW and edges > batch:
        _lanes_grad.backward(
            code, consts, x, g, theta, scale, shift, weight, nothing, grads, _lanes.SUMS, False,
            shape, (outs, ins), counter,
        )  # fmt: skip
    else:
        gt = _transposed(g, batch, outs)
        _samples_grad.backward(
            code, consts, x, gt, theta, scale, shift, weight, grads, shape, (ins, batch), counter
        )
    if base > 0 and base_weight.size > 0:
        _base_backward(x, g, _masked(base_weight, mask), dx, dbase, shape, base)
    for b in range(batch if dbias.size > 0 else 0):
        for o in range(outs):
            dbias[o] += g[b * outs + o]
    for edge in range(mask.size):
        if dweight.size > 0:
            dweight[edge] *= mask[edge]
        if dbase.size > 0:
            dbase[edge] *= mask[edge]


@inline
def _base_backward(
    x: Any, g: Any, weight: Any, dx: Any, dbase: Any, shape: Any, base: int
) -> None:  # fmt: skip
    """Add the base activation's part to the gradients by x and by its weight."""
    batch, outs, ins = shape
    for b in range(batch):
        for i in range(ins):
            h, slope = _base(base, x[b * ins + i])
            total = type(h)(0)
            for o in range(outs):
                total += g[b * outs + o] * weight[o * ins + i]
            if dx.size > 0:
                dx[b * ins + i] += total * slope
            if dbase.size > 0:
                for o in range(outs):
                    dbase[o * ins + i] += g[b * outs + o] * h
