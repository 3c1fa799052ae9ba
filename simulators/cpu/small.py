"""A whole layer in one call of compiled code on one thread, for layers of few samples and edges.

The arithmetic of such a call takes microseconds, and so would each step of Python on the way to it.
So tensors come as addresses, and mask, base activation and bias are part of the same compiled call.
The circuits are evaluated by the kernels of `edge_lanes` and `sample_lanes`. Letters: b samples,
o outputs, i inputs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray, types
from numba.extending import intrinsic

from qkan.simulators.base_activations import BASE_ACTIVATIONS

from . import edge_lanes, edge_lanes_grad, sample_lanes, sample_lanes_grad
from .jit import allocating, exact, inline, kernel
from .layout import EdgeArrays

BASES = (None, *BASE_ACTIVATIONS)
"""The base activations; the kernels know each by its place in here."""

FEW = 24
"""With fewer samples than this the edges fill the vector lanes better."""


@intrinsic
def _pointer(typingctx: Any, address: Any, like: Any) -> Any:
    """An address as a pointer to numbers of the kind in `like`."""
    signature = types.CPointer(like.dtype)(address, like)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    return signature, codegen


@allocating
def _view(address: int, size: int, like: Any) -> Any:
    """The memory at an address as an array; empty for address 0."""
    return carray(_pointer(address, like), size if address != 0 else 0)


@allocating
def _masked(weight: Any, mask: Any) -> Any:
    """The weight times the mask, or the weight itself where there is no mask."""
    return weight * mask if mask.size > 0 else weight


def _compiled_bases() -> Any:
    """One compiled function from a base activation's number and x to value and slope."""

    def otherwise(number: int, here: Any, rest: Any) -> Any:
        return exact(lambda kind, x: here(x) if kind == number else rest(kind, x))

    scalars = [exact(row.scalar) for row in BASE_ACTIVATIONS.values()]
    last = scalars[-1]
    chain = exact(lambda kind, x: last(x))
    for number in range(len(scalars) - 1, 0, -1):
        chain = otherwise(number, scalars[number - 1], chain)
    return chain


_base = _compiled_bases()


@allocating
def _transposed(source: Any, rows: int, columns: int) -> Any:
    """The transpose of a matrix as one row."""
    if rows == 1 or columns == 1:
        return source
    target = np.empty(source.size, source.dtype)
    sample_lanes.turn_over(source, target, rows, columns)
    return target


@allocating
def _parameters(code: Any, like: Any, shared: Any, at: Any, edges: int) -> Any:
    """Theta, scale, shift, base weight and mask, flat."""
    return (
        _view(at[1], edges * code[2], like),
        shared if shared.size > 0 else _view(at[2], edges * code[3], like),
        _view(at[3], edges * code[3], like),
        _view(at[5], edges, like),
        _view(at[7], edges, like),
    )


@allocating
def _edges(code: Any, consts: Any, shared: Any, at: Any, shape: Any) -> Any:
    """The edges as the kernels take them, x, base weight, and mask."""
    batch, outs, ins = shape
    edges = outs * ins
    theta, scale, shift, base_weight, mask = _parameters(code, consts, shared, at, edges)
    weight = _masked(_view(at[4], edges, consts), mask)
    arrays = EdgeArrays(code, consts, theta, scale, shift, weight)
    return arrays, _view(at[0], batch * ins, consts), base_weight, mask


@allocating
def _add_rest(
    x: Any, out: Any, base_weight: Any, mask: Any, bias: Any, shape: Any, base: int
) -> None:
    """Add the base activation's part and the bias to the output."""
    batch, outs, ins = shape
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
def _forward_edges(
    code: Any, consts: Any, shared: Any, at: Any, to: int, shape: Any, base: int
) -> None:
    """Compute the output of a layer with edges in the lanes."""
    arrays, x, base_weight, mask = _edges(code, consts, shared, at, shape)
    batch, outs, _ = shape
    out, counter = _view(to, batch * outs, consts), np.zeros(1, np.int64)
    out[:] = 0
    edge_lanes.forward(arrays, x, out, edge_lanes.SUMS, shape, outs, counter)
    _add_rest(x, out, base_weight, mask, _view(at[6], outs, consts), shape, base)


@kernel
def _forward_samples(
    code: Any, consts: Any, shared: Any, at: Any, to: int, shape: Any, base: int
) -> None:
    """Compute the output of a layer with samples in the lanes."""
    arrays, x, base_weight, mask = _edges(code, consts, shared, at, shape)
    batch, outs, ins = shape
    out, counter = _view(to, batch * outs, consts), np.zeros(1, np.int64)
    xt = _transposed(x, batch, ins)
    sample_lanes.forward(arrays, xt, out, (batch, outs, ins, 1), (outs, batch), counter)
    _add_rest(x, out, base_weight, mask, _view(at[6], outs, consts), shape, base)


def forward(
    code: Any, consts: Any, shared: Any, at: Any, to: int, shape: tuple[int, int, int], base: int
) -> None:
    """Compute the output of a layer.

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
    kernel = _forward_edges if lies_flat(shape) else _forward_samples
    kernel(code, consts, shared, at, to, shape, base)


def lies_flat(shape: tuple[int, int, int]) -> bool:
    """Whether a layer (batch, out, in) has so few samples that edges fill the lanes better."""
    batch, outs, ins = shape
    return batch < FEW and outs * ins > batch


@allocating
def _gradients(code: Any, consts: Any, to: Any, shape: Any) -> Any:
    """The gradients by x, theta, scale, shift and weight, and by base weight and bias, all 0."""
    batch, outs, ins = shape
    edges = outs * ins
    dx, dtheta = _view(to[0], batch * ins, consts), _view(to[1], edges * code[2], consts)
    dscale, dshift = _view(to[2], edges * code[3], consts), _view(to[3], edges * code[3], consts)
    dweight, dbase = _view(to[4], edges, consts), _view(to[5], edges, consts)
    dbias = _view(to[6], outs, consts)
    dx[:], dtheta[:], dscale[:], dshift[:] = 0, 0, 0, 0
    dweight[:], dbase[:], dbias[:] = 0, 0, 0
    return (dx, dtheta, dscale, dshift, dweight), dbase, dbias


@allocating
def _rest_backward(
    x: Any, g: Any, base_weight: Any, mask: Any, grads: Any, dbase: Any, dbias: Any, shape: Any,
    base: int,
) -> None:  # fmt: skip
    """Add the part of base activation, bias and mask to the gradients."""
    batch, outs, _ = shape
    dx, dweight = grads[0], grads[4]
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


@kernel
def _backward_edges(
    code: Any, consts: Any, shared: Any, at: Any, grad: int, to: Any, shape: Any, base: int
) -> None:
    """Compute the gradients of `_forward_edges`."""
    arrays, x, base_weight, mask = _edges(code, consts, shared, at, shape)
    batch, outs, ins = shape
    g, counter = _view(grad, batch * outs, consts), np.zeros(1, np.int64)
    grads, dbase, dbias = _gradients(code, consts, to, shape)
    edge_lanes_grad.backward(arrays, x, g, grads, edge_lanes.SUMS, shape, (outs, ins), counter)
    _rest_backward(x, g, base_weight, mask, grads, dbase, dbias, shape, base)


@kernel
def _backward_samples(
    code: Any, consts: Any, shared: Any, at: Any, grad: int, to: Any, shape: Any, base: int
) -> None:
    """Compute the gradients of `_forward_samples`."""
    arrays, x, base_weight, mask = _edges(code, consts, shared, at, shape)
    batch, outs, ins = shape
    g, counter = _view(grad, batch * outs, consts), np.zeros(1, np.int64)
    grads, dbase, dbias = _gradients(code, consts, to, shape)
    gt = _transposed(g, batch, outs)
    sizes = batch, outs, ins, 1
    sample_lanes_grad.backward(arrays, x, gt, grads, sizes, (ins, batch), counter)
    _rest_backward(x, g, base_weight, mask, grads, dbase, dbias, shape, base)


def backward(
    code: Any, consts: Any, shared: Any, at: Any, grad: int, to: Any,
    shape: tuple[int, int, int], base: int,
) -> None:  # fmt: skip
    """Compute the gradients of `forward`.

    Args:
        code: The program's integers.
        consts: The program's numbers, of the tensors' dtype.
        shared: Scales (u,) that all edges have in common, or empty.
        at: Addresses of the tensors, as in `forward`.
        grad: Address of the gradient of the output (b·o,), contiguous.
        to: Addresses of the gradients by x, theta, scale, shift, weight, base_weight, bias; 0
            where one is not wanted.
        shape: (batch, out, in), none of them 0.
        base: Index of the base activation in `BASES`.
    """
    kernel = _backward_edges if lies_flat(shape) else _backward_samples
    kernel(code, consts, shared, at, grad, to, shape, base)


@inline
def _base_backward(
    x: Any, g: Any, weight: Any, dx: Any, dbase: Any, shape: Any, base: int
) -> None:  # fmt: skip
    """Add the part of the base activation to the gradients by x and by its weight."""
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
