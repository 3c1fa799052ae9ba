"""Compiled features from a table: functions that are polynomials on equal pieces of [0, 1].

Of one input the functions 0, 2, … are odd and the others even.

Features are stored as (b, i, m), m the function, and the table as (piece, degree, function), so
that the functions of one input lie along the vector lanes. `bands` makes the tables.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .bands import DEGREE, LANES
from .jit import bind, exact, get, inline, kernel, put, windows


def _pointer(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    """The address of `LANES` numbers of a flat array, as a vector."""
    data = context.make_array(kind)(context, builder, array).data
    number = context.get_data_type(kind.dtype)
    vector = ir.VectorType(number, LANES).as_pointer()
    return builder.bitcast(builder.gep(data, [index], inbounds=True), vector)


def _load(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    pointer = _pointer(context, builder, kind, array, index)
    return builder.load(pointer, align=kind.dtype.bitwidth // 8)


def _spread(builder: Any, value: Any) -> Any:
    """A vector of equal numbers."""
    vector = ir.VectorType(value.type, LANES)
    one = builder.insert_element(
        ir.Constant(vector, ir.Undefined), value, ir.Constant(cgutils.int32_t, 0)
    )
    mask = ir.Constant(ir.VectorType(cgutils.int32_t, LANES), [0] * LANES)
    return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), mask)


def _polynomials(context: Any, builder: Any, kind: Any, args: Any, signed: int) -> Any:
    """The values at u of `LANES` polynomials, whose coefficients stand in rows of a table.

    Those of even number for `signed` 0, or of odd number for 1, get a sign.
    """
    table, at, width, u, sign = args
    u = _spread(builder, u)
    vector, name = u.type, f"llvm.fma.v{LANES}f{kind.dtype.bitwidth}"
    shape = ir.FunctionType(vector, [vector] * 3)
    fma = cgutils.get_or_insert_function(builder.module, shape, name)
    value = None
    for degree in range(DEGREE, -1, -1):
        row = builder.add(at, builder.mul(width, ir.Constant(cgutils.intp_t, degree)))
        coefficients = _load(context, builder, kind, table, row)
        value = coefficients if value is None else builder.call(fma, [value, u, coefficients])
    ones = ir.Constant(vector, [1.0] * LANES)
    numbers = [lane if lane % 2 == signed else LANES + lane for lane in range(LANES)]
    mask = ir.Constant(ir.VectorType(cgutils.int32_t, LANES), numbers)
    signs = builder.shuffle_vector(_spread(builder, sign), ones, mask)
    return builder.fmul(value, signs)


@intrinsic
def put_polynomials(
    typingctx: Any, table: Any, at: Any, width: Any, u: Any, sign: Any, out: Any, to: Any
) -> Any:
    """Write the values at u of `LANES` polynomials to out[to], out[to + 1], …

    The first, third and so on are multiplied by the sign. Their coefficients of degree d are
    table[at + d·width], table[at + d·width + 1], …
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = _polynomials(context, builder, signature.args[0], args[:5], 0)
        pointer = _pointer(context, builder, signature.args[5], args[5], args[6])
        builder.store(value, pointer, align=signature.args[5].dtype.bitwidth // 8)
        return context.get_dummy_value()

    return (
        types.none(table, types.intp, types.intp, table.dtype, table.dtype, out, types.intp),
        codegen,
    )


@intrinsic
def dot_polynomials(
    typingctx: Any, table: Any, at: Any, width: Any, u: Any, sign: Any, other: Any, to: Any,
    count: Any,
) -> Any:  # fmt: skip
    """The sum of the values at u of `count` polynomials, each times a number of `other`.

    The second, fourth and so on are multiplied by the sign. Where there are fewer than `LANES`,
    the numbers after them are read and have no effect.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = _polynomials(context, builder, signature.args[0], args[:5], 1)
        factors = _load(context, builder, signature.args[5], args[5], args[6])
        lanes = ir.VectorType(cgutils.intp_t, LANES)
        numbered = ir.Constant(lanes, [*range(LANES)])
        within = builder.icmp_signed("<", numbered, _spread(builder, args[7]))
        product = builder.fmul(value, factors)
        product = builder.select(within, product, ir.Constant(product.type, None))
        width = LANES
        while width > 1:
            # halves are added, so that the order of the sum is the same on every machine
            width //= 2
            index = ir.VectorType(cgutils.int32_t, width)
            low, high = (
                builder.shuffle_vector(product, product, ir.Constant(index, [*numbers]))
                for numbers in (range(width), range(width, 2 * width))
            )
            product = builder.fadd(low, high)
        return builder.extract_element(product, ir.Constant(cgutils.int32_t, 0))

    return (
        table.dtype(
            table, types.intp, types.intp, table.dtype, table.dtype, other, types.intp, types.intp
        ),
        codegen,
    )


@inline
def scalar_polynomial(table: Any, at: int, width: int, u: Any) -> Any:
    """The value at u of one polynomial."""
    value = get(table, at + DEGREE * width)
    for degree in range(DEGREE - 1, -1, -1):
        value = value * u + get(table, at + degree * width)
    return value


@exact
def place(t: Any, pieces: int, stride: int) -> Any:
    """Where the polynomials of a piece begin in the table, where |t| lies in it, and the sign of t.

    The number of pieces is a power of two, so that nothing is rounded.
    """
    one, size = type(t)(1), abs(t)
    piece = max(0, min(pieces - 1, int(size * type(t)(pieces))))
    middle = type(t)(2 * piece + 1) / type(t)(2 * pieces)
    return piece * stride, (size - middle) * type(t)(2 * pieces), -one if t < 0 else one


@inline
def features(
    x: Any, out: Any, table: Any, middle: Any, half: Any, reach: float, shape: Any, block: int,
    counter: Any,
) -> None:  # fmt: skip
    """Write out[b, i, m] = f_m(t), t = (x - middle[i])/half[i], and 0 where |t| is over the reach.

    Args:
        x: (b·i,).
        out: (b·i·m,), written.
        table: (pieces·(DEGREE + 1)·width,), the width a multiple of `LANES`, at least m.
        middle: (i,).
        half: (i,).
        reach: The largest |t|.
        shape: (b, i, m, pieces, width).
        block: Samples of a unit of work.
        counter: (1,) units taken so far, shared by the threads.
    """
    rows, ins, count, pieces, width = shape
    zero = type(get(x, 0))(0)
    for start, end, _, _ in windows(counter, rows, block, 1, 1):
        for b in range(start, end):
            for i in range(ins):
                offset = get(x, b * ins + i) - get(middle, i)
                to = (b * ins + i) * count
                # what is written beyond the functions is overwritten by the next input
                room = width if i < ins - 1 else count // LANES * LANES
                if abs(offset) <= get(half, i) * reach:
                    at, u, sign = place(offset / get(half, i), pieces, (DEGREE + 1) * width)
                    for m in range(0, room, LANES):
                        put_polynomials(table, at + m, width, u, sign, out, to + m)
                    for m in range(room, count):
                        value = scalar_polynomial(table, at + m, width, u)
                        put(out, to + m, value * sign if m % 2 == 0 else value)
                else:
                    for m in range(count):
                        put(out, to + m, zero)


@inline
def features_backward(
    grad: Any, x: Any, dx: Any, table: Any, middle: Any, half: Any, reach: float, shape: Any,
    block: int, counter: Any,
) -> None:  # fmt: skip
    """Write dx[b, i] = Σ_m f_m'(t)·grad[b, i, m] / half[i], and 0 where |t| is over the reach.

    Args:
        grad: (b·i·m,), and `LANES` more numbers, which are read and have no effect.
        x: (b·i,).
        dx: (b·i,), written.
        table: Of the derivatives f_m', like that of `features`.
        middle: (i,).
        half: (i,).
        reach: The largest |t|.
        shape: (b, i, m, pieces, width).
        block: Samples of a unit of work.
        counter: (1,) units taken so far, shared by the threads.
    """
    rows, ins, count, pieces, width = shape
    for start, end, _, _ in windows(counter, rows, block, 1, 1):
        for b in range(start, end):
            for i in range(ins):
                offset = get(x, b * ins + i) - get(middle, i)
                source, total = (b * ins + i) * count, type(get(x, 0))(0)
                if abs(offset) <= get(half, i) * reach:
                    at, u, sign = place(offset / get(half, i), pieces, (DEGREE + 1) * width)
                    for m in range(0, count, LANES):
                        left = count - m
                        total += dot_polynomials(
                            table, at + m, width, u, sign, grad, source + m, left
                        )
                put(dx, b * ins + i, total / get(half, i))


@kernel
def features_task(room: Any, *args: Any) -> Any:
    """Bind `features` to its arguments."""
    return bind(features, room, args)


@kernel
def features_backward_task(room: Any, *args: Any) -> Any:
    """Bind `features_backward` to its arguments."""
    return bind(features_backward, room, args)
